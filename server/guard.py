"""Limits for clients: sizes, times, connections and overload.

| limit of | setting | action |
|---|---|---|
| connections | `max_connections` | the longest idle connections are closed; if none is idle, 503 and closed |
| a request that arrives slowly | `request_s` from its first byte | 408 and closed (Sanic counts from the last byte) |
| answers that the client does not read | `write_s` | connection aborted |
| no request | `idle_s` | closed (Sanic) |
| head | `max_header_bytes` | 431 or 414 and closed (`http1.py`) |
| body | `max_body_bytes` | 413 and closed (`http1.py`) |
| more requests than can be answered | `shed_s` within the worker | 503 |

One task per worker checks all connections once a second; only Sanic's path counts anything per request.

**Shedding.** When more requests arrive than can be answered, the answered ones should not wait for all the others. A
request is no older than the turn of the loop in which the end of its head was read, and, if it is the first since the
connection came to rest, no older than the last answer on it. A request that is older than `shed_s` when Sanic's turn
comes, with many more waiting, is refused at a tenth of the cost of its answer, so the worker catches up. Pipelined
requests count like requests on separate connections. The fast lane refuses nothing: it answers as fast as it could
refuse.

**Lingering.** A connection that ends before the whole request was read is first closed on our side only, and further
bytes are dropped for up to `request_s`: if it were closed at once the kernel would reset it, and the client might lose
the answer.
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
"""Interval at which the beginning of a turn of the loop is recorded; each longer turn is recorded."""
_UNSHED_REQUESTS = 100
"""Nothing is shed up to this many waiting requests: some 15 ms of work."""
_SPARE = 64
"""File descriptors kept free for other uses than connections."""
_EVICTED = 0.05
"""Share of the idle connections that is closed when there are too many, so that this is rarely needed."""
_BLANK_LINE = b"\r\n\r\n"
_PROBES = (b"GET /healthz ", b"GET /readyz ")
"""Never shed health probes: a refused probe makes a busy worker look dead."""
_MOST_REFUSED = 32
"""Refused connections beyond the limit that linger, so that their clients can read the refusal."""


class Guard:
    """The limits of a worker, and how often each took effect."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.refused = {"connections": 0, "slow_request": 0, "slow_reader": 0, "evicted": 0, "overload": 0}
        self.turn_began = monotonic()
        """The earliest time at which this turn of the loop can have begun."""
        self.most_connections = settings.max_connections
        self.waiting = 0
        """Requests that wait for Sanic's turn, pipelined ones included; an upper bound, since they are counted by the
        empty lines that end their heads."""
        self.none_idle = False
        """Whether the last search found no idle connection, and none has come to rest since."""

    def limit_connections(self, descriptors: int) -> None:
        """Lower the limit of connections to what the limit of open files allows; a few are kept for releases."""
        if self.most_connections > descriptors - _SPARE:
            self.most_connections = max(1, descriptors - _SPARE)
            log.warning(
                "at most %d connections, since at most %d files may be open", self.most_connections, descriptors
            )

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Record repeatedly when a turn of the loop begins.

        A timer rather than a task: timers run right after sockets were read, before the tasks that may hold up the
        turn. (The clock of the loop is updated after each wait, so it does not say when the turn began.)
        """
        self.turn_began = monotonic()
        loop.call_later(BEAT_S, self.beat, loop)

    async def watch(self, connections: "Iterable[GuardedProtocol]") -> None:
        """Enforce the timeouts of all connections once a second, for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = monotonic()
            for connection in list(connections):
                connection.enforce_timeouts(now)

    def make_room(self, connections: "set[GuardedProtocol]") -> bool:
        """Close the connections that were idle longest; False if none is idle."""
        if self.none_idle:
            return False
        idle = sorted((each for each in connections if each.resting or each.lingers), key=lambda each: each.since)
        for connection in idle[: max(1, int(len(idle) * _EVICTED))]:
            connection.close_if_idle()
            connections.discard(connection)
            self.refused["evicted"] += 1
        self.none_idle = not idle
        return bool(idle)


class GuardedProtocol(HttpProtocol):
    """Sanic's protocol with the limits of a `Guard`."""

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
        """Whether Sanic has answered all requests of this connection and waits for a new one."""
        self.since = monotonic()
        """When the current request began, or the connection came to rest or began to linger."""
        self.write_blocked_since: float | None = None
        """Time since which the client has not read written bytes; None if it keeps up."""
        self.in_turn = False
        """Whether Sanic waited for this request, so that other connections had their turn before it."""
        self._in_body = False
        """Whether the body of a request is being received."""
        self.must_linger = self.lingers = False
        """Whether the connection must linger when it is closed: closing it with unread bytes resets it, which may
        destroy the last answer. And whether it lingers now, so that all it receives is dropped."""
        self._reading = False
        """Whether Sanic waits for bytes."""
        self._received = 0
        """Bytes received on this connection so far."""
        self._pending = 0
        """Requests in the buffer, as `Guard.waiting` counts them."""
        self._arrivals: deque[tuple[int, float]] = deque()
        """For each received piece that completed heads: its end, counted as `_received`, and the time from which the
        requests in it are late."""
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
        """Count requests whose heads were just received."""
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
        """Whether the first request in the buffer, with a head of `head_bytes`, has waited too long for its turn."""
        guard, arrivals = self.guard, self._arrivals
        end = self._received - len(self.recv_buffer) + head_bytes
        while len(arrivals) > 1 and arrivals[0][0] < end:
            arrivals.popleft()
        if guard.waiting - (self._pending > 0) <= _UNSHED_REQUESTS or not arrivals or monotonic() <= arrivals[0][1]:
            return False
        # if the client does not read, refusals would pile up, while an answer waits until it can be written
        return self.write_blocked_since is None and not self.recv_buffer.startswith(_PROBES)

    def begin_turn(self) -> None:
        """Note that Sanic takes the first request in the buffer."""
        if self._pending:
            self._pending -= 1
            self.guard.waiting -= 1

    def begin_body(self) -> None:
        """Note that a body begins: empty lines in it end no head."""
        self._in_body = True
        self._forget_pending()

    def end_body(self) -> None:
        """Note that the body is over, and count the requests that came behind it."""
        self._in_body = False
        self._count(self.recv_buffer.count(_BLANK_LINE), self.guard.turn_began + self.guard.settings.shed_s)

    async def receive_more(self) -> None:
        # Sanic calls this for a new request, for more of a head and for more of a body; it rests in the first case only
        http = self._http
        is_new = http.stage is Stage.IDLE and http.request is None
        if is_new:
            self.resting, self.since = True, monotonic()
            self.guard.none_idle = False
            self._forget_pending()
        elif self._requests != self.state["requests_count"]:  # the head of a pipelined request
            self._requests, self.since = self.state["requests_count"], monotonic()
        self._reading = True
        await super().receive_more()
        self._reading = False
        self.in_turn = is_new

    def abort(self) -> None:
        if self.http is not None and self.http.request is None and self.transport is not None:
            self.http.create_empty_request()  # Sanic logs the request that it aborts, and fails if there is none yet
        super().abort()

    def close(self, timeout: float | None = None) -> None:
        """Close the connection; if its client may still be sending, close our side first and linger."""
        if not self.must_linger or self.lingers or self.transport is None or self.transport.is_closing():
            super().close(timeout)
            return
        self.lingers, self.since = True, monotonic()
        self._forget_pending()
        self.recv_buffer.clear()
        self.transport.resume_reading()
        self.transport.write_eof()

    def close_if_idle(self) -> bool:
        """Close the connection unless it is receiving or answering a request; whether it was closed."""
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
        """End the connection if one of its limits of time is exceeded."""
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
