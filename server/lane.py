"""The fast lane: answers a whole, plain `GET /recommend/<digits> HTTP/1.1` as soon as its bytes arrive.

An ordinary handler costs a task switch, a parser, a router and a response object, some ten times the work of finding
the answer. While Sanic is idle on a connection, this protocol answers plain requests (`plain.py`) from the release and
hands all other bytes, unchanged, to Sanic. So the lane may answer fewer requests than Sanic, but never differently: a
test sends the same bytes to a worker with the lane and to one without.

Header lines known to be plain are cached by their bytes, and additionally the last ones of each connection: a client
sends the same lines with every request. So nearly every request is recognised by its beginning and its end, and the
user id is between them.
"""

import asyncio
from time import monotonic, time
from typing import Any

from server.access import AccessLog
from server.guard import GuardedProtocol
from server.plain import VERSION, has_plain_headers
from server.release_watcher import ReleaseWatcher
from server.settings import ServerSettings
from server.worker_metrics import RequestMeter

_PREFIX = b"GET /recommend/"
_DIGITS = 19
"""Digits of the longest user id."""
_BLANK_LINE = b"\r\n\r\n"
_LONGEST = 2048
"""Header lines with more bytes are left to Sanic."""
_AT_ONCE = 64
"""Pipelined requests answered before other connections get their turn."""
_REMEMBERED = 4096
"""Header lines to remember; when clients send too many different ones, all are forgotten."""


class _Closed:
    """Stands in for the release once the lane is closed: it never has an answer."""

    ready = None


_CLOSED = _Closed()


class Lane:
    """State that all connections of a worker share."""

    def __init__(
        self, current: ReleaseWatcher, meter: RequestMeter, settings: ServerSettings, access: AccessLog | None
    ) -> None:
        self.current, self.meter, self.access = current, meter, access
        self._tails: dict[bytes, bytes] = {}
        """By plain header lines with the empty line behind them: how such a request ends, that is the HTTP version and
        these lines."""
        self.answers_from: ReleaseWatcher | _Closed = current
        """The answers that connections use."""
        self._longest = min(_LONGEST, settings.max_header_bytes - len(_PREFIX) - _DIGITS - len(VERSION))
        self._open = True

    def close(self) -> None:
        """Leave every request to Sanic from now on."""
        self._open = False
        self._tails.clear()
        self.answers_from = _CLOSED

    def renew_heads(self, loop: asyncio.AbstractEventLoop) -> None:
        """Renew the date in the heads of answers, once a second; a head is then made when it is first needed."""
        if self.current.answers is not None:
            self.current.answers.renew_heads()
        loop.call_later(1 - time() % 1, self.renew_heads, loop)

    def tail(self, lines: bytes) -> bytes | None:
        """The end of a request with these header lines, from its HTTP version on; None if it is left to Sanic."""
        if (tail := self._tails.get(lines)) is not None:
            return tail
        if not self._open or len(lines) > self._longest or not has_plain_headers(lines):
            return None
        if len(self._tails) >= _REMEMBERED:
            self._tails.clear()
        self._tails[lines] = VERSION + lines
        return self._tails[lines]


class LaneProtocol(GuardedProtocol):
    """Sanic's protocol with the fast lane in front."""

    __slots__ = ("_around", "_lane", "_rest", "_tail")

    def __init__(self, *, lane: Lane, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._lane, self._rest = lane, b""
        self._tail = b""
        """The end of the last plain request of this connection, from its HTTP version on."""
        self._around = -1
        """Bytes of a request with that end, without its user id; -1 before the first."""

    def data_received(self, data: bytes) -> None:
        if not self.resting or self.write_blocked_since is not None or self._rest:
            if self._rest:  # reading was paused, but Sanic resumes it when it begins to wait
                self._rest += data
            else:
                super().data_received(data)
            return
        # the usual case first: a single request that ends like the last one
        lane = self._lane
        user = data.removesuffix(self._tail).removeprefix(_PREFIX)
        if len(data) - len(user) == self._around and user.isdigit() and len(user) <= _DIGITS:
            answers = lane.answers_from.ready
            if answers is not None:
                self._time = self.since = began = monotonic()
                body, source = answers.find(int(user))
                self.transport.write(answers.heads[source][len(body)] + body)
                lane.meter.took(source, monotonic() - began)
                if lane.access is not None:
                    lane.access.log_list(user, monotonic() - began)
                return
        self._answer_pipelined(data)

    def _go_on(self) -> None:
        """Continue with pipelined requests, after other connections had their turn."""
        data, self._rest = self._rest, b""
        if self.transport.is_closing():
            return
        self.resting = True
        self.transport.resume_reading()
        if self.write_blocked_since is None:
            self._answer_pipelined(data)
        else:
            super().data_received(data)

    def _answer_pipelined(self, data: bytes) -> None:
        """Answer the plain requests at the beginning of the data; leave the rest to Sanic."""
        lane, answers = self._lane, self._lane.answers_from.ready
        began = self._time = monotonic()
        replies: list[bytes] = []
        start = 0
        while answers is not None and data.startswith(_PREFIX, start) and len(replies) < _AT_ONCE:
            end = data.find(_BLANK_LINE, start) + len(_BLANK_LINE)
            first, _, lines = data[start:end].partition(VERSION)
            user = first.removeprefix(_PREFIX)
            if not user.isdigit() or len(user) > _DIGITS or (tail := lane.tail(lines)) is None:
                break
            self._tail, self._around = tail, len(_PREFIX) + len(tail)
            body, source = answers.find(int(user))
            replies.append(answers.heads[source][len(body)] + body)
            lane.meter.took(source, monotonic() - began)
            if lane.access is not None:
                lane.access.log_list(user, monotonic() - began)
            start = end
        if replies:
            self.since = began
            self.transport.write(b"".join(replies))
        if len(replies) == _AT_ONCE and start < len(data):
            self._rest, self.resting = data[start:], False
            self.transport.pause_reading()
            self.loop.call_soon(self._go_on)
        elif start < len(data):
            super().data_received(data[start:] if start else data)
