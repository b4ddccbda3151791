"""Thresholds: what is normal at its exact edge, the week before, what is raised, and what holds the night."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from quality.alerts.alert_file import Alert, AlertFile
from quality.alerts.thresholds import WEEK, ThresholdMonitor, blocking_alerts
from quality.settings import AlertLimits, QualitySettings, limits_of
from stream.ledger_entry import LedgerEntry
from stream.zone import HOUR_MS
from tests.ledger_entries import entry, gap
from tests.quality.alerts.hourly_entries import BEGIN, NEVER, hour_entry, raised_ids, setting


def alerts_of(var: Path, entries: Iterable[LedgerEntry], settings: QualitySettings) -> list[Alert]:
    """The alerts that the commits of `entries` raise."""
    monitor = ThresholdMonitor(var, settings)
    return [alert for committed in entries for alert in monitor.committed(committed)]


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
    alerts = alerts_of(tmp_path, [hour_entry(0, lines, {"quarantined:time": wrong})], setting(**EDGE))
    assert bool(alerts) is breach
    assert raised_ids(tmp_path) == ["quarantined:2026-02-10T14Z"] * breach


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
    monitor = ThresholdMonitor(tmp_path, setting(1000, **GROWN))
    monitor.resume([hour_entry(-WEEK, 1000, week)])
    alerts = [alert.id for alert in monitor.committed(hour_entry(0, 1000, {"quarantined:time": wrong}, 1000))]
    assert alerts == ["quarantined:time:2026-02-10T14Z"] * breach


def test_a_week_of_too_few_lines_is_no_measure(tmp_path: Path) -> None:
    few = [hour_entry(-1, 999), hour_entry(0, 1000, {"quarantined:time": 100}, 999)]
    assert alerts_of(tmp_path, few, setting(1000, **GROWN)) == []
    enough = [hour_entry(-1, 1000), hour_entry(0, 1000, {"quarantined:time": 100}, 1000)]
    assert alerts_of(tmp_path / "enough", enough, setting(1000, **GROWN))


@pytest.mark.parametrize(("hour", "breach"), [(-WEEK, False), (-WEEK - 1, True), (1, True)])
def test_the_week_is_the_168_hours_before_and_no_other(tmp_path: Path, hour: int, breach: bool) -> None:
    entries = [hour_entry(-1, 1000), hour_entry(hour, 1000, {"quarantined:time": 100}, 1000)]
    entries.append(hour_entry(0, 1000, {"quarantined:time": 60}, 2000))
    alerts = alerts_of(tmp_path, entries, setting(1000, **GROWN))
    assert ("quarantined:time:2026-02-10T14Z" in [alert.id for alert in alerts]) is breach


def test_an_hour_is_judged_as_a_whole_whatever_the_batches(tmp_path: Path) -> None:
    small = [hour_entry(0, 10, {"quarantined:time": 2}, first) for first in range(0, 300, 10)]
    alerts = alerts_of(tmp_path, small, setting(quarantined={"share": 0.1}, reason={"count": 60}))
    assert [(alert.id, alert.lines, alert.of) for alert in alerts] == [("quarantined:time:2026-02-10T14Z", 60, 300)]


def test_an_hour_raises_each_of_its_alerts_once(tmp_path: Path) -> None:
    faults = {"quarantined:time": 60, "repaired:one_character": 200}
    bad = [hour_entry(0, 1000, faults, first) for first in range(0, 9000, 1000)]
    alerts_of(tmp_path, [*bad, hour_entry(1, 1000, {"quarantined:time": 600}, 9000)], setting())
    assert raised_ids(tmp_path) == [
        "quarantined:time:2026-02-10T14Z",
        "repaired:2026-02-10T14Z",
        "quarantined:2026-02-10T14Z",
        "quarantined:2026-02-10T15Z",
        "quarantined:time:2026-02-10T15Z",
    ]


def test_a_rule_of_repair_is_judged_apart_only_where_it_has_a_table(tmp_path: Path) -> None:
    bad = hour_entry(0, 1000, {"repaired:one_character": 200})
    alerts = alerts_of(tmp_path, [bad], setting(one_character={"share": 0.1}))
    assert [alert.id for alert in alerts] == ["repaired:2026-02-10T14Z", "repaired:one_character:2026-02-10T14Z"]


def test_a_reason_of_its_own_threshold_keeps_the_rest_of_the_wider_ones() -> None:
    thresholds = setting(reason={"count": 7}, time={"share": 0.5}, quarantined={"count": 9}).thresholds
    expected = {
        "time": AlertLimits(share=0.5, count=7, times=5, hold=None, hold_count=1000),
        "user": AlertLimits(share=0.002, count=7, times=5, hold=None, hold_count=1000),
        "new one": AlertLimits(share=0.002, count=7, times=5, hold=None, hold_count=1000),
        None: AlertLimits(share=0.003, count=9, times=5, hold=0.2, hold_count=1000),
    }
    assert {reason: limits_of(thresholds, "quarantined", reason) for reason in expected} == expected


def week_of(rate: dict[str, float], lines: int = 400_000) -> list[LedgerEntry]:
    """Eight days of a stream, hour by hour, with a little more and less of everything."""
    entries = []
    for hour in range(-WEEK - 24, 1):
        sway = 1 + 0.5 * (-1) ** hour
        faults = {name: round(lines * share * sway) for name, share in rate.items()}
        entries.append(hour_entry(hour, lines, faults, (hour + 300) * lines))
    return entries


NORMAL = {"repaired:one_character": 0.0004, "quarantined:time": 0.0001, "quarantined:user": 0.00005, "duplicate": 1e-4}


@pytest.mark.parametrize("lines", [2_000, 40_000, 4_000_000])
def test_a_normal_stream_raises_no_alert(tmp_path: Path, lines: int) -> None:
    assert alerts_of(tmp_path, week_of(NORMAL, lines), QualitySettings()) == []


@pytest.mark.parametrize("lines", [40_000, 4_000_000])
@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"quarantined:movie_unknown": 0.005}, {"quarantined", "quarantined:movie_unknown"}),
        ({"quarantined:movie_unknown": 0.0025}, {"quarantined", "quarantined:movie_unknown"}),
        ({"quarantined:time": 0.0029}, {"quarantined", "quarantined:time"}),
        ({"repaired:one_character": 0.005}, {"repaired"}),
        ({"duplicate": 0.03}, {"duplicate"}),
    ],
)
def test_faults_that_staff_put_in_raise_an_alert(
    tmp_path: Path, lines: int, faults: dict[str, float], expected: set[str]
) -> None:
    bad = {name: round(lines * (share + NORMAL.get(name, 0))) for name, share in faults.items()}
    monitor = ThresholdMonitor(tmp_path, QualitySettings())
    assert monitor.resume(week_of(NORMAL, lines)) == []
    alerts = monitor.committed(hour_entry(1, lines, bad, lines * 400))
    assert {alert.id.removesuffix(":2026-02-10T15Z") for alert in alerts} == expected


def test_an_alert_tells_what_where_how_much_and_what_is_normal(tmp_path: Path) -> None:
    monitor = ThresholdMonitor(tmp_path, setting(1000))
    monitor.resume([hour_entry(-1, 10_000, {"quarantined:time": 10})])
    faults = {"quarantined:time": 60, "quarantined:user": 40}
    fate, reason = monitor.committed(hour_entry(0, 1000, faults, 10_000))
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
    [alert] = alerts_of(tmp_path, entries, setting())
    assert alert.text == "7 records of log-0 were gone from Kafka before they were read"
    assert (alert.lines, alert.hour, alert.hold) == (7, None, False)
    assert ThresholdMonitor(tmp_path, setting()).resume(entries) == []
    other = ThresholdMonitor(tmp_path / "other", setting())
    [again] = other.resume(entries[:2])
    assert (
        ThresholdMonitor(tmp_path / "moved", setting()).resume(entries) == []
    )  # the gap is not the last entry, so it was raised before the crash
    assert again.id == alert.id == "retention_gap:log-0-000000001000-000000001006"


def test_to_resume_twice_is_to_resume_once(tmp_path: Path) -> None:
    entries, monitor = [hour_entry(0, 1000, {"quarantined:time": 60})], ThresholdMonitor(tmp_path, setting())
    assert (len(monitor.resume(entries)), monitor.resume(entries)) == (1, [])
    [fate] = monitor.committed(hour_entry(0, 1000, {"quarantined:time": 60}, 1000))
    assert (fate.lines, fate.of) == (120, 2000)


def test_an_entry_without_times_and_lines_belongs_to_no_hour(tmp_path: Path) -> None:
    nothing = entry(0, 9, lines=0, counts=[], kafka_time=None)
    monitor = ThresholdMonitor(tmp_path, setting())
    assert (monitor.resume([nothing]), monitor.committed(nothing)) == ([], [])


@pytest.mark.parametrize("late", [-1, -WEEK])
def test_a_late_line_of_the_week_before_is_taken_into_account(tmp_path: Path, late: int) -> None:
    monitor = ThresholdMonitor(tmp_path, setting(1000, **GROWN))
    assert monitor.committed(hour_entry(0, 1000, {"quarantined:time": 60})) == []  # nothing to compare with yet
    [alert] = monitor.committed(hour_entry(late, 1000, partition=1))
    assert alert.id == "quarantined:time:2026-02-10T14Z"


def test_only_what_a_crash_may_have_left_is_judged_at_the_start(tmp_path: Path) -> None:
    entries = [hour_entry(-5, 1000, {"quarantined:time": 150}), hour_entry(0, 1000, {"quarantined:time": 150}, 1000)]
    alerts = ThresholdMonitor(tmp_path, setting(1_000_000)).resume(entries)  # as if thresholds had just been lowered
    assert {alert.hour for alert in alerts} == {"2026-02-10T14Z"}


GROSS = {"quarantined": {"share": 0.1, "count": 10, "hold": 0.5, "hold_count": 100}, "reason": {"share": 1}}


@pytest.mark.parametrize(
    ("lines", "wrong", "expected"),
    [
        (1000, 500, "quarantined:2026-02-10T14Z"),
        (1000, 501, "quarantined:2026-02-10T14Z:hold"),
        (120, 99, "quarantined:2026-02-10T14Z"),
        (120, 100, "quarantined:2026-02-10T14Z:hold"),
    ],
)
def test_a_hold_needs_its_own_share_and_count(tmp_path: Path, lines: int, wrong: int, expected: str) -> None:
    bad = hour_entry(0, lines, {"quarantined:time": wrong})
    [alert] = alerts_of(tmp_path, [bad], setting(**GROSS))
    assert (alert.id, alert.hold) == (expected, expected.endswith("hold"))
    assert [blocking.id for blocking in blocking_alerts(tmp_path, [bad], setting(**GROSS), 0)] == [
        expected
    ] * alert.hold


def test_an_hour_that_gets_worse_raises_a_hold_and_one_that_gets_better_raises_nothing(tmp_path: Path) -> None:
    steps = [(0, 1000, 200), (10_000, 1000, 900), (20_000, 5000, 0), (30_000, 5000, 4000)]
    entries = [hour_entry(0, lines, {"quarantined:time": wrong}, first) for first, lines, wrong in steps]
    alerts_of(tmp_path, entries, setting(**GROSS))
    assert raised_ids(tmp_path) == ["quarantined:2026-02-10T14Z", "quarantined:2026-02-10T14Z:hold"]
    other = tmp_path / "other"
    alerts_of(other, entries[1:3], setting(**GROSS))  # at once the worst, then diluted
    assert raised_ids(other) == ["quarantined:2026-02-10T14Z:hold"]
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
    hours = [[alert.hour for alert in blocking_alerts(tmp_path, bad, held, since_ms)] for since_ms in since]
    worst_first = ["2026-02-10T18Z", "2026-02-10T17Z", "2026-02-10T16Z"]
    assert hours == [worst_first, worst_first, worst_first[:2]]


def test_an_alert_of_another_kind_can_hold(tmp_path: Path) -> None:
    def alert(name: str, **more: Any) -> Alert:
        return Alert(id=name, alert="clock", text=name, **more)

    alerts = [alert("old", hold=True, stream_time=99), alert("new", hold=True, stream_time=100), alert("mild")]
    AlertFile(tmp_path).append([*alerts, alert("mild, too", stream_time=200)])
    assert [blocking.id for blocking in blocking_alerts(tmp_path, [], setting(), 100)] == ["new"]


def test_a_hold_that_was_raised_by_an_hour_is_judged_anew_by_the_ledger(tmp_path: Path) -> None:
    bad = hour_entry(0, 1000, {"quarantined:time": 900})
    alerts_of(tmp_path, [bad], setting(**GROSS))
    assert blocking_alerts(tmp_path, [hour_entry(0, 1000)], setting(**GROSS), 0) == []  # its lines were taken after all
