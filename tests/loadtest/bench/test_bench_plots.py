"""Plots of benchmarks: drawn from results, those kept in docs/bench included, and always the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.bench.night import night_plot
from loadtest.bench.ranking import ranking_plot
from loadtest.bench.result import BenchmarkResult, Figures, as_figures, make_result, read_result
from loadtest.bench.serving import serving_plot
from loadtest.bench.serving.contestant_costs import ContestantFigures, cost_figures
from loadtest.bench.serving.contestants import NAMES
from loadtest.bench.serving.serving_benchmark import SERVING
from loadtest.bench.serving.steady_load import SteadyFigures, SteadyLoad
from loadtest.demo.processes import ROOT

pytest.importorskip("matplotlib")


def contestant(number: int) -> ContestantFigures:
    return ContestantFigures(
        cpu_us=10.0 * number,
        cpu_us_lowest=9.0 * number,
        cpu_us_highest=12.0 * number,
        requests_per_s=5_000 * number,
        p50_us=100,
        p99_us=300,
        p99_9_us=1_000 * number,
        errors=0,
        private_mb=40.0,
        mapped_mb=90.0,
        first_answer_s=0.2,
    )


def serving_figures() -> Figures:
    rows = {name: contestant(number) for number, name in enumerate(NAMES, 1)}
    percentiles = {"50": 0.1, "90": 0.2, "99": 1.0, "99.9": 2.0, "100": 9.0}
    load = SteadyFigures(
        requests=100,
        errors=0,
        errors_by_kind={},
        p99_9_ms=2.0,
        p99_9_highest_ms=2.0,
        latency_ms=percentiles,
        client_late_ms=percentiles,
        waited=0,
        connections_lost=0,
        releases={},
        cpu_us=40.0,
        busiest_share=0.5,
        private_mb=50.0,
    )
    costs = as_figures(cost_figures(rows, {"compact": 0.5, "rendered": 0.9}))
    return {"users": 3_000, "movies": 500, **costs, **SteadyLoad(load, load, 3).figures()}


def test_a_plot_is_always_the_same(tmp_path: Path) -> None:
    result = make_result("serving", serving_figures(), SERVING.targets)
    for name in ("first.svg", "second.svg", "third.png"):
        serving_plot.draw(result, tmp_path / name)
    svg = (tmp_path / "first.svg").read_bytes()
    assert svg == (tmp_path / "second.svg").read_bytes()
    assert b"<svg" in svg
    assert (tmp_path / "third.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "draw"),
    [("serving", serving_plot.draw), ("night", night_plot.draw), ("ranking", ranking_plot.draw)],
)
def test_kept_results_can_be_drawn_again(
    name: str, draw: Callable[[BenchmarkResult, Path], None], tmp_path: Path
) -> None:
    draw(read_result(ROOT / "docs" / "bench" / f"{name}.json"), tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text("utf-8").count("</svg>") == 1
