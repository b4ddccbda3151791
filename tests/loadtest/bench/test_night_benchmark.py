"""The benchmark `night`: its figures are what was measured, and nothing is left behind. No times are asserted."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from loadtest.bench import commands
from loadtest.bench.benchmark import NO_INPUTS
from loadtest.bench.night import measured_command, night_benchmark, night_plot, synthetic_history
from loadtest.bench.night.measured_command import MeasuredCommand, PrintedSummary
from loadtest.bench.night.night_benchmark import NIGHT, GrowthFigures, NightFigures, NightRun, NightSize
from loadtest.bench.night.synthetic_history import HistorySize, SyntheticHistory
from loadtest.bench.result import read_result
from tests.polling import until

SIZE = HistorySize(users=400, movies=150, sessions=2_400, days=4, batch_lines=10_000)


def test_result_and_plot_of_real_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    quick = replace(NIGHT, quick=NightSize(SIZE, (1.0,)), work=tmp_path / "work")
    monkeypatch.setattr(night_benchmark, "NIGHT", quick)
    output = CliRunner().invoke(commands.bench, ["night", "--quick", "--keep", str(tmp_path / "kept")])
    assert output.exit_code == 0, output.exception
    printed = orjson.loads(output.stdout.splitlines()[-1])
    figures = printed["figures"]
    assert printed["bench"] == "night"
    assert printed["targets"] == {name: list(target) for name, target in NIGHT.targets.items()}
    assert figures["compaction_again_changes_nothing"] is True
    assert list(figures["growth"]) == ["400"]
    steps = ["sessions", "catalog", "history", "evaluate", "train", "publish"]
    assert list(figures["night_steps"]) == steps
    assert figures["night_steps"]["sessions"]["days"] == 1  # the result of the part before was removed
    assert figures["night_steps"]["sessions"]["minutes"] == figures["compaction_lines"]
    assert set(figures["growth"]["400"]) == {"seconds", "peak_memory_mb", *(f"{name}_s" for name in steps)}
    assert figures["growth"]["400"]["seconds"] == figures["night_seconds"]
    assert figures["night_lists_users_per_s"] > 0
    assert list((tmp_path / "work").iterdir()) == []
    assert (tmp_path / "kept" / "night.svg").read_text("utf-8").count("</svg>") == 1
    assert orjson.loads((tmp_path / "kept" / "night.json").read_bytes()) == printed
    kept = read_result(tmp_path / "kept" / "night.json")
    assert kept.read(NightFigures).night_seconds == kept.read(GrowthFigures).growth["400"]["seconds"]
    night_plot.draw(kept, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "kept" / "night.svg").read_bytes()


def test_a_compaction_that_changes_its_output_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    var = tmp_path / "var"
    (var / "sessions").mkdir(parents=True)

    def append_to_file(var: Path, name: str) -> MeasuredCommand:
        with (var / "sessions" / "file").open("ab") as file:
            file.write(b"x")
        return MeasuredCommand(1.0, 2.0, PrintedSummary(), {})

    monkeypatch.setattr(measured_command, "batch", append_to_file)
    run = NightRun(tmp_path, NightSize(SIZE, (1.0,)), 1, NO_INPUTS)
    run.__dict__["history"] = SyntheticHistory(var, ["2022-02-15"], 1, 10, 12)
    figures = night_benchmark.compaction(run)
    assert figures.again_changes_nothing is False
    assert figures.lines_per_s == 12


def test_growth_has_an_exponent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = PrintedSummary({"train": {"seconds": 1.5, "peak_memory_mb": 7, "rows": 3}})
    seconds = iter([10.0, 40.0])
    monkeypatch.setattr(night_benchmark, "run_night", lambda history: MeasuredCommand(next(seconds), 7.0, summary, {}))

    def write_nothing(var: Path, size: HistorySize, seed: int) -> SyntheticHistory:
        var.mkdir()
        return SyntheticHistory(var, [], 1, 1, 1)

    monkeypatch.setattr(synthetic_history, "write", write_nothing)
    figures = night_benchmark.growth(NightRun(tmp_path, NightSize(SIZE, (0.25, 1.0)), 1, NO_INPUTS))
    assert figures.growth_exponent == 1.0
    assert figures.growth["100"] == {"seconds": 10.0, "peak_memory_mb": 7, "train_s": 1.5}
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_nothing_is_left_when_it_is_interrupted(tmp_path: Path) -> None:
    code = f"""
import pathlib
from dataclasses import replace
from loadtest.bench.night.night_benchmark import NIGHT, NightSize
from loadtest.bench.night.synthetic_history import HistorySize
size = NightSize(HistorySize(users=50_000, movies=500, sessions=4_000_000), (1.0,))
replace(NIGHT, work=pathlib.Path({str(tmp_path)!r})).run(size, 1)
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        until(lambda: any(tmp_path.glob("*/whole/catalog/*")))
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=600)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []
