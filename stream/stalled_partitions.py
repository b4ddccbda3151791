"""Partitions that stand still though Kafka has records for them: a client can stop fetching one without an error.

A partition whose position has not moved for `[stream] stall_seconds` is looked at, by what Kafka says of its end to
another client:

| Kafka says | so it is | what happens |
|---|---|---|
| nothing | without a leader, or Kafka is away | nothing here: `kafka_contact` follows outages |
| its end is the position | read, or held by an open transaction, which is logged once | nothing |
| its end is further on | stalled | all partitions are fetched anew, once, with a line in the log |
| the same, as long again after that | still stalled | `StreamError`: the process ends, its supervisor restarts it |

The end that Kafka tells a reader of committed records is before the first record of an open transaction, so a
transaction that hangs ends no process. No partition is ever paused.
"""

import logging
from collections.abc import Mapping

from stream.errors import StreamError

log = logging.getLogger(__name__)


class StalledPartitions:
    """Follows the positions of one topic. Only time in polls counts: fetched records wait for a busy reader."""

    def __init__(self, topic: str, stall_s: float) -> None:
        self._topic, self._stall_s = topic, stall_s
        self._positions: dict[int, int] = {}
        self._waited_s: dict[int, float] = {}
        """By partition: seconds of polling since its position moved, or since it was looked at."""
        self._fetched_anew: set[int] = set()
        self._held: set[int] = set()
        """The partitions of which the log says that a transaction holds them."""

    def polled(self, positions: Mapping[int, int], seconds: float) -> None:
        """Note a poll that took so many seconds, and the positions after it."""
        for partition, position in positions.items():
            if self._positions.get(partition) == position:
                self._waited_s[partition] += seconds
                continue
            self._waited_s[partition] = 0.0
            self._held.discard(partition)
            if partition in self._fetched_anew:
                log.info("partition %d of %s goes on", partition, self._topic)
                self._fetched_anew.remove(partition)
        self._positions = dict(positions)

    def due(self) -> list[int]:
        """The partitions to look at."""
        return [partition for partition, waited_s in self._waited_s.items() if waited_s >= self._stall_s]

    def judge(self, ends: Mapping[int, int | None], unread: Mapping[int, int | None]) -> bool:
        """Whether to fetch anew, by the ends of those that are due; None is one that Kafka does not tell.

        `unread` are records that are left, also those of open transactions. Raises `StreamError` if a partition that
        was fetched anew still stands.
        """
        stalled = []
        for partition, end in ends.items():
            self._waited_s[partition] = 0.0
            if end is not None and end > self._positions[partition]:
                stalled.append(partition)
            else:
                self._fetched_anew.discard(partition)
                self._note_transaction(partition, end, unread.get(partition) or 0)
        if still := sorted(self._fetched_anew.intersection(stalled)):
            where = f"partition {still[0]} of {self._topic} has records from offset {self._positions[still[0]]} on"
            raise StreamError(f"kafka: {where}, but none came, also after it was fetched anew: the client has stalled")
        for partition in stalled:
            log.warning(
                "partition %d of %s stands at offset %d, but Kafka has records up to %d: it is fetched anew",
                partition, self._topic, self._positions[partition], ends[partition],
            )  # fmt: skip
        self._fetched_anew.update(stalled)
        return bool(stalled)

    def _note_transaction(self, partition: int, end: int | None, unread: int) -> None:
        if end is not None and unread and partition not in self._held:
            log.warning("partition %d of %s: an open transaction holds %d records back", partition, self._topic, unread)
            self._held.add(partition)
