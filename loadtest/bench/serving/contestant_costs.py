"""The cost of an answer for each contestant: CPU time, latency, memory and first answer, under wrk.

CPU time is user and system time of the answering process and its children, from /proc, divided by the requests that wrk
counted: other work on the machine matters little, and a server has no advantage from a second core. The contestants
take turns, and the median of the rounds counts. Latency under wrk is that of a server at its limit.
"""

import logging
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from loadtest.bench.serving import wrk
from loadtest.bench.serving.bench_processes import ProcessGroup, RunningProcess
from loadtest.bench.serving.bench_releases import ReleaseStage
from loadtest.bench.serving.contestants import NAMES, Contestants, require_same, typical
from loadtest.bench.serving.wrk import WrkResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CostPlan:
    """How much is measured."""

    rounds: int
    """How often each contestant has its turn."""
    seconds: int
    """Length of a turn."""
    starts: int
    """How often each contestant is started."""


class ContestantFigures(Struct, frozen=True, kw_only=True):
    """One contestant; medians of the rounds but where another is said."""

    cpu_us: float
    """CPU microseconds a request."""
    cpu_us_lowest: float
    """Of one round."""
    cpu_us_highest: float
    requests_per_s: int
    p50_us: float
    p99_us: float
    p99_9_us: float
    errors: int
    """Of all rounds."""
    private_mb: float
    """Anonymous memory, which each process has for itself."""
    mapped_mb: float
    """Mapped files, of which all workers share one copy."""
    first_answer_s: float
    """From the start of the process to its first answer; median of the starts."""


class CostFigures(Struct, frozen=True, kw_only=True):
    """All contestants, and Marquee's workers compared with the others."""

    compact_nginx_ratio: float
    """CPU time a request, divided by nginx's."""
    rendered_nginx_ratio: float
    compact_ordinary_ratio: float
    """CPU time a request, divided by that of a worker without the fast lane."""
    rendered_ordinary_ratio: float
    compact_private_mb: float
    rendered_private_mb: float
    compact_mapped_mb: float
    rendered_mapped_mb: float
    compact_first_answer_s: float
    rendered_first_answer_s: float
    compact_first_ever_s: float
    """The first answer of a worker that has to verify the release itself; in production the night does that."""
    rendered_first_ever_s: float
    wrk_errors: int
    contestants: dict[str, ContestantFigures]


def measure(stage: ReleaseStage, folder: Path, plan: CostPlan) -> CostFigures:
    """Compare all contestants. Raises `LoadtestError` if one does not start or answers differently."""
    tools = wrk.tools()
    with ExitStack() as stack:
        group = stack.enter_context(ProcessGroup(folder))
        contestants = Contestants(group, stage, tools.nginx, folder)
        first_ever_s = {name: _start(group, contestants, name, 1)[1] for name in ("compact", "rendered")}
        running: dict[str, RunningProcess] = {}
        first_answer_s: dict[str, float] = {}
        for name in NAMES:
            if name == "nginx":
                contestants.fit_nginx(typical(running["compact"], stage.users))
            running[name], first_answer_s[name] = _start(group, contestants, name, plan.starts, keep=True)
        require_same(running, stage.users)
        rounds = _rounds(running, tools.wrk, folder, plan, stage.users)
        rows = {
            name: contestant_figures(*rounds[name], process, first_answer_s[name]) for name, process in running.items()
        }
    return cost_figures(rows, first_ever_s)


def _start(
    group: ProcessGroup, contestants: Contestants, name: str, starts: int, keep: bool = False
) -> tuple[RunningProcess, float]:
    """Start a contestant so often; the median seconds to its first answer. With `keep` the last one stays up."""
    seconds = []
    for left in reversed(range(starts)):
        process = contestants.start(name)
        seconds.append(process.first_answer_s())
        if left or not keep:
            group.end(process)
    return process, statistics.median(seconds)


def _rounds(
    running: Mapping[str, RunningProcess], wrk_path: str, folder: Path, plan: CostPlan, users: int
) -> dict[str, tuple[list[WrkResult], list[float]]]:
    """All in turn, round by round; by contestant what wrk measured, and CPU microseconds a request."""
    rounds: dict[str, tuple[list[WrkResult], list[float]]] = {name: ([], []) for name in running}
    for number in range(plan.rounds):
        for name, process in running.items():
            before = process.cpu_s()
            load = wrk.run(wrk_path, folder, process.port, plan.seconds, users, number)
            loads, cpu_us = rounds[name]
            cpu_us.append((process.cpu_s() - before) / max(load.requests, 1) * 1e6)
            loads.append(load)
        shown = ", ".join(f"{name} {cpu_us[-1]:.1f} µs" for name, (_, cpu_us) in rounds.items())
        log.info("round %d: %s", number + 1, shown)
    return rounds


def contestant_figures(
    loads: list[WrkResult], cpu_us: list[float], process: RunningProcess, first_answer_s: float
) -> ContestantFigures:
    """The figures of one contestant, from its rounds, the process that still runs and its first answer."""
    memory = process.memory()
    return ContestantFigures(
        cpu_us=round(statistics.median(cpu_us), 2),
        cpu_us_lowest=round(min(cpu_us), 2),
        cpu_us_highest=round(max(cpu_us), 2),
        requests_per_s=round(statistics.median(load.requests / load.seconds for load in loads)),
        p50_us=statistics.median(load.p50_us for load in loads),
        p99_us=statistics.median(load.p99_us for load in loads),
        p99_9_us=statistics.median(load.p99_9_us for load in loads),
        errors=sum(load.errors for load in loads),
        private_mb=round(memory.private, 1),
        mapped_mb=round(memory.mapped, 1),
        first_answer_s=round(first_answer_s, 3),
    )


def cost_figures(rows: dict[str, ContestantFigures], first_ever_s: dict[str, float]) -> CostFigures:
    """All figures, from those of each contestant and the first answers of workers that verify."""
    compact, rendered, nginx, ordinary = (rows[name] for name in ("compact", "rendered", "nginx", "ordinary"))
    return CostFigures(
        compact_nginx_ratio=round(compact.cpu_us / nginx.cpu_us, 4),
        rendered_nginx_ratio=round(rendered.cpu_us / nginx.cpu_us, 4),
        compact_ordinary_ratio=round(compact.cpu_us / ordinary.cpu_us, 4),
        rendered_ordinary_ratio=round(rendered.cpu_us / ordinary.cpu_us, 4),
        compact_private_mb=compact.private_mb,
        rendered_private_mb=rendered.private_mb,
        compact_mapped_mb=compact.mapped_mb,
        rendered_mapped_mb=rendered.mapped_mb,
        compact_first_answer_s=compact.first_answer_s,
        rendered_first_answer_s=rendered.first_answer_s,
        compact_first_ever_s=round(first_ever_s["compact"], 3),
        rendered_first_ever_s=round(first_ever_s["rendered"], 3),
        wrk_errors=sum(row.errors for row in rows.values()),
        contestants=rows,
    )
