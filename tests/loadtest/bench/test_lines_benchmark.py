"""The benchmark `quality`: what its parts measure, and how it is called. No times are asserted."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from loadtest.bench import commands
from loadtest.bench.benchmark import Benchmark
from loadtest.bench.lines import bad_line_verdicts, collector_speed, lines_benchmark
from loadtest.bench.lines.bad_line_verdicts import BadLinesFigures
from loadtest.bench.lines.collector_speed import CollectFigures
from loadtest.bench.lines.judged_lines import rows_by_fate
from loadtest.bench.lines.judging_speed import SpeedFigures
from loadtest.bench.lines.line_sources import LineSample, SimulatedLines
from loadtest.bench.lines.lines_benchmark import QUALITY, LinesRun, LinesSize
from loadtest.bench.lines.repair_accuracy import RepairFigures
from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError
from quality.lines.verdicts import Verdicts

TINY = LinesSize(
    judged=2_000,
    compared={"schema_only": 2_000, "pydantic": 500, "pandera": 500, "cerberus": 20, "cerberus_kept": 20},
    repaired=1_000,
    collected=3_000,
    collects=1,
    bad=1_000,
    rounds=1,
    users=20_000,
    movies=500,
)


@pytest.fixture
def quality(tmp_path: Path) -> Benchmark[LinesSize, LinesRun]:
    """The benchmark, quick in seconds, with a folder of its own to work in."""
    return replace(QUALITY, quick=TINY, work=tmp_path / "work")


def test_speeds_are_compared(quality: Benchmark[LinesSize, LinesRun]) -> None:
    pytest.importorskip("pydantic")
    pytest.importorskip("pandera")
    result = quality.run(TINY, 1, ("speed",))
    figures = result.read(SpeedFigures)
    assert figures.verdicts_equal
    assert figures.verdicts_compared == 2 * (500 + 500 + 20 + 20)
    assert all(result.figures[f"{name}_lines_per_s"] > 0 for name in [*TINY.compared, "split", "split_commas"])
    assert set(result.targets) == {name for name in QUALITY.targets if name in result.figures}


def test_bad_lines_have_one_fate_each(quality: Benchmark[LinesSize, LinesRun]) -> None:
    figures = quality.run(TINY, 7, ("bad_lines",)).read(BadLinesFigures)
    assert figures.bad_lines_accounted
    assert sum(figures.bad_lines_fates.values()) == figures.bad_lines == 1_000
    assert figures.bad_lines_seed == 7


def test_a_line_without_a_fate_is_noticed(
    quality: Benchmark[LinesSize, LinesRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_first(verdicts: Verdicts) -> dict[str, np.ndarray]:
        rows = rows_by_fate(verdicts)
        return {**rows, "quarantined": rows["quarantined"][1:]}

    monkeypatch.setattr(bad_line_verdicts, "rows_by_fate", without_first)
    assert not quality.run(TINY, 7, ("bad_lines",)).met


def test_lines_are_collected_end_to_end(quality: Benchmark[LinesSize, LinesRun]) -> None:
    assert quality.run(TINY, 1, ("collect",)).read(CollectFigures, "collect").lines_per_s > 0
    assert list(quality.work.iterdir()) == []


def test_a_failure_of_the_collector_is_an_error(
    source: SimulatedLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_speed, "_EMPTY", "not-there")
    monkeypatch.setattr(collector_speed, "write_sample", write_no_topics)
    with pytest.raises(LoadtestError, match=r"collect ended with code 1: .*not-there"):
        collector_speed.measure(source.sample(10), source.runtimes, 1, tmp_path)


async def write_no_topics(sample: LineSample, bootstrap: str, topic: str, empty: str) -> None:
    """Write nothing."""


@pytest.fixture
def runner(quality: Benchmark[LinesSize, LinesRun], monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Calls the command of the small benchmark."""
    monkeypatch.setattr(lines_benchmark, "QUALITY", quality)
    return CliRunner()


def test_the_object_is_the_last_line(runner: CliRunner) -> None:
    output = runner.invoke(commands.bench, ["quality", "--quick", "--part", "repair"])
    assert output.exit_code == 0, output.exception
    result = orjson.loads(output.stdout.splitlines()[-1])
    assert (result["bench"], result["met"]) == ("quality", True)
    assert result["targets"] == {"repair_precision": [">=", 0.995]}
    assert "repair_precision" in output.stderr


def test_recorded_lines_can_be_measured(runner: CliRunner, source: SimulatedLines, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"\n".join(source.sample(500).lines))
    table = "".join(f"{name},{minutes}\n" for name, minutes in source.runtimes.items())
    (tmp_path / "movies.csv").write_text("id,runtime\n" + table)
    arguments = ["quality", "--quick", "--part", "repair", "--lines", str(tmp_path / "lines")]
    output = runner.invoke(commands.bench, [*arguments, "--movies", str(tmp_path / "movies.csv")])
    assert output.exit_code == 0, output.exception
    assert orjson.loads(output.stdout)["figures"]["repair_right"] > 500


def test_fuzz_is_a_process_that_names_its_seed() -> None:
    command = [sys.executable, "-m", "loadtest", "bench", "fuzz", "--count", "300", "--seed", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = orjson.loads(done.stdout.splitlines()[-1])
    assert (result["bench"], result["met"], result["figures"]["bad_lines_seed"]) == ("fuzz", True, 5)
    assert "seed 5" in done.stderr


def test_repair_figures_are_read_from_a_result(quality: Benchmark[LinesSize, LinesRun]) -> None:
    result = quality.run(TINY, 1, ("repair",))
    assert result.read(RepairFigures, "repair").right == result.figures["repair_right"]
