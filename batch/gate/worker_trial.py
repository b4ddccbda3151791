"""The trial: a real worker, started as supervisord starts it, serves a candidate before it is published.

The worker has a temporary `var` folder of its own, in which `current` points at the candidate; what it notes as
verified of the release stays.

The expected answers are read off the arrays here, on purpose not by `Release.shown_lists` or `server.answers`: a fault
in code that serving shares would otherwise be in both, and no trial would find it.
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
"""Known users that are requested, besides an unknown one."""
EXPLORERS = 50
"""Users whose lists were drawn that are requested besides, at least."""
_HOST = "127.0.0.1"
_DEADLINE_S = 300.0
"""For the start of the worker and all its answers: even on a busy machine only a worker that hangs takes so long."""
_BACKLOG = 16
_WORKER = """
import ctypes, os, runpy, signal, sys
if hasattr(libc := ctypes.CDLL(None), "prctl"):  # on Linux
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv.pop()):
    runpy.run_module("server", run_name="__main__", alter_sys=True)
"""
"""`python -m server` that ends with the process that started it (its argument), even if that one is killed."""
_UNKNOWN_USER = 10**19 - 1
"""The largest id that may be asked for; no user has it."""

Answer = tuple[int, str, str, str, str]
"""Status, release, source, content type, body."""


def first_wrong_answer(folder: Path, release: Release, hidden: Collection[str]) -> str | None:
    """A wrong answer of a worker from the release in `folder`, or why it does not answer; None if all are right."""
    with tempfile.TemporaryDirectory(prefix="marquee-trial-") as name:
        var = Path(name)
        (var / "releases").mkdir()
        (var / "releases" / "current").symlink_to(folder.absolute())
        (var / "hidden.txt").write_text("".join(f"{movie}\n" for movie in sorted(hidden)), "utf-8")
        with (var / "log").open("wb") as log, _serving(var, log.fileno()) as port:
            try:
                return _wrong_answer(port, release, hidden)
            except (OSError, http.client.HTTPException) as error:
                last_line = (var / "log").read_text("utf-8", "replace").splitlines()[-1:]
                return f"the worker did not answer: {error!r}; the last line of its log: {''.join(last_line)[:500]}"


@contextmanager
def _serving(var: Path, log: int) -> Iterator[int]:
    """Start a worker, and yield its port; the worker is ended on leaving."""
    environ = {**os.environ, "MARQUEE_STREAM_VAR": str(var), "MARQUEE_SERVER_ACCESS_LOG": "0"}
    with socket.create_server((_HOST, 0), backlog=_BACKLOG) as listener:
        port = listener.getsockname()[1]
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(os.getpid())],
            env=environ, stdin=listener.fileno(), stdout=log, stderr=log,
        )  # fmt: skip
    # from here on the worker alone holds the socket: if it dies, a client that waits for an answer gets an error
    try:
        yield port
        worker.terminate()
        worker.wait(_DEADLINE_S)
    finally:
        worker.kill()
        worker.wait()


def _wrong_answer(port: int, release: Release, hidden: Collection[str]) -> str | None:
    """The first wrong answer, in words. Raises `OSError` and `HTTPException` if the worker does not answer."""
    hidden_items = {item for item, movie in enumerate(release.movies) if movie in hidden} if hidden else set[int]()
    fallbacks = _fallbacks(release, hidden_items)
    drawn = np.zeros(0, np.int64) if release.explored is None else release.explored.rows.astype(np.int64)
    rows = np.unique([*_spread(np.arange(len(release.users)), USERS), *_spread(drawn, EXPLORERS)]).tolist()
    deadline = time.monotonic() + _DEADLINE_S
    connection = http.client.HTTPConnection(_HOST, port, timeout=_DEADLINE_S)
    connection.connect()
    connection.auto_open = 0  # one connection for all answers: the worker must not close it
    try:
        for row in [*rows, None]:
            user = _UNKNOWN_USER if row is None else int(release.users[row])
            answer = _ask(connection, user, deadline)
            expected = _expected_answer(release, row, hidden_items, fallbacks)
            if answer != expected:
                return f"user {user} is answered {_answer_text(answer)}, and should be {_answer_text(expected)}"
    finally:
        connection.close()
    return None


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """So many of some rows, evenly spread over them; all if they are fewer."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(np.int64))] if len(rows) else rows


def _ask(connection: http.client.HTTPConnection, user: int, deadline: float) -> Answer:
    connection.sock.settimeout(max(deadline - time.monotonic(), 0.001))
    connection.request("GET", f"/recommend/{user}")
    response = connection.getresponse()
    names = ("x-marquee-release", "x-marquee-source", "content-type")
    release, source, content_type = (response.getheader(name, "") for name in names)
    return response.status, release, source, content_type, response.read().decode()


def _expected_answer(release: Release, row: int | None, hidden: set[int], fallbacks: list[list[int]]) -> Answer:
    """The right answer for the user of a row; None is a user whom the release does not know."""
    none = np.iinfo(release.lists.dtype).max
    own, segment = ([], 0) if row is None else (release.lists[row].tolist(), int(release.segments[row]))
    own = [item for item in own if item != none]
    items = [item for item in own if item not in hidden]
    is_drawn = row is not None and release.explored is not None and row in release.explored.rows
    source = "exploring" if is_drawn else expected_source(release.manifest.model.lists, segment)
    if not items:
        segment = segment if fallbacks[segment] else 0
        items, source = fallbacks[segment], "segment" if segment else "popular"
    elif len(items) < len(own):
        items += [item for item in fallbacks[segment] if item not in items]
    body = ",".join(release.movies[item] for item in items[:LIST_LENGTH])
    return 200, release.id, source, "text/plain; charset=utf-8", body


def expected_source(model: str | None, segment: int) -> str:
    """`x-marquee-source` of a list that a model made for a user of a segment: popular models make lists as well."""
    if model not in ("popular", "segment"):
        return "personal"
    return "segment" if model == "segment" and segment else "popular"


def _fallbacks(release: Release, hidden: set[int]) -> list[list[int]]:
    """The popular list of everyone and of each segment, without hidden movies."""
    left_out = hidden | {int(np.iinfo(release.fallbacks.dtype).max)}
    lists = [[item for item in row if item not in left_out] for row in release.fallbacks.tolist()]
    if not lists[0]:
        restricted = frozenset(release.manifest.restricted)
        lists[0] = [item for item, movie in enumerate(release.movies) if item not in hidden and movie not in restricted]
    return lists


def _answer_text(answer: Answer) -> str:
    return " ".join(map(str, answer))[:300]
