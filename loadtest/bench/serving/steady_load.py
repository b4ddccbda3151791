"""10,000 requests a second: two workers on one listening socket, as supervisord starts them, and an open-loop client.

With one release, and while `current` moves between two of them every second, the way the night publishes: by one
rename; both in turn, several rounds. The releases are verified beforehand, as the night does with what it publishes.
"""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

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


def measure(
    stage: ReleaseStage, folder: Path, seconds: float, rounds: int = 1, rate: float = RATE, swap_s: float = _SWAP_S
) -> dict[str, Any]:
    """Latencies and errors, without swaps and with them: in turn, so many rounds of so many seconds each."""
    for release in stage.releases:
        Release.open(release)
    with ProcessGroup(folder) as crew, socket.create_server((HOST, 0), backlog=4096) as listener:
        port = listener.getsockname()[1]
        workers = [crew.start_worker(f"worker-{one}", stage.both, port, listener) for one in range(WORKERS)]
        workers[0].until(lambda: _serving(stage.both) == WORKERS, "two workers that serve")
        steady, moving, swaps = list[_Round](), list[_Round](), 0
        for seed in range(rounds):
            plan = LoadPlan(port=port, rate=rate, seconds=seconds, users=stage.users, seed=seed + 1)
            steady.append(_measured(plan, workers))
            with swapping(stage, swap_s) as moved:
                moving.append(_measured(plan, workers))
            swaps += len(moved)
            durable.point(stage.both / "releases" / "current", stage.releases[0].name)
            workers[0].until(lambda: _answering(stage.both, stage.releases[0].name) == WORKERS, "the first release")
        return {**_told("steady", steady), **_told("swapping", moving), "swapping_swaps": swaps}


@contextmanager
def swapping(stage: ReleaseStage, every_s: float) -> Iterator[list[str]]:
    """Move `current` on again and again while the block runs; what it pointed at is in the list."""
    stop, swaps = threading.Event(), list[str]()

    def swap() -> None:
        while not stop.wait(every_s):
            # the compact one is current at first
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
    found: LoadResult
    cpu_us: float
    """A request, of both workers."""
    busiest: float
    """Share of one of them."""
    private_mb: float


def _measured(plan: LoadPlan, workers: list[RunningProcess]) -> _Round:
    before = [worker.cpu_s() for worker in workers]
    found = openloop.measure(plan)
    spent = [worker.cpu_s() - began for worker, began in zip(workers, before, strict=True)]
    private = max(worker.memory().private for worker in workers)
    return _Round(found, sum(spent) / found.requests * 1e6, max(spent) / max(sum(spent), 1e-9), private)


def _told(name: str, rounds: list[_Round]) -> dict[str, Any]:
    """Errors of all rounds together; of what varies, the median."""
    found = [one.found for one in rounds]
    latency, late = _medians([one.latency_ms for one in found]), _medians([one.late_ms for one in found])
    return {
        f"{name}_requests": sum(one.requests for one in found),
        f"{name}_errors": sum(one.failed for one in found),
        f"{name}_errors_by_kind": dict(sum((Counter(one.errors) for one in found), Counter[str]())),
        f"{name}_p99_9_ms": latency.get("99.9"),
        f"{name}_p99_9_highest_ms": max((one.latency_ms["99.9"] for one in found if one.latency_ms), default=None),
        f"{name}_latency_ms": latency,
        f"{name}_client_late_ms": late,
        f"{name}_waited": sum(one.waited for one in found),
        f"{name}_connections_lost": sum(one.connections_lost for one in found),
        f"{name}_releases": dict(sum((Counter(one.releases) for one in found), Counter[str]())),
        f"{name}_cpu_us": round(median(one.cpu_us for one in rounds), 1),
        f"{name}_busiest_share": round(median(one.busiest for one in rounds), 2),
        f"{name}_private_mb": round(max(one.private_mb for one in rounds), 1),
    }


def _medians(tables: list[dict[str, float]]) -> dict[str, float]:
    whole = [table for table in tables if table]
    return {name: median(table[name] for table in whole) for name in (whole[0] if whole else {})}


def _serving(var: Path) -> int:
    """How many workers say that they serve."""
    return sum(status is not None and status.state == "serving" for status in ask_workers(var).values())


def _answering(var: Path, release: str) -> int:
    """How many workers say that they answer from a release."""
    return sum(status is not None and status.release == release for status in ask_workers(var).values())
