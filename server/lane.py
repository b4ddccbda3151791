"""The fast lane: a whole, plain `GET /recommend/<digits> HTTP/1.1` is answered where its bytes arrive.

An ordinary handler costs a task switch, a parser, a router and a response object, some ten times the work of finding
the answer. This protocol looks at what arrives on a connection that Sanic is not busy with, answers what is beyond
doubt (`plain.py`) from the release, and hands everything else, byte for byte, to Sanic, which has the last word. So
the lane may only be narrower than Sanic, never different: a test sends the same bytes to a worker with the lane and to
one without.

Header lines that were judged plain are remembered by their bytes: a client sends the same ones over and over.
"""

import asyncio
from time import monotonic, time
from typing import Any

from server.access import AccessLog
from server.current import Current
from server.guard import GuardedProtocol
from server.metrics import Meter
from server.plain import VERSION, has_plain_headers
from server.settings import ServerSettings

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


class Lane:
    """What the connections of a worker share."""

    def __init__(self, current: Current, meter: Meter, settings: ServerSettings, access: AccessLog | None) -> None:
        self.current, self.meter, self.access = current, meter, access
        self.plain: set[bytes] = set()
        """Header lines that were judged plain, each with the empty line behind it."""
        self._longest = min(_LONGEST, settings.max_header_bytes - len(_PREFIX) - _DIGITS - len(VERSION))
        self._open = True

    def close(self) -> None:
        """From now on Sanic answers everything."""
        self._open = False
        self.plain.clear()

    def renew_heads(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let answers tell the time, which changes once a second: heads are made once in each, when first needed."""
        if self.current.answers is not None:
            self.current.answers.renew_heads()
        loop.call_later(1 - time() % 1, self.renew_heads, loop)

    def is_plain(self, lines: bytes) -> bool:
        """Whether a request with these header lines may be answered here."""
        if lines in self.plain:
            return True
        if not self._open or len(lines) > self._longest or not has_plain_headers(lines):
            return False
        if len(self.plain) >= _REMEMBERED:
            self.plain.clear()
        self.plain.add(lines)
        return True


class LaneProtocol(GuardedProtocol):
    """Sanic's protocol with the lane before it."""

    __slots__ = ("_lane", "_rest")

    def __init__(self, *, lane: Lane, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._lane, self._rest = lane, b""

    def data_received(self, data: bytes) -> None:
        if not self.resting or self.stuck_since is not None or self._rest:
            if self._rest:  # it was to read no more, but Sanic says otherwise when it begins to wait
                self._rest += data
            else:
                super().data_received(data)
            return
        # a single request with headers that were seen before is nearly all there is: it is looked for first
        lane = self._lane
        first, _, lines = data.partition(VERSION)
        user = first.removeprefix(_PREFIX)
        if lines in lane.plain and user.isdigit() and len(user) <= _DIGITS and user != first:
            answers = lane.current.ready
            began = monotonic()
            if answers is not None:
                self._time = self.since = began
                body, source = answers.find(int(user))
                self.transport.write(answers.heads[source][len(body)] + body)
                lane.meter.took(source, monotonic() - began)
                if lane.access is not None:
                    lane.access.answered(user, monotonic() - began)
                return
        self._several(data)

    def _go_on(self) -> None:
        """Answer the next of many requests that came at once."""
        data, self._rest = self._rest, b""
        if self.transport.is_closing():
            return
        self.resting = True
        self.transport.resume_reading()
        if self.stuck_since is None:
            self._several(data)
        else:
            super().data_received(data)

    def _several(self, data: bytes) -> None:
        """Answer the plain requests that the data begins with; the rest is Sanic's."""
        lane, answers = self._lane, self._lane.current.ready
        began = self._time = monotonic()
        replies: list[bytes] = []
        at = 0
        while answers is not None and data.startswith(_PREFIX, at) and len(replies) < _AT_ONCE:
            end = data.find(_BLANK_LINE, at) + len(_BLANK_LINE)
            first, _, lines = data[at:end].partition(VERSION)
            user = first.removeprefix(_PREFIX)
            if not user.isdigit() or len(user) > _DIGITS or not lane.is_plain(lines):
                break
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
