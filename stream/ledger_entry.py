"""The entries of the archive's ledger: what is known of a batch of lines, and sums over entries."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from stream.clock import PartitionClock
from stream.event import Kind
from stream.record_mark import RecordMark

Fate = Literal["accepted", "repaired", "quarantined", "duplicate"]
FATES: tuple[Fate, ...] = ("accepted", "repaired", "quarantined", "duplicate")
REMADE = "~"
"""Stands before the number in the name of a topic that was made anew; no topic of Kafka can have it in its name."""


class FateCount(msgspec.Struct, frozen=True, gc=False):
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


class TimeRange(msgspec.Struct, frozen=True, gc=False):
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

    @property
    def ahead_from(self) -> int | None:
        """The earliest Kafka time of records that are set aside, ms UTC; None without any."""
        return None if self.clock is None else self.clock.ahead_from

    @property
    def entry_count(self) -> int:
        """How many entries this is: more than one if it sums up a range of them (`FoldedRange`)."""
        return 1

    @property
    def last_name(self) -> str:
        """The name of the entry; of a range, that of its last entry."""
        return self.name

    @property
    def event_times(self) -> TimeRange | None:
        """The Kafka times of an entry with events; None for others, which have those of their refused lines instead."""
        return self.kafka_time if any(count.kind for count in self.counts) else None

    def rows_by_file_day(self) -> Iterator[tuple[str, str, int]]:
        """Room, day and rows of the files."""
        return ((file.room, file.day, file.rows) for file in self.files)

    def with_files(self, files: list[ArchiveFile]) -> "LedgerEntry":
        """The same entry, with the files that were written for it."""
        return msgspec.structs.replace(self, files=files)

    def balances(self) -> bool:
        """Whether every line that was read has exactly one fate."""
        return self.lines == sum(count.lines for count in self.counts)


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
