"""Records which worker opens which release, so that a release that kills workers is refused after two deaths.

While a worker opens a release that no worker has used yet, it holds a locked file in `releases/.opening/`. A file
without its lock was left by a worker that died while it opened the release. After two deaths within an hour the release
is refused and the last good one answers, instead of an endless loop of restarts. A worker that ends by a signal removes
its file.
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

FATAL_DEATHS = 2
"""Deaths after which a release is refused; a single one may be chance."""
_FORGOTTEN_S = 3600.0


@contextmanager
def noted_opening(releases: Path, target: str) -> Iterator[None]:
    """Keep a note while the block opens a release; if it cannot be written, that is logged and the block runs."""
    path = _folder(releases, target) / f"{os.getpid()}-{time.time_ns()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("%s is opened without a note: %s", target, error)
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
        with suppress(OSError):  # a leftover file is ignored after an hour
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()  # fails while other workers open the release


def deaths(releases: Path, target: str) -> int:
    """How many workers died within the last hour while they opened a release."""
    count = 0
    with suppress(OSError):
        for path in _folder(releases, target).iterdir():
            if time.time() - path.stat().st_mtime > _FORGOTTEN_S:
                path.unlink(missing_ok=True)
            elif not _is_locked(path):
                count += 1
    return count


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
