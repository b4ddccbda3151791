"""Entries of the archive's ledger, made by hand."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stream.clock import LatestLines, PartitionClock, Quorum, TopicClock
from stream.ledger_entry import FATES, FateCount, LedgerEntry, TimeRange

TOPIC = "movielog1"


def entry(first: int = 0, last: int = 999, faults: Mapping[str, int] | None = None, **fields: Any) -> LedgerEntry:
    """The entry of the records `first`..`last`: accepted watches of 2026-02-10, read at `first`..`last` ms.

    The clock stands at the last one. `faults` counts the lines with another fate, by `fate` or `fate:reason`. `fields`
    replace those of the entry.
    """
    lines, counts = last - first + 1, []
    for name, number in (faults or {}).items():
        fate, _, reason = name.partition(":")
        counts.append(FateCount(FATES[FATES.index(fate)], None, "2026-02-10", reason or None, number))
    accepted = lines - sum(count.lines for count in counts)
    counts.append(FateCount("accepted", "watch", "2026-02-10", None, accepted))
    span = fields.get("kafka_time", TimeRange(first, last))
    clock = None if span is None else clock_at(span.last)
    usual = {"topic": TOPIC, "partition": 0, "lines": lines, "counts": counts, "kafka_time": span, "clock": clock}
    return LedgerEntry(first=first, last=last, **{**usual, **fields})


def clock_at(time_ms: int) -> PartitionClock:
    """A partition's clock that stands at a time (ms UTC)."""
    return PartitionClock.of(LatestLines.of(Quorum(lines=1, users=1), np.array([time_ms]), np.array([1])))


def entry_at(time_ms: int, bad: int = 0, lines: int = 10_000, first: int = 0, topic: str = TOPIC) -> LedgerEntry:
    """An entry whose lines all came at one Kafka time; `bad` of them are quarantined for their time."""
    faults = {"quarantined:time": bad} if bad else {}
    return entry(first, first + lines - 1, faults, kafka_time=TimeRange(time_ms, time_ms), topic=topic)


def gap(first: int, last: int, topic: str = TOPIC) -> LedgerEntry:
    """The entry of offsets that Kafka had dropped before they were read."""
    return LedgerEntry(topic=topic, partition=0, first=first, last=last, lines=0, lost=last - first + 1)


def credulous() -> TopicClock:
    """A clock that takes the word of every line, so that no record is ahead of it."""
    return TopicClock(Quorum(lines=1, users=1), {})
