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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from stream import durable
from stream.dropped_days import DroppedDays, describe_drop
from stream.errors import ArchiveBusy, ArchiveError
from stream.event import KINDS, Kind
from stream.ledger import FOLD_ENTRIES, MEND, Ledger
from stream.ledger_entry import REMADE, ArchiveFile, LedgerEntry, count_by_fate, of_present_topic, topic_of
from stream.parquet_columns import read_columns
from stream.record_mark import RecordMark
from stream.tables import ARCHIVE_SCHEMAS, QUARANTINE_SCHEMA

_SCHEMAS: dict[str, pa.Schema] = {"quarantine": QUARANTINE_SCHEMA} | {kind: ARCHIVE_SCHEMAS[kind] for kind in KINDS}
"""By `ArchiveFile.room`."""


class Archive:
    """The archive below one `var` folder."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.ledger = var / "archive" / "ledger"
        self._ledger = Ledger(self.ledger)
        self.dropped = DroppedDays(var)

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
        """All commits one by one, or those of a topic, also before it was made anew; by name, partition and offset.

        Raises `ArchiveError` if an entry cannot be read, two overlap, or one is missing between two. After a year there
        may be a million of them: what can be computed from sums takes `condensed`.
        """
        return list(self.expand(self.condensed(topic)))

    def condensed(self, topic: str | None = None) -> list[LedgerEntry]:
        """The same commits in the same order, with the old ones summed up by partition and hour (`FoldedRange`).

        An archive that has read them before reads only what is new.
        """
        return [entry for entry in self._ledger.condensed() if topic in (None, topic_of(entry.topic))]

    def expand(self, condensed: Iterable[LedgerEntry]) -> Iterator[LedgerEntry]:
        """The single commits behind some of `condensed`, one after the other, in the same order.

        Raises `ArchiveError` if they cannot be read.
        """
        return self._ledger.expand(condensed)

    def fold(self, least: int = FOLD_ENTRIES) -> int:
        """Fold old entries of the ledger if there are enough; returns how many. The caller holds the archive's lock."""
        return self._ledger.fold(least)

    def name_of(self, topic: str) -> str:
        """The name that entries of a topic have now: its own, or `<topic>~<n>` if it was made anew n times."""
        count = self.times_remade(topic)
        return f"{topic}{REMADE}{count}" if count else topic

    def times_remade(self, topic: str) -> int:
        """How many times a topic was deleted and made anew, as the ledger says."""
        numbers = (entry.topic.partition(REMADE)[2] for entry in self.condensed(topic))
        return max((int(number) for number in numbers if number), default=0)

    def positions(self, topic: str) -> dict[int, int]:
        """By partition of a topic as it is now: the offset to read next."""
        return {entry.partition: entry.last + 1 for entry in of_present_topic(self.condensed(topic))}

    def marks(self, topic: str) -> dict[int, RecordMark]:
        """By partition of a topic as it is now: the last record that was read and not dropped since."""
        return {entry.partition: entry.mark for entry in of_present_topic(self.condensed(topic)) if entry.mark}

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
        self._ledger.commit(entry)
        return entry

    def sweep(self) -> list[Path]:
        """Remove the files that no entry names, and return their paths. The caller holds the archive's lock."""
        folders = [self.var / "archive" / kind for kind in KINDS] + [self.var / "quarantine"]
        there = {path.relative_to(self.var).as_posix(): path for folder in folders for path in folder.glob("day=*/*")}
        days = {path.parent.name.removeprefix("day=") for path in there.values()}
        named = (entry for entry in self.condensed() if any(day in days for _, day, _ in entry.rows_by_file_day()))
        for entry in self.expand(named):
            for file in entry.files:
                there.pop(file.path, None)
        leftovers = [*there.values(), *self._ledger.leftovers()]
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
            if dropped := self.dropped.get(file.room, file.day):
                raise ArchiveError(f"archive: {file.room} of {describe_drop(file.day, dropped)}") from error
            raise ArchiveError(f"archive: cannot read {self.var / file.path}: {error}; {MEND}") from error

    def is_kept(self, file: ArchiveFile) -> bool:
        """Whether retention has left the files of a file's day."""
        return self.dropped.get(file.room, file.day) is None

    def is_whole(self, file: ArchiveFile) -> bool:
        """Whether a file exists and has as many rows as were written; does not read the rows."""
        try:
            return bool(pq.read_metadata(self.var / file.path).num_rows == file.rows)
        except (OSError, pa.ArrowInvalid):
            return False

    def _write(self, path: Path, table: pa.Table) -> ArchiveFile:
        durable.write(path, lambda temporary: pq.write_table(table, temporary, compression="zstd", compression_level=1))
        return ArchiveFile(path.relative_to(self.var).as_posix(), table.num_rows)
