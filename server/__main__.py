"""`python -m server`: one worker; `operator`: the operator's port; `restart`: a rolling restart of all workers.

Under supervisord the listening socket is file descriptor 0: supervisord opens it once and all workers share it, so the
port stays open while a worker is replaced. A worker started by hand listens on the host and port of the settings.
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
            raise click.UsageError("put --host and --port behind the name of the command")
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
    """Serve the operator's port: health, readiness, release and metrics of the workers of this host."""
    from server.operator import run_operator  # a worker does not need it

    settings = load("server", ServerSettings)
    sock = bound(host or settings.operator_host, port or settings.operator_port)
    as_json()
    run_operator(load("stream", StreamSettings).var, settings, sock)


@commands.command()
@click.option("--patience", default=120.0, show_default=True, help="Seconds to wait for each worker to become ready.")
def restart(patience: float) -> None:
    """Restart the workers under supervisord one after the other, without losing a request.

    The environment variable MARQUEE_RUN names the folder that supervisord was started with.
    """
    restart_workers(load("stream", StreamSettings).var, patience, click.echo)


def listening(host: str, port: int) -> socket.socket:
    """The listening socket inherited as descriptor 0, else a new one. Raises `ServerError` if the port is taken."""
    if (inherited := _inherited()) is not None:
        return inherited
    sock = bound(host, port)
    sock.listen(BACKLOG)
    return sock


def bound(host: str, port: int) -> socket.socket:
    """A new socket, bound but not listening. Raises `ServerError` if the port is taken."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ServerError(f"server: cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return sock


def _inherited() -> socket.socket | None:
    """Descriptor 0 if it is a listening socket, else None: it may be a terminal, or the socket of a remote shell."""
    try:
        if not stat.S_ISSOCK(os.fstat(0).st_mode):
            return None
        sock = socket.socket(fileno=os.dup(0))
    except OSError:
        return None
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        # or else the port would stay open after the worker has closed its own copy
        with Path(os.devnull).open() as null:
            os.dup2(null.fileno(), 0)
        return sock
    sock.close()
    return None


if __name__ == "__main__":
    run(commands, "server")
