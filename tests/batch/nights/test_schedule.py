"""The schedule: which night is due when nights fail, are held or run by hand; and as a process, with what it starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from batch.nights import outcomes, schedule
from batch.nights.schedule import TRIES, StreamClock, Timetable, tries_made
from batch.releases import publish
from stream import durable
from stream.archive import Archive
from stream.zone import DAY_MS, HOUR_MS, zone_named
from tests.batch.nights.running_schedule import scheduled
from tests.batch.nights.small_nights import write_manifest
from tests.ledger_entries import entry_at
from tests.polling import until
from tests.process_is_gone import is_gone

CLOCK = zone_named("America/New_York")
THREE = 1_770_710_400_000  # 2026-02-10T03:00 in New York
ROOT = Path(__file__).parents[3]
NOW_NS = time.time_ns()


def failed_tries(var: Path, now_ms: int) -> int | None:
    return tries_made(var, now_ms, Timetable("03:00", CLOCK))


def shipped(var: Path, name: str, read_ms: int) -> None:
    publish.make_current(var, write_manifest(var, name, read_ms), read_ms + 600_000)


def test_without_a_release_nights_are_tried_without_end(tmp_path: Path) -> None:
    for tried, code in enumerate([1, 3, 4, 1, 1, 1]):
        assert failed_tries(tmp_path, THREE + HOUR_MS) == tried
        outcomes.note_outcome(tmp_path, code, 1, THREE + HOUR_MS)


def test_a_failing_night_is_tried_three_times_a_day(tmp_path: Path) -> None:
    shipped(tmp_path, "a", THREE - DAY_MS)
    assert failed_tries(tmp_path, THREE - 1) is None
    for tried in range(TRIES):
        assert failed_tries(tmp_path, THREE + tried) == tried
        outcomes.note_outcome(tmp_path, 1, 1, THREE + tried)
    assert failed_tries(tmp_path, THREE + 9) is None
    assert failed_tries(tmp_path, THREE + DAY_MS - 1) is None
    assert failed_tries(tmp_path, THREE + DAY_MS) == 0


@pytest.mark.parametrize("code", [0, 3, 4])
def test_a_finished_night_is_not_tried_again(tmp_path: Path, code: int) -> None:
    shipped(tmp_path, "a", THREE - DAY_MS)
    outcomes.note_outcome(tmp_path, 1, 1, THREE)
    assert failed_tries(tmp_path, THREE + 1) == 1
    outcomes.note_outcome(tmp_path, code, 1, THREE + 1)
    assert failed_tries(tmp_path, THREE + 2) is None
    assert failed_tries(tmp_path, THREE + DAY_MS) == 0


def test_nights_run_by_hand_count_even_while_another_release_is_pinned(
    tmp_path: Path,
) -> None:
    shipped(tmp_path, "a", THREE - DAY_MS)
    publish.pin(tmp_path, "a", THREE)
    assert failed_tries(tmp_path, THREE + HOUR_MS) == 0
    write_manifest(tmp_path, "b", THREE + 1)
    assert failed_tries(tmp_path, THREE + HOUR_MS) is None
    assert failed_tries(tmp_path, THREE + DAY_MS) == 0


def test_a_night_that_read_before_the_hour_is_not_the_night_of_that_hour(
    tmp_path: Path,
) -> None:
    shipped(tmp_path, "a", THREE - 1)
    assert failed_tries(tmp_path, THREE + 600_001) == 0


def test_moving_current_by_hand_counts_as_no_night(tmp_path: Path) -> None:
    shipped(tmp_path, "a", THREE - 2 * DAY_MS)
    shipped(tmp_path, "b", THREE - DAY_MS)
    publish.make_current(tmp_path, "a", THREE + 1, "rollback")
    assert failed_tries(tmp_path, THREE + 2) == 0
    shipped(tmp_path, "c", THREE + 3)
    publish.make_current(tmp_path, "a", THREE + 4, "rollback")
    assert failed_tries(tmp_path, THREE + 5) is None


def test_a_night_that_went_by_a_wrong_clock_does_not_count(tmp_path: Path) -> None:
    """A record of 2099 had poisoned the ledger: its night seems to have read everything that will ever come."""
    shipped(tmp_path, "a", THREE - DAY_MS)
    shipped(tmp_path, "b", 4_102_444_799_999)
    for _ in range(5):
        outcomes.note_outcome(tmp_path, 1, 1, 4_102_444_799_999)
    assert failed_tries(tmp_path, THREE + 1) == 0
    shipped(tmp_path, "c", THREE + 1)
    assert failed_tries(tmp_path, THREE + 2) is None
    assert failed_tries(tmp_path, THREE + DAY_MS) == 0


def test_a_damaged_manifest_is_ignored(tmp_path: Path) -> None:
    shipped(tmp_path, "a", THREE - DAY_MS)
    for number, content in enumerate((b"", b"[]", b"{}", b'{"stream_time": null}', b'{"stream_time": []}')):
        durable.write_bytes(tmp_path / "releases" / f"b{number}" / "manifest.json", content)
    assert failed_tries(tmp_path, THREE) == 0
    assert failed_tries(tmp_path, THREE - 1) is None


def test_the_streams_clock_follows_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(tmp_path)
    clock = StreamClock(archive, "movielog1")
    assert clock.now() is None
    monkeypatch.setattr(schedule, "_GRAIN_S", 1e6)  # longer than any suite
    for number in range(3):
        archive.commit(entry_at(THREE + number, lines=40, first=40 * number))
        archive.commit(entry_at(THREE + 999, lines=40, first=40 * number, topic="another"))
        os.utime(archive.ledger, ns=(NOW_NS, NOW_NS))  # so coarse is the clock of the file system
        assert clock.now() == THREE + number
    os.utime(archive.ledger, (1, 1))
    assert clock.now() == THREE + 2
    monkeypatch.delattr(Archive, "entries")  # nothing came to it: it is not read again
    assert clock.now() == THREE + 2


ENDS = [(0, 1, "published"), (3, 1, "refused"), (4, 1, "held"), (1, 3, "failed")]


@pytest.mark.parametrize(("code", "tries", "ending"), ENDS)
def test_each_day_has_its_night_and_the_metrics_follow(tmp_path: Path, code: int, tries: int, ending: str) -> None:
    shipped(tmp_path, "a", THREE - 12 * HOUR_MS)
    archive, metrics = Archive(tmp_path), tmp_path / "metrics" / "nights.prom"
    archive.commit(entry_at(THREE - HOUR_MS, lines=40, first=0))

    def written(line: str) -> bool:
        return metrics.exists() and line in metrics.read_text()

    with scheduled(tmp_path, f"echo night >> {tmp_path}/calls; exit {code}"):
        until(lambda: written("marquee_release_age_seconds 39600.0"))  # and no night is due
        assert written(f'marquee_nights_total{{outcome="{ending}"}} 0.0')
        for day in (1, 2, 3):
            archive.commit(entry_at(THREE + (day - 1) * DAY_MS + HOUR_MS, lines=40, first=40 * day))
            until(lambda: written(f'marquee_nights_total{{outcome="{ending}"}} {float(tries * day)}'))  # noqa: B023
        assert written(f"marquee_night_last_exit_code {float(code)}")
    assert (tmp_path / "calls").read_text().count("night") == 3 * tries


def test_while_a_night_runs_the_metrics_follow_the_stream(tmp_path: Path) -> None:
    shipped(tmp_path, "a", THREE - 12 * HOUR_MS)
    archive, metrics = Archive(tmp_path), tmp_path / "metrics" / "nights.prom"
    archive.commit(entry_at(THREE, lines=40, first=0))
    with scheduled(tmp_path, f"touch {tmp_path}/begun; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"):
        until((tmp_path / "begun").exists)
        archive.commit(entry_at(THREE + HOUR_MS, lines=40, first=40))
        until(lambda: "marquee_release_age_seconds 46800.0" in metrics.read_text())
        assert outcomes.read_outcomes(tmp_path) == []
        (tmp_path / "go").touch()
        until(lambda: outcomes.read_outcomes(tmp_path))
    [outcome] = outcomes.read_outcomes(tmp_path)
    assert (outcome.exit_code, outcome.stream_time) == (0, THREE)


def test_a_hanging_night_is_killed_with_all_its_processes(tmp_path: Path) -> None:
    Archive(tmp_path).commit(entry_at(THREE, lines=40, first=0))
    script = f"trap '' TERM; sleep 600 & echo $! $$ > {tmp_path}/p; mv {tmp_path}/p {tmp_path}/pids; wait; wait"
    with scheduled(tmp_path, script):
        until((tmp_path / "pids").exists)
    pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
    until(lambda: all(map(is_gone, pids)))
    assert outcomes.read_outcomes(tmp_path) == []


FAKE = """
import os, subprocess, sys, time
assert sys.argv[1:] == ["nightly"], sys.argv
child = subprocess.Popen(["sleep", "600"])
with open("pids.part", "w") as file:
    print(os.getpid(), child.pid, file=file)
os.rename("pids.part", "pids")
time.sleep(600)
"""
PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from batch.nights import schedule
from stream.cli import run
schedule.GRACE_S = 600  # it gets SIGTERM, not just SIGKILL
run(schedule.command, "batch")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_process_and_its_night_at_once(tmp_path: Path, number: signal.Signals) -> None:
    Archive(tmp_path / "var").commit(entry_at(THREE, lines=40, first=0))
    (tmp_path / "batch").mkdir()
    (tmp_path / "batch" / "__main__.py").write_text(FAKE)  # what `-m batch` is in that folder
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(ROOT), "--at", "03:00"],
        cwd=tmp_path,
        env={**os.environ, "MARQUEE_STREAM_VAR": str(tmp_path / "var")},
        stderr=subprocess.PIPE,
        text=True,
    )
    until((tmp_path / "pids").exists)
    pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
    assert not any(map(is_gone, pids))
    process.send_signal(number)
    _, output = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "night begins" in output
    assert "Traceback" not in output
    until(lambda: all(map(is_gone, pids)))
    assert outcomes.read_outcomes(tmp_path / "var") == []


@pytest.mark.parametrize("text", ["25:00", "3", "", "03:60", "noon", "03:00:00"])
def test_the_command_refuses_an_invalid_hour(text: str) -> None:
    result = CliRunner().invoke(schedule.command, ["--at", text])
    assert result.exit_code == 2
    assert "Error: " in result.output
