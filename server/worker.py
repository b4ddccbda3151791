"""The life of a worker: start, serving, draining.

Signal handlers are set before anything else: Sanic's own runner sets them late, so a SIGTERM during the start could be
lost and the worker would never end. On SIGTERM a worker stops accepting, answers the requests on its connections with
`connection: close`, closes the connections that stay idle, and ends after `drain_s` at the latest.

If the loop hangs, the watchdog process (`watchdog.py`) makes the worker write its stack and kills it, and supervisord
starts another.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import uvloop
from sanic.application.state import ApplicationServerInfo
from sanic.http.constants import HTTP

from server.acceptor import Acceptor
from server.access import AccessLog
from server.app import Application, make_app
from server.guard import Guard, GuardedProtocol
from server.lane import Lane, LaneProtocol
from server.probes import Probes
from server.release_watcher import ReleaseWatcher
from server.settings import ServerSettings
from server.threads import run_in_daemon_thread
from server.watchdog import Watchdog
from server.worker_metrics import RequestMeter, WorkerMetrics
from server.worker_status import State, StatusSocket, WorkerStatus

log = logging.getLogger(__name__)

_LOOK_S = 0.02
_TURN_S = 0.0001
"""How long a thread that opens a release may delay each turn of the loop, seconds (Python's default is 5 ms)."""
_LAST_S = 1.0
_IDLE_SHARE = 0.5
"""Share of `drain_s` for which idle connections stay open, so that clients can still send a request."""


class Worker:
    """One process that answers."""

    def __init__(self, var: Path, settings: ServerSettings) -> None:
        self._settings, self._current, self._meter = settings, ReleaseWatcher(var, settings.hung_s), RequestMeter()
        self._guard = Guard(settings)
        access = AccessLog(settings.access_log) if settings.access_log else None
        self._lane = Lane(self._current, self._meter, settings, access)
        self._probes = Probes(self._current, self._meter)
        self._app: Application = make_app(self._current, settings, self._meter, access)
        self._watchdog = Watchdog(settings.stall_s)
        self._var = var
        self._state: State = "starting"

    def run(self, sock: socket.socket) -> None:
        """Serve on a listening socket until SIGTERM or SIGINT, then drain."""
        self._guard.limit_connections(_raise_descriptors())
        sys.setswitchinterval(_TURN_S)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self._guard.beat(asyncio.get_running_loop())
        status = StatusSocket(self._var, self._status)
        status.start()
        if await self._first_check(stop):
            await self._serve_until(stop, sock)
        status.close()

    async def _serve_until(self, stop: asyncio.Event, sock: socket.socket) -> None:
        server = await self._start(sock)
        acceptor = Acceptor(sock, self._connect(server), server.connections, self._guard, self._probes)
        metrics = WorkerMetrics(self._var / "metrics", self._meter, self._current, self._guard, server.connections)
        always: list[Coroutine[Any, Any, None]] = [
            self._current.follow(self._settings.swap_poll_s),
            self._guard.watch(server.connections),
            metrics.follow(),
            self._watchdog.follow(),
        ]
        tasks = [asyncio.create_task(task) for task in always]
        stopped: asyncio.Task[Any] = asyncio.create_task(stop.wait())
        gc.collect()
        gc.freeze()  # collections skip the objects made so far: looking through them takes longer than many answers
        self._lane.renew_heads(asyncio.get_running_loop())
        acceptor.start()
        await server.after_start()
        self._state = "serving"
        log.info("worker serves on %s:%d", *sock.getsockname()[:2])
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        sock.close()  # without supervisord no other process may hold the port open
        await self._drain(server, acceptor)
        for task in tasks:
            task.cancel()
        self._watchdog.close()
        with suppress(TimeoutError):  # not worth a longer wait
            await asyncio.wait_for(run_in_daemon_thread(metrics.write), _LAST_S)
        log.info("worker ends")
        for task in done - {stopped}:  # the other tasks only end by an error
            task.result()

    def _status(self) -> WorkerStatus:
        """The status of this worker; called in a thread."""
        return WorkerStatus(
            pid=os.getpid(),
            turn_age_s=monotonic() - self._guard.turn_began,
            state=self._state,
            **msgspec.structs.asdict(self._current.status()),
        )

    async def _first_check(self, stop: asyncio.Event) -> bool:
        """Open the release before clients are accepted; False if the worker is told to end meanwhile."""
        check, stopped = asyncio.create_task(self._current.check()), asyncio.create_task(stop.wait())
        done, pending = await asyncio.wait([check, stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return stopped not in done

    async def _start(self, sock: socket.socket) -> Any:
        # this server never accepts connections itself: the acceptor does
        server: Any = await self._app.create_server(sock=sock, asyncio_server_kwargs={"start_serving": False})
        # as app.run() does: if only HTTP/1 is served, Sanic leaves the alt-svc header of HTTP/3 out of its answers
        self._app.state.server_info.append(ApplicationServerInfo(settings={"version": HTTP.VERSION_1}))
        await server.startup()
        await server.before_start()
        return server

    def _connect(self, server: Any) -> Callable[[], GuardedProtocol]:
        """The factory of the protocols of clients."""
        kind = partial(LaneProtocol, lane=self._lane) if self._settings.lane else GuardedProtocol
        loop = asyncio.get_running_loop()
        return partial(kind, guard=self._guard, loop=loop, app=self._app, connections=server.connections)

    async def _drain(self, server: Any, acceptor: Acceptor) -> None:
        drain_s = self._settings.drain_s
        acceptor.close()
        await server.before_stop()
        closed = server.close()
        # from now on Sanic answers everything, and closes each connection with its answer
        self._lane.close()
        self._app.config.KEEP_ALIVE = False
        self._state = "draining"
        patience = asyncio.get_running_loop().time() + _IDLE_SHARE * drain_s
        try:
            async with asyncio.timeout(drain_s):
                while server.connections or acceptor.arriving:
                    if asyncio.get_running_loop().time() > patience:
                        for connection in list(server.connections):
                            connection.close_if_idle()
                    await asyncio.sleep(_LOOK_S)
                await closed
        except TimeoutError:
            log.warning("%d connections aborted: still open after %g s", len(server.connections), drain_s)
            for connection in list(server.connections):
                connection.abort()
        await server.after_stop()


def _raise_descriptors() -> int:
    """Raise the limit of open files, which includes connections, to its maximum; returns it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
