"""A batch of the stream as telemetry takes it: lines of any partitions in any order, parsed, with their provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from stream.kafka import FetchedRecords, RetentionGap
from stream.line_columns import LineColumns, read
from stream.record_mark import RecordMark
from stream.zone import Zone


@dataclass(frozen=True, slots=True)
class TelemetryBatch:
    """Parsed lines with their provenance: n lines."""

    values: pa.Array
    """binary[n]: the lines."""
    columns: LineColumns
    partition: np.ndarray
    """int32[n]."""
    offset: np.ndarray
    """int64[n]."""
    kafka_time: np.ndarray
    """int64[n], ms UTC."""
    positions: dict[int, int]
    """By partition: the offset to read after this batch."""
    lost: dict[int, int] = field(default_factory=dict)
    """By partition: the number of offsets that Kafka dropped."""
    marks: dict[int, RecordMark] = field(default_factory=dict)
    """By partition with lines: the last record."""

    def times_and_users(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """By partition: Kafka's time (int64 ms UTC) and the user (uint32) of each well-formed line."""
        rows, users = self.columns.rows_and_users()
        times, partition = self.kafka_time[rows], self.partition[rows]
        return {
            number: (times[partition == number], users[partition == number]) for number in np.unique(partition).tolist()
        }


def batch_of(
    polled: Sequence[FetchedRecords | RetentionGap], positions: Mapping[int, int], zone: Zone
) -> TelemetryBatch:
    """Parse fetched records; `positions` are the offsets to read next, by partition."""
    fetched = [records for records in polled if isinstance(records, FetchedRecords)]
    values = pa.array([value for records in fetched for value in records.values], pa.binary())
    lost: dict[int, int] = {}
    for gap in (gap for gap in polled if isinstance(gap, RetentionGap)):
        lost[gap.partition] = lost.get(gap.partition, 0) + gap.last - gap.first + 1
    none = np.zeros(0, np.int64)
    return TelemetryBatch(
        values,
        read(values, zone),
        np.concatenate([none, *(np.full(len(records.values), records.partition) for records in fetched)]),
        np.concatenate([none, *(records.offsets for records in fetched)]),
        np.concatenate([none, *(records.times for records in fetched)]),
        dict(positions),
        lost,
        {records.partition: records.last_mark for records in fetched},
    )
