"""Records of a wrong clock in telemetry: no day closes by them, and only the count of lines left out differs."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from quality.settings import QualitySettings
from quality.telemetry import waiting
from quality.telemetry.batch import batch_of
from quality.telemetry.consumer import Telemetry
from quality.telemetry.idle_partitions import IdlePartitions
from quality.telemetry.store import Store
from quality.telemetry.stream_metrics import StreamMetrics
from quality.telemetry.stream_state import StreamState
from quality.telemetry.stream_watch import AnswerFigures
from stream.event import KINDS, Event
from stream.grammar import render
from stream.kafka import FetchedRecords
from stream.settings import StreamSettings
from stream.zone import DAY_MS, HOUR_MS, zone_named

ZONE = zone_named("America/New_York")
DAY = "2026-02-10"
FIRST, END = ZONE.bounds(DAY)
MINUTE_MS = 60_000
TOPIC = "movielog1"


class Process:
    """Telemetry on one partition, batch by batch, without Kafka; `restart` is a kill and a new start."""

    def __init__(self, var: Path) -> None:
        self.var, self._next = var, 0
        # open reports are not looked at
        self._stream, self._settings = StreamSettings(var=var), QualitySettings(report_every_minutes=60_000)
        self.restart()

    def restart(self) -> None:
        self.store = Store(self.var / "telemetry.db")
        self._telemetry = Telemetry(self.store, self._stream, self._settings)
        self.ingest = self._telemetry.ingest

    def take(self, *lines: tuple[int, bytes]) -> None:
        """Take one batch: Kafka's time of each line, and the line."""
        offsets = np.arange(self._next, self._next + len(lines))
        self._next += len(lines)
        records = FetchedRecords(
            0, [line for _, line in lines], offsets, np.array([time for time, _ in lines], np.int64)
        )
        self.ingest.take(batch_of([records], {0: self._next}, ZONE))
        self._telemetry.report()

    def report(self, day: str = DAY) -> dict[str, Any]:
        return dict(orjson.loads((self.var / "reports" / f"{day}.json").read_bytes()))

    def final(self) -> list[str]:
        return [path.stem for path in sorted((self.var / "reports").glob("*.json")) if self.report(path.stem)["final"]]


def watch(time_ms: int, user: int, ahead_ms: int = 0) -> tuple[int, bytes]:
    return time_ms + ahead_ms, render(Event("watch", time_ms, user, "aliens+1986", minute=0), ZONE)


def answer(time_ms: int, user: int, ahead_ms: int = 0) -> tuple[int, bytes]:
    event = Event("recommend", time_ms, user, host="us:8082", status=200, movies=("aliens+1986",), latency_ms=9)
    return time_ms + ahead_ms, render(event, ZONE)


def hours(first: int, last: int) -> list[list[tuple[int, bytes]]]:
    """A batch an hour of the day: forty users are answered, and each starts a session half an hour later."""
    return [
        [
            *(answer(FIRST + hour * HOUR_MS + user * 1000, user) for user in range(1, 41)),
            *(watch(FIRST + hour * HOUR_MS + HOUR_MS // 2 + user * 1000, user) for user in range(1, 41)),
        ]
        for hour in range(first, last)
    ]


Line = tuple[int, bytes]
WRONG: dict[str, Callable[[int], Line]] = {
    "ahead on both clocks": lambda ahead: watch(FIRST + 5 * HOUR_MS + ahead, 77),
    "an answer ahead on both clocks": lambda ahead: answer(FIRST + 5 * HOUR_MS + ahead, 77),
    "ahead on Kafka's": lambda ahead: watch(FIRST + 5 * HOUR_MS, 77, ahead),
    "microseconds": lambda ahead: ((FIRST + 5 * HOUR_MS) * 1000, watch(FIRST + 5 * HOUR_MS, 77)[1]),
    "ahead and torn": lambda ahead: (FIRST + 5 * HOUR_MS + ahead, b"2026-02-1"),
}


def without_left_out(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what it says of lines that were left out."""
    checks = [check for check in report["verdict"]["checks"] if check["name"] != "left_out"]
    return {**report, "left_out": None, "verdict": checks}


@dataclass(frozen=True)
class CleanRun:
    """What telemetry had after each hour without a wrong record, and its final report."""

    watermarks: list[int]
    final: list[list[str]]
    report: dict[str, Any]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> CleanRun:
    process, watermarks, final = Process(tmp_path_factory.mktemp("clean")), list[int](), list[list[str]]()
    for batch in hours(0, 50):
        process.take(*batch)
        watermarks.append(process.ingest.watermark or 0)
        final.append(process.final())
    assert final[-1] == [DAY]
    return CleanRun(watermarks, final, process.report())


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("ahead_minutes", [90, 5_000])
@pytest.mark.parametrize("kind", WRONG)
def test_one_wrong_record_closes_no_day(
    clean: CleanRun, tmp_path: Path, kind: str, ahead_minutes: int, alone: bool
) -> None:
    dirty, wrong = Process(tmp_path), WRONG[kind](ahead_minutes * MINUTE_MS)
    for hour, batch in enumerate(hours(0, 50)):
        dirty.take(*batch, *([wrong] if hour == 4 and not alone else []))
        if hour == 4 and alone:
            dirty.take(wrong)
        # when its time has come, the record is one line more, and lines are a second apart
        assert 0 <= (dirty.ingest.watermark or 0) - clean.watermarks[hour] <= 1000
        assert dirty.final() == clean.final[hour]
    expected, seen = clean.report, dirty.report()
    # it is left out of the day of its Kafka time, as in the ledger
    of_the_day = ahead_minutes == 90 and kind != "microseconds"
    reason = "fields" if kind == "ahead and torn" else "clock_ahead"
    assert seen["left_out"] == {"lines": int(of_the_day), "by_reason": {reason: 1} if of_the_day else {}}
    assert without_left_out(seen) == without_left_out(expected)
    assert not dirty.store.waiting(TOPIC)


def test_a_true_jump_is_waited_for_and_then_taken(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for batch in hours(0, 5):
        process.take(*batch)
    later = [answer(FIRST + 3 * DAY_MS + user * 1000, user) for user in range(1, 31)]
    for number, line in enumerate(later):
        process.take(line)
        process.restart()
        assert (len(process.store.waiting(TOPIC)) > 0) == (number < 19)
    got = process.store.answers(FIRST + 3 * DAY_MS, FIRST + 4 * DAY_MS)
    assert got.user.tolist() == list(range(1, 31))
    assert process.final() == [DAY]


def test_damaged_lines_of_a_true_jump_are_taken_with_the_others(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for batch in hours(0, 5):
        process.take(*batch)
    later = [answer(FIRST + 3 * DAY_MS + user * 1000, user) for user in range(1, 31)]
    later[0] = later[0][0], b"2026-02-13Tnone" + later[0][1][later[0][1].index(b",") :]
    for line in later:
        process.take(line)
    got = process.store.answers(FIRST + 3 * DAY_MS, FIRST + 4 * DAY_MS)
    assert got.user.tolist() == list(range(1, 31))
    assert got.time[0] == later[0][0]
    assert not process.store.left_out(ZONE.day_number(FIRST + 3 * DAY_MS))


def test_few_lines_of_a_young_topic_do_not_believe_one(tmp_path: Path) -> None:
    """Eight lines in all, one of them in microseconds."""
    process, noon = Process(tmp_path), FIRST + 12 * HOUR_MS
    for number in range(6):
        process.take(watch(noon + number * MINUTE_MS, 10 + number))
    process.take(((noon + 6 * MINUTE_MS) * 1000, watch(noon + 6 * MINUTE_MS, 16)[1]))
    process.take(answer(noon + HOUR_MS, 17))
    assert not process.final()
    assert process.ingest.watermark is not None
    assert ZONE.day(process.ingest.watermark) == DAY
    assert len(process.store.answers(FIRST, END).time) == 1
    assert not process.store.waiting(TOPIC)


def test_a_store_of_the_layout_before_is_taken_over_and_its_wrong_clock_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "DROP TABLE waiting; DROP TABLE marks; DROP TABLE ratings; DROP TABLE gaps;"
            'ALTER TABLE answers ADD COLUMN partition INTEGER; ALTER TABLE answers ADD COLUMN "offset" INTEGER;'
            "ALTER TABLE positions DROP COLUMN clock; ALTER TABLE positions DROP COLUMN checksum;"
            "ALTER TABLE positions ADD COLUMN kafka_time INTEGER;"
            "INSERT INTO positions VALUES ('movielog1', 0, 7, 4102444799999); PRAGMA user_version=1;"
        )
    db.close()
    process = Process(tmp_path)
    assert process.store.positions(TOPIC) == {0: 7}
    assert Process(tmp_path).ingest.watermark is None
    for batch in hours(0, 2):
        process.take(*batch)
    assert process.ingest.watermark == FIRST + HOUR_MS + HOUR_MS // 2 + 21_000
    assert not process.final()


def test_one_wrong_record_in_a_new_partition_closes_no_day(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for batch in hours(0, 3):
        process.take(*batch)
    reached = process.ingest.watermark
    process.ingest.idle = {0}
    time_ms, line = watch(FIRST + 10 * DAY_MS, 5)
    wrong = FetchedRecords(1, [line], np.array([0]), np.array([time_ms]))
    process.ingest.take(batch_of([wrong], {0: 240, 1: 1}, ZONE))
    assert process.ingest.watermark == reached
    assert process.ingest.waiting == 1


def test_a_sender_that_stays_wrong_leaves_few_waiting_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One user's lines of years ahead: they are never confirmed, and nothing else comes to refute them."""
    monkeypatch.setattr(waiting, "_MOST", 30)
    process = Process(tmp_path)
    for batch in hours(0, 3):
        process.take(*batch)
    for number in range(10):
        process.take(*(watch(FIRST + 300 * DAY_MS + 10 * number + row, 7) for row in range(10)))
    assert process.ingest.waiting == len(process.store.waiting(TOPIC)) == 30
    assert process.store.left_out(ZONE.day_number(FIRST + 300 * DAY_MS)) == {"clock_ahead": 70}


def test_a_topic_made_anew_keeps_its_clock_in_the_store(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for batch in hours(0, 3):
        process.take(*batch)
    reached = process.store.reached(TOPIC)
    for remade in (1, 2):
        process.store.follow_topic(TOPIC, remade)
        assert process.store.positions(TOPIC) == {}
        assert process.store.reached(TOPIC) == reached
    process.restart()
    process.take(watch(FIRST + 10 * DAY_MS, 5))
    assert process.ingest.watermark == reached
    assert not process.final()


def test_metrics_say_what_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics, path = StreamMetrics(tmp_path), tmp_path / "metrics" / "telemetry.prom"
    metrics.refresh(StreamState(unread={0: None}), AnswerFigures())
    assert 'marquee_telemetry_idle{partition="0"} 0.0' in path.read_text()
    assert "unread_records{" not in path.read_text()
    for name in ("watermark_seconds", "last_line_timestamp_seconds", "availability", "hit_rate", "open_answers"):
        assert f"marquee_telemetry_{name} " not in path.read_text()
    state = StreamState(
        watermark=5000, waiting=3, unread={0: 0, 1: 7}, lag_ms={1: 2500}, idle={0}, lines=9, last_line_s=8.5,
        last_commit_s=9.5,
    )  # fmt: skip
    figures = AnswerFigures(open_days=2, open_answers=4, late_lines={"late_rate": 6}, availability=0.75, hit_rate=0.5)
    metrics.refresh(state, figures)
    assert "marquee_telemetry_waiting_records 0.0" in path.read_text()  # not due
    metrics.refresh(state, figures, now=True)
    written = path.read_text().splitlines()
    assert [line.removeprefix("marquee_telemetry_") for line in written if not line.startswith("#")] == [
        "lines_total 9.0",
        "waiting_records 3.0",
        "watermark_seconds 5.0",
        "last_line_timestamp_seconds 8.5",
        "last_commit_timestamp_seconds 9.5",
        'unread_records{partition="0"} 0.0',
        'unread_records{partition="1"} 7.0',
        'idle{partition="0"} 1.0',
        'idle{partition="1"} 0.0',
        'lag_seconds{partition="1"} 2.5',
        "open_days 2.0",
        *(f'late_lines{{reason="late_{kind}"}} {6.0 * (kind == "rate")}' for kind in KINDS),
        "open_answers 4.0",
        "availability 0.75",
        "hit_rate 0.5",
    ]
    (tmp_path / "other" / "metrics").parent.mkdir()
    (tmp_path / "other" / "metrics").write_text("no folder")
    failing = StreamMetrics(tmp_path / "other")
    for _ in range(2):
        failing.refresh(state, figures, now=True)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_partition_is_idle_once_it_is_read_and_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now = [100.0]
    partitions = IdlePartitions(300.0, lambda: now[0])
    partitions.update([0, 1], {0: 5, 1: 0, 2: None, 3: 0}, {0, 1})
    assert not partitions.silent
    assert partitions.idle == {3}  # Kafka says that it is empty; of 2 nothing is known
    now[0] += 299
    partitions.update([0], {0: 0, 1: 0, 2: 0, 3: 0}, {0, 1})
    assert partitions.idle == {2, 3}
    now[0] += 2
    partitions.update([], {0: 0, 1: 0, 2: 0, 3: 0}, {0, 1})
    assert partitions.idle == {1, 2, 3}
    assert partitions.silent == {1}
    partitions.update([], {0: 0, 1: 4, 2: 0, 3: 0}, {0, 1})
    assert partitions.idle == {2, 3}  # lines wait there
    assert partitions.silent == {1}
    partitions.update([1], {0: 0, 1: 0, 2: 0, 3: 0}, {0, 1})
    assert partitions.idle == {2, 3}
    now[0] += 301
    partitions.update([3], {0: 0, 1: 0, 2: 0, 3: 0}, {0, 1, 3})
    assert partitions.idle == {0, 1, 2}
    assert partitions.silent == {0, 1}
    said = [record.message for record in caplog.records]
    assert said.count("partition 1 is read to its end and silent: it is not waited for") == 2
    assert said[-1] == "partition 3 goes on: it is waited for again"
    now[0] += 301
    partitions.update([], {0: 0, 1: 0, 2: 0, 3: 0}, {0, 1, 3})
    assert partitions.silent == set()  # none goes on
