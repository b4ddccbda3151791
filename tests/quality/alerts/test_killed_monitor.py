"""Alerts follow from the order of the commits alone: against a plain computation, with a kill at every moment."""

import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.alerts.thresholds import WEEK, ThresholdMonitor
from stream.ledger_entry import LedgerEntry
from stream.zone import HOUR_MS
from tests.ledger_entries import gap
from tests.quality.alerts.hourly_entries import BEGIN, NEVER, hour_entry, raised_ids, setting

PLAIN = {
    "quarantined": {"share": 0.1, "count": 5, "times": 2, "hold": 0.4, "hold_count": 10},
    "repaired": {"share": 0.2, "count": 8, "times": NEVER},
    "reason": {"share": 0.15, "count": 3, "times": 3},
}
COMMIT = st.tuples(
    st.integers(0, 1),  # partition
    st.sampled_from([-WEEK - 1, -WEEK, -WEEK + 1, -2, -1, 0, 1]),  # hour
    st.integers(0, 12),  # quarantined for time
    st.integers(0, 4),  # quarantined for user
    st.integers(0, 9),  # repaired
    st.integers(0, 40),  # accepted
    st.booleans(),  # a gap before it
)


def position(entry: LedgerEntry) -> tuple[int, int]:
    return entry.partition, entry.first


def entries_of(commits: list[tuple[int, int, int, int, int, int, bool]]) -> list[LedgerEntry]:
    entries, ends = [], [0, 0]
    for partition, hour, time, user, repaired, fine, after_gap in commits:
        if after_gap:
            lost = gap(ends[partition], ends[partition] + 6, "log")
            entries.append(msgspec.structs.replace(lost, partition=partition))
            ends[partition] += 7
        lines = time + user + repaired + fine
        if lines:
            faults = {"quarantined:time": time, "quarantined:user": user, "repaired:one_character": repaired}
            entries.append(hour_entry(hour, lines, faults, ends[partition], partition=partition))
            ends[partition] += lines
    return entries


def reckoned(entries: list[LedgerEntry]) -> list[str]:
    """The ids to raise, computed in the plainest way: after every commit, all hours, all of their faults."""
    ids: list[str] = []
    for end in range(1, len(entries) + 1):
        hours: dict[int, Counter[str]] = {}
        for committed in entries[:end]:
            if committed.kafka_time is None:
                ids += [f"retention_gap:{committed.name}"] * (f"retention_gap:{committed.name}" not in ids)
                continue
            counts = hours.setdefault(committed.kafka_time.last // HOUR_MS - BEGIN, Counter())
            counts["lines"] += committed.lines
            for count in committed.counts:
                counts[count.fate] += count.lines
                counts[f"{count.fate}:{count.reason}"] += count.lines
        for hour, counts in hours.items():
            week = sum((other for earlier, other in hours.items() if hour - WEEK <= earlier < hour), Counter[str]())
            ids += [new for new in breaches(hour, counts, week) if new not in ids and new + ":hold" not in ids]
    return ids


def breaches(hour: int, counts: Counter[str], week: Counter[str]) -> list[str]:
    name = {-1: "2026-02-10T13Z", 0: "2026-02-10T14Z", 1: "2026-02-10T15Z", -2: "2026-02-10T12Z"}.get(hour)
    name = name or {-WEEK: "2026-02-03T14Z", -WEEK - 1: "2026-02-03T13Z", -WEEK + 1: "2026-02-03T15Z"}[hour]
    ids = []
    limits = {"quarantined": (5, "1/10", 2), "repaired": (8, "1/5", 0)}
    limits |= {"quarantined:time": (3, "3/20", 3), "quarantined:user": (3, "3/20", 3)}
    for fault, (count, share, times) in limits.items():
        part = Fraction(counts[fault], counts["lines"])
        compared = times and week["lines"] >= 30
        grown = compared and part > times * Fraction(week[fault], week["lines"])
        if counts[fault] >= count and (part > Fraction(share) or grown):
            gross = fault == "quarantined" and part > Fraction("2/5") and counts[fault] >= 10
            ids.append(f"{fault}:{name}{':hold' if gross else ''}")
    return ids


@settings(deadline=None, max_examples=150)
@given(st.lists(COMMIT, max_size=12), st.data())
def test_a_kill_at_any_moment_changes_no_alert(
    commits: list[tuple[int, int, int, int, int, int, bool]], data: st.DataObject
) -> None:
    entries = entries_of(commits)
    thresholds = setting(30, **PLAIN)
    with tempfile.TemporaryDirectory() as folder:
        var = Path(folder)
        file, monitor = var / "alerts.jsonl", ThresholdMonitor(var, thresholds)
        for number, committed in enumerate(entries):
            fate = data.draw(st.sampled_from(["lives", "dies before", "dies amid", "dies behind"]))
            before = file.stat().st_size if file.exists() else 0
            if fate != "dies before":
                monitor.committed(committed)
            if fate == "dies amid" and file.exists():
                with file.open("r+b") as torn:
                    torn.truncate(data.draw(st.integers(before, file.stat().st_size)))
            if fate != "lives":
                monitor = ThresholdMonitor(var, thresholds)
                ledger = sorted(entries[: number + 1], key=position)
                monitor.resume(ledger)
        assert Counter(raised_ids(var)) == Counter(reckoned(entries))
        assert ThresholdMonitor(var, thresholds).resume(sorted(entries, key=position)) == []
