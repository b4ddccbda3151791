"""The stream's clock as the ledger has it: how far the stream has come, for whatever reads the archive.

The last entry of a partition holds its latest lines. Entries of versions before the clock hold none; their Kafka times
are read with caution, so that a ledger in which one wrong record had set the time heals by itself.
"""

import datetime as dt
import heapq
from collections.abc import Iterable, Mapping

import numpy as np

from stream.clock import LatestLines, Quorum, TopicClock
from stream.ledger_entry import LedgerEntry, topic_of


def stream_time(entries: Iterable[LedgerEntry]) -> int | None:
    """How far the stream has come, ms UTC, by the clock of the topic that has come furthest; None without lines."""
    return furthest(latest_lines(entries))


def furthest(partitions: Mapping[tuple[str, int], LatestLines]) -> int | None:
    """How far the topic has come that has come furthest, from the latest lines by topic and partition."""
    reached = (latest.reached for latest in topic_clocks(partitions).values())
    return max((time_ms for time_ms in reached if time_ms is not None), default=None)


def topic_clocks(partitions: Mapping[tuple[str, int], LatestLines]) -> dict[str, LatestLines]:
    """By topic: its latest lines, which are its clock. A topic made anew keeps the clock that it had."""
    topics: dict[str, LatestLines] = {}
    for (name, _), latest in partitions.items():
        topic = topic_of(name)
        topics[topic] = topics[topic] + latest if topic in topics else latest
    return topics


def was_live(entries: Iterable[LedgerEntry]) -> bool:
    """Whether a topic was in step with the machine's clock in the ten minutes before its last entry was written."""
    in_step = sorted(
        (written_ms := dt.datetime.fromisoformat(entry.written).timestamp() * 1000,
         abs(written_ms - entry.clock.reached) <= entry.clock.ahead_ms)
        for entry in entries
        if entry.clock is not None and entry.clock.reached is not None and entry.written
    )  # fmt: skip
    since = in_step[-1][0] - TopicClock.LIVE_S * 1000 if in_step else 0
    earlier, recent = [each for at, each in in_step if at < since], [each for at, each in in_step if at >= since]
    return bool(earlier) and earlier[-1] and all(recent)


def latest_lines(entries: Iterable[LedgerEntry]) -> dict[tuple[str, int], LatestLines]:
    """By topic and partition: the latest lines, from which the stream's clock is computed."""
    with_lines: dict[tuple[str, int], list[LedgerEntry]] = {}
    for entry in entries:
        if entry.kafka_time is not None:
            with_lines.setdefault((entry.topic, entry.partition), []).append(entry)
    return {partition: _latest_lines(part) for partition, part in with_lines.items()}


def _latest_lines(entries: list[LedgerEntry]) -> LatestLines:
    """The latest lines of a partition: those of its last entry; for entries of older versions a cautious guess.

    Those have no lines, only the earliest and the latest Kafka time, and one wrong record can have moved either by
    years. So some of an entry's lines count, each as of a user of its own, at the latest time if that is within the
    allowance of the earliest one, and else at that.
    """
    last = max(reversed(entries), key=lambda entry: entry.last)
    if last.clock is not None:
        return last.clock.read()
    quorum = Quorum()
    most = 2 * quorum.lines  # of each of the latest entries, of which some may have a line only, and a wrong one
    latest = heapq.nlargest(most * most, [(_cautious_time(entry, quorum), min(entry.lines, most)) for entry in entries])
    times = np.repeat(*np.array(latest, np.int64).reshape(-1, 2).T)
    return LatestLines.of(quorum, times, np.arange(len(times)))


def _cautious_time(entry: LedgerEntry, quorum: Quorum) -> int:
    assert entry.kafka_time is not None
    first, last = entry.kafka_time.first, entry.kafka_time.last
    return last if last - first <= quorum.ahead_ms else first
