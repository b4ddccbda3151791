"""Thresholds: what is normal at its exact edge, the week before, and the same alerts whoever was killed when."""

import tempfile
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.alerts.alert_file import Alert, AlertFile
from quality.alerts.thresholds import WEEK, ThresholdMonitor, blocking_alerts
from quality.settings import QualitySettings, limits_of
from stream.archive import LedgerEntry, TimeRange
from stream.zone import HOUR_MS
from tests.ledger_entries import entry, gap

BEGIN = 1_770_732_000_000 // HOUR_MS  # 2026-02-10T14Z


def setting(week_lines: Any = 100_000, **thresholds: Any) -> QualitySettings:
    return msgspec.convert({"week_lines": week_lines, "thresholds": thresholds}, QualitySettings)


def hour_entry(
    hour: int = 0, lines: int = 1000, faults: dict[str, int] | None = None, first: int = 0, partition: int = 0
) -> LedgerEntry:
    """An entry of the hour so many after `BEGIN`; see `entry` for `faults`."""
    time = TimeRange((BEGIN + hour) * HOUR_MS - 5, (BEGIN + hour) * HOUR_MS + HOUR_MS // 2)
    return entry(first, first + lines - 1, faults, kafka_time=time, topic="log", partition=partition)


def raised(var: Path) -> list[str]:
    return [alert.id for _, _, alert in AlertFile(var).read()]


def told(var: Path, entries: Iterable[LedgerEntry], held: QualitySettings) -> list[Alert]:
    alarms = ThresholdMonitor(var, held)
    return [alert for one in entries for alert in alarms.committed(one)]


EDGE = {"quarantined": {"share": 0.29, "count": 25, "times": 1e9, "hold": False}, "reason": {"share": 1, "times": 1e9}}


@pytest.mark.parametrize(
    ("lines", "wrong", "breach"),
    [
        (100, 29, False),  # the very share is still normal, though 0.29 * 100 < 29 in floating point
        (100, 30, True),
        (10_000, 2_901, True),
        (24, 24, False),  # far above the share, but too few to mean anything
        (25, 25, True),
    ],
)
def test_a_breach_needs_the_count_and_more_than_the_share(tmp_path: Path, lines: int, wrong: int, breach: bool) -> None:
    found = told(tmp_path, [hour_entry(0, lines, {"quarantined:time": wrong})], setting(**EDGE))
    assert bool(found) is breach
    assert raised(tmp_path) == ["quarantined:2026-02-10T14Z"] * breach


NEVER = float("inf")
GROWN = {
    "quarantined": {"share": 1, "times": NEVER},
    "reason": {"share": 1, "count": 10, "times": 3},
}


@pytest.mark.parametrize(
    ("week", "wrong", "breach"),
    [
        ({"quarantined:time": 10}, 30, False),  # three times the week's share of 1 % is still normal
        ({"quarantined:time": 10}, 31, True),
        ({}, 9, False),
        ({}, 10, True),  # a reason that the week did not have
        ({"quarantined:user": 500}, 31, True),  # another reason's share is no measure
        ({"repaired:time": 500}, 31, True),  # nor another fate's
    ],
)
def test_a_breach_against_the_week_before(tmp_path: Path, week: dict[str, int], wrong: int, breach: bool) -> None:
    alarms = ThresholdMonitor(tmp_path, setting(1000, **GROWN))
    alarms.resume([hour_entry(-WEEK, 1000, week)])
    found = [alert.id for alert in alarms.committed(hour_entry(0, 1000, {"quarantined:time": wrong}, 1000))]
    assert found == ["quarantined:time:2026-02-10T14Z"] * breach


def test_a_week_of_too_few_lines_is_no_measure(tmp_path: Path) -> None:
    found = told(
        tmp_path, [hour_entry(-1, 999), hour_entry(0, 1000, {"quarantined:time": 100}, 999)], setting(1000, **GROWN)
    )
    assert found == []
    more = Path(tmp_path / "more")
    assert told(
        more, [hour_entry(-1, 1000), hour_entry(0, 1000, {"quarantined:time": 100}, 1000)], setting(1000, **GROWN)
    )


@pytest.mark.parametrize(("hour", "breach"), [(-WEEK, False), (-WEEK - 1, True), (1, True)])
def test_the_week_is_the_168_hours_before_and_no_other(tmp_path: Path, hour: int, breach: bool) -> None:
    entries = [hour_entry(-1, 1000), hour_entry(hour, 1000, {"quarantined:time": 100}, 1000)]
    found = told(tmp_path, [*entries, hour_entry(0, 1000, {"quarantined:time": 60}, 2000)], setting(1000, **GROWN))
    assert ("quarantined:time:2026-02-10T14Z" in [alert.id for alert in found]) is breach


def test_an_hour_is_judged_as_a_whole_whatever_the_batches(tmp_path: Path) -> None:
    small = [hour_entry(0, 10, {"quarantined:time": 2}, at) for at in range(0, 300, 10)]
    found = told(tmp_path, small, setting(quarantined={"share": 0.1}, reason={"count": 60}))
    assert [(alert.id, alert.lines, alert.of) for alert in found] == [("quarantined:time:2026-02-10T14Z", 60, 300)]


def test_an_hour_raises_each_of_its_alerts_once(tmp_path: Path) -> None:
    bad = [
        hour_entry(0, 1000, {"quarantined:time": 60, "repaired:one_character": 200}, at) for at in range(0, 9000, 1000)
    ]
    told(tmp_path, [*bad, hour_entry(1, 1000, {"quarantined:time": 600}, 9000)], setting())
    assert raised(tmp_path) == [
        "quarantined:time:2026-02-10T14Z",
        "repaired:2026-02-10T14Z",
        "quarantined:2026-02-10T14Z",
        "quarantined:2026-02-10T15Z",
        "quarantined:time:2026-02-10T15Z",
    ]


def test_a_rule_of_repair_is_judged_apart_only_where_it_has_a_table(tmp_path: Path) -> None:
    bad = hour_entry(0, 1000, {"repaired:one_character": 200})
    found = told(tmp_path, [bad], setting(one_character={"share": 0.1}))
    assert [alert.id for alert in found] == ["repaired:2026-02-10T14Z", "repaired:one_character:2026-02-10T14Z"]


def test_a_reason_of_its_own_threshold_keeps_the_rest_of_the_wider_ones() -> None:
    limits = setting(reason={"count": 7}, time={"share": 0.5}, quarantined={"count": 9}).thresholds
    assert msgspec.structs.astuple(limits_of(limits, "quarantined", "time")) == (0.5, 7, 5, None, 1000)  # type: ignore[arg-type]
    assert msgspec.structs.astuple(limits_of(limits, "quarantined", "user")) == (0.002, 7, 5, None, 1000)  # type: ignore[arg-type]
    assert msgspec.structs.astuple(limits_of(limits, "quarantined", "new one")) == (0.002, 7, 5, None, 1000)  # type: ignore[arg-type]
    assert msgspec.structs.astuple(limits_of(limits, "quarantined")) == (0.003, 9, 5, 0.2, 1000)  # type: ignore[arg-type]


def week_of(rate: dict[str, float], lines: int = 400_000) -> list[LedgerEntry]:
    """Eight days of a stream, hour by hour, with a little more and less of everything."""
    found = []
    for hour in range(-WEEK - 24, 1):
        sway = 1 + 0.5 * (-1) ** hour
        faults = {name: round(lines * share * sway) for name, share in rate.items()}
        found.append(hour_entry(hour, lines, faults, (hour + 300) * lines))
    return found


NORMAL = {"repaired:one_character": 0.0004, "quarantined:time": 0.0001, "quarantined:user": 0.00005, "duplicate": 1e-4}


@pytest.mark.parametrize("lines", [2_000, 40_000, 4_000_000])
def test_a_normal_stream_raises_no_alert(tmp_path: Path, lines: int) -> None:
    assert told(tmp_path, week_of(NORMAL, lines), QualitySettings()) == []


@pytest.mark.parametrize("lines", [40_000, 4_000_000])
@pytest.mark.parametrize(
    ("faults", "alerts"),
    [
        ({"quarantined:movie_unknown": 0.005}, {"quarantined", "quarantined:movie_unknown"}),
        ({"quarantined:movie_unknown": 0.0025}, {"quarantined", "quarantined:movie_unknown"}),
        ({"quarantined:time": 0.0029}, {"quarantined", "quarantined:time"}),
        ({"repaired:one_character": 0.005}, {"repaired"}),
        ({"duplicate": 0.03}, {"duplicate"}),
    ],
)
def test_faults_that_staff_put_in_raise_an_alert(
    tmp_path: Path, lines: int, faults: dict[str, float], alerts: set[str]
) -> None:
    bad = {name: round(lines * (share + NORMAL.get(name, 0))) for name, share in faults.items()}
    alarms = ThresholdMonitor(tmp_path, QualitySettings())
    assert alarms.resume(week_of(NORMAL, lines)) == []
    found = alarms.committed(hour_entry(1, lines, bad, lines * 400))
    assert {alert.id.removesuffix(":2026-02-10T15Z") for alert in found} == alerts


def test_an_alert_tells_what_where_how_much_and_what_is_normal(tmp_path: Path) -> None:
    alarms = ThresholdMonitor(tmp_path, setting(1000))
    alarms.resume([hour_entry(-1, 10_000, {"quarantined:time": 10})])
    faults = {"quarantined:time": 60, "quarantined:user": 40}
    fate, reason = alarms.committed(hour_entry(0, 1000, faults, 10_000))
    assert (fate.alert, fate.reason, fate.reasons) == ("quarantined", None, {"time": 60, "user": 40})
    assert (reason.alert, reason.reason, reason.reasons) == ("quarantined", "time", {"time": 60})
    assert (reason.lines, reason.of, reason.share, reason.threshold, reason.week) == (60, 1000, 0.06, 0.002, 0.001)
    assert (reason.hour, reason.stream_time) == ("2026-02-10T14Z", BEGIN * HOUR_MS)
    assert reason.batch == "log-0-000000010000-000000010999"
    assert reason.text == (
        "2026-02-10T14Z: 6.00% of 1000 lines quarantined (time), at most 0.20% are normal; in the week before 0.100%"
    )


def test_a_gap_is_an_alert_at_once_and_after_a_crash_and_once(tmp_path: Path) -> None:
    entries = [hour_entry(0), gap(1000, 1006, "log"), hour_entry(0, first=1007)]
    [alert] = told(tmp_path, entries, setting())
    assert alert.text == "7 records of log-0 were gone from Kafka before they were read"
    assert (alert.lines, alert.hour, alert.hold) == (7, None, False)
    assert ThresholdMonitor(tmp_path, setting()).resume(entries) == []
    other = ThresholdMonitor(tmp_path / "other", setting())
    [again] = other.resume(entries[:2])
    assert (
        ThresholdMonitor(tmp_path / "moved", setting()).resume(entries) == []
    )  # the gap is not the last: it was told in time
    assert again.id == alert.id == "retention_gap:log-0-000000001000-000000001006"


def test_to_resume_twice_is_to_resume_once(tmp_path: Path) -> None:
    entries, alarms = [hour_entry(0, 1000, {"quarantined:time": 60})], ThresholdMonitor(tmp_path, setting())
    assert (len(alarms.resume(entries)), alarms.resume(entries)) == (1, [])
    [fate] = alarms.committed(hour_entry(0, 1000, {"quarantined:time": 60}, 1000))
    assert (fate.lines, fate.of) == (120, 2000)


def test_an_entry_without_times_and_lines_belongs_to_no_hour(tmp_path: Path) -> None:
    nothing = entry(0, 9, lines=0, counts=[], kafka_time=None)
    alarms = ThresholdMonitor(tmp_path, setting())
    assert (alarms.resume([nothing]), alarms.committed(nothing)) == ([], [])


@pytest.mark.parametrize("late", [-1, -WEEK])
def test_a_late_line_of_the_week_before_is_taken_into_account(tmp_path: Path, late: int) -> None:
    alarms = ThresholdMonitor(tmp_path, setting(1000, **GROWN))
    assert alarms.committed(hour_entry(0, 1000, {"quarantined:time": 60})) == []  # nothing to compare with yet
    [alert] = alarms.committed(hour_entry(late, 1000, partition=1))
    assert alert.id == "quarantined:time:2026-02-10T14Z"


def test_only_what_a_crash_may_have_left_is_judged_at_the_start(tmp_path: Path) -> None:
    entries = [hour_entry(-5, 1000, {"quarantined:time": 150}), hour_entry(0, 1000, {"quarantined:time": 150}, 1000)]
    found = ThresholdMonitor(tmp_path, setting(1_000_000)).resume(entries)  # as if thresholds had just been lowered
    assert {alert.hour for alert in found} == {"2026-02-10T14Z"}


GROSS = {"quarantined": {"share": 0.1, "count": 10, "hold": 0.5, "hold_count": 100}, "reason": {"share": 1}}


@pytest.mark.parametrize(
    ("lines", "wrong", "alert"),
    [
        (1000, 500, "quarantined:2026-02-10T14Z"),
        (1000, 501, "quarantined:2026-02-10T14Z:hold"),
        (120, 99, "quarantined:2026-02-10T14Z"),
        (120, 100, "quarantined:2026-02-10T14Z:hold"),
    ],
)
def test_a_hold_needs_its_own_share_and_count(tmp_path: Path, lines: int, wrong: int, alert: str) -> None:
    bad = hour_entry(0, lines, {"quarantined:time": wrong})
    [found] = told(tmp_path, [bad], setting(**GROSS))
    assert (found.id, found.hold) == (alert, alert.endswith("hold"))
    assert [one.id for one in blocking_alerts(tmp_path, [bad], setting(**GROSS), 0)] == [alert] * found.hold


def test_an_hour_that_gets_worse_is_told_of_again_and_one_that_gets_better_is_not(tmp_path: Path) -> None:
    steps = [(1000, 200), (1000, 900), (5000, 0), (5000, 4000)]
    entries = [
        hour_entry(0, lines, {"quarantined:time": wrong}, 10_000 * at) for at, (lines, wrong) in enumerate(steps)
    ]
    told(tmp_path, entries, setting(**GROSS))
    assert raised(tmp_path) == ["quarantined:2026-02-10T14Z", "quarantined:2026-02-10T14Z:hold"]
    other = tmp_path / "other"
    told(other, entries[1:3], setting(**GROSS))  # at once the worst, then diluted
    assert raised(other) == ["quarantined:2026-02-10T14Z:hold"]
    assert blocking_alerts(other, entries[1:3], setting(**GROSS), 0) == []  # in the end, the hour was not that bad


def test_hold_says_yes_or_no_as_well() -> None:
    every = setting(time={"hold": True}, quarantined={"hold": False}).thresholds
    time, fate = limits_of(every, "quarantined", "time"), limits_of(every, "quarantined")
    assert time is not None
    assert fate is not None
    assert ((time.hold, time.hold_count), fate.hold) == ((0.0, 1), None)


def test_what_holds_is_of_the_hours_since_and_the_worst_stands_first(tmp_path: Path) -> None:
    bad = [hour_entry(hour, 1000, {"quarantined:time": 800 + hour}, 1000 * hour) for hour in range(5)]
    held = setting(**GROSS)
    since = [(BEGIN + 2) * HOUR_MS, (BEGIN + 3) * HOUR_MS - 1, (BEGIN + 3) * HOUR_MS]
    found = [[alert.hour for alert in blocking_alerts(tmp_path, bad, held, at)] for at in since]
    assert found[0] == ["2026-02-10T18Z", "2026-02-10T17Z", "2026-02-10T16Z"]
    assert (found[1], found[2]) == (found[0], found[0][:2])


def test_an_alert_of_another_kind_can_hold(tmp_path: Path) -> None:
    def alert(name: str, **more: Any) -> Alert:
        return Alert(id=name, alert="clock", text=name, **more)

    told = [alert("old", hold=True, stream_time=99), alert("new", hold=True, stream_time=100), alert("mild")]
    AlertFile(tmp_path).append([*told, alert("mild, too", stream_time=200)])
    assert [one.id for one in blocking_alerts(tmp_path, [], setting(), 100)] == ["new"]


def test_a_hold_that_was_raised_by_an_hour_is_judged_anew_by_the_ledger(tmp_path: Path) -> None:
    bad = hour_entry(0, 1000, {"quarantined:time": 900})
    told(tmp_path, [bad], setting(**GROSS))
    assert blocking_alerts(tmp_path, [hour_entry(0, 1000)], setting(**GROSS), 0) == []  # its lines were taken after all


# What is raised follows from the order of the commits alone: a plain reckoning, and every way to be killed.

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


def entries_of(commits: list[tuple[int, int, int, int, int, int, bool]]) -> list[LedgerEntry]:
    found, ends = [], [0, 0]
    for partition, hour, time, user, repaired, fine, after_gap in commits:
        if after_gap:
            found.append(msgspec.structs.replace(gap(ends[partition], ends[partition] + 6, "log"), partition=partition))
            ends[partition] += 7
        lines = time + user + repaired + fine
        if lines:
            faults = {"quarantined:time": time, "quarantined:user": user, "repaired:one_character": repaired}
            found.append(hour_entry(hour, lines, faults, ends[partition], partition=partition))
            ends[partition] += lines
    return found


def reckoned(entries: list[LedgerEntry]) -> list[str]:
    """What is to be raised, in the plainest way: after every commit, all hours, all of their faults."""
    found: list[str] = []
    for end in range(1, len(entries) + 1):
        hours: dict[int, Counter[str]] = {}
        for one in entries[:end]:
            if one.kafka_time is None:
                found += [f"retention_gap:{one.name}"] * (f"retention_gap:{one.name}" not in found)
                continue
            counts = hours.setdefault(one.kafka_time.last // HOUR_MS - BEGIN, Counter())
            counts["lines"] += one.lines
            for count in one.counts:
                counts[count.fate] += count.lines
                counts[f"{count.fate}:{count.reason}"] += count.lines
        for hour, counts in hours.items():
            week = sum((other for at, other in hours.items() if hour - WEEK <= at < hour), Counter[str]())
            found += [one for one in breaches(hour, counts, week) if one not in found and one + ":hold" not in found]
    return found


def breaches(hour: int, counts: Counter[str], week: Counter[str]) -> list[str]:
    name = {-1: "2026-02-10T13Z", 0: "2026-02-10T14Z", 1: "2026-02-10T15Z", -2: "2026-02-10T12Z"}.get(hour)
    name = name or {-WEEK: "2026-02-03T14Z", -WEEK - 1: "2026-02-03T13Z", -WEEK + 1: "2026-02-03T15Z"}[hour]
    found = []
    limits = {"quarantined": (5, "1/10", 2), "repaired": (8, "1/5", 0)}
    limits |= {"quarantined:time": (3, "3/20", 3), "quarantined:user": (3, "3/20", 3)}
    for fault, (count, share, times) in limits.items():
        part = Fraction(counts[fault], counts["lines"])
        compared = times and week["lines"] >= 30
        grown = compared and part > times * Fraction(week[fault], week["lines"])
        if counts[fault] >= count and (part > Fraction(share) or grown):
            gross = fault == "quarantined" and part > Fraction("2/5") and counts[fault] >= 10
            found.append(f"{fault}:{name}{':hold' if gross else ''}")
    return found


@settings(deadline=None, max_examples=150)
@given(st.lists(COMMIT, max_size=12), st.data())
def test_whoever_is_killed_when_the_same_alerts_are_raised(
    commits: list[tuple[int, int, int, int, int, int, bool]], data: st.DataObject
) -> None:
    entries = entries_of(commits)
    held = setting(30, **PLAIN)
    with tempfile.TemporaryDirectory() as folder:
        var = Path(folder)
        file, alarms = var / "alerts.jsonl", ThresholdMonitor(var, held)
        for number, one in enumerate(entries):
            fate = data.draw(st.sampled_from(["lives", "dies before", "dies amid", "dies behind"]))
            before = file.stat().st_size if file.exists() else 0
            if fate != "dies before":
                alarms.committed(one)
            if fate == "dies amid" and file.exists():
                with file.open("r+b") as torn:
                    torn.truncate(data.draw(st.integers(before, file.stat().st_size)))
            if fate != "lives":
                alarms = ThresholdMonitor(var, held)
                ledger = sorted(entries[: number + 1], key=lambda one: (one.partition, one.first))
                alarms.resume(ledger)
        assert Counter(raised(var)) == Counter(reckoned(entries))
        assert ThresholdMonitor(var, held).resume(sorted(entries, key=lambda one: (one.partition, one.first))) == []
