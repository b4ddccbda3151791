"""Health probes during a flood: does a busy worker still answer them?

4,000 connections ask a worker for `/healthz` as fast as they are answered; once over connections that stay, once over a
new one each time. Meanwhile the operator's port and the public one are probed over fresh connections.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.bench.serving.bench_processes import HOST, ProcessGroup, RunningProcess
from loadtest.bench.serving.bench_releases import ReleaseStage
from loadtest.demo.processes import free_port

CONNECTIONS = 4_000
_CROWDS = {"kept": (), "anew": ("-H", "connection: close")}


def measure(stage: ReleaseStage, folder: Path, wrk: str, probes: int) -> dict[str, Any]:
    """How many of so many probes beside each crowd were answered 200 within a second, and the slowest, ms."""
    figures: dict[str, Any] = {}
    with ProcessGroup(folder) as crew:
        worker = crew.start_worker("probed", stage.both, free_port())
        worker.first_answer_s()
        port = free_port()
        command = [sys.executable, "-m", "server", "operator", "--host", HOST, "--port", str(port)]
        operator = crew.start("operator", command, port, {"MARQUEE_STREAM_VAR": str(stage.both)})
        operator.until(lambda: _probe_ms(operator) is not None, "an answer")
        for name, headers in _CROWDS.items():
            with _crowd(wrk, worker.port, headers):
                asked = {where: [_probe_ms(running) for _ in range(probes)]
                         for where, running in (("operator", operator), ("public", worker))}  # fmt: skip
            for where, times in asked.items():
                answered = [ms for ms in times if ms is not None]
                figures[f"probes_{where}_{name}"] = len(times)
                figures[f"probes_{where}_{name}_in_time"] = sum(ms <= 1000 for ms in answered)
                figures[f"probes_{where}_{name}_refused"] = len(times) - len(answered)
                figures[f"probes_{where}_{name}_p50_ms"] = round(median(answered), 1) if answered else None
                figures[f"probes_{where}_{name}_slowest_ms"] = round(max(answered), 1) if answered else None
    return figures


@contextmanager
def _crowd(wrk: str, port: int, headers: tuple[str, ...]) -> Iterator[None]:
    """The crowd while the block runs; it ends by itself after ten minutes in any case."""
    command = [wrk, "-t1", f"-c{CONNECTIONS}", "-d600s", *headers, f"http://{HOST}:{port}/healthz"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)  # until all have connected
        yield
    finally:
        process.kill()
        process.wait()


def _probe_ms(running: RunningProcess) -> float | None:
    """How long `/healthz` takes over a fresh connection, connecting included; None where it is not 200."""
    began = time.monotonic()
    try:
        status = running.ask("/healthz").status
    except OSError:
        return None
    return 1e3 * (time.monotonic() - began) if status == 200 else None
