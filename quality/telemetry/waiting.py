"""Records ahead of the stream's clock, which wait in the store until they are confirmed or refuted.

As in the collector: a record that the clock comes near to, because a quorum of lines made the same jump, is taken as if
it had just come. A record after which a quorum of its partition's lines came at the old pace was wrong; it is in no
figure. Times that are none at all (outside the years 2000 to 2099) are never confirmed, and do not wait.
"""

from dataclasses import dataclass, replace
from sqlite3 import Connection

import numpy as np
import pyarrow as pa

from quality.telemetry.batch import TelemetryBatch
from quality.telemetry.store import Store, WaitingRecord
from stream.clock import ClockLimit, Quorum
from stream.line_columns import read
from stream.zone import LATEST_MS, Zone

_MOST = 10_000
"""So many records wait. A true jump is confirmed long before; of a sender that stays wrong the oldest are given up."""


@dataclass(frozen=True)
class Admitted:
    """A batch after the clock's check."""

    batch: TelemetryBatch
    """Its lines that are not ahead, and those that waited and are confirmed."""
    refuted: int
    """Lines that were wrong."""


class WaitingRecords:
    """The waiting records of a topic. A copy of rows of the store, so that a new process has the same."""

    def __init__(self, store: Store, topic: str, quorum: Quorum, zone: Zone) -> None:
        self._store, self._topic, self._quorum, self._zone = store, topic, quorum, zone
        self._waiting = store.waiting(topic)

    def __len__(self) -> int:
        return len(self._waiting)

    def admit(self, db: Connection, batch: TelemetryBatch, limit: ClockLimit | None) -> Admitted:
        """Let new records wait that are ahead, and decide about those that waited; the caller commits."""
        ahead = np.zeros(len(batch.kafka_time), bool) if limit is None else limit.is_ahead(batch.kafka_time)
        if limit is None or not (self._waiting or ahead.any()):
            return Admitted(batch, 0)
        waiting = [self._behind(record, batch) for record in self._waiting]
        refuted = [record for record in waiting if record.behind >= self._quorum.lines]
        waiting = [record for record in waiting if record.behind < self._quorum.lines]
        confirmed = [record for record in waiting if limit.confirms(record.kafka_time)]
        waiting = [record for record in waiting if not limit.confirms(record.kafka_time)]
        no_times = ahead & (batch.kafka_time >= LATEST_MS)
        waiting += [_record(batch, row) for row in np.flatnonzero(ahead & ~no_times).tolist()]
        refuted += waiting[:-_MOST]
        waiting = waiting[-_MOST:]
        self._store.replace_waiting(db, self._topic, waiting)
        self._waiting = waiting
        if ahead.any() or confirmed:
            batch = self._without(batch, ahead, confirmed)
        return Admitted(batch, len(refuted) + int(no_times.sum()))

    def _behind(self, record: WaitingRecord, batch: TelemetryBatch) -> WaitingRecord:
        later = (batch.partition == record.partition) & (batch.offset > record.offset)
        later &= batch.kafka_time < self._quorum.near_ms(record.kafka_time)
        return replace(record, behind=record.behind + int(later.sum()))

    def _without(self, batch: TelemetryBatch, ahead: np.ndarray, confirmed: list[WaitingRecord]) -> TelemetryBatch:
        lines = [*batch.values.filter(pa.array(~ahead)).to_pylist(), *(record.line for record in confirmed)]
        values = pa.array(lines, pa.binary())

        def joined(name: str) -> np.ndarray:
            own: np.ndarray = getattr(batch, name)
            return np.append(own[~ahead], [getattr(record, name) for record in confirmed]).astype(own.dtype)

        return replace(
            batch,
            values=values,
            columns=read(values, self._zone),
            partition=joined("partition"),
            offset=joined("offset"),
            kafka_time=joined("kafka_time"),
        )


def _record(batch: TelemetryBatch, row: int) -> WaitingRecord:
    return WaitingRecord(
        partition=int(batch.partition[row]),
        offset=int(batch.offset[row]),
        kafka_time=int(batch.kafka_time[row]),
        behind=0,
        line=batch.values[row].as_py(),
    )
