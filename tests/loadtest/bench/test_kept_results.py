"""The results in docs/bench can be read as the Structs of their parts, without losing a figure."""

from collections.abc import Callable

import msgspec
import pytest

from loadtest.bench.intervals.intervals_benchmark import CoverageFigures
from loadtest.bench.lines.bad_line_verdicts import BadLinesFigures
from loadtest.bench.lines.collector_speed import CollectFigures
from loadtest.bench.lines.judging_speed import SpeedFigures
from loadtest.bench.lines.repair_accuracy import RepairFigures
from loadtest.bench.night.night_benchmark import CompactionFigures, GrowthFigures, NightFigures
from loadtest.bench.ranking.ranking_benchmark import SETS
from loadtest.bench.ranking.ranking_figures import RankedSet, SetComparison
from loadtest.bench.result import BenchmarkResult, Figures, as_figures, read_result
from loadtest.bench.serving.contestant_costs import CostFigures
from loadtest.bench.serving.probes_under_flood import ProbeFigures
from loadtest.bench.serving.restarts import RestartFigures
from loadtest.bench.serving.serving_benchmark import MeterFigures
from loadtest.bench.serving.similar_recall import RecallFigures
from loadtest.bench.serving.steady_load import SteadyFigures, SteadyLoad
from loadtest.demo.processes import ROOT


def quality(result: BenchmarkResult) -> Figures:
    return {
        **as_figures(result.read(SpeedFigures)),
        **as_figures(result.read(RepairFigures, "repair"), "repair"),
        **as_figures(result.read(CollectFigures, "collect"), "collect"),
        **as_figures(result.read(BadLinesFigures)),
    }


def serving(result: BenchmarkResult) -> Figures:
    steady, swapping = (result.read(SteadyFigures, name) for name in ("steady", "swapping"))
    ports = [f"probes_{port}_{flood}" for port in ("operator", "public") for flood in ("kept", "anew")]
    probes: Figures = {name: result.figures[name] for name in ports}
    for name in ports:
        probes |= as_figures(result.read(ProbeFigures, name), name)
    return {
        **as_figures(result.read(CostFigures)),
        **SteadyLoad(steady, swapping, result.figures["swapping_swaps"]).figures(),
        **as_figures(result.read(RestartFigures)),
        **probes,
        **as_figures(result.read(MeterFigures)),
        **as_figures(result.read(RecallFigures, "similar_recall"), "similar_recall"),
    }


def night(result: BenchmarkResult) -> Figures:
    compaction = as_figures(result.read(CompactionFigures, "compaction"), "compaction")
    return {**compaction, **as_figures(result.read(NightFigures)), **as_figures(result.read(GrowthFigures))}


def ranking(result: BenchmarkResult) -> Figures:
    figures: Figures = {}
    for name in SETS:
        if name in result.figures:
            figures[name] = msgspec.to_builtins(msgspec.convert(result.figures[name], RankedSet))
            figures |= as_figures(result.read(SetComparison, name), name)
    return figures


def intervals(result: BenchmarkResult) -> Figures:
    figures: Figures = {}
    for name in ("rate", "uplift", "slope"):
        figures |= as_figures(result.read(CoverageFigures, name), name)
    return figures


@pytest.mark.parametrize("read", [quality, serving, night, ranking, intervals])
def test_every_figure_of_a_kept_result_is_read(read: Callable[[BenchmarkResult], Figures]) -> None:
    result = read_result(ROOT / "docs" / "bench" / f"{read.__name__}.json")
    facts = {name: result.figures[name] for name in ("users", "movies") if name in result.figures}
    figures = facts | read(result)
    assert {name: figures[name] for name in result.figures} == result.figures
