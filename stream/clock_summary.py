"""Summary of the stream's clock by topic and partition, with the records that are set aside, from the ledger."""

from collections.abc import Iterable

import msgspec

from stream.clock import CLOCK_AHEAD
from stream.grammar import render_time
from stream.ledger_clock import latest_lines, topic_clocks
from stream.ledger_entry import LedgerEntry, topic_of
from stream.zone import Zone


class SetAside(msgspec.Struct, frozen=True):
    """The records of a partition that are in the quarantine because they are ahead of the clock."""

    lines: int
    earliest: str
    """The earliest Kafka time among them, as the service's clock shows it."""


class PartitionSummary(msgspec.Struct, frozen=True):
    """How far a partition has come. Times are those of the service's clock."""

    reached: str | None
    """None without lines that have a time."""
    latest: str | None
    """The latest Kafka time of its lines, confirmed or not."""
    set_aside: SetAside | None


class TopicSummary(msgspec.Struct, frozen=True):
    """The clock of a topic."""

    reached: str | None
    reached_ms: int | None
    """The same, ms UTC."""
    limit: str | None
    """Records with a later Kafka time are set aside."""
    partitions: dict[int, PartitionSummary]


def summarize_clocks(entries: Iterable[LedgerEntry], zone: Zone) -> dict[str, TopicSummary]:
    """By topic: its clock, and those of its partitions."""
    entries = list(entries)
    latest, set_aside = latest_lines(entries), _set_aside(entries, zone)
    topics = {}
    for topic, clock in sorted(topic_clocks(latest).items()):
        partitions = {
            number: PartitionSummary(
                reached=_text(part.reached, zone),
                latest=_text(int(part.time[0]) if len(part.time) else None, zone),
                set_aside=set_aside.get((topic, number)),
            )
            for (name, number), part in latest.items()  # of a topic made anew, the new one comes last
            if topic_of(name) == topic
        }
        topics[topic] = TopicSummary(_text(clock.reached, zone), clock.reached, _text(clock.limit, zone), partitions)
    return topics


def _set_aside(entries: Iterable[LedgerEntry], zone: Zone) -> dict[tuple[str, int], SetAside]:
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for entry in entries:
        if entry.ahead_from is not None:
            partition = topic_of(entry.topic), entry.partition
            lines, earliest = found.get(partition, (0, entry.ahead_from))
            lines += sum(count.lines for count in entry.counts if count.reason == CLOCK_AHEAD)
            found[partition] = lines, min(earliest, entry.ahead_from)
    return {partition: SetAside(lines, render_time(time, zone)) for partition, (lines, time) in found.items()}


def _text(time_ms: int | None, zone: Zone) -> str | None:
    return None if time_ms is None else render_time(time_ms, zone)
