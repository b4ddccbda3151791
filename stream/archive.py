"""The archive: batches of events as Parquet files, and the ledger that names the valid files.

A batch is one range of offsets of one partition. Its files are written first and its ledger entry last, each durably,
so the entry *is* the commit and the reader's position. A crash leaves files that no entry names; `sweep` removes them.
The collector and `quality quarantine replay` write here, and so do `loadtest backfill` and the night benchmark, which
create synthetic history. Each holds the lock of `Archive.writing` while it writes.

    archive/<kind>/day=YYYY-MM-DD/<topic>-<partition>-<first>-<last>.parquet     events, `ARCHIVE_SCHEMAS`
    quarantine/day=YYYY-MM-DD/<topic>-<partition>-<first>-<last>.parquet         refused lines, `QUARANTINE_SCHEMA`
    archive/ledger/<topic>-<partition>-<first>-<last>.json                       the commits, one `LedgerEntry` each

A topic that was deleted and made anew begins with offset 0 again. Its entries have the name `<topic>~<n>` in place of
the topic (n counts from 1), so that ranges, file names, provenance and the offsets in manifests stay unique without a
change to what reads them. An entry without records (`remade`) begins each.

An entry is replaced only as a whole, by its own next revision, in which lines of its quarantine became events under
changed rules. Files are never changed; those of a revision have its number in their names.
"""

import datetime as dt
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import filelock
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from stream import durable
from stream.clock import PartitionClock
from stream.decoding import decode_json
from stream.errors import ArchiveBusy, ArchiveError
from stream.event import KINDS, Kind
from stream.parquet_columns import read_columns
from stream.record_mark import RecordMark
from stream.tables import ARCHIVE_SCHEMAS, QUARANTINE_SCHEMA

Fate = Literal["accepted", "repaired", "quarantined", "duplicate"]
FATES: tuple[Fate, ...] = ("accepted", "repaired", "quarantined", "duplicate")
REMADE = "~"
"""Stands before the number in the name of a topic that was made anew; no topic of Kafka can have it in its name."""
_SCHEMAS: dict[str, pa.Schema] = {"quarantine": QUARANTINE_SCHEMA} | {kind: ARCHIVE_SCHEMAS[kind] for kind in KINDS}
"""By `ArchiveFile.room`."""


class FateCount(msgspec.Struct, frozen=True):
    """How many lines of a batch had one fate, kind, day and reason."""

    fate: Fate
    kind: Kind | None
    """None for lines that became no event (quarantined, duplicate)."""
    day: str
    """Day of the event, or of Kafka's time if there is no event; `YYYY-MM-DD` in the service's zone."""
    reason: str | None
    """Why the lines were quarantined, or the rule that repaired them."""
    lines: int


class ArchiveFile(msgspec.Struct, frozen=True):
    """A file of a batch."""

    path: str
    """Relative to `var`."""
    rows: int

    @property
    def room(self) -> str:
        """The kind of the file's events, or `quarantine`."""
        return self.path.rsplit("/", 3)[-3]

    @property
    def day(self) -> str:
        return self.path.rsplit("/", 2)[-2].removeprefix("day=")


class TimeRange(msgspec.Struct, frozen=True):
    """The earliest and the latest of some times, ms UTC."""

    first: int
    last: int


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One commit: the fates of the records `first`..`last` of a partition."""

    topic: str
    """The topic, and `<topic>~<n>` when it was deleted and made anew n times: then its offsets begin again."""
    partition: int
    first: int
    last: int
    lines: int
    """Records that were read: fewer than the range if Kafka has no record at some offsets. A partition's ranges are
    contiguous."""
    counts: list[FateCount] = []
    files: list[ArchiveFile] = []
    kafka_time: TimeRange | None = None
    lost: int = 0
    """In the entry of a retention gap: how many offsets Kafka had dropped before they were read; `lines` is then 0."""
    redelivered: int = 0
    """Records that Kafka delivered again after they were archived; `lines` does not count them."""
    clocks_apart_ms: int | None = None
    """Median distance of the lines from Kafka's time, if it was too large; their times were then not checked."""
    mark: RecordMark | None = None
    """The last record that was read, by which its topic is recognised; None in older entries, those of gaps, and of
    records that Kafka has not confirmed to be of the topic before they were archived, in an outage."""
    remade: str = ""
    """In the entry that begins a topic made anew: the evidence. The entry has no records: `last` is `first` - 1."""
    clock: PartitionClock | None = None
    """The partition's clock after the batch; None in entries without lines, and in those of older versions."""
    revision: int = 0
    """How many times a replay took lines out of the entry's quarantine."""
    written: str = ""
    """When the entry was written, by the machine's clock: ISO 8601, UTC."""

    @property
    def name(self) -> str:
        """The name of the entry's range, and of its ledger file."""
        return f"{self.topic}-{self.partition}-{self.first:012}-{self.last:012}"

    @property
    def file_name(self) -> str:
        """The name of the Parquet files that are written for this revision."""
        return f"{self.name}{f'-r{self.revision}' if self.revision else ''}.parquet"

    @property
    def reached(self) -> int | None:
        """How far the partition had come, ms UTC; None for an entry without lines."""
        if self.clock is not None and self.clock.reached is not None:
            return self.clock.reached
        return None if self.kafka_time is None else self.kafka_time.last

    def with_files(self, files: list[ArchiveFile]) -> "LedgerEntry":
        """The same entry, with the files that were written for it."""
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
        """Cached entries, by file name, inode and modification time."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the archive's lock, so that only one process writes. Raises `ArchiveBusy` if it is taken."""
        path = self.var / "archive" / "writer.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(path, blocking=False):
                yield
        except filelock.Timeout as error:
            raise ArchiveBusy(f"archive: another process writes {path.parent}; stop it first") from error

    def entries(self, topic: str | None = None) -> list[LedgerEntry]:
        """All commits, or those of a topic, also before it was made anew; by name, partition and offset.

        Raises `ArchiveError` if an entry cannot be read, two overlap, or one is missing between two.
        """
        self._read = {state: self._read.get(state) or self._read_entry(state[0]) for state in self._ledger_files()}
        entries = sorted(self._read.values(), key=in_order)
        for left, right in itertools.pairwise(entries):
            if right.first == left.last + 1 or (left.topic, left.partition) != (right.topic, right.partition):
                continue
            names = f"{left.name} and {right.name} in {self.ledger}"
            if right.first <= left.last:
                raise ArchiveError(f"ledger: ranges overlap: {names}; remove the wrong entry")
            raise ArchiveError(f"ledger: an entry is missing between {names}; {_MEND}")
        return [entry for entry in entries if topic in (None, topic_of(entry.topic))]

    def name_of(self, topic: str) -> str:
        """The name that entries of a topic have now: its own, or `<topic>~<n>` if it was made anew n times."""
        count = self.times_remade(topic)
        return f"{topic}{REMADE}{count}" if count else topic

    def times_remade(self, topic: str) -> int:
        """How many times a topic was deleted and made anew, as the ledger says."""
        remade = re.compile(rf"{re.escape(topic + REMADE)}(\d+)-")
        if not self.ledger.is_dir():
            return 0
        with os.scandir(self.ledger) as listing:
            return max((int(name[1]) for file in listing if (name := remade.match(file.name))), default=0)

    def positions(self, topic: str) -> dict[int, int]:
        """By partition of a topic as it is now: the offset to read next."""
        return {entry.partition: entry.last + 1 for entry in of_present_topic(self.entries(topic))}

    def marks(self, topic: str) -> dict[int, RecordMark]:
        """By partition of a topic as it is now: the last record that was read and not dropped since."""
        return {entry.partition: entry.mark for entry in of_present_topic(self.entries(topic)) if entry.mark}

    def begin_again(self, topic: str, evidence: str) -> LedgerEntry:
        """Commit that a topic was made anew, with the `evidence`: from now on it has another name and no records."""
        name = f"{topic}{REMADE}{self.times_remade(topic) + 1}"
        return self.commit(LedgerEntry(topic=name, partition=0, first=0, last=-1, lines=0, remade=evidence))

    def write_events(self, entry: LedgerEntry, kind: Kind, day: str, table: pa.Table) -> ArchiveFile:
        """Write a batch's events of one kind and day (not yet committed)."""
        return self._write(self.var / "archive" / kind / f"day={day}" / entry.file_name, table)

    def write_quarantine(self, entry: LedgerEntry, day: str, table: pa.Table) -> ArchiveFile:
        """Write a batch's refused lines of one day (not yet committed)."""
        return self._write(self.var / "quarantine" / f"day={day}" / entry.file_name, table)

    def commit(self, entry: LedgerEntry) -> LedgerEntry:
        """Commit a batch. Returns the entry as written; raises `ArchiveError` if its fates do not add up."""
        if not entry.balances():
            raise ArchiveError(
                f"ledger: {entry.name}: {entry.lines} lines, fates {dict(count_by_fate([entry]))}; not committed"
            )
        entry = msgspec.structs.replace(entry, written=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
        durable.write_bytes(self.ledger / f"{entry.name}.json", msgspec.json.format(msgspec.json.encode(entry)))
        return entry

    def sweep(self) -> list[Path]:
        """Remove the files that no entry names, and return their paths. The caller holds the archive's lock."""
        committed = {self.var / file.path for entry in self.entries() for file in entry.files}
        folders = [self.var / "archive" / kind for kind in KINDS] + [self.var / "quarantine"]
        leftovers = [path for folder in folders for path in folder.glob("day=*/*") if path not in committed]
        leftovers += [path for path in self.ledger.glob(".*") if durable.is_leftover(path)]
        for path in leftovers:
            path.unlink()
        return leftovers

    def files(self, kind: Kind, entries: Iterable[LedgerEntry] | None = None) -> dict[str, list[Path]]:
        """The committed files of a kind by day, ascending."""
        days: dict[str, list[Path]] = {}
        for entry in self.entries() if entries is None else entries:
            for file in entry.files:
                if file.room == kind:
                    days.setdefault(file.day, []).append(self.var / file.path)
        return dict(sorted(days.items()))

    def read(self, file: ArchiveFile, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a file, of all columns or some. Raises `ArchiveError` if it is missing or damaged."""
        try:
            schema = _SCHEMAS[file.room]
            chosen = schema if columns is None else pa.schema([schema.field(name) for name in columns])
            return read_columns(self.var / file.path, chosen)
        except (OSError, pa.ArrowException) as error:
            raise ArchiveError(f"archive: cannot read {self.var / file.path}: {error}; {_MEND}") from error

    def is_whole(self, file: ArchiveFile) -> bool:
        """Whether a file exists and has as many rows as were written; does not read the rows."""
        try:
            return bool(pq.read_metadata(self.var / file.path).num_rows == file.rows)
        except (OSError, pa.ArrowInvalid):
            return False

    def _write(self, path: Path, table: pa.Table) -> ArchiveFile:
        durable.write(path, lambda temporary: pq.write_table(table, temporary, compression="zstd", compression_level=1))
        return ArchiveFile(path.relative_to(self.var).as_posix(), table.num_rows)

    def _ledger_files(self) -> list[tuple[str, int, int]]:
        """Name, inode and modification time of each entry's file. Avoids `Path` objects: months have hundreds of
        thousands."""
        if not self.ledger.is_dir():
            return []
        with os.scandir(self.ledger) as listing:
            files = [(file.name, file.stat()) for file in listing if file.name.endswith(".json")]
        return [(name, stat.st_ino, stat.st_mtime_ns) for name, stat in files]

    def _read_entry(self, name: str) -> LedgerEntry:
        path = self.ledger / name
        try:
            return decode_json(path.read_bytes(), LedgerEntry)
        except (OSError, msgspec.DecodeError) as error:
            raise ArchiveError(f"ledger: cannot read {path}: {error}; {_MEND}") from error


def in_order(entry: LedgerEntry) -> tuple[str, int, int, int]:
    """Sorts entries by topic, partition and offset; the empty entry that begins a topic comes first."""
    return entry.topic, entry.partition, entry.first, entry.last


def count_by_fate(entries: Iterable[LedgerEntry]) -> Counter[Fate]:
    """Lines by fate."""
    total: Counter[Fate] = Counter(dict.fromkeys(FATES, 0))
    for entry in entries:
        for count in entry.counts:
            total[count.fate] += count.lines
    return total


def of_present_topic(entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """Of one topic's entries, in order, those since it was last made anew."""
    latest = max((entry.topic for entry in entries), key=lambda name: (len(name), name), default="")
    return [entry for entry in entries if entry.topic == latest]


def topic_of(name: str) -> str:
    """The topic that entries of a name are of, whether it was made anew or not."""
    return name.partition(REMADE)[0]
