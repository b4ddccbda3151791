"""The telemetry process on a real broker: killed and started anew, it reports what an uninterrupted run reports."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import orjson
import pytest

from loadtest.demo.processes import free_port
from quality.settings import QualitySettings
from quality.telemetry.batch import batch_of
from quality.telemetry.consumer import BackgroundReports, Telemetry, follow
from quality.telemetry.day_report import DayReport, read_report
from quality.telemetry.reporting import ReportJob, ReportKeeper
from quality.telemetry.store import Store
from stream import broker, kafka
from stream.event import Event
from stream.grammar import render
from stream.settings import StreamSettings
from stream.zone import day_number, zone_named
from tests.polling import DEADLINE_S, until
from tests.quality.telemetry.known_day import one_line

ROOT = Path(__file__).parents[3]
HOUR = 3_600_000
DAY = "2022-03-18"
FIRST, END = zone_named("America/New_York").bounds(DAY)
TOPIC = "movielog1"
USERS, MOVIES = 200, 40
PARTITIONS = 2


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    port = free_port()
    with broker.running("127.0.0.1", port):
        asyncio.run(write(f"127.0.0.1:{port}"))
        yield f"127.0.0.1:{port}"


def story() -> list[Event]:
    """A day and what follows until its report is final: visits, each after an answer that lists half the movies."""
    rng = np.random.default_rng(4)
    events = []
    for time_ms in range(FIRST, END + 30 * HOUR, HOUR // 15):
        user, movie = int(rng.integers(1, USERS + 1)), int(rng.integers(MOVIES))
        shown = tuple(f"film+{2000 + int(item)}" for item in rng.permutation(MOVIES)[:20])
        events.append(Event("recommend", time_ms, user, host="us:8082", status=200, movies=shown, latency_ms=7))
        events += [
            Event("watch", time_ms + (minute + 1) * 60_000, user, f"film+{2000 + movie}", minute=minute)
            for minute in range(8)
        ]
    return sorted(events, key=lambda event: event.time)


async def write(bootstrap: str) -> None:
    """Write users with even and odd ids into a partition each, with a torn line and a redelivered one."""
    events = story()
    async with kafka.writing(StreamSettings(bootstrap=bootstrap, topic=TOPIC), PARTITIONS) as writer:
        for partition in range(PARTITIONS):
            own = [event for event in events if event.user % PARTITIONS == partition]
            lines = [render(event, zone_named("America/New_York")) for event in own]
            times = [event.time for event in own]
            lines[20:20] = [lines[19], b"nonsense"]
            times[20:20] = [times[19]] * 2
            await writer.write(lines, times, partition)


DYING = """
import sqlite3, sys
from contextlib import closing
from pathlib import Path
from tests import killed_when
path, lines = Path(sys.argv[1], "telemetry.db"), int(sys.argv[2])
def holds():
    if not path.exists():
        return False
    with closing(sqlite3.connect(path, timeout=600)) as db:
        try:
            return db.execute("SELECT coalesce(sum(next), 0) FROM positions").fetchone()[0] >= lines
        except sqlite3.OperationalError:  # not laid out yet
            return False
killed_when.run(holds, "quality", "telemetry")
"""


STALLING = """
import runpy, sys
from aiokafka import TopicPartition
from stream import kafka
times, assign = int(sys.argv[1]), kafka.Reader._assign
async def stall(self, positions):
    global times
    await assign(self, positions)
    if times:  # the client fetches nothing of partition 1 any more, and says nothing
        times -= 1
        self._consumer.pause(TopicPartition(self._topic, 1))
kafka.Reader._assign = stall
sys.argv[1:] = ["telemetry"]
runpy.run_module("quality", run_name="__main__", alter_sys=True)
"""


@contextmanager
def telemetry(bootstrap: str, var: Path, *program: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The telemetry process, or a program in its place."""
    how = ["-c", *program] if program else ["-m", "quality", "telemetry"]
    settings = {
        "MARQUEE_STREAM_BOOTSTRAP": bootstrap, "MARQUEE_STREAM_TOPIC": TOPIC, "MARQUEE_STREAM_VAR": str(var),
        "MARQUEE_STREAM_FETCH_TIMEOUT_MS": "200", "MARQUEE_STREAM_BATCH_LINES": "300",
        "MARQUEE_QUALITY_REPORT_EVERY_MINUTES": "360",
        "MARQUEE_STREAM_STALL_SECONDS": "3" if STALLING in program else "120",
    }  # fmt: skip
    with (var / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *how], cwd=ROOT, env=os.environ | settings, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(DEADLINE_S)


def final_report(var: Path) -> bytes | None:
    path = var / "reports" / f"{DAY}.json"
    return path.read_bytes() if path.exists() and orjson.loads(path.read_bytes())["final"] else None


def run_to_the_end(bootstrap: str, var: Path, kill_at: tuple[int, ...] = ()) -> bytes:
    """Run until the day's report is final, then stop; before that, kill a process at each of `kill_at` lines."""
    var.mkdir()
    for lines in kill_at:
        with telemetry(bootstrap, var, DYING, str(var), str(lines)) as process:
            assert process.wait(DEADLINE_S) == -signal.SIGKILL, (var / "log").read_text()
        assert final_report(var) is None, "killed too late to mean anything"
    with telemetry(bootstrap, var) as process:
        until(lambda: final_report(var) is not None or process.poll() is not None)
        assert process.poll() is None, (var / "log").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0, (var / "log").read_text()
    report = final_report(var)
    assert report is not None
    return report


def test_kill_9_neither_loses_nor_repeats_a_line(bootstrap: str, tmp_path: Path) -> None:
    whole = run_to_the_end(bootstrap, tmp_path / "whole")
    report = orjson.loads(whole)
    answers = [event for event in story() if event.kind == "recommend" and FIRST <= event.time < END]
    assert report["total"]["answers"]["requests"] == report["total"]["answers"]["closed"] == len(answers)
    assert 0.3 < report["total"]["hit_rate"]["mean"] < 0.7  # 20 of 40 movies are shown
    assert report["left_out"] == {"lines": PARTITIONS, "by_reason": {"fields": PARTITIONS}}
    metrics = (tmp_path / "whole" / "metrics" / "telemetry.prom").read_text()
    assert "marquee_telemetry_availability 1.0\n" in metrics
    assert "marquee_telemetry_hit_rate 0." in metrics  # of the day after, whose windows close as this one's are final
    assert run_to_the_end(bootstrap, tmp_path / "killed", kill_at=(300, 2000)) == whole
    log = (tmp_path / "killed" / "log").read_text()
    assert "Traceback" not in log


def test_a_partition_whose_fetching_stalls_is_fetched_anew_and_then_ends_the_process(
    bootstrap: str, tmp_path: Path
) -> None:
    with telemetry(bootstrap, tmp_path, STALLING, "2") as process:
        assert process.wait(DEADLINE_S) == 1
    log = (tmp_path / "log").read_text()
    assert log.count("partition 1 of movielog1 stands at offset 0, but Kafka has records up to") == 1
    assert log.count("error: kafka: partition 1 of movielog1 has records from offset 0 on, but none came") == 1
    assert "Traceback" not in log
    assert final_report(tmp_path) is None  # no day is closed without it
    with telemetry(bootstrap, tmp_path, STALLING, "1") as process:
        until(lambda: "goes on" in (tmp_path / "log").read_text() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "log").read_text()


class Script:
    """A reader that hands out what a test says, poll by poll, and then stops the process."""

    def __init__(self, stop: asyncio.Event, *polls: list[kafka.FetchedRecords]) -> None:
        self._polls, self._stop = list(polls), stop
        self.positions = {0: 0, 1: 0}
        self.answers: list[bool] = []
        """Of the next checks: whether Kafka confirms the topic; then it does."""
        self.out_of_reach = False

    async def poll(self, most: int) -> list[kafka.FetchedRecords]:
        if not self._polls:
            self._stop.set()
            return []
        got = self._polls.pop(0)
        self.positions |= {records.partition: int(records.offsets[-1]) + 1 for records in got}
        return got

    async def verify(self) -> bool:
        return self.answers.pop(0) if self.answers else True

    async def commit(self, positions: dict[int, int]) -> None:
        pass

    def unread(self) -> dict[int, int | None]:
        left: dict[int, int | None] = dict.fromkeys(self.positions, 0)
        for records in (records for poll in self._polls for records in poll):
            left[records.partition] = (left[records.partition] or 0) + len(records.offsets)
        return left


def fetched(partition: int, *hours: int) -> kafka.FetchedRecords:
    events = [
        Event("recommend", FIRST + hour * HOUR, partition + 1, host="us:8082", status=0, latency_ms=1, error="no")
        for hour in hours
    ]
    lines = [render(event, zone_named("America/New_York")) for event in events]
    return kafka.FetchedRecords(partition, lines, np.arange(len(hours)), np.array([event.time for event in events]))


async def follow_script(var: Path, script: Script, stop: asyncio.Event) -> None:
    with closing(Store(var / "telemetry.db")) as store:
        await follow(cast(kafka.Reader, script), Telemetry(store, one_line(var), QualitySettings()), stop)


async def followed(var: Path, *polls: list[kafka.FetchedRecords]) -> DayReport:
    stop = asyncio.Event()
    await follow_script(var, Script(stop, *polls), stop)
    report = read_report(var / "reports" / f"{DAY}.json")
    assert report is not None
    return report


def test_no_day_is_closed_before_every_partition_was_looked_at(tmp_path: Path) -> None:
    # one partition comes whole, days long, before the first line of the other
    report = asyncio.run(followed(tmp_path, [fetched(0, 1, 2, 80)], [], [fetched(1, 3, 80)]))
    assert (report.final, report.total.answers.requests) == (True, 3)


def test_a_partition_that_is_empty_holds_nothing_back(tmp_path: Path) -> None:
    report = asyncio.run(followed(tmp_path, [fetched(0, 1, 2, 80)], []))
    assert (report.final, report.total.answers.requests) == (True, 2)


def test_open_reports_take_a_tenth_of_the_time_and_final_ones_what_they_need(tmp_path: Path) -> None:
    seconds, written = [0.0], list[tuple[float, bool, list[int]]]()

    async def read() -> None:
        with closing(Store(tmp_path / "telemetry.db")) as store:
            telemetry = Telemetry(store, one_line(tmp_path), QualitySettings())
            write = telemetry.keeper.write

            def slow_write(job: ReportJob) -> list[int]:
                seconds[0] += 10
                finished = write(job)
                written.append((seconds[0], job.rewritten is not None, finished))
                return finished

            monkeypatch.setattr(ReportKeeper, "write", lambda keeper, job: slow_write(job))
            background = BackgroundReports(telemetry, lambda: seconds[0])
            for hour in range(90):  # an hour of the stream each 6 s
                records = replace(fetched(0, hour), offsets=np.array([hour]))
                telemetry.ingest.take(batch_of([records], {0: hour + 1}, zone_named("America/New_York")))
                await background.go_on()
                await background.wait()
                seconds[0] += 6

    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(read())
    of_open = [ended for ended, with_open, _ in written if with_open]
    assert len(of_open) >= 3
    assert min(np.diff(of_open)) >= 100
    assert max(np.diff(of_open)) <= 126
    days = [(with_open, finished) for _, with_open, finished in written if finished]
    assert days == [(False, [day_number(DAY)]), (False, [day_number(DAY) + 1])]


@pytest.mark.parametrize(
    ("answers", "out_of_reach", "stored", "marked"),
    [
        pytest.param([False, True], False, 3, 2, id="confirmed after the next poll"),
        pytest.param([False] * 9, False, 0, None, id="never confirmed"),
        pytest.param([True, False, False], True, 3, 1, id="an outage after the first batch"),
    ],
)
def test_a_batch_waits_until_kafka_confirms_its_topic(
    tmp_path: Path, answers: list[bool], out_of_reach: bool, stored: int, marked: int | None
) -> None:
    async def read() -> None:
        stop = asyncio.Event()
        lines = fetched(0, 1, 2, 3)
        parts = [
            kafka.FetchedRecords(0, lines.values[rows], lines.offsets[rows], lines.times[rows])
            for rows in (slice(0, 2), slice(2, 3))
        ]
        script = Script(stop, [parts[0]], [], [parts[1]], [])
        script.answers, script.out_of_reach = answers, out_of_reach
        await follow_script(tmp_path, script, stop)

    asyncio.run(read())
    with closing(Store(tmp_path / "telemetry.db")) as store:
        topic = StreamSettings().topic
        positions, marks = store.positions(topic), store.marks(topic)
    assert positions.get(0, 0) == stored
    assert {number: mark.offset for number, mark in marks.items()} == ({} if marked is None else {0: marked})


def test_a_second_telemetry_is_refused_in_one_line(bootstrap: str, tmp_path: Path) -> None:
    with telemetry(bootstrap, tmp_path) as first:
        until((tmp_path / "telemetry.db").exists)
        with telemetry(bootstrap, tmp_path) as second:
            assert second.wait(DEADLINE_S) == 1
        assert first.poll() is None
    log = (tmp_path / "log").read_text()
    assert f"error: telemetry: another process writes {tmp_path}/telemetry.db; stop it first" in log
    assert "Traceback" not in log


def test_without_a_broker_one_line_says_so(tmp_path: Path) -> None:
    with telemetry("127.0.0.1:1", tmp_path) as process:
        assert process.wait(DEADLINE_S) == 1
    log = (tmp_path / "log").read_text()
    assert "error: kafka: 127.0.0.1:1" in log
    assert "Traceback" not in log
