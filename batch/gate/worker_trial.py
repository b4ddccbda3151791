"""The trial: a real worker, started as supervisord starts it, answers from a candidate before it is published.

It has a `var` folder of its own, gone afterwards, in which `current` points at the candidate; what it notes as
verified of the release stays. What it should answer is read off the arrays here, not by the server's own code, so the
two of them would have to err alike.
"""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from server.release import Release
from stream.event import LIST_LENGTH

USERS = 1000
"""Known users that are asked for, and one that is not known."""
_HOST = "127.0.0.1"
_DEADLINE_S = 300.0
"""For the start of the worker and all its answers: only one that hangs takes so long, also on a busy machine."""
_BACKLOG = 16
_WORKER = """
import ctypes, os, runpy, signal, sys
if hasattr(libc := ctypes.CDLL(None), "prctl"):  # on Linux
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv.pop()):
    runpy.run_module("server", run_name="__main__", alter_sys=True)
"""
"""`python -m server` that ends with the process that has started it (its argument), even if that is killed."""
_STRANGER = 10**19 - 1
"""The largest id that may be asked for: nobody has it."""

Answer = tuple[int, str, str, str, str]
"""Status, release, source, content type, body."""


def first_wrong_answer(folder: Path, release: Release, hidden: Collection[str]) -> str | None:
    """What a worker answers wrongly from the release in `folder`, or what it dies of; None where all is right."""
    with tempfile.TemporaryDirectory(prefix="marquee-trial-") as name:
        var = Path(name)
        (var / "releases").mkdir()
        (var / "releases" / "current").symlink_to(folder.absolute())
        (var / "hidden.txt").write_text("".join(f"{movie}\n" for movie in sorted(hidden)), "utf-8")
        with (var / "log").open("wb") as log, _serving(var, log.fileno()) as port:
            try:
                return _wrong_answer(port, release, hidden)
            except (OSError, http.client.HTTPException) as error:
                last = (var / "log").read_text("utf-8", "replace").splitlines()[-1:]
                return f"the worker did not answer: {error!r}; its last words: {''.join(last)[:500]}"


@contextmanager
def _serving(var: Path, log: int) -> Iterator[int]:
    """The port of a worker, which is ended on leaving."""
    environ = {**os.environ, "MARQUEE_STREAM_VAR": str(var), "MARQUEE_SERVER_ACCESS_LOG": "0"}
    with socket.create_server((_HOST, 0), backlog=_BACKLOG) as listener:
        port = listener.getsockname()[1]
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(os.getpid())],
            env=environ, stdin=listener.fileno(), stdout=log, stderr=log,
        )  # fmt: skip
    # from here on the worker alone holds the socket: if it dies, whoever waits for an answer is told at once
    try:
        yield port
        worker.terminate()
        worker.wait(_DEADLINE_S)
    finally:
        worker.kill()
        worker.wait()


def _wrong_answer(port: int, release: Release, hidden: Collection[str]) -> str | None:
    """The first answer that is not as it should be. Raises `OSError` and `HTTPException` where there is none."""
    gone = {item for item, movie in enumerate(release.movies) if movie in hidden} if hidden else set[int]()
    fallbacks = _fallbacks(release, gone)
    rows = np.unique(np.linspace(0, len(release.users) - 1, USERS).astype(np.int64)).tolist()
    deadline = time.monotonic() + _DEADLINE_S
    connection = http.client.HTTPConnection(_HOST, port, timeout=_DEADLINE_S)
    connection.connect()
    connection.auto_open = 0  # one connection for all: one that is closed is a fault
    try:
        for row in [*rows, None]:
            user = _STRANGER if row is None else int(release.users[row])
            got, due = _asked(connection, user, deadline), _due(release, row, gone, fallbacks)
            if got != due:
                return f"user {user} is answered {_told(got)}, and should be {_told(due)}"
    finally:
        connection.close()
    return None


def _asked(connection: http.client.HTTPConnection, user: int, deadline: float) -> Answer:
    connection.sock.settimeout(max(deadline - time.monotonic(), 0.001))
    connection.request("GET", f"/recommend/{user}")
    response = connection.getresponse()
    names = ("x-marquee-release", "x-marquee-source", "content-type")
    told = [response.getheader(name, "") for name in names]
    return response.status, told[0], told[1], told[2], response.read().decode()


def _due(release: Release, row: int | None, gone: set[int], fallbacks: list[list[int]]) -> Answer:
    """What the user of a row should be answered; None is a user whom the release does not know."""
    none = np.iinfo(release.lists.dtype).max
    own, segment = ([], 0) if row is None else (release.lists[row].tolist(), int(release.segments[row]))
    own = [item for item in own if item != none]
    items, source = [item for item in own if item not in gone], _list_source(release, segment)
    if not items:
        segment = segment if fallbacks[segment] else 0
        items, source = fallbacks[segment], "segment" if segment else "popular"
    elif len(items) < len(own):
        items += [item for item in fallbacks[segment] if item not in items]
    body = ",".join(release.movies[item] for item in items[:LIST_LENGTH])
    return 200, release.id, source, "text/plain; charset=utf-8", body


def _list_source(release: Release, segment: int) -> str:
    """What the list that a release holds for a user of a segment calls itself: popular models make lists as well."""
    model = release.manifest["model"]["lists"]
    if model not in ("popular", "segment"):
        return "personal"
    return "segment" if model == "segment" and segment else "popular"


def _fallbacks(release: Release, gone: set[int]) -> list[list[int]]:
    """The popular list of everyone and of each segment, without what is hidden."""
    out = gone | {int(np.iinfo(release.fallbacks.dtype).max)}
    found = [[item for item in row if item not in out] for row in release.fallbacks.tolist()]
    found[0] = found[0] or [item for item in range(len(release.names)) if item not in gone]
    return found


def _told(answer: Answer) -> str:
    return " ".join(map(str, answer))[:300]
