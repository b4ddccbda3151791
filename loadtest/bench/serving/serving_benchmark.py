"""The benchmark `serving`: what an answer costs, what a client sees of it, and what a worker holds.

| part | what is measured |
|---|---|
| `contestants` | CPU time a request, requests/s, latency, memory and first answer of all in `contestants.py`, under wrk
|
| `steady` | latency at 10,000 requests/s of two workers, without swaps and with one a second, see `steady_load.py` |
| `restarts` | requests lost while workers are restarted one by one on a busy machine, see `restarts.py` |
| `probes` | probes answered in time beside a crowd of 4,000 connections, see `probes_under_flood.py` |
| `meter` | what counting an answer costs |
| `similar` | recall of `/similar`, see `similar_recall.py` |

CPU time is user and system time of the process that answers and of all that it started, from /proc, over the requests
that wrk counted: what else runs on the machine counts little, and a server that uses a second core gains nothing by it.
The contestants take turns, and of all rounds the median counts. Latency under wrk is that of a server at its limit.

Private memory is a process's own, anonymous; mapped memory is the files that it maps, of which there is one copy
for all workers. The first answer is timed from the start of the process; `first_ever` is that of a worker that nobody
spared the digests, which in production the night does when it verifies what it publishes.
"""

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from loadtest.bench.result import BenchmarkResult, Target
from loadtest.bench.serving import bench_releases, probes_under_flood, restarts, similar_recall, steady_load, wrk
from loadtest.bench.serving.bench_processes import ProcessGroup, RunningProcess, ends_on_sigterm
from loadtest.bench.serving.contestants import NAMES, Contestants, require_same, typical
from loadtest.bench.serving.wrk import WrkResult
from loadtest.demo.processes import ROOT
from server.worker_metrics import RequestMeter

log = logging.getLogger(__name__)

TARGETS: dict[str, Target] = {
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
}
_OURS = ("compact", "rendered")
_WORK = ROOT / "var" / "bench"
_COUNTED = 200_000


@dataclass(frozen=True)
class ServingSize:
    """How much is measured."""

    users: int
    movies: int
    rounds: int
    """How often each contestant has its turn."""
    seconds: int
    """Of one turn."""
    starts: int
    """How often each contestant is started."""
    steady_s: float
    """Of one round of the open-loop client, without swaps and with them."""
    steady_rounds: int
    restarts: int
    """Of all workers, one by one."""
    probes: int
    """Of each port, beside each crowd."""
    queries: int
    """Movies whose neighbours are looked for, in each of two indexes."""


FULL = ServingSize(
    users=1_000_000, movies=27_000, rounds=5, seconds=3, starts=3, steady_s=5, steady_rounds=5,
    restarts=100, probes=200, queries=1000,
)  # fmt: skip
QUICK = ServingSize(
    users=100_000, movies=27_000, rounds=3, seconds=1, starts=1, steady_s=4, steady_rounds=1,
    restarts=2, probes=20, queries=200,
)  # fmt: skip


class ServingRun:
    """What the parts share: the folder, the tools and, once it is asked for, what is served from."""

    def __init__(self, folder: Path, size: ServingSize, seed: int) -> None:
        self.folder, self.size, self.seed = folder, size, seed

    @cached_property
    def stage(self) -> bench_releases.ReleaseStage:
        """The releases."""
        began = time.monotonic()
        stage = bench_releases.make(self.folder / "stage", self.size.users, self.size.movies, self.seed)
        log.info("releases made: %.1f s", time.monotonic() - began)
        return stage


def run(size: ServingSize, seed: int, parts: tuple[str, ...] = ()) -> BenchmarkResult:
    """Measure the parts, all where none is named. Raises `LoadtestError` where something is not installed."""
    if not parts or {"contestants", "probes"} & set(parts):
        wrk.tools()
    figures: dict[str, Any] = {"users": size.users, "movies": size.movies}
    _WORK.mkdir(parents=True, exist_ok=True)
    with ends_on_sigterm(), tempfile.TemporaryDirectory(dir=_WORK) as folder:
        bench = ServingRun(Path(folder), size, seed)
        for name, part in PARTS.items():
            if not parts or name in parts:
                log.info("%s …", name)
                began = time.monotonic()
                figures |= part(bench)
                log.info("%s: %.1f s", name, time.monotonic() - began)
    return BenchmarkResult("serving", figures, TARGETS)


def contestants(bench: ServingRun) -> dict[str, Any]:
    """All that wrk and /proc say of them."""
    tools, size = wrk.tools(), bench.size
    with ExitStack() as stack:
        crew = stack.enter_context(ProcessGroup(bench.folder))
        rivals = Contestants(crew, bench.stage, tools.nginx, bench.folder)
        first_ever = {f"{name}_first_ever_s": _start(crew, rivals, name, 1)[1] for name in _OURS}
        running: dict[str, RunningProcess] = {}
        first: dict[str, float] = {}
        for name in NAMES:
            if name == "nginx":
                rivals.fit_nginx(typical(running["compact"], size.users))
            running[name], first[name] = _start(crew, rivals, name, size.starts, stay=True)
        require_same(running, size.users)
        loads, cpu_us = _rounds(running, tools.wrk, bench)
        memory = {name: one.memory() for name, one in running.items()}
    table = {name: _row(loads[name], cpu_us[name]) for name in NAMES}
    for name, row in table.items():
        row |= {"private_mb": round(memory[name].private, 1), "mapped_mb": round(memory[name].mapped, 1)}
        row["first_answer_s"] = round(first[name], 3)
    kept = ("private_mb", "mapped_mb", "first_answer_s")
    return {
        **_ratios({name: row["cpu_us"] for name, row in table.items()}),
        **{f"{name}_{key}": table[name][key] for key in kept for name in _OURS},
        **{name: round(seconds, 3) for name, seconds in first_ever.items()},
        "wrk_errors": sum(row["errors"] for row in table.values()),
        "contestants": table,
    }


def _start(
    crew: ProcessGroup, rivals: Contestants, name: str, starts: int, stay: bool = False
) -> tuple[RunningProcess, float]:
    """Start a contestant so often, and leave the last one up where it is to stay; the median of its first answers."""
    seconds = []
    for left in reversed(range(starts)):
        running = rivals.start(name)
        seconds.append(running.first_answer_s())
        if left or not stay:
            crew.end(running)
    return running, statistics.median(seconds)


def _rounds(
    running: Mapping[str, RunningProcess], wrk_path: str, bench: ServingRun
) -> tuple[dict[str, list[WrkResult]], dict[str, list[float]]]:
    """All in turn, round by round: what wrk found, and microseconds of the processor a request."""
    loads: dict[str, list[WrkResult]] = {name: [] for name in running}
    cpu_us: dict[str, list[float]] = {name: [] for name in running}
    for number in range(bench.size.rounds):
        for name, one in running.items():
            before = one.cpu_s()
            load = wrk.run(wrk_path, bench.folder, one.port, bench.size.seconds, bench.size.users, number)
            cpu_us[name].append((one.cpu_s() - before) / max(load.requests, 1) * 1e6)
            loads[name].append(load)
        log.info("round %d: %s", number + 1, ", ".join(f"{name} {found[-1]:.1f} µs" for name, found in cpu_us.items()))
    return loads, cpu_us


def _row(loads: list[WrkResult], cpu_us: list[float]) -> dict[str, float]:
    """The medians of one contestant, and the lowest and highest CPU time of a round."""
    return {
        "cpu_us": round(statistics.median(cpu_us), 2),
        "cpu_us_lowest": round(min(cpu_us), 2),
        "cpu_us_highest": round(max(cpu_us), 2),
        "requests_per_s": round(statistics.median(load.requests / load.seconds for load in loads)),
        **{name: statistics.median(getattr(load, name) for load in loads) for name in ("p50_us", "p99_us", "p99_9_us")},
        "errors": sum(load.errors for load in loads),
    }


def _ratios(cpu_us: Mapping[str, float]) -> dict[str, float]:
    """CPU time of ours against that of nginx and of the ordinary handler."""
    return {
        f"{ours}_{other}_ratio": round(cpu_us[ours] / cpu_us[other], 4)
        for other in ("nginx", "ordinary")
        for ours in _OURS
    }


def steadily(bench: ServingRun) -> dict[str, Any]:
    """10,000 requests a second."""
    return steady_load.measure(bench.stage, bench.folder, bench.size.steady_s, bench.size.steady_rounds)


def restarting(bench: ServingRun) -> dict[str, Any]:
    """Rolling restarts under load."""
    return restarts.measure(bench.stage, bench.folder, bench.size.restarts)


def probing(bench: ServingRun) -> dict[str, Any]:
    """Probes beside a crowd."""
    return probes_under_flood.measure(bench.stage, bench.folder, wrk.tools().wrk, bench.size.probes)


def meter(bench: ServingRun) -> dict[str, Any]:
    """Microseconds that it takes to count an answer: the median of some runs, the loop around it included."""
    took, times = RequestMeter().took, [one * 1e-6 for one in range(1, 101)] * (_COUNTED // 100)
    found = []
    for _ in range(5):
        began = time.process_time()
        for seconds in times:
            took(0, seconds)
        found.append((time.process_time() - began) / len(times) * 1e6)
    return {"meter_us": round(statistics.median(found), 3)}


def similar(bench: ServingRun) -> dict[str, Any]:
    """Recall of `/similar`."""
    return similar_recall.measure(bench.folder / "similar", bench.size.movies, bench.size.queries, bench.seed)


PARTS: dict[str, Callable[[ServingRun], dict[str, Any]]] = {
    "contestants": contestants,
    "steady": steadily,
    "restarts": restarting,
    "probes": probing,
    "meter": meter,
    "similar": similar,
}
