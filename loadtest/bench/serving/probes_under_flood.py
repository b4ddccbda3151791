"""Health probes during a flood: does a busy worker still answer them?

4,000 clients request `/healthz` from a worker as fast as it answers; first over persistent connections, then over a new
one per request. Meanwhile the operator's port and the public one are probed over fresh connections.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from msgspec import Struct

from loadtest.bench.result import Figures, as_figures
from loadtest.bench.serving.bench_processes import HOST, ProcessGroup, RunningProcess
from loadtest.bench.serving.bench_releases import ReleaseStage
from loadtest.demo.processes import free_port

CONNECTIONS = 4_000
_FLOODS = {"kept": (), "anew": ("-H", "connection: close")}


class ProbeFigures(Struct, frozen=True, kw_only=True):
    """Probes of one port during one flood."""

    in_time: int
    """Answered 200 within a second."""
    refused: int
    """Not answered 200."""
    p50_ms: float | None
    """Of those answered 200; None without any, as the next."""
    slowest_ms: float | None


def figures(probes: dict[tuple[str, str], list[float | None]]) -> Figures:
    """The figures by their names in the result, from what `measure` returns."""
    by_name: Figures = {}
    for (port, flood), times_ms in probes.items():
        name = f"probes_{port}_{flood}"
        by_name |= {name: len(times_ms), **as_figures(probe_figures(times_ms), name)}
    return by_name


def probe_figures(times_ms: list[float | None]) -> ProbeFigures:
    """The figures of some probes; None is one that was not answered 200."""
    answered = [ms for ms in times_ms if ms is not None]
    return ProbeFigures(
        in_time=sum(ms <= 1000 for ms in answered),
        refused=len(times_ms) - len(answered),
        p50_ms=round(median(answered), 1) if answered else None,
        slowest_ms=round(max(answered), 1) if answered else None,
    )


def measure(stage: ReleaseStage, folder: Path, wrk: str, probes: int) -> dict[tuple[str, str], list[float | None]]:
    """Probe each port so often during each flood: milliseconds by port and flood, None if the answer is not 200."""
    measured: dict[tuple[str, str], list[float | None]] = {}
    with ProcessGroup(folder) as group:
        worker = group.start_worker("probed", stage.both, free_port())
        worker.first_answer_s()
        port = free_port()
        command = [sys.executable, "-m", "server", "operator", "--host", HOST, "--port", str(port)]
        operator = group.start("operator", command, port, {"MARQUEE_STREAM_VAR": str(stage.both)})
        operator.until(lambda: _probe_ms(operator) is not None, "answer")
        for flood, headers in _FLOODS.items():
            with _flood(wrk, worker.port, headers):
                for name, process in (("operator", operator), ("public", worker)):
                    measured[name, flood] = [_probe_ms(process) for _ in range(probes)]
    return measured


@contextmanager
def _flood(wrk: str, port: int, headers: tuple[str, ...]) -> Iterator[None]:
    """Flood a port while the block runs, for at most ten minutes."""
    command = [wrk, "-t1", f"-c{CONNECTIONS}", "-d600s", *headers, f"http://{HOST}:{port}/healthz"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)  # until all have connected
        yield
    finally:
        process.kill()
        process.wait()


def _probe_ms(process: RunningProcess) -> float | None:
    """How long `/healthz` takes over a fresh connection, connecting included; None if the answer is not 200."""
    began = time.monotonic()
    try:
        status = process.ask("/healthz").status
    except OSError:
        return None
    return 1e3 * (time.monotonic() - began) if status == 200 else None
