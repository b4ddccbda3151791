"""HTTP/1 on a connection: Sanic's cycle of request and answer with our own request parser.

Sanic's parser accepts what RFC 9112 tells servers to refuse (no `Host`, or two; a chunk size of `0x5`) and refuses what
is legal (`Chunked`, trailer fields, an empty line before a request). Here `http_head.py` reads heads and
`http_chunks.py` chunked bodies, and a request is handled once all of it has arrived: a body that is malformed or too
long gets an error status, and is never parsed as the next request.

Requests that have waited too long are refused here, see `guard.py`.
"""

import asyncio
from typing import TYPE_CHECKING

from sanic.compat import Header
from sanic.exceptions import BadRequest, PayloadTooLarge, SanicException, URITooLong
from sanic.http import Http, Stage

from server import http_head, refusals
from server.http_chunks import ChunkedBody
from server.http_date import http_date
from server.plain import is_plain

if TYPE_CHECKING:
    from server.guard import GuardedProtocol

_BLANK_LINE = b"\r\n\r\n"
_CRLF = b"\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REFUSED_AT_ONCE = 64
"""Pipelined requests that are refused before other connections get their turn."""


class _Overloaded(Exception):
    """A late request whose end is uncertain: the connection ends with its refusal."""


class Http1(Http):
    """The requests of one connection, one after the other."""

    protocol: "GuardedProtocol"

    __slots__ = ("_has_skipped_line",)

    def init_for_request(self) -> None:
        super().init_for_request()  # type: ignore[no-untyped-call] # Sanic has no annotation here
        self._has_skipped_line = False
        """Whether an empty line before the current request was skipped."""

    async def http1_request_header(self) -> None:
        """Receive the next request that is not shed, body included. Raises `SanicException` if it is refused."""
        data = await self._next_head()
        self.head_only = data.startswith(b"HEAD ")
        head = http_head.parse(data)
        self.keep_alive = head.keep_alive and self.protocol.app.config.KEEP_ALIVE
        self.url = head.target.decode()
        request = self.protocol.request_class(
            url_bytes=head.target,
            headers=Header(head.fields),
            head=data,
            version=head.version,
            method=head.method,
            transport=self.protocol.transport,
            app=self.protocol.app,
        )
        self.protocol.request_class._current.set(request)
        self.request, request.stream = request, self
        if head.is_chunked or head.length:
            await self._skip_body(head)
        self.protocol.state["requests_count"] += 1

    async def _next_head(self) -> bytes:
        """Take the head of the next request that is not shed off the buffer, without the empty line."""
        protocol, buffer = self.protocol, self.recv_buffer
        if not protocol.in_turn:  # pipelined: other connections get their turn first
            await asyncio.sleep(0)
        protocol.in_turn = False
        while True:
            while (end := self._end_of_head()) < 0:
                await self._receive_more()
            if not protocol.is_late(end + len(_BLANK_LINE)):
                return self._take_head(end)
            self._refuse_late()
            if buffer:
                await asyncio.sleep(0)
            else:
                self.stage = Stage.IDLE
                await self._receive_more()
                self.stage, protocol.in_turn = Stage.REQUEST, False

    def _take_head(self, end: int) -> bytes:
        data = bytes(self.recv_buffer[:end])
        del self.recv_buffer[: end + len(_BLANK_LINE)]
        self.protocol.begin_turn()
        self._has_skipped_line = False
        return data

    def _refuse_late(self) -> None:
        """Refuse the late requests at the beginning of the buffer with a single write: a write is a system call, and
        with thousands of them all other requests would become late meanwhile.

        Raises `_Overloaded` at a request whose end is uncertain.
        """
        protocol, answers = self.protocol, list[bytes]()
        try:
            while len(answers) < _REFUSED_AT_ONCE:
                end = self._end_of_head()
                if end < 0 or not protocol.is_late(end + len(_BLANK_LINE)):
                    break
                data = self._take_head(end) + _BLANK_LINE
                protocol.guard.refused["overload"] += 1
                protocol.state["requests_count"] += 1
                if not protocol.app.config.KEEP_ALIVE or not is_plain(data):
                    self.head_only = data.startswith(b"HEAD ")
                    raise _Overloaded
                answers.append(refusals.overloaded(data, keep_alive=True))
        finally:
            if answers:
                protocol.transport.write(b"".join(answers))

    def _end_of_head(self) -> int:
        """Position of the empty line that ends the first head in the buffer; -1 if it has not arrived."""
        buffer = self.recv_buffer
        if buffer.startswith(_CRLF) and not self._has_skipped_line:
            del buffer[: len(_CRLF)]  # some clients send one after a body (RFC 9112, 2.2)
            self._has_skipped_line = True
        end = buffer.find(_BLANK_LINE)
        if (end if end >= 0 else len(buffer) - len(_BLANK_LINE) + 1) >= self.HEADER_MAX_SIZE:
            self._raise_too_long()
        if end < 0 and buffer.startswith(_CRLF):  # a second empty line begins no request
            raise BadRequest("request: it begins with empty lines")
        return end

    def _raise_too_long(self) -> None:
        self.head_only = self.recv_buffer.startswith(b"HEAD ")
        if _CRLF in self.recv_buffer[: self.HEADER_MAX_SIZE]:
            raise SanicException("request: its header lines exceed the size limit", status_code=431)
        raise URITooLong("request: its line exceeds the size limit")

    async def _skip_body(self, head: http_head.Head) -> None:
        buffer, most = self.recv_buffer, self.protocol.request_max_size
        if head.length > most:
            raise PayloadTooLarge("body: it exceeds the size limit")
        if head.expects_continue:
            await self._send(_CONTINUE)
        self.protocol.begin_body()
        if head.is_chunked:
            body = ChunkedBody(most, self.HEADER_MAX_SIZE)
            while not body.take(buffer):
                await self._receive_more()
        left = head.length
        while left:
            if not buffer:
                await self._receive_more()
            count = min(left, len(buffer))
            del buffer[:count]
            left -= count
        self.protocol.end_body()

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send the head of an answer, with a date."""
        assert self.response is not None
        self.response.headers["date"] = http_date()
        await super().http1_response_header(data, end_stream)

    def create_empty_request(self) -> None:
        self.url = None  # the URL may be the part that could not be parsed
        super().create_empty_request()

    async def error_response(self, exception: Exception) -> None:
        protocol = self.protocol
        if protocol.transport is None or protocol.transport.is_closing():
            self.keep_alive = False  # the client is gone; Sanic would fail to answer and log that
            return
        # unread bytes of the request would make the kernel reset the connection, and the answer would be lost
        protocol.must_linger = self.stage is Stage.REQUEST
        if isinstance(exception, _Overloaded):
            self.keep_alive = False
            protocol.transport.write(refusals.overloaded(b"HEAD " if self.head_only else b"", keep_alive=False))
            return
        await super().error_response(exception)
