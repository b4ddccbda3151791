"""Collecting, end to end: lines that lie in a broker, read, judged and archived by `python -m batch collect`.

The broker is the embedded one; the lines are written beforehand, and each run collects all of them into a folder of its
own, on the disk that `var/` is on. The time runs from the collector's lock, taken when it has started and before it
asks the broker for anything, until its last ledger entry is in place: what it needs to be imported and to find that no
more comes is left out. The collector's seconds of the processor are those of the whole process, less those of one that
found nothing to collect.
"""

import asyncio
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.bench.lines.line_sources import SETTINGS, LineSample
from loadtest.demo.processes import ROOT, free_port
from loadtest.errors import LoadtestError
from quality.catalog import Catalog
from stream import broker, kafka
from stream.archive import Archive

log = logging.getLogger(__name__)

_WORK = ROOT / "var" / "bench"
_HOST = "127.0.0.1"
_TOPIC, _EMPTY = "bench", "bench-empty"
_AT_ONCE = 50_000
_MOST_SECONDS = 600.0


def measure(sample: LineSample, runtimes: Mapping[str, int | None], runs: int) -> dict[str, Any]:
    """Lines per second and the collector's seconds of the processor per million lines, medians of so many runs."""
    port = free_port()
    _WORK.mkdir(parents=True, exist_ok=True)
    with broker.running(_HOST, port), tempfile.TemporaryDirectory(dir=_WORK) as folder:
        bootstrap = f"{_HOST}:{port}"
        asyncio.run(_write(sample, bootstrap))
        _, idle_cpu_s = _collect(Path(folder) / "idle", bootstrap, _EMPTY, {}, 0)
        found = [_collect(Path(folder) / str(run), bootstrap, _TOPIC, runtimes, len(sample)) for run in range(runs)]
    seconds = statistics.median(taken for taken, _ in found)
    cpu_s = statistics.median(spent for _, spent in found) - idle_cpu_s
    return {
        "collect_lines_per_s": round(len(sample) / seconds),
        "collect_cpu_s_per_million": round(cpu_s / len(sample) * 1e6, 2),
    }


async def _write(sample: LineSample, bootstrap: str) -> None:
    async with kafka.writing(bootstrap, _EMPTY):
        pass
    async with kafka.writing(bootstrap, _TOPIC) as writer:
        for at in range(0, len(sample), _AT_ONCE):
            await writer.write(sample.lines[at : at + _AT_ONCE], sample.kafka_times[at : at + _AT_ONCE].tolist())


def _collect(
    var: Path, bootstrap: str, topic: str, runtimes: Mapping[str, int | None], lines: int
) -> tuple[float, float]:
    """Seconds from the lock to the last commit, and seconds of the processor. Raises `LoadtestError` if lines lack."""
    if runtimes:
        records = ((name, {"id": name, "runtime": minutes}) for name, minutes in runtimes.items())
        Catalog(var).keep("movie", [(name, "known", record, "") for name, record in records])
    cpu_s = _run(_environ(var, bootstrap, topic), var.with_suffix(".log"))
    archive = Archive(var)
    archived = sum(entry.lines for entry in archive.entries(topic))
    if archived != lines:
        raise LoadtestError(f"bench: {archived} lines were collected, {lines} were written")
    began = (var / "archive" / "writer.lock").stat().st_mtime_ns
    ends = [path.stat().st_ctime_ns for path in archive.ledger.glob("*.json")]
    return (max(ends, default=began) - began) / 1e9, cpu_s


def _run(environ: dict[str, str], log_file: Path) -> float:
    """Run the collector until nothing more comes; its seconds of the processor. Raises `LoadtestError` if it fails."""
    command = [sys.executable, "-m", "batch", "collect", "--until-idle", "1"]
    with log_file.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
    deadline = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < deadline:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise LoadtestError(f"bench: collect ended with code {process.returncode}: {_last_line(log_file)}")
            return used.ru_utime + used.ru_stime
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise LoadtestError(f"bench: collect did not end within {_MOST_SECONDS:.0f} s: {_last_line(log_file)}")


def _environ(var: Path, bootstrap: str, topic: str) -> dict[str, str]:
    """The caller's environment, with the settings of this run in place of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return kept | {
        "MARQUEE_SETTINGS": os.devnull,
        "MARQUEE_STREAM_VAR": str(var),
        "MARQUEE_STREAM_BOOTSTRAP": bootstrap,
        "MARQUEE_STREAM_TOPIC": topic,
        "MARQUEE_STREAM_GENERATION": SETTINGS.generation,
        "MARQUEE_STREAM_TIMEZONE": SETTINGS.timezone,
        "MARQUEE_BATCH_API": f"http://{_HOST}:1",  # nobody answers there: what is known is in the catalogue
    }


def _last_line(log_file: Path) -> str:
    lines = log_file.read_text("utf-8", "replace").strip().split("\n")
    return lines[-1] or "no output"
