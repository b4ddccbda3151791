"""The benchmark `serving`: its parts see what goes wrong, and nothing is left behind. No speeds are asserted."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from loadtest.bench import commands
from loadtest.bench.result import as_figures
from loadtest.bench.serving import (
    bench_releases,
    probes_under_flood,
    restarts,
    serving_benchmark,
    steady_load,
    wrk,
)
from loadtest.bench.serving.serving_benchmark import SERVING
from loadtest.demo.processes import ROOT
from tests.loadtest.running_processes import command_lines, workers_below
from tests.loadtest.serving_size import MOVIES, TINY, USERS
from tests.polling import until


def test_releases_are_swapped_under_load(tmp_path: Path) -> None:
    stage = bench_releases.make(tmp_path / "stage", USERS, MOVIES, 1)
    load = steady_load.measure(stage, tmp_path, 3, rounds=2, rate=100, swap_s=1.2)
    assert load.steady.errors == load.swapping.errors == 0
    assert load.steady.requests == load.swapping.requests == 600
    assert load.figures()["swapping_swaps"] == load.swaps >= 2
    assert set(load.steady.releases) == {stage.releases[0].name}
    assert set(load.swapping.releases) == {folder.name for folder in stage.releases}
    assert {name for name in SERVING.targets if name.startswith(("steady", "swapping"))} <= set(load.figures())


def test_restarts_under_load_lose_nothing(tmp_path: Path) -> None:
    stage = bench_releases.make(tmp_path / "stage", USERS, MOVIES, 1)
    figures = restarts.measure(stage, tmp_path, 1)
    assert figures.restarts == 1
    assert figures.restarts_errors == 0, figures.restarts_errors_by_kind
    assert figures.restarts_requests >= restarts.RATE
    assert {name for name in SERVING.targets if name.startswith("restarts")} <= set(as_figures(figures))


def test_probes_are_answered_during_a_flood(tools: wrk.Tools, tmp_path: Path) -> None:
    stage = bench_releases.make(tmp_path / "stage", USERS, MOVIES, 1)
    figures = probes_under_flood.figures(probes_under_flood.measure(stage, tmp_path, tools.wrk, 5))
    assert figures["probes_operator_kept_refused"] == figures["probes_operator_anew_refused"] == 0
    assert {name for name in SERVING.targets if name.startswith("probes")} <= set(figures)


def test_refused_and_late_probes_are_counted() -> None:
    figures = probes_under_flood.figures({("public", "kept"): [1.0, None, 1200.0], ("operator", "anew"): [None]})
    assert figures == {
        "probes_public_kept": 3,
        "probes_public_kept_in_time": 1,
        "probes_public_kept_refused": 1,
        "probes_public_kept_p50_ms": 600.5,
        "probes_public_kept_slowest_ms": 1200.0,
        "probes_operator_anew": 1,
        "probes_operator_anew_in_time": 0,
        "probes_operator_anew_refused": 1,
        "probes_operator_anew_p50_ms": None,
        "probes_operator_anew_slowest_ms": None,
    }


# The command


def test_the_object_is_the_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_benchmark, "SERVING", replace(SERVING, quick=TINY, work=tmp_path))
    output = CliRunner().invoke(commands.bench, ["serving", "--quick", "--part", "meter", "--part", "similar"])
    assert output.exit_code == 0, output.exception
    result = orjson.loads(output.stdout.splitlines()[-1])
    assert result["bench"] == "serving"
    assert set(result["targets"]) == {"meter_us", "similar_recall_clustered", "similar_recall_scattered"}
    assert result["figures"]["similar_recall_clustered"] > 0.9
    assert (result["figures"]["users"], result["figures"]["movies"]) == (USERS, MOVIES)
    assert str(ROOT) not in output.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_benchmark_that_is_interrupted_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    code = f"""
from dataclasses import replace
from pathlib import Path
from loadtest.__main__ import commands
from loadtest.bench.serving import serving_benchmark
from stream.cli import run
size = replace(serving_benchmark.SERVING.quick, users={USERS}, movies={MOVIES}, steady_s=300.0)
serving_benchmark.SERVING = replace(serving_benchmark.SERVING, quick=size, work=Path({str(tmp_path)!r}))
run(commands, "loadtest")
"""
    command = [sys.executable, "-c", code, "bench", "serving", "--quick", "--part", "steady"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: any("openloop" in line for line in command_lines(process.pid)))
    assert len(workers_below(tmp_path)) == 2
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert errors.endswith("interrupted\n")
    assert "Traceback" not in errors
    assert workers_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
