"""A batch of the stream as telemetry takes it: lines of any partitions in any order, with their provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from quality.lines.verdicts import ParsedLines
from stream.kafka import FetchedRecords, RetentionGap
from stream.record_mark import RecordMark
from stream.zone import Zone


@dataclass(frozen=True, slots=True)
class PartitionLines:
    """Parsed lines of one partition: n lines, ascending by offset unless records were redelivered."""

    partition: int
    offsets: np.ndarray
    """int64[n]."""
    lines: ParsedLines

    def since(self, position: int, zone: Zone) -> "PartitionLines":
        """The lines from an offset on: earlier ones were taken before."""
        new = self.offsets >= position
        if new.all():
            return self
        values = self.lines.values.filter(pa.array(new)).to_pylist()
        return PartitionLines.read(self.partition, self.offsets[new], self.lines.kafka_times[new], values, zone)

    @classmethod
    def read(
        cls, partition: int, offsets: np.ndarray, times: np.ndarray, values: list[bytes], zone: Zone
    ) -> "PartitionLines":
        """Parse lines; `times`: Kafka's, int64 ms UTC."""
        return cls(partition, offsets, ParsedLines.read(pa.array(values, pa.binary()), times, zone))


@dataclass(frozen=True, slots=True)
class TelemetryBatch:
    """Parsed lines with their provenance."""

    pieces: Sequence[PartitionLines]
    """The lines, one piece a partition."""
    positions: Mapping[int, int]
    """By partition: the offset to read after this batch."""
    gaps: Sequence[RetentionGap] = ()
    """The offsets that Kafka dropped."""
    marks: Mapping[int, RecordMark] = field(default_factory=dict)
    """By partition with lines: the last record."""


def batch_of(
    polled: Sequence[FetchedRecords | RetentionGap], positions: Mapping[int, int], zone: Zone
) -> TelemetryBatch:
    """Parse fetched records; `positions` are the offsets to read next, by partition."""
    fetched: dict[int, list[FetchedRecords]] = {}
    for records in polled:
        if isinstance(records, FetchedRecords):
            fetched.setdefault(records.partition, []).append(records)
    return TelemetryBatch(
        [
            PartitionLines.read(
                partition,
                np.concatenate([records.offsets for records in parts]),
                np.concatenate([records.times for records in parts]),
                [value for records in parts for value in records.values],
                zone,
            )
            for partition, parts in fetched.items()
        ],
        dict(positions),
        [gap for gap in polled if isinstance(gap, RetentionGap)],
        {partition: parts[-1].last_mark for partition, parts in fetched.items()},
    )
