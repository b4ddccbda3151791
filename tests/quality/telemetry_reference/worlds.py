"""A small world: settings, the records of a topic by partition, and what Kafka dropped before it was read.

`save` and `load` keep a world as a text file that people can read, shorten and run again.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from quality.settings import QualitySettings
from stream.kafka import FetchedRecords, RetentionGap
from stream.settings import StreamSettings
from tests.quality.telemetry_reference.reference import Rules

TOPIC = "movielog1"


@dataclass(frozen=True)
class ReadingSettings:
    """The settings that a world varies, as in `settings.toml`."""

    timezone: str = "America/New_York"
    window_hours: float = 24.0
    grace_minutes: float = 10.0
    late_hours: float = 24.0
    clock_lines: int = 3
    clock_users: int = 2
    clock_ahead_minutes: float = 1440.0

    def streaming(self, var: Path) -> StreamSettings:
        return StreamSettings(
            var=var,
            topic=TOPIC,
            timezone=self.timezone,
            clock_lines=self.clock_lines,
            clock_users=self.clock_users,
            clock_ahead_minutes=self.clock_ahead_minutes,
        )

    def quality(self) -> QualitySettings:
        return QualitySettings(
            window_hours=self.window_hours,
            grace_minutes=self.grace_minutes,
            late_hours=self.late_hours,
            report_every_minutes=60_000_000,  # provisional reports are not looked at
        )

    def rules(self) -> Rules:
        quality = self.quality()
        return Rules(self.timezone, quality.window_ms, quality.grace_ms, quality.gap_ms)


@dataclass(frozen=True)
class Record:
    """A record of a partition."""

    partition: int
    offset: int
    kafka_time: int
    """ms UTC."""
    value: bytes


@dataclass(frozen=True)
class RecordedWorld:
    """What a topic holds, and how it is judged."""

    settings: ReadingSettings
    records: tuple[Record, ...]
    """Ascending by partition and offset."""
    gaps: tuple[RetentionGap, ...] = ()
    """Offsets without records, since Kafka dropped them before they were read."""

    def partitions(self) -> dict[int, list[Record | RetentionGap]]:
        """By partition: what a reader meets, in order."""
        pieces: list[Record | RetentionGap] = [*self.records, *self.gaps]
        numbers = sorted({piece.partition for piece in pieces})
        return {
            number: sorted((piece for piece in pieces if piece.partition == number), key=position) for number in numbers
        }

    def in_one_partition(self) -> "RecordedWorld":
        """The same lines in one partition, by Kafka's time, without gaps: all figures must stay the same."""
        ordered = sorted(self.records, key=lambda record: (record.kafka_time, record.partition, record.offset))
        records = [replace(record, partition=0, offset=offset) for offset, record in enumerate(ordered)]
        return RecordedWorld(self.settings, tuple(records))

    def without(self, dropped: set[Record]) -> "RecordedWorld":
        """The same world without some records: their offsets are holes."""
        return replace(self, records=tuple(record for record in self.records if record not in dropped))


def position(piece: Record | RetentionGap) -> int:
    """The first offset of a record or a gap."""
    return piece.offset if isinstance(piece, Record) else piece.first


def fetched(records: list[Record]) -> FetchedRecords:
    """Records of one partition as a reader returns them."""
    return FetchedRecords(
        records[0].partition,
        [record.value for record in records],
        np.array([record.offset for record in records], np.int64),
        np.array([record.kafka_time for record in records], np.int64),
    )


def save(world: RecordedWorld, path: Path) -> None:
    """Write a world as lines: `# <settings as JSON>`, then partition, offset, Kafka time and value, tab-separated.

    The value is a JSON string of Latin-1, so that any bytes fit. A gap has its last offset and the word `gap` instead
    of time and value.
    """
    lines = [f"# {msgspec.json.encode(asdict(world.settings)).decode()}"]
    for pieces in world.partitions().values():
        for piece in pieces:
            if isinstance(piece, Record):
                value = json.dumps(piece.value.decode("latin-1"))
                lines.append(f"{piece.partition}\t{piece.offset}\t{piece.kafka_time}\t{value}")
            else:
                lines.append(f"{piece.partition}\t{piece.first}\t{piece.last}\tgap")
    path.write_text("\n".join(lines) + "\n", "ascii")


def load(path: Path) -> RecordedWorld:
    """Read a world that `save` wrote."""
    first, *lines = path.read_text("ascii").splitlines()
    settings = msgspec.json.decode(first.removeprefix("# "), type=ReadingSettings)
    records, gaps = [], []
    for partition, offset, number, value in (line.split("\t", 3) for line in lines):
        if value == "gap":
            gaps.append(RetentionGap(int(partition), int(offset), int(number)))
        else:
            record = json.loads(value).encode("latin-1")
            records.append(Record(int(partition), int(offset), int(number), record))
    return RecordedWorld(settings, tuple(records), tuple(gaps))
