"""Notes of which worker opens which release, so that one that kills workers is refused after two deaths.

While a worker opens a release that no worker has taken yet, a locked file lies in `releases/.opening/`. A file without
its lock is of a worker that died over it. After two deaths within an hour the release is refused, and the last good one
answers, in place of a circle of restarts. A worker that is told to end takes its file with it.
"""

import atexit
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

FEW = 2
"""Deaths that are put down to chance, and one more."""
_FORGOTTEN_S = 3600.0


@contextmanager
def noted_opening(releases: Path, target: str) -> Iterator[None]:
    """Note that a release is being opened, as long as that takes; where that cannot be noted, it goes on without."""
    path = _folder(releases, target) / f"{os.getpid()}-{time.time_ns()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("%s is opened without a note of it: %s", target, error)
        yield
        return
    remove = _Remover(path)
    atexit.register(remove)
    try:
        yield
    finally:
        remove()
        atexit.unregister(remove)
        os.close(descriptor)


class _Remover:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> None:
        with suppress(OSError):  # what is left over is forgotten in an hour
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()  # unless others open it as well


def deaths(releases: Path, target: str) -> int:
    """How many workers of the last hour have died while they opened a release."""
    found = 0
    with suppress(OSError):
        for path in _folder(releases, target).iterdir():
            if time.time() - path.stat().st_mtime > _FORGOTTEN_S:
                path.unlink(missing_ok=True)
            elif not _is_locked(path):
                found += 1
    return found


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _folder(releases: Path, target: str) -> Path:
    return releases / ".opening" / Path(target).name
