"""Limits: what a client may ask of a worker without hurting the others.

| what | limit | what happens |
|---|---|---|
| connections | `max_connections` | the connections that were idle longest are closed; if none is idle, 503 and closed |
| a request that arrives slowly | `request_s` from its first byte | 408 and closed (Sanic counts from the last byte) |
| answers that are not read | `write_s` | cut off |
| no request | `idle_s` | closed (Sanic) |
| head | `max_header_bytes` | 413 and closed (Sanic) |
| body | `max_body_bytes` | read no further and closed (Sanic) |
| more requests than can be answered | `shed_s` within the worker | 503 |

One task a worker looks at all connections once a second; nothing is counted per request.

**Shedding.** When more is asked than can be answered, those who are answered should not wait for all the others. A
request cannot be older than the turn of the loop in which it is read, nor than the last answer on its connection. One
that is older than `shed_s` when Sanic's turn comes, with many more behind it, is refused, at a tenth of the cost of its
answer, so the worker catches up. The lane refuses nothing: it answers in the time that a refusal takes.
"""

import asyncio
import logging
from collections.abc import Iterable
from time import monotonic
from typing import Any

from sanic.exceptions import BadRequest, RequestTimeout
from sanic.http import Http, Stage
from sanic.server.protocols.http_protocol import HttpProtocol

from server.plain import is_plain, is_sound
from server.settings import ServerSettings

log = logging.getLogger("server")

_LOOK_S = 1.0
BEAT_S = 0.02
"""How often it is noted when a turn of the loop begins; turns that are longer are noted each."""
_FEW = 100
"""Requests that may wait in any case: some 15 ms of work."""
_SPARE = 64
"""Descriptors that are no connections."""
_EVICTED = 0.05
"""Share of the connections that is closed when there are too many, so that this is seldom done."""


def refusal(message: str, connection: str) -> bytes:
    """A 503 as it goes over the wire."""
    return (
        f"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: {len(message)}\r\n"
        f"connection: {connection}\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n{message}"
    ).encode()


BUSY = refusal("overloaded", "keep-alive")
BUSY_CLOSE = refusal("overloaded", "close")
_FULL = refusal("too many connections", "close")
_PROBES = (b"GET /healthz ", b"GET /readyz ")
"""Who is refused these may take a worker with much to do for a dead one."""


class Guard:
    """The limits of a worker, and how often they were met."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.refused = {"connections": 0, "slow_request": 0, "slow_reader": 0, "evicted": 0, "overload": 0}
        self.turn_began = monotonic()
        """When this turn of the loop began, at the earliest."""
        self.most_connections = settings.max_connections
        self.waiting = 0
        """Requests that wait for Sanic's turn."""
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
                connection.look(now)

    def make_room(self, connections: "set[GuardedProtocol]") -> bool:
        """Close the connections that were idle longest; whether there were any."""
        if self.none_idle:
            return False
        idle = sorted((one for one in connections if one.resting), key=lambda one: one.since)
        for connection in idle[: max(1, int(len(idle) * _EVICTED))]:
            connection.close()
            connections.discard(connection)
            self.refused["evicted"] += 1
        self.none_idle = not idle
        return bool(idle)


class _Http(Http):
    """Sanic's parser, mended."""

    protocol: "GuardedProtocol"

    async def http1_request_header(self) -> None:
        if not self.protocol.in_turn:  # requests that were sent one behind the other: others have their turn as well
            await asyncio.sleep(0)
        self.protocol.in_turn = False
        await super().http1_request_header()
        if not is_sound(self.request.head):
            self.keep_alive = False
            raise BadRequest("Bad Request")

    def create_empty_request(self) -> None:
        self.url = None  # it may be what could not be parsed
        super().create_empty_request()

    async def error_response(self, exception: Exception) -> None:
        if self.protocol.transport is None or self.protocol.transport.is_closing():
            self.keep_alive = False  # there is nobody to tell; Sanic would fail over it, and log that
            return
        await super().error_response(exception)


class GuardedProtocol(HttpProtocol):
    """Sanic's protocol within limits."""

    HTTP_CLASS = _Http
    transport: Any

    __slots__ = ("_guard", "_late_at", "_reading", "_requests", "_waits", "in_turn", "resting", "since", "stuck_since")

    def __init__(self, *, guard: Guard, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._guard = guard
        self.resting = True
        """Whether Sanic has answered all that it was given and waits for a new request."""
        self.since = monotonic()
        """When the request that is being read began, or when the connection came to rest."""
        self.stuck_since: float | None = None
        """Since when the client has not taken what was written."""
        self._reading = False
        """Whether Sanic waits for bytes."""
        self._waits, self._late_at = False, 0.0
        """Whether a request waits for Sanic's turn, and when it will have waited too long."""
        self.in_turn = False
        """Whether Sanic has waited for this request, and so let others have their turn before it."""
        self._requests = 0

    def connection_made(self, transport: Any) -> None:
        guard = self._guard
        if len(self.connections) >= guard.most_connections and not guard.make_room(self.connections):
            guard.refused["connections"] += 1
            transport.write(_FULL)
            transport.close()
            self.resting = False
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # uvloop then writes at once, not at the end of its turn

    def data_received(self, data: bytes) -> None:
        if self.resting:
            guard = self._guard
            self._late_at = max(guard.turn_began, self.since) + guard.settings.shed_s
            self.resting, self.since = False, monotonic()
            self._waits = True
            guard.waiting += 1
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._taken()
        super().connection_lost(exc)

    def _setup_connection(self, *args: Any, **kwargs: Any) -> None:
        super()._setup_connection(*args, **kwargs)
        if self.recv_buffer and self._taken():  # Sanic does not wait for what is there already
            self._shed()

    async def receive_more(self) -> None:
        # Sanic comes here for a new request, for more of a head and for more of a body; it rests in the first case only
        http = self._http
        if http.stage is not Stage.IDLE or http.request is not None:
            if self._requests != self.state["requests_count"]:  # the head of one request sent right behind another
                self._requests, self.since = self.state["requests_count"], monotonic()
            await self._more()
            return
        while True:
            self.resting, self.since = True, monotonic()
            self._guard.none_idle = False
            await self._more()
            self.in_turn = True
            if not self._taken():
                return
            self._shed()

    def _taken(self) -> bool:
        """Sanic has its turn; whether the request has waited too long for it."""
        waited, self._waits = self._waits, False
        self._guard.waiting -= waited
        late = waited and self._guard.waiting > _FEW and monotonic() > self._late_at
        return late and not self.recv_buffer.startswith(_PROBES)

    async def _more(self) -> None:
        self._reading = True
        await super().receive_more()
        self._reading = False

    def _shed(self) -> None:
        """Refuse what was received; where its end is not beyond doubt, the connection ends with it."""
        self._guard.refused["overload"] += 1
        if self.app.config.KEEP_ALIVE and is_plain(bytes(self.recv_buffer)):
            self.recv_buffer.clear()
            self.transport.write(BUSY)
            return
        head_only = self.recv_buffer.startswith(b"HEAD ")
        self.transport.write(BUSY_CLOSE.removesuffix(b"overloaded") if head_only else BUSY_CLOSE)
        raise asyncio.CancelledError  # ends the task of the connection, which closes it

    def abort(self) -> None:
        if self.http is not None and self.http.request is None and self.transport is not None:
            self.http.create_empty_request()  # Sanic names the request that it ends, also where there is none yet
        super().abort()

    def close_if_idle(self) -> bool:
        """Close the connection unless a request is being received or answered; whether it was closed."""
        if self.resting:
            self.close()
        return self.resting

    def pause_writing(self) -> None:
        self.stuck_since = monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stuck_since = None
        super().resume_writing()

    def look(self, now: float) -> None:
        """End what has taken too long."""
        settings = self._guard.settings
        if self.stuck_since is not None:
            if now - self.stuck_since > settings.write_s:
                self._guard.refused["slow_reader"] += 1
                self.abort()
        elif not self.resting and self._reading and now - self.since > settings.request_s and self._task is not None:
            self._guard.refused["slow_request"] += 1
            self._http.exception = RequestTimeout("the request took too long")
            self._task.cancel()
