"""Which recent entries of the ledger may be folded: those that nothing reads one by one any more."""

import datetime as dt
from collections.abc import Iterable, Sequence
from itertools import groupby

from stream.clock import TopicClock
from stream.ledger_entry import LedgerEntry, topic_of
from stream.set_aside import OpenCases

_KEPT = 16
"""So many entries of a partition stay in any case, for whoever looks at the folder."""


def foldable(entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """Of the entries that are not folded, in order, those that may be: the first ones of each partition.

    What must stay is the last entry with lines, with its clock, and the last one with a mark; whatever comes after the
    first open case; and the last ten minutes by the time of writing, with the entry before them (`was_live`).
    """
    live_since = _live_since(entries)
    chosen = list[LedgerEntry]()
    for (topic, _), group in groupby(entries, key=lambda entry: (entry.topic, entry.partition)):
        own = list(group)
        chosen += own[: _first_kept(own, live_since.get(topic_of(topic)))]
    return chosen


def _first_kept(entries: list[LedgerEntry], live_since: float | None) -> int:
    """The place of the first entry of a partition that must stay."""
    with_lines = [place for place, entry in enumerate(entries) if entry.kafka_time is not None]
    if not with_lines or entries[with_lines[-1]].clock is None:
        return 0  # the clock of an older version is guessed from all entries
    marked = [place for place, entry in enumerate(entries) if entry.mark is not None]
    open_cases = {entry.name for entry in OpenCases(entries).entries()}
    kept = [len(entries) - _KEPT, with_lines[-1], *marked[-1:]]
    kept += [place for place, entry in enumerate(entries) if entry.name in open_cases or not entry.balances()]
    if live_since is not None:
        times = {place: time for place, entry in enumerate(entries) if (time := _in_step_at(entry)) is not None}
        kept += [place for place, time in times.items() if time >= live_since]
        before = [place for place, time in times.items() if time < live_since]
        kept += [max(before, key=lambda place: times[place])] if before else []
    return max(0, min(kept))


def _live_since(entries: Iterable[LedgerEntry]) -> dict[str, float]:
    """By topic: the beginning of the ten minutes that `was_live` looks at, ms since 1970 by the machine's clock."""
    latest: dict[str, float] = {}
    for entry in entries:
        if (time := _in_step_at(entry)) is not None:
            topic = topic_of(entry.topic)
            latest[topic] = max(time, latest.get(topic, time))
    return {topic: time - TopicClock.LIVE_S * 1000 for topic, time in latest.items()}


def _in_step_at(entry: LedgerEntry) -> float | None:
    """When an entry was written that `was_live` looks at; None for others."""
    if entry.clock is None or entry.clock.reached is None or not entry.written:
        return None
    return dt.datetime.fromisoformat(entry.written).timestamp() * 1000
