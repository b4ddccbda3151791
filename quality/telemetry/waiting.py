"""Records ahead of the stream's clock, which wait in the store until they are confirmed or refuted.

As in the collector: a record that the clock comes near to, because a quorum of lines made the same jump, is taken as if
it had just come. A record after which a quorum of its partition's lines came at the old pace was wrong; it is in no
figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from sqlite3 import Connection

from quality.telemetry.batch import PartitionLines
from quality.telemetry.store import Store, WaitingRecord
from stream.clock import ClockLimit, Quorum

_MOST = 10_000
"""So many records wait. A true jump is confirmed long before; of a sender that stays wrong the oldest are given up."""


@dataclass(frozen=True)
class Decided:
    """The records that do not wait any more."""

    confirmed: Sequence[WaitingRecord] = ()
    refuted: Sequence[WaitingRecord] = ()
    """They were wrong."""


class WaitingRecords:
    """The waiting records of a topic. A copy of rows of the store, so that a new process has the same."""

    def __init__(self, store: Store, topic: str, quorum: Quorum) -> None:
        self._store, self._topic, self._quorum = store, topic, quorum
        self._waiting = store.waiting(topic)

    def __len__(self) -> int:
        return len(self._waiting)

    def decide(
        self, db: Connection, pieces: Sequence[PartitionLines], ahead: Sequence[WaitingRecord], limit: ClockLimit | None
    ) -> Decided:
        """Decide about the records that waited, after a batch (`pieces`), and let those wait that are `ahead` in it.

        The caller commits.
        """
        if limit is None or not (self._waiting or ahead):
            return Decided()
        waiting = [self._behind(record, pieces) for record in self._waiting]
        refuted = [record for record in waiting if record.behind >= self._quorum.lines]
        waiting = [record for record in waiting if record.behind < self._quorum.lines]
        confirmed = [record for record in waiting if limit.confirms(record.kafka_time)]
        waiting = [record for record in waiting if not limit.confirms(record.kafka_time)]
        waiting += ahead
        refuted += waiting[:-_MOST]
        waiting = waiting[-_MOST:]
        self._store.replace_waiting(db, self._topic, waiting)
        self._waiting = waiting
        return Decided(confirmed, refuted)

    def _behind(self, record: WaitingRecord, pieces: Sequence[PartitionLines]) -> WaitingRecord:
        near_ms = self._quorum.near_ms(record.kafka_time)
        behind = [
            int(((piece.offsets > record.offset) & (piece.lines.kafka_times < near_ms)).sum())
            for piece in pieces
            if piece.partition == record.partition
        ]
        return replace(record, behind=record.behind + sum(behind))
