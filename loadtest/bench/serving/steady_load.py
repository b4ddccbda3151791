"""10,000 requests a second: two workers on one listening socket, as supervisord starts them, and an open-loop client.

Measured with one release, and while `current` moves between two releases every second as the night moves it, by one
rename; both in turn, several rounds. The releases are verified beforehand, as the night verifies what it publishes.
"""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from msgspec import Struct

from loadtest.bench.result import Figures, as_figures
from loadtest.bench.serving import openloop
from loadtest.bench.serving.bench_processes import HOST, ProcessGroup, RunningProcess
from loadtest.bench.serving.bench_releases import ReleaseStage
from loadtest.bench.serving.openloop import LoadPlan, LoadResult
from server.release import Release
from server.worker_status import ask_workers
from stream import durable

RATE = 10_000
WORKERS = 2
_SWAP_S = 1.0


class SteadyFigures(Struct, frozen=True, kw_only=True):
    """All rounds of one kind: sums of counts, medians of what varies."""

    requests: int
    errors: int
    errors_by_kind: dict[str, int]
    p99_9_ms: float | None
    """None if no answer was good; as the next."""
    p99_9_highest_ms: float | None
    """Of the worst round."""
    latency_ms: dict[str, float]
    """By percentile, from when a request was due to its answer."""
    client_late_ms: dict[str, float]
    """By percentile: how late the client itself was, which is part of the latency."""
    waited: int
    """Requests that found no free connection when they were due."""
    connections_lost: int
    releases: dict[str, int]
    """Good answers by release."""
    cpu_us: float
    """CPU microseconds a request, of both workers."""
    busiest_share: float
    """Share of the busier worker in that."""
    private_mb: float
    """Highest private memory of a worker in any round."""


class SteadyLoad(NamedTuple):
    """What was measured."""

    steady: SteadyFigures
    """With one release."""
    swapping: SteadyFigures
    """While releases are swapped."""
    swaps: int

    def figures(self) -> Figures:
        """All figures by their names in the result."""
        swapping = {**as_figures(self.swapping, "swapping"), "swapping_swaps": self.swaps}
        return as_figures(self.steady, "steady") | swapping


def measure(
    stage: ReleaseStage, folder: Path, seconds: float, rounds: int = 1, rate: float = RATE, swap_s: float = _SWAP_S
) -> SteadyLoad:
    """Measure without swaps and with them, in turn, so many rounds of so many seconds each."""
    for release in stage.releases:
        Release.open(release)
    with ProcessGroup(folder) as group, socket.create_server((HOST, 0), backlog=4096) as listener:
        port = listener.getsockname()[1]
        workers = [group.start_worker(f"worker-{number}", stage.both, port, listener) for number in range(WORKERS)]
        workers[0].until(lambda: _serving(stage.both) == WORKERS, "two serving workers")
        steady, swapping, swaps = list[_Round](), list[_Round](), 0
        for seed in range(rounds):
            plan = LoadPlan(port=port, rate=rate, seconds=seconds, users=stage.users, seed=seed + 1)
            steady.append(_measure_round(plan, workers))
            with swap_releases(stage, swap_s) as swapped:
                swapping.append(_measure_round(plan, workers))
            swaps += len(swapped)
            durable.point(stage.both / "releases" / "current", stage.releases[0].name)
            workers[0].until(
                lambda: _answering(stage.both, stage.releases[0].name) == WORKERS, "answers from the first release"
            )
        return SteadyLoad(_summarise(steady), _summarise(swapping), swaps)


@contextmanager
def swap_releases(stage: ReleaseStage, every_s: float) -> Iterator[list[str]]:
    """Move `current` between the releases while the block runs; yields the list of releases that it moved to."""
    stop, swaps = threading.Event(), list[str]()

    def swap() -> None:
        while not stop.wait(every_s):
            # the compact release is current at first
            swaps.append(stage.releases[(len(swaps) + 1) % 2].name)
            durable.point(stage.both / "releases" / "current", swaps[-1])

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield swaps
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class _Round:
    load: LoadResult
    cpu_us: float
    """CPU microseconds a request, of both workers."""
    busiest_share: float
    private_mb: float


def _measure_round(plan: LoadPlan, workers: list[RunningProcess]) -> _Round:
    before = [worker.cpu_s() for worker in workers]
    load = openloop.measure(plan)
    spent = [worker.cpu_s() - began for worker, began in zip(workers, before, strict=True)]
    private_mb = max(worker.memory().private for worker in workers)
    return _Round(load, sum(spent) / load.requests * 1e6, max(spent) / max(sum(spent), 1e-9), private_mb)


def _summarise(rounds: list[_Round]) -> SteadyFigures:
    loads = [measured.load for measured in rounds]
    latency_ms, late_ms = _medians([load.latency_ms for load in loads]), _medians([load.late_ms for load in loads])
    return SteadyFigures(
        requests=sum(load.requests for load in loads),
        errors=sum(load.failed for load in loads),
        errors_by_kind=dict(sum((Counter(load.errors) for load in loads), Counter[str]())),
        p99_9_ms=latency_ms.get("99.9"),
        p99_9_highest_ms=max((load.latency_ms["99.9"] for load in loads if load.latency_ms), default=None),
        latency_ms=latency_ms,
        client_late_ms=late_ms,
        waited=sum(load.waited for load in loads),
        connections_lost=sum(load.connections_lost for load in loads),
        releases=dict(sum((Counter(load.releases) for load in loads), Counter[str]())),
        cpu_us=round(median(measured.cpu_us for measured in rounds), 1),
        busiest_share=round(median(measured.busiest_share for measured in rounds), 2),
        private_mb=round(max(measured.private_mb for measured in rounds), 1),
    )


def _medians(tables: list[dict[str, float]]) -> dict[str, float]:
    """Medians by percentile; empty tables, of rounds without a good answer, are left out."""
    filled = [table for table in tables if table]
    return {name: median(table[name] for table in filled) for name in (filled[0] if filled else {})}


def _serving(var: Path) -> int:
    """How many workers say that they serve."""
    return sum(status is not None and status.state == "serving" for status in ask_workers(var).values())


def _answering(var: Path, release: str) -> int:
    """How many workers say that they answer from a release."""
    return sum(status is not None and status.release == release for status in ask_workers(var).values())
