"""Speed of collecting, end to end: `python -m batch collect` reads, judges and archives lines that lie in a broker.

The broker is the embedded one; the lines are written beforehand, and each run collects all of them into a folder of its
own. The time runs from the collector's lock, which it takes before it asks the broker for anything, until its last
ledger entry is in place: imports, and finding that no more comes, are left out. CPU time is that of the whole process,
less that of one that found nothing to collect.
"""

import asyncio
import logging
import os
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from loadtest.bench.lines.line_sources import SETTINGS, LineSample
from loadtest.bench.process_cpu import process_cpu_s
from loadtest.demo.processes import free_port
from loadtest.errors import LoadtestError
from quality.catalog import Catalog
from stream import broker, kafka
from stream.archive import Archive

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_TOPIC, _EMPTY = "bench", "bench-empty"
_LINES_A_WRITE = 50_000


class CollectFigures(Struct, frozen=True, kw_only=True):
    """Medians of all runs."""

    lines_per_s: int
    """By the wall's clock."""
    cpu_s_per_million: float
    """CPU seconds of the collector per million lines."""


def measure(sample: LineSample, runtimes: Mapping[str, int | None], runs: int, folder: Path) -> CollectFigures:
    """Collect a sample so many times, below a folder. Raises `LoadtestError` if the collector fails."""
    port = free_port()
    with broker.running(_HOST, port):
        bootstrap = f"{_HOST}:{port}"
        asyncio.run(write_sample(sample, bootstrap, _TOPIC, _EMPTY))
        _, idle_cpu_s = _collect(folder / "idle", bootstrap, _EMPTY, {}, 0)
        taken = [_collect(folder / str(run), bootstrap, _TOPIC, runtimes, len(sample)) for run in range(runs)]
    seconds = statistics.median(wall_s for wall_s, _ in taken)
    cpu_s = statistics.median(spent_s for _, spent_s in taken) - idle_cpu_s
    return CollectFigures(
        lines_per_s=round(len(sample) / seconds), cpu_s_per_million=round(cpu_s / len(sample) * 1e6, 2)
    )


async def write_sample(sample: LineSample, bootstrap: str, topic: str, empty: str) -> None:
    """Create two topics: one with the lines, and one without any."""
    async with kafka.writing(replace(SETTINGS, bootstrap=bootstrap, topic=empty)):
        pass
    async with kafka.writing(replace(SETTINGS, bootstrap=bootstrap, topic=topic)) as writer:
        for start in range(0, len(sample), _LINES_A_WRITE):
            end = start + _LINES_A_WRITE
            await writer.write(sample.lines[start:end], sample.kafka_times[start:end].tolist())


def _collect(
    var: Path, bootstrap: str, topic: str, runtimes: Mapping[str, int | None], lines: int
) -> tuple[float, float]:
    """Seconds from the lock to the last commit, and CPU seconds. Raises `LoadtestError` if lines are missing."""
    if runtimes:
        records = ((name, {"id": name, "runtime": minutes}) for name, minutes in runtimes.items())
        Catalog(var).keep("movie", [(name, "known", record, "") for name, record in records])
    command = [sys.executable, "-m", "batch", "collect", "--until-idle", "1"]
    cpu_s = process_cpu_s("collect", command, bench_environ(var, bootstrap, topic), var.with_suffix(".log"))
    archive = Archive(var)
    archived = sum(entry.lines for entry in archive.entries(topic))
    if archived != lines:
        raise LoadtestError(f"bench: collect archived {archived} of {lines} lines; see {var.with_suffix('.log')}")
    began = (var / "archive" / "writer.lock").stat().st_mtime_ns
    ends = [path.stat().st_ctime_ns for path in archive.ledger.glob("*.json")]
    return (max(ends, default=began) - began) / 1e9, cpu_s


def bench_environ(var: Path, bootstrap: str, topic: str) -> dict[str, str]:
    """The caller's environment, with the settings of this run instead of the caller's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return kept | {
        "MARQUEE_SETTINGS": os.devnull,
        "MARQUEE_STREAM_VAR": str(var),
        "MARQUEE_STREAM_BOOTSTRAP": bootstrap,
        "MARQUEE_STREAM_TOPIC": topic,
        "MARQUEE_STREAM_GENERATION": SETTINGS.generation,
        "MARQUEE_STREAM_TIMEZONE": SETTINGS.timezone,
        "MARQUEE_BATCH_API": f"http://{_HOST}:1",  # nothing answers there: the catalogue holds all that is known
    }
