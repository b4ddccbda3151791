"""`python -m server`: one worker; `operator`: the operator's port; `restart`: a rolling restart of all workers.

Under supervisord the listening socket is file descriptor 0, opened once and shared by all workers, so the port stays
open while a worker is replaced. By hand, the worker listens on the settings' host and port.
"""

import os
import socket
import stat
from pathlib import Path

import click

from server.errors import ServerError
from server.logs import as_json
from server.rolling_restart import restart_workers
from server.settings import ServerSettings
from server.threads import end_process
from server.worker import Worker
from stream.cli import run
from stream.settings import StreamSettings, load

BACKLOG = 4096
"""Connections that may wait to be accepted."""


@click.group(invoke_without_command=True)
@click.option("--host", help="Address to listen on (setting: host).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (setting: port).")
@click.pass_context
def commands(context: click.Context, host: str | None, port: int | None) -> None:
    """Answer GET /recommend/<userid> from the current release, as one worker."""
    if context.invoked_subcommand is not None:
        if host or port:
            raise click.UsageError("--host and --port are a worker's; give those of the command behind its name")
        return
    settings = load("server", ServerSettings)
    sock = listening(host or settings.host, port or settings.port)
    as_json()
    Worker(load("stream", StreamSettings).var, settings).run(sock)
    end_process()


@commands.command()
@click.option("--host", help="Address to listen on (setting: operator_host).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (setting: operator_port).")
def operator(host: str | None, port: int | None) -> None:
    """Tell of the workers of this host: /healthz, /readyz, /release, /metrics."""
    from server.operator import run_operator  # a worker does without it

    settings = load("server", ServerSettings)
    sock = bound(host or settings.operator_host, port or settings.operator_port)
    as_json()
    run_operator(load("stream", StreamSettings).var, settings, sock)


@commands.command()
@click.option("--patience", default=120.0, show_default=True, help="Seconds that a worker may take to be ready.")
def restart(patience: float) -> None:
    """Restart the workers that supervisord keeps, one after the other; no request is lost.

    MARQUEE_RUN names the folder that supervisord was started with.
    """
    restart_workers(load("stream", StreamSettings).var, patience, click.echo)


def listening(host: str, port: int) -> socket.socket:
    """The socket handed over as descriptor 0, or a new one. Raises `ServerError` where the port is taken."""
    if (handed := _handed_over()) is not None:
        return handed
    sock = bound(host, port)
    sock.listen(BACKLOG)
    return sock


def bound(host: str, port: int) -> socket.socket:
    """A new socket. Raises `ServerError` where the port is taken."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ServerError(f"server: cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return sock


def _handed_over() -> socket.socket | None:
    """Descriptor 0 as a socket, where it is one that listens; a terminal's or a remote shell's is not."""
    try:
        if not stat.S_ISSOCK(os.fstat(0).st_mode):
            return None
        sock = socket.socket(fileno=os.dup(0))
    except OSError:
        return None
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        # so that a worker that ends can let go of the port
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), 0)
        return sock
    sock.close()
    return None


if __name__ == "__main__":
    run(commands, "server")
