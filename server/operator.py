"""The operator's port: status, release and metrics of the workers, and probes for orchestrators. Loopback by default.

It is a separate process, so that it takes no time from answers, and overload of the public port does not affect it.
It asks the workers of this host for their status (`worker_status.py`) and reads their counts (`shared_counts.py`).
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import orjson
from sanic import HTTPResponse, Request, Sanic
from sanic.config import Config
from sanic.exceptions import SanicException
from sanic.response import raw, text

from server.errors import BadRelease, HiddenUnreadable
from server.exposition import CONTENT_TYPE, Exposition
from server.hidden import HIDDEN, read
from server.operator_openapi import DESCRIPTION
from server.probes import RETRY_AFTER_S
from server.release import read_manifest_text
from server.settings import ServerSettings
from server.threads import run_in_daemon_thread
from server.worker_status import WorkerStatus, ask_workers
from stream.redaction import redact

log = logging.getLogger(__name__)

METHODS = ("GET", "HEAD")
Statuses = dict[int, WorkerStatus | None]


def run_operator(var: Path, settings: ServerSettings, sock: socket.socket) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT."""
    app = make_operator_app(var, settings)
    sock.listen(128)
    app.run(sock=sock, single_process=True, motd=False, access_log=False)


def make_operator_app(var: Path, settings: ServerSettings) -> Sanic[Config, SimpleNamespace]:
    """The application; it shows the workers that answer from `var`."""
    app = Sanic("marquee-operator", configure_logging=False, dumps=orjson.dumps)
    app.config.update({"FALLBACK_ERROR_FORMAT": "text", "REQUEST_MAX_SIZE": settings.max_body_bytes})
    workers = _Workers(var)
    app.add_route(_healthz(workers, settings), "/healthz", METHODS, name="healthz")
    app.add_route(_readyz(workers), "/readyz", METHODS, name="readyz")
    app.add_route(_release(var, workers), "/release", METHODS, name="release")
    app.add_route(_metrics(var), "/metrics", METHODS, name="metrics")
    app.add_route(_openapi, "/docs/openapi.json", METHODS, name="openapi")
    app.error_handler.add(Exception, _refusal)
    return app


class _Workers:
    """Asks the workers for their status; requests that come at the same time share one answer."""

    def __init__(self, var: Path) -> None:
        self._var = var
        self._asked: asyncio.Task[Statuses] | None = None

    async def ask(self) -> Statuses:
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(run_in_daemon_thread(lambda: ask_workers(self._var)))
        return await asyncio.shield(self._asked)


Handler = Callable[[Request], Coroutine[Any, Any, HTTPResponse]]


def _healthz(workers: _Workers, settings: ServerSettings) -> Handler:
    async def healthz(request: Request) -> HTTPResponse:
        """A worker is alive while its loop turns, however slowly; after `stall_s` without a turn it ends itself."""
        statuses = await workers.ask()
        alive = [status for status in statuses.values() if status and status.turn_age_s < settings.stall_s]
        return _lines([f"{len(alive)} of {len(statuses)} workers are alive"], 200 if alive else 503)

    return healthz


def _readyz(workers: _Workers) -> Handler:
    async def readyz(request: Request) -> HTTPResponse:
        statuses = await workers.ask()
        ready = [status for status in statuses.values() if status and status.ready and status.state == "serving"]
        lines = [f"{len(ready)} of {len(statuses)} workers are ready"]
        lines += [_describe(pid, status) for pid, status in sorted(statuses.items())]
        return _lines(lines, 200 if ready else 503)

    return readyz


def _describe(pid: int, status: WorkerStatus | None) -> str:
    """The status of a worker in one line."""
    if status is None:
        return f"worker {pid} does not say how it is"
    return f"worker {pid} is {status.state}: {status.detail()}"


def _release(var: Path, workers: _Workers) -> Handler:
    rendered: tuple[object, bytes] = (None, b"")

    async def release(request: Request) -> HTTPResponse:
        statuses = await workers.ask()
        in_use = [status for status in statuses.values() if status and status.release]
        if not in_use:
            return _unready("no worker has a release")
        newest = max(in_use, key=lambda status: status.release or "")
        nonlocal rendered
        try:
            key = newest.release, newest.refused, _file_stamp(var / HIDDEN)
            if rendered[0] != key:
                rendered = key, await run_in_daemon_thread(lambda: _facts(var, newest))
        except (BadRelease, HiddenUnreadable, OSError) as error:
            return _unready(str(error))
        return raw(rendered[1], content_type="application/json")

    return release


def _facts(var: Path, status: WorkerStatus) -> bytes:
    folder = var / "releases" / str(status.release)
    try:
        manifest = orjson.loads(read_manifest_text(folder))
    except orjson.JSONDecodeError as error:  # it is stricter than what the worker reads the manifest with
        raise BadRelease(f"{folder}: manifest.json cannot be read: {error}") from error
    hidden = sorted(read(var))
    # manifests written by older versions may contain the password of the API
    return orjson.dumps(
        {"release": status.release, "refused": status.refused, "hidden": hidden, "manifest": redact(manifest)}
    )


def _file_stamp(path: Path) -> tuple[int, ...]:
    """Inode, size and times of a file, which change when it is replaced; empty if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _metrics(var: Path) -> Handler:
    exposition, turn = Exposition(var / "metrics"), asyncio.Lock()

    async def metrics(request: Request) -> HTTPResponse:
        try:
            async with turn:
                return raw(await run_in_daemon_thread(exposition.text), content_type=CONTENT_TYPE)
        except (OSError, filelock.Timeout) as error:
            return _unready(f"metrics cannot be read: {error}")

    return metrics


async def _openapi(request: Request) -> HTTPResponse:
    return raw(orjson.dumps(DESCRIPTION), content_type="application/json")


def _lines(lines: list[str], status: int) -> HTTPResponse:
    headers = {} if status == 200 else {"retry-after": str(RETRY_AFTER_S)}
    body = "".join(f"{' '.join(line.split())}\n" for line in lines)
    return text(body.encode(errors="backslashreplace").decode(), status, headers)


def _unready(message: str) -> HTTPResponse:
    return _lines([message], 503)


def _refusal(request: Request, error: Exception) -> HTTPResponse:
    if isinstance(error, SanicException):
        return text(str(error) or "refused", error.status_code, dict(error.headers))
    log.error("%s %r", request.path if request else "?", error, exc_info=error)
    return text("internal error", 500)
