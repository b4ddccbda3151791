"""The records that are set aside because their Kafka time is ahead of the stream's clock, while their case is open.

It ends in one of two ways. If the clock jumps to their time, the stream really was there: they are judged again and
archived. If instead a quorum of lines of the same partition comes after them at the old pace, they were wrong: they
stay in the quarantine, also when the clock reaches their time some day (`quality quarantine replay` would then take
them). What is nearer than half the allowance is no longer the old pace. Cases are ledger entries, and are decided by
the ledger alone. A jump is confirmed within two quorums of lines; of a sender that stays wrong for weeks the oldest
cases are closed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stream.clock import ClockLimit, PartitionClock
from stream.ledger_entry import LedgerEntry

_MOST_QUORUMS = 4
"""Quorums of lines, of which each may be an entry of its own: so many cases of a partition stay open."""


@dataclass
class Case:
    """An entry with records that are set aside."""

    entry: LedgerEntry
    clock: PartitionClock
    ahead_from: int
    """The earliest time of these records, ms UTC."""
    lines_behind: int = 0
    """Lines that came later in the partition, at the old pace."""

    def count_behind(self, kafka_times: np.ndarray) -> int:
        """How many of some later lines (int64 ms UTC) came at the old pace."""
        return int((kafka_times < self.clock.quorum.near_ms(self.ahead_from)).sum())

    def is_refuted(self) -> bool:
        """Whether the partition went on at the old pace."""
        return self.lines_behind >= self.clock.lines

    def take(self, later: LedgerEntry) -> None:
        """Take a later entry of the same partition into account."""
        if later.clock is not None:
            self.lines_behind += later.clock.behind.get(self.entry.name, 0)


class OpenCases:
    """The open cases of a topic."""

    def __init__(self, entries: Iterable[LedgerEntry] = ()) -> None:
        """`entries` are the topic's, ascending within a partition."""
        self._cases: dict[str, Case] = {}
        for entry in entries:
            self.committed(entry)

    def committed(self, entry: LedgerEntry) -> None:
        """Take an entry into account: it opens a case, or closes those that it refutes."""
        for case in self._of(entry.partition):
            case.take(entry)
            if case.is_refuted():
                del self._cases[case.entry.name]
        self.revised(entry)

    def lines_behind(self, partition: int, kafka_times: np.ndarray) -> dict[str, int]:
        """By open case of a partition: how many of some lines (int64 ms UTC) came at the old pace."""
        return {case.entry.name: case.count_behind(kafka_times) for case in self._of(partition)}

    def closed(self, entry: LedgerEntry) -> None:
        """Close the case of an entry: nothing more can be decided."""
        self._cases.pop(entry.name, None)

    def revised(self, entry: LedgerEntry) -> None:
        """Replace an entry by its next revision."""
        self._cases.pop(entry.name, None)
        if entry.clock is not None and entry.clock.ahead_from is not None:
            self._cases[entry.name] = Case(entry, entry.clock, entry.clock.ahead_from)
            for case in self._of(entry.partition)[: -_MOST_QUORUMS * entry.clock.lines]:
                self.closed(case.entry)

    def confirmed(self, limit: ClockLimit | None) -> list[LedgerEntry]:
        """The entries with records that the clock has come near to."""
        return [case.entry for case in self._cases.values() if limit is not None and limit.confirms(case.ahead_from)]

    def entries(self) -> list[LedgerEntry]:
        """The entries whose cases are open."""
        return [case.entry for case in self._cases.values()]

    def _of(self, partition: int) -> list[Case]:
        return [case for case in self._cases.values() if case.entry.partition == partition]
