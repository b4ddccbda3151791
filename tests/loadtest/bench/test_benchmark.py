"""`Benchmark` runs its parts, and `python -m loadtest bench` makes a command of each."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner

from loadtest.bench import commands
from loadtest.bench.benchmark import Benchmark, BenchmarkInputs, BenchmarkRun
from loadtest.bench.result import BenchmarkResult, Figures, make_result, read_result
from loadtest.errors import LoadtestError


class SampleRun(BenchmarkRun[int]):
    def facts(self) -> Figures:
        return {"size": self.size}


def write_file(run: SampleRun) -> Figures:
    (run.folder / "file").touch()
    return {"first": run.size + run.seed}


def list_files(run: SampleRun) -> Figures:
    return {"second": [path.name for path in run.folder.iterdir()]}


def terminate(run: SampleRun) -> Figures:
    os.kill(os.getpid(), signal.SIGTERM)
    return {}


def lines_name(run: SampleRun) -> Figures:
    assert run.inputs.lines
    return {"third": run.inputs.lines.name}


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark[int, SampleRun]:
    return Benchmark(
        name="sample",
        full=100,
        quick=10,
        parts={"first": write_file, "second": list_files, "third": lines_name},
        targets={"first": (">=", 12), "second": ("==", 0)},
        begin=SampleRun,
        needs={"third": "lines"},
        work=tmp_path / "work",
    )


def test_parts_run_in_order_and_share_a_folder_that_is_removed(benchmark: Benchmark[int, SampleRun]) -> None:
    result = benchmark.run(benchmark.quick, 1)
    assert result.bench == "sample"
    assert list(result.figures.items()) == [("size", 10), ("first", 11), ("second", ["file"])]
    assert not result.met
    assert list(benchmark.work.iterdir()) == []


def test_only_the_parts_that_are_named_run(benchmark: Benchmark[int, SampleRun]) -> None:
    result = benchmark.run(benchmark.full, 1, ("first",))
    assert result.figures == {"size": 100, "first": 101}
    assert result.targets == {"first": (">=", 12)}
    assert result.met


def test_a_part_runs_where_its_input_is_given(benchmark: Benchmark[int, SampleRun]) -> None:
    result = benchmark.run(benchmark.quick, 1, inputs=BenchmarkInputs(lines=Path("x.log")))
    assert result.figures["third"] == "x.log"


def test_missing_programs_are_an_error_before_anything_is_measured(benchmark: Benchmark[int, SampleRun]) -> None:
    def require(parts: object) -> None:
        raise LoadtestError(f"missing for {parts}")

    with pytest.raises(LoadtestError, match=r"missing for \['first', 'second'\]"):
        replace(benchmark, require=require).run(benchmark.quick, 1)
    assert not benchmark.work.exists()


def test_sigterm_ends_a_run_as_ctrl_c_does(benchmark: Benchmark[int, SampleRun]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        replace(benchmark, parts={"first": write_file, "second": terminate}).run(benchmark.quick, 1)
    assert list(benchmark.work.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


# The commands


def test_every_benchmark_has_a_command_of_its_name() -> None:
    names = ["quality", "serving", "night", "ranking", "newmovies", "telemetry", "intervals", "exposure", "fuzz"]
    assert list(commands.bench.commands) == names
    for entry in commands._BENCHMARKS:
        assert entry.load().name == entry.name


@pytest.mark.parametrize("name", ["quality", "serving", "night", "ranking", "intervals", "exposure"])
def test_help_names_the_parts(name: str) -> None:
    output = CliRunner().invoke(commands.bench, [name, "--help"]).output
    [entry] = [entry for entry in commands._BENCHMARKS if entry.name == name]
    assert f"[{'|'.join(entry.load().parts)}]" in "".join(output.split())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["quality", "--part", "sped"], "there is no part sped; the parts are speed, repair, collect, bad_lines"),
        (["quality", "--movies", __file__], "give both"),
        (["quality", "--part", "repair", "--keep", "somewhere"], "leave out --part"),
        (["serving", "--part", "metre"], "there is no part metre"),
        (["serving", "--part", "meter", "--keep", "somewhere"], "leave out --part"),
        (["night", "--part", "nights"], "there is no part nights"),
        (["night", "--data", "x"], "No such option"),
        (["ranking", "--part", "movielens"], "the part movielens needs --data"),
        (["ranking", "--part", "words"], "there is no part words"),
        (["ranking", "--data", "no-such"], "does not exist"),
        (["ranking", "--split", "first"], "is not one of 'time', 'last', 'loo'"),
        (["night", "--split", "loo"], "No such option"),
    ],
)
def test_a_wrong_call_is_refused(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(commands.bench, arguments)
    assert result.exit_code == 2
    assert text in result.output.replace("\n", " ")


def test_a_command_runs_its_benchmark(
    benchmark: Benchmark[int, SampleRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "require_matplotlib", lambda: None)
    drawn: list[tuple[BenchmarkResult, Path]] = []
    plotted = replace(benchmark, plot=lambda result, path: drawn.append((result, path)))
    command = commands._command(commands._Entry("sample", "help", lambda: plotted))
    assert isinstance(command, click.Command)
    result = CliRunner().invoke(command, ["--quick", "--keep", str(tmp_path / "kept")])
    assert result.exit_code == 0, result.exception
    printed = orjson.loads(result.stdout.splitlines()[-1])
    kept = read_result(tmp_path / "kept" / "sample.json")
    assert printed["figures"] == kept.figures == {"size": 10, "first": 11, "second": ["file"]}
    assert drawn == [(kept, tmp_path / "kept" / "sample.svg")]


def test_a_missed_target_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.report(make_result("x", {"a": 1}, {"a": (">=", 2)}), tmp_path / "bench")
    assert read_result(tmp_path / "bench" / "x.json").met is False
    assert "targets MISSED" in capsys.readouterr().err
