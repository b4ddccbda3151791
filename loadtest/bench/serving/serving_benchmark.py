"""The benchmark `serving`: what an answer costs, what latency a client sees, and how much memory a worker holds.

| part | what is measured |
|---|---|
| `contestants` | CPU time a request, latency, memory and first answer, beside other servers: `contestant_costs.py` |
| `steady` | latency at 10,000 requests/s of two workers, without swaps and with one a second: `steady_load.py` |
| `restarts` | requests lost while workers are restarted one by one on a busy machine: `restarts.py` |
| `probes` | health probes answered in time during a flood of 4,000 connections: `probes_under_flood.py` |
| `meter` | what counting an answer costs |
| `similar` | recall of `/similar`: `similar_recall.py` |
"""

import logging
import statistics
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from msgspec import Struct

from loadtest.bench.benchmark import Benchmark, BenchmarkRun
from loadtest.bench.result import Figures, as_figures
from loadtest.bench.serving import (
    bench_releases,
    contestant_costs,
    probes_under_flood,
    restarts,
    serving_plot,
    similar_recall,
    steady_load,
    wrk,
)
from loadtest.bench.serving.contestant_costs import CostPlan
from server.worker_metrics import RequestMeter

log = logging.getLogger(__name__)

_WITH_WRK = {"contestants", "probes"}
_COUNTED = 200_000


@dataclass(frozen=True)
class ServingSize:
    """How much is measured."""

    users: int
    movies: int
    costs: CostPlan
    steady_s: float
    """Of one round of the open-loop client, without swaps and with them."""
    steady_rounds: int
    restarts: int
    """Of all workers, one by one."""
    probes: int
    """Of each port, during each flood."""
    queries: int
    """Movies whose neighbours are searched, in each of two indexes."""


class ServingRun(BenchmarkRun[ServingSize]):
    """One run of `serving`."""

    @cached_property
    def stage(self) -> bench_releases.ReleaseStage:
        """The releases that workers answer from."""
        began = time.monotonic()
        stage = bench_releases.make(self.folder / "stage", self.size.users, self.size.movies, self.seed)
        log.info("releases made: %.1f s", time.monotonic() - began)
        return stage

    def facts(self) -> Figures:
        return {"users": self.size.users, "movies": self.size.movies}


class MeterFigures(Struct, frozen=True, kw_only=True):
    """Cost of `RequestMeter`."""

    meter_us: float
    """CPU microseconds to count an answer, the loop around it included; median of five runs."""


def measure_meter() -> MeterFigures:
    """Time `RequestMeter.took`."""
    took, times = RequestMeter().took, [number * 1e-6 for number in range(1, 101)] * (_COUNTED // 100)
    runs_us = []
    for _ in range(5):
        began = time.process_time()
        for seconds in times:
            took(0, seconds)
        runs_us.append((time.process_time() - began) / len(times) * 1e6)
    return MeterFigures(meter_us=round(statistics.median(runs_us), 3))


def _contestants(run: ServingRun) -> Figures:
    return as_figures(contestant_costs.measure(run.stage, run.folder, run.size.costs))


def _steady(run: ServingRun) -> Figures:
    load = steady_load.measure(run.stage, run.folder, run.size.steady_s, run.size.steady_rounds)
    return load.figures()


def _restarts(run: ServingRun) -> Figures:
    return as_figures(restarts.measure(run.stage, run.folder, run.size.restarts))


def _probes(run: ServingRun) -> Figures:
    floods = probes_under_flood.measure(run.stage, run.folder, wrk.tools().wrk, run.size.probes)
    return probes_under_flood.figures(floods)


def _meter(run: ServingRun) -> Figures:
    return as_figures(measure_meter())


def _similar(run: ServingRun) -> Figures:
    size = run.size
    recall = similar_recall.measure(run.folder / "similar", size.movies, size.queries, run.seed)
    return as_figures(recall, "similar_recall")


def _require_tools(parts: Collection[str]) -> None:
    if _WITH_WRK & set(parts):
        wrk.tools()


SERVING = Benchmark(
    name="serving",
    full=ServingSize(
        users=1_000_000,
        movies=27_000,
        costs=CostPlan(rounds=5, seconds=3, starts=3),
        steady_s=5,
        steady_rounds=5,
        restarts=100,
        probes=200,
        queries=1000,
    ),
    quick=ServingSize(
        users=100_000,
        movies=27_000,
        costs=CostPlan(rounds=3, seconds=1, starts=1),
        steady_s=4,
        steady_rounds=1,
        restarts=2,
        probes=20,
        queries=200,
    ),
    parts={
        "contestants": _contestants,
        "steady": _steady,
        "restarts": _restarts,
        "probes": _probes,
        "meter": _meter,
        "similar": _similar,
    },
    targets={
        "rendered_nginx_ratio": ("<=", 1.2),
        "compact_nginx_ratio": ("<=", 1.5),
        "rendered_ordinary_ratio": ("<=", round(1 / 9, 4)),
        "compact_ordinary_ratio": ("<=", round(1 / 9, 4)),
        "wrk_errors": ("==", 0),
        "compact_private_mb": ("<=", 60),
        "rendered_private_mb": ("<=", 60),
        "compact_mapped_mb": ("<=", 150),
        "rendered_mapped_mb": ("<=", 700),
        "compact_first_answer_s": ("<=", 1.0),
        "rendered_first_answer_s": ("<=", 1.0),
        "steady_p99_9_ms": ("<=", 5.0),
        "steady_errors": ("==", 0),
        "swapping_p99_9_ms": ("<=", 5.0),
        "swapping_errors": ("==", 0),
        "restarts_errors": ("==", 0),
        "probes_operator_kept_refused": ("==", 0),
        "probes_operator_anew_refused": ("==", 0),
        "probes_operator_kept_slowest_ms": ("<=", 1000),
        "probes_operator_anew_slowest_ms": ("<=", 1000),
        "meter_us": ("<=", 0.5),
        "similar_recall_clustered": (">=", 0.98),
        "similar_recall_scattered": (">=", 0.98),
    },
    begin=ServingRun,
    plot=serving_plot.draw,
    require=_require_tools,
)
