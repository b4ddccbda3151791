"""Rolling restarts under load: two workers under supervisord, an open-loop client, and other work on every core.

Repeats `python -m server restart` while a client that never retries sends 1,000 requests per second. No request
may be lost or refused. Of supervisord.conf only the workers are started: the other programs need a Kafka.
"""

import configparser
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from msgspec import Struct

from loadtest.bench.serving import openloop
from loadtest.bench.serving.bench_processes import HOST, ProcessGroup, clean_environ
from loadtest.bench.serving.bench_releases import ReleaseStage
from loadtest.bench.serving.openloop import LoadPlan, LoadResult
from loadtest.demo.processes import ROOT, free_port
from loadtest.errors import LoadtestError
from server.worker_status import ask_workers

RATE = 1_000
WORKERS = 2
_BURNERS_PER_CORE = 2
_LOAD_S = 10.0
"""Length of one load of the client; loads follow each other until all restarts are done."""
_PATIENCE_S = 30.0
_PROGRAMS = ("program:", "eventlistener:")


class RestartFigures(Struct, frozen=True, kw_only=True):
    """The requests during all restarts."""

    restarts: int
    """Restarts of all workers, one by one."""
    restarts_s: float
    """Mean seconds of such a restart."""
    restarts_requests: int
    restarts_errors: int
    restarts_errors_by_kind: dict[str, int]
    restarts_slowest_ms: float | None
    """None if no answer was good."""


def measure(stage: ReleaseStage, folder: Path, restarts: int) -> RestartFigures:
    """Restart all workers so often under load. Raises `LoadtestError` if a restart fails."""
    port, var = free_port(), stage.both
    environ = {
        "MARQUEE_PYTHON": sys.executable,
        "MARQUEE_RUN": str(folder),
        "MARQUEE_BIND": f"{HOST}:{port}",
        "MARQUEE_WORKERS": str(WORKERS),
        "MARQUEE_STREAM_VAR": str(var),
    }
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(_workers_only(folder))]
    with ProcessGroup(folder) as group, _busy_machine(group):
        supervisord = group.start("supervisord", command, port, environ)
        supervisord.until(lambda: _ready(var) == WORKERS, "two ready workers")
        restarting = _RestartThread(environ, restarts)
        restarting.start()
        loads = list[LoadResult]()
        while restarting.is_alive() or not loads:
            seed = len(loads) + 1
            plan = LoadPlan(port=port, rate=RATE, seconds=_LOAD_S, users=stage.users, seed=seed, patience_s=_PATIENCE_S)
            loads.append(openloop.measure(plan))
        restarting.join()
    if restarting.error:
        raise LoadtestError(f"bench: a restart failed: {restarting.error}")
    errors = sum((Counter(load.errors) for load in loads), Counter[str]())
    slowest_ms = [max(load.latency_ms.values()) for load in loads if load.latency_ms]
    return RestartFigures(
        restarts=len(restarting.seconds),
        restarts_s=round(sum(restarting.seconds) / len(restarting.seconds), 2),
        restarts_requests=sum(load.requests for load in loads),
        restarts_errors=sum(errors.values()),
        restarts_errors_by_kind=dict(errors),
        restarts_slowest_ms=max(slowest_ms, default=None),
    )


class _RestartThread(threading.Thread):
    """Restarts all workers, one by one, so many times; stops at the first error."""

    def __init__(self, environ: dict[str, str], restarts: int) -> None:
        super().__init__()
        self._environ, self._restarts = clean_environ() | environ, restarts
        self.seconds: list[float] = []
        self.error = ""

    def run(self) -> None:
        command = [sys.executable, "-m", "server", "restart"]
        for _ in range(self._restarts):
            began = monotonic()
            done = subprocess.run(command, cwd=ROOT, env=self._environ, capture_output=True, text=True, check=False)
            if done.returncode:
                self.error = done.stderr.strip()
                return
            self.seconds.append(monotonic() - began)


def _workers_only(folder: Path) -> Path:
    """supervisord.conf without the programs that need a Kafka."""
    config = configparser.RawConfigParser(inline_comment_prefixes=None)
    config.read(ROOT / "supervisord.conf", "utf-8")
    for section in config.sections():
        if section.startswith(_PROGRAMS):
            config.remove_section(section)
    path = folder / "supervisord.conf"
    with path.open("w", encoding="utf-8") as file:
        config.write(file)
    return path


@contextmanager
def _busy_machine(group: ProcessGroup) -> Iterator[None]:
    """Keep every core busy while the block runs."""
    burners = [
        group.start(f"burner-{number}", [sys.executable, "-c", "while True: pass"], 0)
        for number in range(_BURNERS_PER_CORE * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for burner in burners:
            with suppress(ValueError):
                group.end(burner)


def _ready(var: Path) -> int:
    """How many workers are ready."""
    return sum(status is not None and status.ready for status in ask_workers(var).values())
