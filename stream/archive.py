"""The archive: batches of events as Parquet files, and the ledger that says which files count.

A batch is one range of offsets of one partition. Its files are written first and its ledger entry last, each durably,
so the entry *is* the commit and the reader's position: what a crash leaves are files that no entry names, and `sweep`
removes them. Nobody but the collector (and the backfill of the simulated service) writes here.

    archive/<kind>/day=YYYY-MM-DD/<topic>-<partition>-<first>-<last>.parquet     events, `ARCHIVE_SCHEMAS`
    quarantine/day=YYYY-MM-DD/<topic>-<partition>-<first>-<last>.parquet         refused lines, `QUARANTINE_SCHEMA`
    archive/ledger/<topic>-<partition>-<first>-<last>.json                       the commits, one `LedgerEntry` each

An entry is replaced only as a whole, by its own next revision: lines of its quarantine that a mended rule now takes.
Files are never changed; those of a revision have its number in their names.
"""

import datetime as dt
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import filelock
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from stream import durable
from stream.errors import ArchiveBusy, ArchiveError
from stream.event import KINDS, Kind

Fate = Literal["accepted", "repaired", "quarantined", "duplicate"]
FATES: tuple[Fate, ...] = ("accepted", "repaired", "quarantined", "duplicate")


class FateCount(msgspec.Struct, frozen=True):
    """How many lines of a batch had one fate."""

    fate: Fate
    kind: Kind | None
    """None where the line could not be read, or was not (quarantined, duplicate)."""
    day: str
    """Day of the event, or of Kafka's time where there is no event."""
    reason: str | None
    """Why quarantined, or the rule that repaired."""
    lines: int


class ArchiveFile(msgspec.Struct, frozen=True):
    """A file of a batch: its path below `var`, and how many rows it holds."""

    path: str
    rows: int

    @property
    def room(self) -> str:
        """The kind of its events, or `quarantine`."""
        return Path(self.path).parts[-3]

    @property
    def day(self) -> str:
        return Path(self.path).parts[-2].removeprefix("day=")


class TimeRange(msgspec.Struct, frozen=True):
    """Smallest and largest of some times, ms UTC."""

    first: int
    last: int


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One commit: what became of the records `first`..`last` of a partition."""

    topic: str
    partition: int
    first: int
    last: int
    lines: int
    """Records that were read; fewer than the range where Kafka has none at some offsets. Ranges lie end to end."""
    counts: list[FateCount] = []
    files: list[ArchiveFile] = []
    kafka_time: TimeRange | None = None
    lost: int = 0
    """Of a retention gap: how many offsets were gone from Kafka before they could be read; `lines` is then 0."""
    redelivered: int = 0
    """Records that Kafka handed out although they were archived before; they are not among `lines`."""
    clocks_apart_ms: int | None = None
    """Where most lines lay too far from Kafka's time: their median distance. They were not held against it then."""
    revision: int = 0
    """How often lines of its quarantine were judged anew and taken."""
    written: str = ""
    """When, by the clock of the machine that wrote it."""

    @property
    def name(self) -> str:
        """The name of its range, and of its ledger file."""
        return f"{self.topic}-{self.partition}-{self.first:012}-{self.last:012}"

    @property
    def file_name(self) -> str:
        """The name of the files that are written for this revision."""
        return f"{self.name}{f'-r{self.revision}' if self.revision else ''}.parquet"

    def with_files(self, files: list[ArchiveFile]) -> "LedgerEntry":
        """The same entry, naming the files that were written for it."""
        return msgspec.structs.replace(self, files=files)

    def balances(self) -> bool:
        """Whether every line that was read has exactly one fate."""
        return self.lines == sum(count.lines for count in self.counts)


_MEND = "restore it, or remove it and all later entries of its partition: their lines are then read again"


class Archive:
    """The archive below one `var` folder."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.ledger = var / "archive" / "ledger"
        self._read: dict[tuple[str, int, int], LedgerEntry] = {}
        """By file name, inode and time of change: what was read before."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the archive's lock: one process writes. Raises `ArchiveBusy` where another one does."""
        path = self.var / "archive" / "writer.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(path, blocking=False):
                yield
        except filelock.Timeout as error:
            raise ArchiveBusy(f"archive: another process writes {path.parent}; stop it first") from error

    def entries(self, topic: str | None = None) -> list[LedgerEntry]:
        """All commits, by topic, partition and offset.

        Raises `ArchiveError` where one cannot be read, two overlap, or one is missing between two.
        """
        self._read = {state: self._read.get(state) or self._entry(state[0]) for state in self._states()}
        found = sorted(self._read.values(), key=lambda entry: (entry.topic, entry.partition, entry.first))
        for one, two in itertools.pairwise(found):
            if two.first == one.last + 1 or (one.topic, one.partition) != (two.topic, two.partition):
                continue
            if two.first <= one.last:
                raise ArchiveError(f"ledger: {one.name} and {two.name} overlap in {self.ledger}; remove the wrong one")
            raise ArchiveError(f"ledger: no entry between {one.name} and {two.name} in {self.ledger}; {_MEND}")
        return [entry for entry in found if topic in (None, entry.topic)]

    def positions(self, topic: str) -> dict[int, int]:
        """By partition: the offset to read next."""
        return {entry.partition: entry.last + 1 for entry in self.entries(topic)}

    def write_events(self, entry: LedgerEntry, kind: Kind, day: str, table: pa.Table) -> ArchiveFile:
        """Write a batch's events of one kind and day (not yet committed)."""
        return self._write(self.var / "archive" / kind / f"day={day}" / entry.file_name, table)

    def write_quarantine(self, entry: LedgerEntry, day: str, table: pa.Table) -> ArchiveFile:
        """Write a batch's refused lines of one day (not yet committed)."""
        return self._write(self.var / "quarantine" / f"day={day}" / entry.file_name, table)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        """Make a batch count. Raises `ArchiveError` where its fates do not add up to its lines."""
        if not entry.balances():
            raise ArchiveError(
                f"ledger: {entry.name}: {entry.lines} lines, fates {dict(count_by_fate([entry]))}; not committed"
            )
        entry = msgspec.structs.replace(entry, written=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
        durable.write_bytes(self.ledger / f"{entry.name}.json", msgspec.json.format(msgspec.json.encode(entry)))
        return entry

    def sweep(self) -> list[Path]:
        """Remove what no entry names: the leftovers of a crash. Only the one writer may call this."""
        known = {self.var / file.path for entry in self.entries() for file in entry.files}
        folders = [self.var / "archive" / kind for kind in KINDS] + [self.var / "quarantine"]
        found = [path for folder in folders for path in folder.glob("day=*/*") if path not in known]
        found += [path for path in self.ledger.glob(".*") if durable.is_leftover(path)]
        for path in found:
            path.unlink()
        return found

    def files(self, kind: Kind, entries: Iterable[LedgerEntry] | None = None) -> dict[str, list[Path]]:
        """By day, ascending: the committed files of a kind."""
        days: dict[str, list[Path]] = {}
        for entry in self.entries() if entries is None else entries:
            for file in entry.files:
                if file.room == kind:
                    days.setdefault(file.day, []).append(self.var / file.path)
        return dict(sorted(days.items()))

    def read(self, file: ArchiveFile) -> pa.Table:
        """The rows of a file. Raises `ArchiveError` where it is gone, or is not what was written."""
        try:
            return pq.ParquetFile(self.var / file.path).read()
        except (OSError, pa.ArrowInvalid) as error:
            raise ArchiveError(f"archive: cannot read {self.var / file.path}: {error}; {_MEND}") from error

    def is_whole(self, file: ArchiveFile) -> bool:
        """Whether a file is there, with as many rows as were written; its rows are not read."""
        try:
            return bool(pq.read_metadata(self.var / file.path).num_rows == file.rows)
        except (OSError, pa.ArrowInvalid):
            return False

    def _write(self, path: Path, table: pa.Table) -> ArchiveFile:
        durable.write(path, lambda temporary: pq.write_table(table, temporary, compression="zstd", compression_level=1))
        return ArchiveFile(path.relative_to(self.var).as_posix(), table.num_rows)

    def _states(self) -> list[tuple[str, int, int]]:
        """The ledger's files as they are; without a `Path` for each: in months they are hundreds of thousands."""
        if not self.ledger.is_dir():
            return []
        with os.scandir(self.ledger) as found:
            files = [(file.name, file.stat()) for file in found if file.name.endswith(".json")]
        return [(name, stat.st_ino, stat.st_mtime_ns) for name, stat in files]

    def _entry(self, name: str) -> LedgerEntry:
        path = self.ledger / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=LedgerEntry)
        except (OSError, msgspec.DecodeError) as error:
            raise ArchiveError(f"ledger: cannot read {path}: {error}; {_MEND}") from error


def count_by_fate(entries: Iterable[LedgerEntry]) -> Counter[Fate]:
    """Lines by fate."""
    total: Counter[Fate] = Counter(dict.fromkeys(FATES, 0))
    for entry in entries:
        for count in entry.counts:
            total[count.fate] += count.lines
    return total


def stream_time(entries: Iterable[LedgerEntry]) -> int | None:
    """How far the stream has come: the latest Kafka time that was archived, ms UTC."""
    return max((entry.kafka_time.last for entry in entries if entry.kafka_time), default=None)
