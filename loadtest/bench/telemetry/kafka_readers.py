"""Kafka to the store, end to end: `python -m quality telemetry`, and beside it two simple programs.

All read the same lines from the embedded broker, each as a process of its own, in turn. Telemetry checks, repairs and
stores every line, and writes the open report at its end; `simple_join.py` says what the others do. CPU time is that of
the whole process, less that of one that found nothing to read.
"""

import asyncio
import os
import statistics
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from loadtest.bench.lines.collector_speed import bench_environ, write_sample
from loadtest.bench.lines.line_sources import LineSample
from loadtest.bench.process_cpu import process_cpu_s
from loadtest.bench.telemetry.reading_speed import settings_for
from loadtest.demo.processes import free_port
from quality.errors import StoreError
from quality.telemetry.store import Store
from stream import broker

_HOST = "127.0.0.1"
_TOPIC, _EMPTY = "bench", "bench-empty"


class KafkaFigures(Struct, frozen=True, kw_only=True):
    """Lines by CPU second of the process; medians."""

    telemetry_lines_per_s: int
    aiokafka_lines_per_s: int
    """A loop with dictionaries, without any check, store or report."""
    faststream_lines_per_s: int
    """The same in FastStream."""
    telemetry_cost_ratio: float
    """CPU time of telemetry by that of the loop with aiokafka."""


def measure(sample: LineSample, runtimes: Mapping[str, int | None], runs: int, folder: Path) -> KafkaFigures:
    """Read a sample so many times with each program. Raises `LoadtestError` if one fails."""
    port = free_port()
    bootstrap = f"{_HOST}:{port}"
    taken: dict[str, list[float]] = {"telemetry": [], "aiokafka": [], "faststream": []}
    with broker.running(_HOST, port):
        asyncio.run(write_sample(sample, bootstrap, _TOPIC, _EMPTY))
        for run in range(runs):
            var = folder / f"telemetry-{run}"
            settings_for(var, runtimes)
            idle_s = _telemetry(folder / f"idle-{run}", bootstrap, _EMPTY, 0)
            taken["telemetry"].append(_telemetry(var, bootstrap, _TOPIC, len(sample)) - idle_s)
            for name in ("aiokafka", "faststream"):
                idle_s = _simple(name, bootstrap, _EMPTY, 0, folder)
                taken[name].append(_simple(name, bootstrap, _TOPIC, len(sample), folder) - idle_s)
    seconds = {name: statistics.median(spent) for name, spent in taken.items()}
    per_s = {name: round(len(sample) / spent) for name, spent in seconds.items()}
    return KafkaFigures(
        telemetry_lines_per_s=per_s["telemetry"],
        aiokafka_lines_per_s=per_s["aiokafka"],
        faststream_lines_per_s=per_s["faststream"],
        telemetry_cost_ratio=round(seconds["telemetry"] / seconds["aiokafka"], 1),
    )


def _telemetry(var: Path, bootstrap: str, topic: str, lines: int) -> float:
    """CPU seconds of telemetry until it has stored so many lines and ended."""

    def has_read() -> bool:
        return _position(var / "telemetry.db", topic) >= lines and (var / "metrics" / "telemetry.prom").exists()

    command = [sys.executable, "-m", "quality", "telemetry"]
    environ = bench_environ(var, bootstrap, topic)
    return process_cpu_s("telemetry", command, environ, var.with_suffix(".log"), has_read)


def _position(path: Path, topic: str) -> int:
    try:
        with closing(Store(path, create=False)) as store:
            return store.positions(topic).get(0, 0)
    except StoreError:  # not there, or not laid out yet
        return -1


def _simple(name: str, bootstrap: str, topic: str, lines: int, folder: Path) -> float:
    """CPU seconds of a simple program for so many lines."""
    module = "loadtest.bench.telemetry.simple_join"
    command = [sys.executable, "-m", module, name, bootstrap, topic, str(lines)]
    return process_cpu_s(name, command, os.environ, folder / f"{name}.log")
