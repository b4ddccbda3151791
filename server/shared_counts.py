"""The counts of all workers, in files that the operator's port reads.

Each worker writes its counts to its own file once a second. The counts of workers that have ended are merged into one
file, so that no count ever falls. A killed worker loses the counts of its last second.

Files are named by host and process id. A worker recognises by the process id which workers of its own host have ended;
files of other hosts, such as another container, are left to workers there and count on.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import msgspec

from stream.decoding import decode_json

log = logging.getLogger(__name__)

BUCKETS = 20
"""Handling times are counted by powers of two: bucket i holds those below 2^i µs, the last bucket all others."""
_SOURCES = 4
_FRESH_S = 5.0
"""A serving worker has written its counts within this many seconds."""
_PATIENCE_S = 3.0
"""Seconds to wait for the lock: on a busy machine another worker may hold it for a second. An answer to `/metrics`
waits for it three times at most, which stays below the 10 s after which Prometheus gives up a scrape."""


class WorkerCounts(msgspec.Struct, kw_only=True):
    """The counts of one worker since it began, or of several together; the file `metrics/server-*.json`."""

    answered: list[int] = msgspec.field(default_factory=lambda: [0] * _SOURCES)
    """Answers with a list, by source: personal, segment, popular, exploring."""
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (BUCKETS + 1))
    """Answers with a list, by handling time, see `BUCKETS`."""
    seconds: float = 0.0
    """Sum of the handling times."""
    statuses: dict[str, int] = {}
    """Requests by HTTP status."""
    refused: dict[str, int] = {}
    """How often each limit took effect, see `Guard`."""
    swaps: dict[str, int] = {}
    """New releases by result: taken, refused, last_good."""
    damaged_answers: int = 0
    """Answers that could not be found in a damaged release."""
    connections: int = 0
    """Open connections."""
    release: str | None = None
    """The release in use."""
    published: float | None = None
    """When that release was published, seconds since 1970."""
    on_last_good: bool = False
    """Whether the last good release answers instead of `current`."""
    damaged: bool = False
    """Whether the release in use is damaged."""
    hidden_fault: bool = False
    """Whether `hidden.txt` cannot be read."""
    hidden: int = 0
    """Movies of the release that are hidden."""
    hidden_unmatched: int = 0
    """Entries of `hidden.txt` that are not movies of the release."""
    look_age_s: float = 0.0
    """Seconds since `current` and `hidden.txt` were checked."""

    def add(self, other: "WorkerCounts") -> None:
        """Add the counts of another worker, but not its current state: connections, release, faults."""
        self.answered = [mine + theirs for mine, theirs in zip(self.answered, other.answered, strict=True)]
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds
        self.damaged_answers += other.damaged_answers
        for mine, theirs in ((self.statuses, other.statuses), (self.refused, other.refused), (self.swaps, other.swaps)):
            for label, count in theirs.items():
                mine[label] = mine.get(label, 0) + count


class SharedCounts:
    """The files with the counts of all workers, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._host = socket.gethostname() or "localhost"
        self._mine = folder / f"server-{self._host}-{os.getpid()}.json"
        self._merged = folder / f"server-{self._host}-gone.json"
        self._lock = filelock.FileLock(folder / "server.lock", timeout=_PATIENCE_S)
        self._begun, self._turn = False, threading.Lock()

    def write(self, counts: WorkerCounts) -> None:
        """Write the counts of this worker. Raises `OSError`, and `filelock.Timeout` if others keep the lock."""
        with self._turn:
            if not self._begun:
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._lock:
                    self._merge_ended()
                self._begun = True
            _write(self._mine, counts)

    def read(self) -> tuple[WorkerCounts, list[WorkerCounts]]:
        """The sum of all counts, and the counts of each worker that serves. Raises like `write`."""
        total, fresh = WorkerCounts(), []
        with self._lock:  # no worker may merge files meanwhile
            for path, counts in self._files():
                total.add(counts)
                if path != self._merged and _age_s(path) < _FRESH_S:
                    fresh.append(counts)
        return total, fresh

    def _merge_ended(self) -> None:
        """Merge the counts of workers that have ended into one file; the caller holds the lock."""
        ended = [(path, counts) for path, counts in self._files() if path == self._mine or self._has_ended(path)]
        total = WorkerCounts()
        for _, counts in ended:
            total.add(counts)
        _write(self._merged, total)
        for path, _ in ended:
            if path != self._merged:
                path.unlink()

    def _files(self) -> Iterator[tuple[Path, WorkerCounts]]:
        for path in sorted(self._folder.glob("server-*.json")):
            try:
                counts = decode_json(path.read_bytes(), WorkerCounts)
            except FileNotFoundError:
                continue
            except msgspec.MsgspecError as error:
                log.warning("%s is ignored: %s", path, error)
                continue
            if len(counts.answered) == _SOURCES - 1:
                counts.answered.append(0)  # an older version did not know the last source
            if (len(counts.answered), len(counts.buckets)) == (_SOURCES, BUCKETS + 1):
                yield path, counts
            else:
                log.warning("%s is ignored: another version of Marquee wrote it", path)

    def _has_ended(self, path: Path) -> bool:
        """Whether a file belongs to an ended worker of this host, or has merged counts of this host."""
        host, _, pid = path.stem.removeprefix("server-").rpartition("-")
        return host == self._host and not (pid.isdigit() and Path(f"/proc/{pid}").exists())


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _write(path: Path, counts: WorkerCounts) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(msgspec.json.encode(counts))
    temporary.replace(path)
