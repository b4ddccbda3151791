"""Alerts and figures of telemetry, from its store and its reports, without Kafka."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.alerts.alert_file import AlertFile
from quality.metrics.intervals import Interval
from quality.settings import QualitySettings
from quality.telemetry.batch import TelemetryBatch
from quality.telemetry.day_verdict import DayVerdict
from quality.telemetry.ingest import LIVE, Ingest
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from quality.telemetry.stream_alerts import availability_low, below_baseline, few_personal
from quality.telemetry.stream_state import StreamProgress, StreamState, lags
from quality.telemetry.stream_watch import StreamWatch
from stream.event import Event
from stream.kafka import FetchedRecords
from stream.zone import day_name, day_number
from tests.quality.telemetry.known_day import (
    DAY,
    EVENTS,
    FIRST,
    HOUR,
    SETTINGS,
    KnownDay,
    answer,
    one_line,
    report_after,
)

NUMBER = day_number(DAY)
LIMIT = 0.99
LIMIT_FAILED = 0.01


class WatchedStream:
    """A store that is watched; `restart` is another process."""

    def __init__(self, var: Path, batch_of: Callable[..., TelemetryBatch]) -> None:
        self.store, self._batch_of, self.offset = Store(var / "telemetry.db"), batch_of, 0
        self.reports, self.file, self.now_s = Reports(one_line(var), SETTINGS), AlertFile(var), 1000.0
        self.restart()

    def restart(self) -> None:
        self.ingest = Ingest(self.store, self.reports.stream, SETTINGS)
        self.watch = StreamWatch(self.store, self.reports, lambda: self.now_s)

    def take(self, *events: Event) -> None:
        self.ingest.take(self._batch_of(events, self.offset))
        self.offset += len(events)

    def look(self, **state: object) -> list[str]:
        """Look at the store; returns the ids of the new alerts."""
        end = self.file.read()[-1].end if self.file.path.exists() else 0
        known = {"watermark": self.ingest.watermark, "stream_time": self.ingest.stream_time}
        self.watch.look(StreamState(**{**known, **state}))  # type: ignore[arg-type]
        return [line.alert.id for line in self.file.read(end)]


@pytest.fixture
def watched(tmp_path: Path, batch_of: Callable[..., TelemetryBatch]) -> Iterator[WatchedStream]:
    made = WatchedStream(tmp_path, batch_of)
    yield made
    made.store.close()


def requests(hour: int, answered: int, failed: int) -> list[Event]:
    """Requests of one hour of the day, a second apart."""
    statuses = [200] * answered + [0] * failed
    return [
        Event("recommend", FIRST + hour * HOUR + row * 1000, row + 1, host="us:8082", status=status, latency_ms=9,
              **({"movies": ("a+2001",)} if status == 200 else {"error": "no"}))
        for row, status in enumerate(statuses)
    ]  # fmt: skip


def test_each_hour_is_judged_once_it_is_over(watched: WatchedStream) -> None:
    watched.take(*requests(0, 100, 0))
    assert (watched.look(), watched.watch.figures.availability) == ([], None)  # the hour is not over
    watched.take(*requests(1, 50, 50), *requests(2, 9, 0))
    assert watched.look() == []  # the grace of the second hour is not over
    assert watched.watch.figures.availability == 1.0
    watched.take(*requests(4, 1, 0))
    assert watched.look() == [f"availability:{DAY}"]
    assert watched.watch.figures.availability == 1.0  # of the third hour
    [line] = watched.file.read()
    alert = line.alert
    assert (alert.hour, alert.lines, alert.of, alert.share) == ("2022-03-18T05Z", 50, 100, 0.5)
    assert alert.threshold == pytest.approx(LIMIT_FAILED)
    assert not alert.hold
    assert "50.00% of 100 requests were answered, at least 99.00% should be; 50 with 0" in alert.text
    watched.take(*requests(5, 0, 40), *requests(7, 1, 0))
    assert watched.look() == []  # once a day
    assert watched.watch.figures.availability == 0.0
    watched.take(*requests(27, 20, 40), *requests(29, 1, 0))
    assert watched.look() == ["availability:2022-03-19"]


def test_an_hour_that_was_over_when_the_process_died_is_judged_by_the_next(watched: WatchedStream) -> None:
    watched.take(*requests(0, 100, 0), *requests(2, 1, 0))
    assert watched.look() == []
    watched.take(*requests(3, 5, 20), *requests(9, 1, 0), *requests(11, 1, 0))  # and dies before it looks
    watched.restart()
    assert watched.look() == [f"availability:{DAY}"]
    assert watched.watch.figures.availability == 1.0
    watched.restart()
    assert (watched.look(), watched.watch.figures.availability) == ([], 1.0)


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_few_failures_are_no_alert_and_many_are_one_below_the_limit(answered: int, failed: int) -> None:
    alert = availability_low(NUMBER, 457_000, {200: answered, 0: failed}, LIMIT)
    assert (alert is not None) == (failed >= 10 and 100 * failed > answered + failed)


def test_a_healthy_service_hardly_ever_raises_an_alert() -> None:
    rng, healthy = np.random.default_rng(1), 0.999
    for number in (3, 30, 300, 900, 1000, 3000, 30_000):
        failed = rng.binomial(number, 1 - healthy, 2000)
        alerts = [availability_low(NUMBER, 457_000, {200: number - some, 0: some}, LIMIT) for some in failed.tolist()]
        assert not any(alerts), number


@pytest.mark.parametrize(
    ("high", "answers", "closed", "provisional", "raised"),
    [
        (-0.001, 100, 100, 0, True),
        (0.0, 100, 100, 0, False),
        (None, 100, 100, 0, False),
        (-0.001, 99, 100, 0, False),
        (-0.001, 100, 100, 100, True),
        (-0.001, 100, 100, 101, False),
    ],
)
def test_lists_worse_than_the_baseline_are_an_alert_beyond_noise(
    known: KnownDay, high: float | None, answers: int, closed: int, provisional: int, raised: bool
) -> None:
    report = report_after(known)
    interval = Interval(None, None, None) if high is None else Interval(-0.02, -0.03, high)
    total = msgspec.structs.replace(
        report.total,
        uplift=interval,
        baseline=msgspec.structs.replace(report.total.baseline, answers=answers),
        answers=msgspec.structs.replace(report.total.answers, closed=closed, provisional=provisional),
    )
    report = msgspec.structs.replace(report, total=total)
    alert = below_baseline(report)
    assert (alert is not None) == raised
    if alert is not None:
        assert alert.id == f"below_baseline:{DAY}"
        assert "uplift -2.00 [-3.00, -0.10] points over 100 answers" in alert.text


@pytest.mark.parametrize(("state", "raised"), [("red", True), ("green", False), ("unknown", False)])
def test_too_few_personal_lists_are_an_alert(
    known: KnownDay, state: Literal["red", "green", "unknown"], raised: bool
) -> None:
    report = report_after(known)
    checks = [
        msgspec.structs.replace(check, state=state, value=0.25) if check.name == "personalised" else check
        for check in report.verdict.checks
    ]
    alert = few_personal(msgspec.structs.replace(report, verdict=DayVerdict(state="red", checks=checks)))
    assert (alert is not None) == raised
    if alert is not None:
        assert alert.id == f"few_personal:{DAY}"
        assert "25.00% of the lists were personal, at least 40.00% should be" in alert.text


def test_reports_are_read_as_they_are_written(watched: WatchedStream, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.take(*EVENTS)
    watched.look()
    assert (watched.watch.figures.hit_rate, watched.watch.figures.open_answers) == (None, None)
    rows = watched.store.day_rows(NUMBER, watched.reports.days)
    watched.reports.write(watched.reports.build(NUMBER, rows, FIRST + 6 * HOUR))
    watched.look()
    assert (watched.watch.figures.hit_rate, watched.watch.figures.open_answers) == (None, 4)
    assert watched.watch.figures.open_days == 2
    closes = watched.reports.days.closes(NUMBER)
    report = watched.reports.build(NUMBER, rows, closes, final=True)
    baseline = msgspec.structs.replace(report.total.baseline, answers=4)
    worse = msgspec.structs.replace(report.total, uplift=Interval(-0.2, -0.3, -0.1), baseline=baseline)
    monkeypatch.setattr("quality.telemetry.stream_alerts._LEAST_ANSWERS", 1)
    watched.reports.write(msgspec.structs.replace(report, total=worse))
    watched.store.finish([NUMBER], closes, NUMBER + 1, 0)
    assert watched.look() == [f"below_baseline:{DAY}"]
    assert (watched.watch.figures.hit_rate, watched.watch.figures.open_answers) == (0.75, 0)
    watched.restart()
    assert (watched.look(), watched.watch.figures.hit_rate) == ([], 0.75)
    watched.reports.path(NUMBER).write_bytes(b"{")
    watched.restart()
    assert (watched.look(), watched.watch.figures.hit_rate) == ([], None)


def test_the_report_of_a_day_that_was_never_open_is_judged(
    watched: WatchedStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a day of which only the archive has lines."""
    monkeypatch.setattr("quality.telemetry.stream_alerts._LEAST_ANSWERS", 1)
    watched.take(*EVENTS)
    watched.look()
    rows, before = watched.store.day_rows(NUMBER, watched.reports.days), day_name(NUMBER - 1)
    report = watched.reports.build(NUMBER, rows, watched.reports.days.closes(NUMBER), final=True)
    baseline = msgspec.structs.replace(report.total.baseline, answers=4)
    worse = msgspec.structs.replace(report.total, uplift=Interval(-0.2, -0.3, -0.1), baseline=baseline)
    watched.reports.write(msgspec.structs.replace(report, day=before, total=worse))
    watched.store.finish([NUMBER - 1], 0, 0, 0)
    assert watched.look() == [f"below_baseline:{before}"]
    assert watched.look() == []


def test_a_day_that_stays_open_is_an_alert_once_a_collector_had_time(watched: WatchedStream) -> None:
    watched.take(*EVENTS)
    final_from = watched.reports.days.final_from(NUMBER)
    assert watched.look(watermark=final_from + 6 * HOUR - 1) == []
    watched.now_s += 10_000
    assert watched.look(watermark=final_from + 6 * HOUR) == []
    watched.now_s += 599
    assert watched.look(watermark=final_from + 6 * HOUR) == []
    watched.now_s += 1
    assert watched.look(watermark=final_from + 7 * HOUR) == [f"report_overdue:{DAY}"]
    assert watched.look(watermark=final_from + 8 * HOUR) == []
    [line] = watched.file.read()
    assert "could have been final 7 h of the stream ago" in line.alert.text


def test_silence_of_a_live_stream_is_an_alert(watched: WatchedStream, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    watched.take(*EVENTS)
    assert watched.look(live=False, silent_s=1e6, silent={1}) == []
    assert watched.look(live=True, silent_s=59.9) == []
    day = "2022-03-19"  # of the last line
    assert watched.look(live=True, silent_s=60.0) == [f"stream_silent:{day}"]
    assert watched.look(live=True, silent_s=90.0) == []
    assert "lines come again" not in caplog.text
    assert watched.look(live=True, silent_s=0.0, silent={2, 1}) == [
        f"partition_silent:1:{day}",
        f"partition_silent:2:{day}",
    ]
    assert caplog.text.count("lines come again") == 1


def test_late_lines_are_counted_by_kind(watched: WatchedStream, batch_of: Callable[..., TelemetryBatch]) -> None:
    ingest = Ingest(watched.store, watched.reports.stream, msgspec.structs.replace(SETTINGS, late_hours=100))
    closes = watched.reports.days.closes(NUMBER)
    times = [*(event.time for event in EVENTS), closes]
    ingest.take(batch_of([*EVENTS, answer(7, 9, ("c+2003",))], times=times))
    watched.look()
    assert watched.watch.figures.late_lines == {"late_recommend": 1}


class Clocks:
    """This machine's clocks, and a store whose stream was live when it was last read."""

    def __init__(self, var: Path, batch_of: Callable[..., TelemetryBatch], *, live: bool) -> None:
        self.store, self.batch_of, self.now_s, self.offset = Store(var / "telemetry.db"), batch_of, FIRST / 1000, 0
        if live:
            self.store.set_state(LIVE, 1)
        self.ingest = Ingest(self.store, one_line(var), QualitySettings())
        self.progress = StreamProgress(self.ingest, 300.0, lambda: self.now_s, lambda: self.now_s)

    def take(self, hour: float, partition: int, unread: dict[int, int | None]) -> StreamState:
        """One line of a partition."""
        event = Event("watch", FIRST + round(hour * HOUR), 1, "a+2001", minute=0)
        records = FetchedRecords(partition, [b"x"], np.array([self.offset]), np.array([event.time]))
        self.progress.polled([records])
        self.now_s += 1
        self.ingest.take(self.batch_of([event], self.offset, partition))
        self.offset += 1
        return self.progress.stored([records], unread)


@pytest.mark.parametrize("live", [True, False])
def test_lag_is_behind_the_clock_of_a_live_stream_until_it_is_caught_up(
    tmp_path: Path, batch_of: Callable[..., TelemetryBatch], live: bool
) -> None:
    clocks = Clocks(tmp_path, batch_of, live=live)
    clocks.take(0, 1, {0: None, 1: 0})
    clocks.now_s = FIRST / 1000 + 5 * 3600 - 1  # five hours after it was stopped
    state = clocks.take(2, 0, {0: 7, 1: 0})
    assert state.lag_ms == {0: 3 * HOUR if live else 0, 1: 0}
    assert (state.lines, state.live, state.silent_s) == (2, live, 1.0)
    assert (state.last_line_s, state.last_commit_s) == (clocks.now_s - 1, clocks.now_s)
    state = clocks.take(3, 0, {0: 0, 1: 9})
    assert state.lag_ms == {0: 0, 1: (5 * HOUR + 1000 if live else 3 * HOUR)}
    state = clocks.take(3.5, 0, {0: 0, 1: 0})  # read to its end, and hours behind the clock: it is not live any more
    assert (state.live, state.lag_ms) == (False, {0: 0, 1: 0})
    clocks.now_s += 70
    assert clocks.progress.stored([], {0: 0, 1: 0}).silent_s == 71.0
    clocks.store.close()


@given(st.dictionaries(st.integers(0, 3), st.integers(0, 100)), st.integers(0, 100))
def test_lags_are_never_negative_and_none_is_of_what_is_read(times: dict[int, int], present: int) -> None:
    unread = {0: 0, 1: 5, 2: None}
    found = lags(times, unread, present)
    assert found.keys() == times.keys()
    assert all(lag >= 0 for lag in found.values())
    assert found.get(0, 0) == 0
    assert all(found[number] == max(0, present - times[number]) for number in found.keys() - {0})
