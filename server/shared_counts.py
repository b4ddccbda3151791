"""The counts of all workers, in files that each of them and the operator's port can read.

Each worker writes its counts to a file of its own once a second. Those of workers that are gone are gathered into one
file, so that no count ever falls. What a killed worker counted in its last second is lost.

Files are named by host and process id. A worker judges by the process id which of its own host are gone; those of
other hosts, a container next door, are left to workers there, and count on.
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

log = logging.getLogger(__name__)

BUCKETS = 20
"""Handling times are counted by powers of two: bucket i holds those below 2^i µs; the last one all the rest."""
_SOURCES = 3
_FRESH_S = 5.0
"""A worker that serves has written its counts within this time."""
_PATIENCE_S = 3.0
"""How long to wait for the lock: on a busy machine another worker may hold it for a second. An answer to `/metrics`
waits for it three times at most, which stays below the 10 s after which Prometheus gives a scrape up."""


class WorkerCounts(msgspec.Struct, kw_only=True):
    """What a worker has counted, or several together."""

    answered: list[int] = msgspec.field(default_factory=lambda: [0] * _SOURCES)
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (BUCKETS + 1))
    seconds: float = 0.0
    statuses: dict[str, int] = {}
    refused: dict[str, int] = {}
    swaps: dict[str, int] = {}
    damaged_answers: int = 0
    connections: int = 0
    release: str | None = None
    published: float | None = None
    """When that release was published, seconds since 1970."""
    on_last_good: bool = False
    damaged: bool = False
    hidden_fault: bool = False
    hidden: int = 0
    hidden_unmatched: int = 0
    look_age_s: float = 0.0

    def add(self, other: "WorkerCounts") -> None:
        """Add the counts of another; not what is true of one worker at one time only."""
        self.answered = [one + two for one, two in zip(self.answered, other.answered, strict=True)]
        self.buckets = [one + two for one, two in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds
        self.damaged_answers += other.damaged_answers
        for mine, theirs in ((self.statuses, other.statuses), (self.refused, other.refused), (self.swaps, other.swaps)):
            for label, count in theirs.items():
                mine[label] = mine.get(label, 0) + count


class SharedCounts:
    """The files of all workers, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._host = socket.gethostname() or "localhost"
        self._mine = folder / f"server-{self._host}-{os.getpid()}.json"
        self._gone = folder / f"server-{self._host}-gone.json"
        self._lock = filelock.FileLock(folder / "server.lock", timeout=_PATIENCE_S)
        self._begun, self._turn = False, threading.Lock()

    def write(self, counts: WorkerCounts) -> None:
        """Write what this worker has counted. Raises `OSError`, and `filelock.Timeout` where others hold the lock."""
        with self._turn:
            if not self._begun:
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._lock:
                    self._gather()
                self._begun = True
            _write(self._mine, counts)

    def read(self) -> tuple[WorkerCounts, list[WorkerCounts]]:
        """All counts together, and those of each worker that serves. Raises as `write`."""
        total, fresh = WorkerCounts(), []
        with self._lock:  # nobody may gather what is read here
            for path, counts in self._files():
                total.add(counts)
                if path != self._gone and _age_s(path) < _FRESH_S:
                    fresh.append(counts)
        return total, fresh

    def _gather(self) -> None:
        """Move what workers that are gone have counted into one file; called while no other worker does."""
        gone = [(path, counts) for path, counts in self._files() if path == self._mine or self._is_gone(path)]
        total = WorkerCounts()
        for _, counts in gone:
            total.add(counts)
        _write(self._gone, total)
        for path, _ in gone:
            if path != self._gone:
                path.unlink()

    def _files(self) -> Iterator[tuple[Path, WorkerCounts]]:
        for path in sorted(self._folder.glob("server-*.json")):
            try:
                counts = msgspec.json.decode(path.read_bytes(), type=WorkerCounts)
            except FileNotFoundError:
                continue
            except msgspec.MsgspecError as error:
                log.warning("%s is passed over: %s", path, error)
                continue
            if (len(counts.answered), len(counts.buckets)) == (_SOURCES, BUCKETS + 1):
                yield path, counts
            else:
                log.warning("%s is passed over: it is of another version", path)

    def _is_gone(self, path: Path) -> bool:
        """Whether the worker of this host that wrote a file is gone; so it is of what was gathered before."""
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
