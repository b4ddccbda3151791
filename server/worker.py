"""The life of a worker: from the first signal that it may get to the last answer that it owes.

Signal handlers are set before anything else: Sanic's own runner sets them late, and a SIGTERM that comes while it
starts can be lost, so that the worker never ends. When told to end, a worker accepts no more, answers what it has
accepted, closes idle connections, and is gone after `drain_s` at the latest.
"""

import asyncio
import logging
import signal
import socket
from typing import Any

import uvloop
from sanic.application.state import ApplicationServerInfo
from sanic.http.constants import HTTP
from sanic.server.protocols.http_protocol import HttpProtocol

from server.app import Application
from server.current import Current
from server.settings import ServerSettings

log = logging.getLogger("server")

_LOOK_S = 0.02


def run(app: Application, current: Current, sock: socket.socket, settings: ServerSettings) -> None:
    """Serve on a listening socket until SIGTERM or SIGINT, then drain."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, current, sock, settings))


async def _serve(app: Application, current: Current, sock: socket.socket, settings: ServerSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    current.look()
    following = asyncio.create_task(current.follow(settings.swap_poll_s))
    # nothing is accepted before Sanic has its routes
    server: Any = await app.create_server(
        sock=sock, protocol=HttpProtocol, asyncio_server_kwargs={"start_serving": False}
    )
    # what app.run() would note: with one version served, Sanic compiles HTTP/3's alt-svc header out of its answers
    app.state.server_info.append(ApplicationServerInfo(settings={"version": HTTP.VERSION_1}))
    await server.startup()
    await server.before_start()
    await server.start_serving()
    await server.after_start()
    log.info("worker serves on %s:%d", *sock.getsockname()[:2])
    await stop.wait()
    await server.before_stop()
    await _drain(server, settings.drain_s)
    await server.after_stop()
    following.cancel()
    log.info("worker ends")


async def _drain(server: Any, drain_s: float) -> None:
    closed = server.close()
    try:
        async with asyncio.timeout(drain_s):
            while server.connections:
                for connection in list(server.connections):
                    connection.close_if_idle()
                await asyncio.sleep(_LOOK_S)
            await closed
    except TimeoutError:
        log.warning("%d connections cut off: not done after %g s", len(server.connections), drain_s)
        for connection in list(server.connections):
            connection.abort()
