"""The benchmark `night`: what it measures with must see what happens, and what it prints is what was measured. No
times are asserted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from loadtest.bench import commands
from loadtest.bench.night import measured_command, night_benchmark, night_plot, synthetic_history
from loadtest.bench.night.measured_command import MeasuredCommand
from loadtest.bench.night.synthetic_history import HistorySize, SyntheticHistory
from loadtest.errors import LoadtestError
from tests.polling import until

SIZE = HistorySize(users=400, movies=150, sessions=2_400, days=4, batch_lines=10_000)


# Watching


def test_memory_and_time_of_a_command_and_of_what_it_starts(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
lines = " batch.progress: lists: 1.5 s, 41,816/s", "x batch.progress: fit: ease: 0.2 s", "peak: 3 s"
print(*lines, sep="\\n", file=sys.stderr)
held = b"x" * 60_000_000
child = "held = b'x' * 60_000_000; print(1, flush=True); input()"
with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    time.sleep(float(sys.argv[1]))
print('{"a": 1}')
"""
    for lasts_s in (0.3, 3.0, 30.0):  # a busy machine may not look at it in so short a time
        began = time.monotonic()
        found = measured_command.command("name", [sys.executable, "-c", code, str(lasts_s)], tmp_path, {})
        assert lasts_s < found.seconds < time.monotonic() - began
        if found.peak_memory_mb > 120:
            break
    assert found.told == {"a": 1}
    assert 120 < found.peak_memory_mb < 180
    assert found.phases == {"lists": (1.5, 41_816.0), "fit: ease": (0.2, None)}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise SystemExit('error: no such thing')", "name ended with code 1: error: no such thing"),
        ("print('done')", "name printed no JSON object"),
        ("import time; time.sleep(60)", r"name was ended after 0 s: no output"),
    ],
)
def test_a_command_that_fails_is_told(tmp_path: Path, code: str, text: str) -> None:
    seconds = 0.3 if "sleep" in code else 600.0
    with pytest.raises(LoadtestError, match=text):
        measured_command.command("name", [sys.executable, "-c", code], tmp_path, {}, seconds)


# The benchmark


def test_the_object_and_the_picture_of_real_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(night_benchmark, "_WORK", tmp_path / "work")
    monkeypatch.setattr(night_benchmark, "QUICK", night_benchmark.NightSize(SIZE, (1.0,)))
    result = CliRunner().invoke(commands.bench, ["night", "--quick", "--keep", str(tmp_path / "kept")])
    assert result.exit_code == 0, result.exception
    found = orjson.loads(result.stdout.splitlines()[-1])
    figures = found["figures"]
    assert found["bench"] == "night"
    assert found["targets"] == {name: list(target) for name, target in night_benchmark.TARGETS.items()}
    assert figures["compaction_again_changes_nothing"] is True
    assert list(figures["growth"]) == ["400"]
    steps = ["sessions", "catalog", "history", "evaluate", "train", "publish"]
    assert list(figures["night_steps"]) == steps
    assert figures["night_steps"]["sessions"]["days"] == 1  # what compaction had made of it was forgotten
    assert figures["night_steps"]["sessions"]["minutes"] == figures["compaction_lines"]
    assert set(figures["growth"]["400"]) == {"seconds", "peak_memory_mb", *(f"{name}_s" for name in steps)}
    assert figures["growth"]["400"]["seconds"] == figures["night_seconds"]
    assert figures["night_lists_users_per_s"] > 0
    assert list((tmp_path / "work").iterdir()) == []
    assert (tmp_path / "kept" / "night.svg").read_text("utf-8").count("</svg>") == 1
    assert orjson.loads((tmp_path / "kept" / "night.json").read_bytes()) == found
    night_plot.draw(found, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "kept" / "night.svg").read_bytes()


def test_a_step_that_changes_what_it_made_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    var = tmp_path / "var"
    (var / "sessions").mkdir(parents=True)

    def restless(var: Path, name: str) -> MeasuredCommand:
        with (var / "sessions" / "file").open("ab") as file:
            file.write(b"x")
        return MeasuredCommand(1.0, 2.0, {}, {})

    monkeypatch.setattr(measured_command, "batch", restless)
    bench = night_benchmark.NightRun(tmp_path, night_benchmark.NightSize(SIZE, (1.0,)), 1)
    bench.__dict__["past"] = SyntheticHistory(var, ["2022-02-15"], 1, 10, 12)
    figures = night_benchmark.compaction(bench)
    assert figures["compaction_again_changes_nothing"] is False
    assert figures["compaction_lines_per_s"] == 12


def test_growth_is_told_by_its_exponent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"train": {"seconds": 1.5, "peak_memory_mb": 7, "rows": 3}}
    seconds = iter([10.0, 40.0])
    monkeypatch.setattr(
        night_benchmark, "spent", lambda found: MeasuredCommand(next(seconds), 7.0, {"steps": steps}, {})
    )

    def made(var: Path, size: HistorySize, seed: int) -> SyntheticHistory:
        var.mkdir()
        return SyntheticHistory(var, [], 1, 1, 1)

    monkeypatch.setattr(synthetic_history, "write", made)
    figures = night_benchmark.growth(
        night_benchmark.NightRun(tmp_path, night_benchmark.NightSize(SIZE, (0.25, 1.0)), 1)
    )
    assert figures["growth_exponent"] == 1.0
    assert figures["growth"]["100"] == {"seconds": 10.0, "peak_memory_mb": 7, "train_s": 1.5}
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize(
    "arguments", [["--part", "nights"], ["--part", "night", "--keep", "somewhere"], ["--data", "x"]]
)
def test_a_wrong_call_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(commands.bench, ["night", *arguments]).exit_code == 2


def test_nothing_is_left_when_it_is_interrupted(tmp_path: Path) -> None:
    code = f"""
import pathlib
from loadtest.bench.night import night_benchmark, synthetic_history
night_benchmark._WORK = pathlib.Path({str(tmp_path)!r})
size = synthetic_history.HistorySize(users=50_000, movies=500, sessions=4_000_000)
night_benchmark.run(night_benchmark.NightSize(size, (1.0,)), 1)
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        until(lambda: any(tmp_path.glob("*/whole/catalog/*")))
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=600)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []
