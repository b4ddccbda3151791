"""Where the disk is short: an alert, and the least valuable goes, in the documented order, until there is room."""

import os
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import pytest
from click.testing import CliRunner

from batch.nights import schedule, space_watch
from batch.settings import BatchSettings
from batch.tidying import tidy_command
from quality.alerts.alert_file import AlertFile
from stream.settings import StreamSettings
from tests.batch.tidying.old_world import DAYS, aged, old_world
from tests.polling import until

Usage = namedtuple("Usage", "total used free")


def full(monkeypatch: pytest.MonkeyPatch, free: int = 0) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 1 << 40, free))


def test_the_least_valuable_goes_first_and_what_is_needed_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = old_world(tmp_path, keep_archive_days=3_000, keep_quarantine_days=3_000)
    aged(tmp_path / "telemetry.db.damaged-20260101T000000Z", 1)
    aged(tmp_path / "night" / "lists.npy", 0)
    aged(tmp_path / "night" / "outcomes.jsonl", 0, "{}")
    aged(tmp_path / "experiments" / "new" / "experiment.md", 0)
    full(monkeypatch)
    went = [removal.what for removal in tidy_command.tidy(world.retention(), make_room=True)]
    assert list(dict.fromkeys(what.split()[0] for what in went)) == ["damaged", "intermediate", "archive", "quarantine"]
    assert len(went) == 2 + 27 + 27
    assert world.days_there() == DAYS[27:] == world.days_there("quarantine")
    assert (tmp_path / "night" / "outcomes.jsonl").exists()
    assert (tmp_path / "experiments" / "new").exists()
    assert world.compact()["days"] == 0


def test_no_more_goes_than_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = old_world(tmp_path, keep_archive_days=3_000, keep_quarantine_days=3_000)
    left = [0, 0, 2 << 30]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, left.pop(0)))
    assert [removal.what for removal in tidy_command.tidy(world.retention(), make_room=True)] == [
        f"archive of {DAYS[0]}", f"archive of {DAYS[1]}",
    ]  # fmt: skip


def test_the_command_says_what_goes_and_fails_if_that_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_world(tmp_path)
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(tmp_path))
    monkeypatch.setenv("MARQUEE_STREAM_TIMEZONE", "UTC")
    monkeypatch.setenv("MARQUEE_SETTINGS", os.devnull)
    dry = CliRunner().invoke(tidy_command.command, ["--dry-run"])
    assert (dry.exit_code, dry.output.count("would remove archive of 2026-03-")) == (0, 16)
    full(monkeypatch)
    real = CliRunner().invoke(tidy_command.command, ["--make-room"])
    assert real.exit_code == 1
    assert "removed archive of 2026-03-01: 0.0 MB" in real.output
    assert "less than 1024 MB are free, and nothing more may go" in real.output


def test_a_short_disk_raises_one_alert_a_day_and_room_is_made_again_only_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_watch, "LOOK_S", 0.0)
    watch = space_watch.SpaceWatch(tmp_path, 1_024)
    assert not watch.is_time_to_make_room()
    full(monkeypatch, (1 << 30) - 1)
    assert [watch.is_time_to_make_room() for _ in range(3)] == [True, False, False]
    monkeypatch.setattr(space_watch, "AGAIN_S", 0.0)
    assert watch.is_time_to_make_room()
    [line] = AlertFile(tmp_path).read()
    assert (line.alert.alert, "1,023 MB are free" in line.alert.text) == ("disk_low", True)
    full(monkeypatch, 1 << 30)
    assert not watch.is_time_to_make_room()


def test_the_schedule_makes_room_and_tidies_after_each_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    var, log, stop = tmp_path / "var", tmp_path / "log", threading.Event()
    old_world(var)
    full(monkeypatch)
    monkeypatch.setattr(schedule, "POLL_S", 0.01)
    settings, tidying = BatchSettings(), ["sh", "-c", f"echo tidy $0 >> {log}"]
    night = ["sh", "-c", f"echo night >> {log}; exit 3"]
    arguments = StreamSettings(var=var), settings, stop, night, tidying
    thread = threading.Thread(target=schedule.run, args=arguments)
    thread.start()
    try:
        until(lambda: log.exists() and log.read_text().count("tidy") >= 2)
    finally:
        stop.set()
        thread.join(600)
    first, second, third, *_ = log.read_text().splitlines()
    assert first == "tidy --make-room"
    assert (second, third.split()[0], "--make-room" in third) == ("night", "tidy", False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_on_a_small_disk_that_is_full_room_is_made(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        world = old_world(disk / "var")
        settings = {
            "MARQUEE_STREAM_VAR": str(world.var),
            "MARQUEE_STREAM_TIMEZONE": "UTC",
            "MARQUEE_SETTINGS": os.devnull,
        }
        (world.var / "telemetry.db.damaged-20260101T000000Z").write_bytes(b"x" * (6 << 20))
        with pytest.raises(OSError, match="No space left"):
            (disk / "other").write_bytes(b"x" * (24 << 20))
        command = [sys.executable, "-m", "batch", "tidy", "--make-room"]
        environ = os.environ | settings | {"MARQUEE_SETTINGS": os.devnull, "MARQUEE_BATCH_LEAST_FREE_MB": "6"}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "removed damaged telemetry.db.damaged-20260101T000000Z: 6.0 MB" in done.stdout
        assert shutil.disk_usage(disk).free >= 6 << 20
        assert world.compact()["days"] == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)
