"""The fast lane: a whole, plain `GET /recommend/<digits> HTTP/1.1` is answered where its bytes arrive.

An ordinary handler costs a task switch, a parser, a router and a response object, some ten times the work of finding
the answer. This protocol looks at what arrives on a connection that Sanic is not busy with, answers what is beyond
doubt (`plain.py`) from the release, and hands everything else, byte for byte, to Sanic, which has the last word. So
the lane may only be narrower than Sanic, never different: a test sends the same bytes to a worker with the lane and to
one without.

Header lines that were judged plain are remembered by their bytes, and each connection's last ones apart: a client sends
the same ones over and over. So nearly every request is known by its ends, and what is left between them is the user.
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
"""Of the longest user id."""
_BLANK_LINE = b"\r\n\r\n"
_LONGEST = 2048
"""Bytes of header lines that may be plain; Sanic judges longer ones."""
_AT_ONCE = 64
"""Requests sent one behind the other that are answered before others have their turn."""
_REMEMBERED = 4096
"""Header lines that are remembered; clients that send new ones each time make this overflow, and it starts anew."""


class _Closed:
    """What is answered from once the lane is closed: nothing."""

    ready = None


_CLOSED = _Closed()


class Lane:
    """What the connections of a worker share."""

    def __init__(
        self, current: ReleaseWatcher, meter: RequestMeter, settings: ServerSettings, access: AccessLog | None
    ) -> None:
        self.current, self.meter, self.access = current, meter, access
        self._tails: dict[bytes, bytes] = {}
        """Ends of requests by the header lines that were judged plain, with the empty line behind them: those lines
        with the version before them."""
        self.answers_from: ReleaseWatcher | _Closed = current
        """What connections answer from; once closed, something that never has an answer."""
        self._longest = min(_LONGEST, settings.max_header_bytes - len(_PREFIX) - _DIGITS - len(VERSION))
        self._open = True

    def close(self) -> None:
        """From now on Sanic answers everything."""
        self._open = False
        self._tails.clear()
        self.answers_from = _CLOSED

    def renew_heads(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let answers tell the time, which changes once a second: heads are made once in each, when first needed."""
        if self.current.answers is not None:
            self.current.answers.renew_heads()
        loop.call_later(1 - time() % 1, self.renew_heads, loop)

    def tail(self, lines: bytes) -> bytes | None:
        """How a request with these header lines ends, from its version on; None where it may not be answered here."""
        if (known := self._tails.get(lines)) is not None:
            return known
        if not self._open or len(lines) > self._longest or not has_plain_headers(lines):
            return None
        if len(self._tails) >= _REMEMBERED:
            self._tails.clear()
        self._tails[lines] = VERSION + lines
        return self._tails[lines]


class LaneProtocol(GuardedProtocol):
    """Sanic's protocol with the lane before it."""

    __slots__ = ("_around", "_lane", "_rest", "_tail")

    def __init__(self, *, lane: Lane, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._lane, self._rest = lane, b""
        self._tail = b""
        """How the last plain request of this connection ended, from its version on."""
        self._around = -1
        """Bytes of a request that ends so, without its user; -1 before the first."""

    def data_received(self, data: bytes) -> None:
        if not self.resting or self.write_blocked_since is not None or self._rest:
            if self._rest:  # it was to read no more, but Sanic says otherwise when it begins to wait
                self._rest += data
            else:
                super().data_received(data)
            return
        # a single request that ends like the last one is nearly all there is: it is looked for first
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
                    lane.access.answered(user, monotonic() - began)
                return
        self._answer_pipelined(data)

    def _go_on(self) -> None:
        """Answer the next of many requests that came at once."""
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
        """Answer the plain requests that the data begins with; the rest is Sanic's."""
        lane, answers = self._lane, self._lane.answers_from.ready
        began = self._time = monotonic()
        replies: list[bytes] = []
        at = 0
        while answers is not None and data.startswith(_PREFIX, at) and len(replies) < _AT_ONCE:
            end = data.find(_BLANK_LINE, at) + len(_BLANK_LINE)
            first, _, lines = data[at:end].partition(VERSION)
            user = first.removeprefix(_PREFIX)
            if not user.isdigit() or len(user) > _DIGITS or (tail := lane.tail(lines)) is None:
                break
            self._tail, self._around = tail, len(_PREFIX) + len(tail)
            body, source = answers.find(int(user))
            replies.append(answers.heads[source][len(body)] + body)
            lane.meter.took(source, monotonic() - began)
            if lane.access is not None:
                lane.access.answered(user, monotonic() - began)
            at = end
        if replies:
            self.since = began
            self.transport.write(b"".join(replies))
        if len(replies) == _AT_ONCE and at < len(data):
            self._rest, self.resting = data[at:], False
            self.transport.pause_reading()
            self.loop.call_soon(self._go_on)
        elif at < len(data):
            super().data_received(data[at:] if at else data)
