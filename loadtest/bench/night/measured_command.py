"""Runs one command and measures it: time, output, and the most memory that it and its children held.

Memory is what is resident, from /proc, every 50 ms: the sum over the process and all that it started, files that are
mapped among it, and what several of them share counted in each. The process's own high-water mark, which misses no
peak in between, counts where it is larger. (`ru_maxrss` of a child would not do: it begins with what its parent held.)
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from batch import progress
from loadtest.bench.serving.bench_processes import clean_environ
from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError

_LOOK_S = 0.05
_PATIENCE_S = 3600.0
_PHASE = re.compile(rf" {re.escape(progress.log.name)}: (.+): ([0-9.]+) s(?:, ([0-9,]+)/s)?$")
"""A line of `batch.progress`: the phase, its seconds and its units a second."""


@dataclass(frozen=True)
class MeasuredCommand:
    """What was seen of a command that ended well."""

    seconds: float
    """From its start to its end, imports and all."""
    peak_memory_mb: float
    """MiB, as the night's own summary has it."""
    told: dict[str, Any]
    """The JSON object that it printed."""
    phases: dict[str, tuple[float, float | None]]
    """By phase that its progress was told of, in their order: seconds, and units a second."""


def batch(var: Path, name: str) -> MeasuredCommand:
    """Run `python -m batch <name>` over a folder `var`, all settings at their defaults. Raises as `command` does."""
    environ = {
        "MARQUEE_STREAM_VAR": str(var),
        "MARQUEE_BATCH_API": "http://127.0.0.1:1",  # nobody answers there: what is known is in the catalogue
    }
    return command(name, [sys.executable, "-m", "batch", name], var.parent, environ)


def command(
    name: str, arguments: list[str], folder: Path, environ: Mapping[str, str], seconds: float = _PATIENCE_S
) -> MeasuredCommand:
    """Run a command, whose output goes to files of its name in a folder.

    Raises `LoadtestError` where it fails, tells no JSON object or takes longer than that; it is ended in any case.
    """
    output, log = folder / f"{name}.out", folder / f"{name}.log"
    began = time.monotonic()
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=clean_environ() | dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        peak_kib = _watch(process, began + seconds)
    finally:
        _end(process)
    taken = time.monotonic() - began
    if process.returncode:
        how = f"was ended after {seconds:.0f} s" if taken > seconds else f"ended with code {process.returncode}"
        raise LoadtestError(f"bench: {name} {how}: {_last_line(log)}")
    try:
        told = orjson.loads(output.read_bytes())
    except orjson.JSONDecodeError as error:
        raise LoadtestError(f"bench: {name} printed no JSON object: {error}") from error
    return MeasuredCommand(taken, peak_kib / 1024, told, _phases(log.read_text("utf-8", "replace")))


def _watch(process: subprocess.Popen[bytes], deadline: float) -> int:
    """Wait for its end, or the deadline; the most memory, KiB."""
    peak = 0
    while process.poll() is None and time.monotonic() < deadline:
        peak = max(
            peak, _status_kib(process.pid, "VmHWM"), sum(_status_kib(pid, "VmRSS") for pid in _tree(process.pid))
        )
        time.sleep(_LOOK_S)
    return peak


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tree(pid: int) -> list[int]:
    """The process and all that it started."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text("ascii").split():
                found += _tree(int(child))
    return found


def _status_kib(pid: int, field: str) -> int:
    """A field of /proc/<pid>/status; 0 of a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _phases(log: str) -> dict[str, tuple[float, float | None]]:
    found: dict[str, tuple[float, float | None]] = {}
    for line in log.splitlines():
        if match := _PHASE.search(line):
            rate = match[3]
            found[match[1]] = float(match[2]), float(rate.replace(",", "")) if rate else None
    return found


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().split("\n")
    return lines[-1] or "no output"
