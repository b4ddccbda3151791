"""Limits for clients: sizes, times, connections, overload.

| what | limit | what happens |
|---|---|---|
| connections | `max_connections` | the connections that were idle longest are closed; if none is idle, 503 and closed |
| a request that arrives slowly | `request_s` from its first byte | 408 and closed (Sanic counts from the last byte) |
| answers that are not read | `write_s` | cut off |
| no request | `idle_s` | closed (Sanic) |
| head | `max_header_bytes` | 431 or 414 and closed (`http1.py`) |
| body | `max_body_bytes` | 413 and closed (`http1.py`) |
| more requests than can be answered | `shed_s` within the worker | 503 |

One task a worker looks at all connections once a second; nothing is counted per request but on Sanic's path.

**Shedding.** When more is asked than can be answered, those who are answered should not wait for all the others. A
request cannot be older than the turn of the loop in which its head was read to its end, nor, if it is the first since
the connection came to rest, than the last answer on it. One that is older than `shed_s` when Sanic's turn comes, with
many more waiting, is refused, at a tenth of the cost of its answer, so the worker catches up. Requests sent one behind
the other count as much as those of a connection each. The lane refuses nothing: it answers in the time that a refusal
takes.

**Lingering.** A connection that is ended before all of a request was read is closed on our side only, and what still
comes is dropped for up to `request_s`: closed at once it would be reset, and the client might lose the answer.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any

from sanic.exceptions import RequestTimeout
from sanic.http import Stage
from sanic.server.protocols.http_protocol import HttpProtocol

from server import refusals
from server.http1 import Http1
from server.settings import ServerSettings

log = logging.getLogger(__name__)

_LOOK_S = 1.0
BEAT_S = 0.02
"""How often it is noted when a turn of the loop begins; turns that are longer are noted each."""
_FEW = 100
"""Requests that may wait in any case: some 15 ms of work."""
_SPARE = 64
"""Descriptors that are no connections."""
_EVICTED = 0.05
"""Share of the connections that is closed when there are too many, so that this is seldom done."""
_BLANK_LINE = b"\r\n\r\n"
_PROBES = (b"GET /healthz ", b"GET /readyz ")
"""Never shed health probes: a refused probe makes a busy worker look dead."""
_MOST_REFUSED = 32
"""Refused connections beyond the limit that are kept for a moment, so that their clients can read why."""


class Guard:
    """The limits of a worker, and how often they were met."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.refused = {"connections": 0, "slow_request": 0, "slow_reader": 0, "evicted": 0, "overload": 0}
        self.turn_began = monotonic()
        """When this turn of the loop began, at the earliest."""
        self.most_connections = settings.max_connections
        self.waiting = 0
        """Requests received whole that wait for Sanic's turn, also behind others of their connection; at most, since
        they are counted by the empty lines that end their heads."""
        self.none_idle = False
        """Whether no connection was idle when one was looked for, and none has come to rest since."""

    def limit_connections(self, descriptors: int) -> None:
        """Take no more connections than there are descriptors for, some left over for releases."""
        if self.most_connections > descriptors - _SPARE:
            self.most_connections = max(1, descriptors - _SPARE)
            log.warning(
                "no more than %d connections: the limit of open files is %d", self.most_connections, descriptors
            )

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note again and again when a turn of the loop begins.

        By a timer, not a task: what is to be known is when it was read last, before the tasks that may hold up the
        turn. (The loop's own clock is set anew after each wait and so knows nothing of the turn.)
        """
        self.turn_began = monotonic()
        loop.call_later(BEAT_S, self.beat, loop)

    async def watch(self, connections: "Iterable[GuardedProtocol]") -> None:
        """Look at all connections again and again."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = monotonic()
            for connection in list(connections):
                connection.enforce_timeouts(now)

    def make_room(self, connections: "set[GuardedProtocol]") -> bool:
        """Close the connections that were idle longest; whether there were any."""
        if self.none_idle:
            return False
        idle = sorted((one for one in connections if one.resting or one.lingers), key=lambda one: one.since)
        for connection in idle[: max(1, int(len(idle) * _EVICTED))]:
            connection.close_if_idle()
            connections.discard(connection)
            self.refused["evicted"] += 1
        self.none_idle = not idle
        return bool(idle)


class GuardedProtocol(HttpProtocol):
    """Sanic's protocol within limits."""

    HTTP_CLASS = Http1
    transport: Any

    __slots__ = (
        "_arrivals", "_in_body", "_pending", "_reading", "_received", "_requests",
        "guard", "in_turn", "lingers", "must_linger", "resting", "since", "write_blocked_since",
    )  # fmt: skip

    def __init__(self, *, guard: Guard, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.guard = guard
        self.resting = True
        """Whether Sanic has answered all that it was given and waits for a new request."""
        self.since = monotonic()
        """When the request that is being read began, or when the connection came to rest or began to linger."""
        self.write_blocked_since: float | None = None
        """Since when the client has not taken what was written."""
        self.in_turn = False
        """Whether Sanic has waited for this request, and so let others have their turn before it."""
        self._in_body = False
        """Whether the body of a request is being received."""
        self.must_linger = self.lingers = False
        """Whether what the client still sends is to be awaited and dropped before the connection is closed; since a
        close with bytes unread is a reset, which may destroy the last answer. And whether that is being done."""
        self._reading = False
        """Whether Sanic waits for bytes."""
        self._received = 0
        """Bytes, all in all."""
        self._pending = 0
        """Requests in the buffer, as `Guard.waiting` counts them."""
        self._arrivals: deque[tuple[int, float]] = deque()
        """For each piece that completed a head: where it ends in all that was received, and when what came with it
        will have waited too long."""
        self._requests = 0

    def connection_made(self, transport: Any) -> None:
        guard = self.guard
        if is_full := len(self.connections) >= guard.most_connections and not guard.make_room(self.connections):
            guard.refused["connections"] += 1
            transport.write(refusals.too_many_connections())
            self.must_linger = len(self.connections) < guard.most_connections + _MOST_REFUSED
            self.resting = False
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # uvloop then writes at once, not at the end of its turn
        if is_full:
            assert self._task is not None
            self._task.cancel()
            self._task = None
            self.close()

    def data_received(self, data: bytes) -> None:
        if self.lingers:
            return
        late_at = self.guard.turn_began + self.guard.settings.shed_s
        if self.resting:
            late_at = max(late_at, self.since + self.guard.settings.shed_s)
            self.resting, self.since = False, monotonic()
        held = len(self.recv_buffer)
        super().data_received(data)
        self._received += len(data)
        if not self._in_body:
            self._count(self.recv_buffer.count(_BLANK_LINE, max(0, held - len(_BLANK_LINE) + 1)), late_at)

    def _count(self, requests: int, late_at: float) -> None:
        """Count requests that were received just now."""
        if requests:
            self._pending += requests
            self.guard.waiting += requests
            self._arrivals.append((self._received, late_at))

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_pending()
        super().connection_lost(exc)

    def _forget_pending(self) -> None:
        self.guard.waiting -= self._pending
        self._pending = 0
        self._arrivals.clear()

    def is_late(self, head_bytes: int) -> bool:
        """Whether the request whose head has so many bytes has waited too long for its turn, which comes now."""
        guard, arrivals = self.guard, self._arrivals
        end = self._received - len(self.recv_buffer) + head_bytes
        while len(arrivals) > 1 and arrivals[0][0] < end:
            arrivals.popleft()
        if guard.waiting - (self._pending > 0) <= _FEW or not arrivals or monotonic() <= arrivals[0][1]:
            return False
        # who does not read would let refusals pile up; an answer waits until there is room for it
        return self.write_blocked_since is None and not self.recv_buffer.startswith(_PROBES)

    def begin_turn(self) -> None:
        """The first request in the buffer waits no more."""
        if self._pending:
            self._pending -= 1
            self.guard.waiting -= 1

    def begin_body(self) -> None:
        """The body of a request begins; nothing in it is a request."""
        self._in_body = True
        self._forget_pending()

    def end_body(self) -> None:
        """The body of a request is over; what came behind it are requests again."""
        self._in_body = False
        self._count(self.recv_buffer.count(_BLANK_LINE), self.guard.turn_began + self.guard.settings.shed_s)

    async def receive_more(self) -> None:
        # Sanic comes here for a new request, for more of a head and for more of a body; it rests in the first case only
        http = self._http
        is_new = http.stage is Stage.IDLE and http.request is None
        if is_new:
            self.resting, self.since = True, monotonic()
            self.guard.none_idle = False
            self._forget_pending()
        elif self._requests != self.state["requests_count"]:  # the head of one request sent right behind another
            self._requests, self.since = self.state["requests_count"], monotonic()
        self._reading = True
        await super().receive_more()
        self._reading = False
        self.in_turn = is_new

    def abort(self) -> None:
        if self.http is not None and self.http.request is None and self.transport is not None:
            self.http.create_empty_request()  # Sanic names the request that it ends, also where there is none yet
        super().abort()

    def close(self, timeout: float | None = None) -> None:
        """Close the connection; where its client may still be sending, end our side of it first."""
        if not self.must_linger or self.lingers or self.transport is None or self.transport.is_closing():
            super().close(timeout)
            return
        self.lingers, self.since = True, monotonic()
        self._forget_pending()
        self.recv_buffer.clear()
        self.transport.resume_reading()
        self.transport.write_eof()

    def close_if_idle(self) -> bool:
        """Close the connection unless a request is being received or answered; whether it was closed."""
        idle = self.resting or self.lingers
        if idle:
            self.close()
        return idle

    def pause_writing(self) -> None:
        self.write_blocked_since = monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.write_blocked_since = None
        super().resume_writing()

    def enforce_timeouts(self, now: float) -> None:
        """End what has taken too long."""
        settings = self.guard.settings
        if self.write_blocked_since is not None:
            if now - self.write_blocked_since > settings.write_s:
                self.guard.refused["slow_reader"] += 1
                self.abort()
        elif self.lingers:
            if now - self.since > settings.request_s:
                self.close()
        elif not self.resting and self._reading and now - self.since > settings.request_s and self._task is not None:
            self.guard.refused["slow_request"] += 1
            self._http.exception = RequestTimeout("the request took too long")
            self._task.cancel()
