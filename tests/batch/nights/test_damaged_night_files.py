"""What a night stands on goes bad: one clear error, `current` where it was, and the next night begins anew."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.errors import BatchError, NightFilesDamaged, NotEnoughData
from batch.history.day_store import DayStore
from batch.nights.journal import Journal
from batch.nights.runner import STEPS, run_night, run_step
from batch.nights.step_results import PublishResult, StepName, StepResult
from batch.releases import publish
from batch.settings import BatchSettings
from quality.settings import QualitySettings
from stream import durable
from stream.archive import Archive
from stream.errors import ArchiveError
from stream.settings import StreamSettings
from tests.polling import until
from tests.process_is_gone import is_gone

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")

ROOT = Path(__file__).parents[3]
SETTINGS = BatchSettings(
    api="http://127.0.0.1:1", api_retries=0, factors=8, iterations=4, trees=5, minimum_segment=20, model="popular"
)
BEFORE_PUBLISH = [*STEPS][:-1]
Damage = Callable[[Path], object]


def halved(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def settings(var: Path) -> tuple[StreamSettings, QualitySettings, BatchSettings]:
    return StreamSettings(var=var, generation="2026"), QualitySettings(), SETTINGS


@pytest.fixture(scope="module")
def trained(past: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all steps but the last are done, by a night that was interrupted in it."""
    var = tmp_path_factory.mktemp("trained") / "var"
    shutil.copytree(past, var)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STEPS, "publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_night(*settings(var), despite_alerts=False)
    return var


def interrupted(_: object) -> StepResult:
    raise KeyboardInterrupt


@pytest.fixture
def var(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "var")


def done(var: Path) -> list[str]:
    return [entry.step for entry in Journal(var / "night").done([*STEPS])]


@pytest.mark.parametrize("damage", [Path.unlink, emptied, halved])
@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("read.json", "history"),
        ("input.json", "train"),
        ("evaluation.json", "publish"),
        ("history.parquet", "evaluate"),
        ("users.npy", "train"),
        ("watched.txt", "evaluate"),
        ("content.json", "train"),
        ("items.npy", "publish"),
    ],
)
def test_a_damaged_result_of_a_step_ends_the_night_with_one_error(
    var: Path, name: str, step: StepName, damage: Damage
) -> None:
    assert done(var) == BEFORE_PUBLISH
    damage(var / "night" / name)
    with pytest.raises(NightFilesDamaged, match=r"night: .*(damaged|missing).*python -m batch nightly"):
        run_step(step, *settings(var))
    assert done(var) == []
    assert publish.current_release(var) is None


def test_the_night_after_damaged_files_starts_over(var: Path) -> None:
    (var / "night" / "history.parquet").unlink()
    with pytest.raises(NightFilesDamaged, match=r"history\.parquet is missing"):
        run_night(*settings(var), despite_alerts=False)
    summary = run_night(*settings(var), despite_alerts=False)
    assert not any(result.by for result in summary.steps.values())
    published = summary.steps["publish"]
    assert isinstance(published, PublishResult)
    assert published.current


@pytest.mark.parametrize(("part", "damage"), [("sessions", Path.unlink), ("ratings", emptied), ("requests", zeroed)])
def test_a_damaged_day_is_named_and_rebuilt_after_its_removal(var: Path, part: str, damage: Damage) -> None:
    day = list(DayStore(var).days())[-2]
    folder = var / "sessions" / f"day={day}"
    whole = (folder / f"{part}.parquet").read_bytes()
    damage(folder / f"{part}.parquet")
    with pytest.raises(
        NightFilesDamaged, match=f"{part}.parquet is missing or damaged: .*; remove the folder {folder}, "
    ):
        run_step("history", *settings(var))
    shutil.rmtree(folder)
    steps: tuple[StepName, ...] = ("sessions", "catalog", "history")
    for step in steps:
        run_step(step, *settings(var))
    assert (folder / f"{part}.parquet").read_bytes() == whole


@pytest.mark.parametrize("damage", [Path.unlink, emptied, halved])
def test_a_damaged_archive_file_is_named(var: Path, damage: Damage) -> None:
    day, files = list(Archive(var).files("watch").items())[-1]
    DayStore(var).remove(day)
    damage(files[0])
    with pytest.raises(
        ArchiveError, match=f"{files[0]} is missing or damaged: .*; restore it, or remove its ledger entry"
    ):
        run_step("sessions", *settings(var))
    assert day not in DayStore(var).days()


def test_sessions_are_kept_if_the_whole_archive_is_missing(var: Path) -> None:
    days = DayStore(var).days()
    (var / "archive").rename(var / "elsewhere")
    with pytest.raises(NotEnoughData, match=r"archive/ledger is empty, but \d+ days of sessions .*mounted"):
        run_step("sessions", *settings(var))
    assert DayStore(var).days() == days


def test_the_error_of_a_full_disk_names_the_step_and_the_free_space(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_array", full)
        with pytest.raises(BatchError, match=f"train: .*No space left on device; .* MB are free in {var}; "):
            run_step("train", *settings(var))
    assert done(var) == BEFORE_PUBLISH[:-1]


def test_the_next_night_removes_half_written_files_of_a_killed_one(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = next(iter((var / "sessions").glob("day=*")))
    leftovers = [var / "night" / ".lists.npy.12345.tmp", day / ".ratings.parquet.12345.tmp"]
    of_the_schedule = var / "night" / ".outcomes.jsonl.12345.tmp"
    for path in (*leftovers, of_the_schedule):
        path.write_bytes(b"half")
    monkeypatch.setitem(STEPS, "publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_night(*settings(var), despite_alerts=False)
    assert not any(path.exists() for path in leftovers)
    assert of_the_schedule.exists()


def gate_worker(pid: int) -> int | None:
    """The worker that a night has started for its gate."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next(
            (int(child) for child in children if b"server" in Path(f"/proc/{child}/cmdline").read_bytes()), None
        )
    except OSError:
        return None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_ending_a_night_ends_the_worker_of_its_gate(var: Path, number: int, code: int) -> None:
    environ = {**os.environ, "MARQUEE_STREAM_VAR": str(var), "MARQUEE_STREAM_GENERATION": "2026"}
    environ |= {f"MARQUEE_BATCH_{key.upper()}": str(getattr(SETTINGS, key)) for key in SETTINGS.__struct_fields__}
    environ["TMPDIR"] = str(var)
    command = [sys.executable, "-m", "batch", "nightly"]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as night:
        deadline = time.monotonic() + 600
        while (worker := gate_worker(night.pid)) is None:
            assert night.poll() is None, night.communicate()
            assert time.monotonic() < deadline
        night.send_signal(number)
        _, output = night.communicate(timeout=600)
    assert night.returncode == code
    assert b"Traceback" not in output
    until(lambda: is_gone(worker))
    assert number == signal.SIGKILL or not [*var.glob("marquee-trial-*")]
    assert publish.current_release(var) is None
    assert done(var) == BEFORE_PUBLISH
