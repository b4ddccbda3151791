"""Runs one command and measures it: time, output, and the peak memory of the process and its children.

Memory is resident memory from /proc, read every 50 ms: the sum over the process and all its children, mapped files
included; what several of them share is counted in each. The process's own high-water mark, which misses no peak in
between, counts where it is larger. (`ru_maxrss` of a child would not do: it begins with what its parent held.)
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
from typing import NamedTuple

import msgspec
from msgspec import Struct

from batch import progress
from loadtest.bench.serving.bench_processes import clean_environ
from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError

StepFigures = dict[str, bool | int | float]
"""Of one step of the night: `seconds`, `peak_memory_mb`, and whatever else it counts."""
_LOOK_S = 0.05
_TIMEOUT_S = 3600.0
_PHASE = re.compile(rf" {re.escape(progress.log.name)}: (.+): ([0-9.]+) s(?:, ([0-9,]+)/s)?$")
"""A line of `batch.progress`: the phase, its seconds and its units a second."""


class Phase(NamedTuple):
    """One phase of a command, as its progress logged it."""

    seconds: float
    per_s: float | None
    """Units a second; None if the phase counts none."""


class PrintedSummary(Struct, frozen=True):
    """What `python -m batch <name>` prints, as far as it is needed here."""

    steps: dict[str, dict[str, object]] = {}
    """By step of a night: its figures, and some texts. Empty for a single step."""


@dataclass(frozen=True)
class MeasuredCommand:
    """Measurements of a command that ended with exit code 0."""

    seconds: float
    """From its start to its end, imports included."""
    peak_memory_mb: float
    """MiB, as in the night's own summary."""
    summary: PrintedSummary
    phases: dict[str, Phase]
    """By name, in their order."""

    def steps(self) -> dict[str, StepFigures]:
        """By step of a night, in their order: its figures, without its texts."""
        return {
            name: {key: value for key, value in step.items() if isinstance(value, int | float)}
            for name, step in self.summary.steps.items()
        }


def batch(var: Path, name: str) -> MeasuredCommand:
    """Run `python -m batch <name>` on a folder `var`, with default settings. Raises as `command` does."""
    environ = {
        "MARQUEE_STREAM_VAR": str(var),
        "MARQUEE_BATCH_API": "http://127.0.0.1:1",  # nothing answers there: the catalogue holds all that is known
    }
    return command(name, [sys.executable, "-m", "batch", name], var.parent, environ)


def command(
    name: str, arguments: list[str], folder: Path, environ: Mapping[str, str], timeout_s: float = _TIMEOUT_S
) -> MeasuredCommand:
    """Run a command; its output goes to `<folder>/<name>.out` and `.log`.

    Raises `LoadtestError` if it fails, prints no JSON object or takes longer than `timeout_s`; in any case its
    processes are ended.
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
        peak_kib = _watch(process, began + timeout_s)
    finally:
        _end(process)
    taken = time.monotonic() - began
    if process.returncode:
        end = f"was ended after {timeout_s:.0f} s" if taken > timeout_s else f"ended with code {process.returncode}"
        raise LoadtestError(f"bench: {name} {end}: {_last_line(log)}")
    try:
        summary = msgspec.json.decode(output.read_bytes(), type=PrintedSummary)
    except msgspec.MsgspecError as error:
        raise LoadtestError(f"bench: {name} printed no JSON object: {error}") from error
    return MeasuredCommand(taken, peak_kib / 1024, summary, _phases(log.read_text("utf-8", "replace")))


def _watch(process: subprocess.Popen[bytes], deadline: float) -> int:
    """Wait for the end of a process or the deadline; returns its peak memory, KiB."""
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
    """Ids of a process and all its descendants."""
    pids = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text("ascii").split():
                pids += _tree(int(child))
    return pids


def _status_kib(pid: int, field: str) -> int:
    """A field of /proc/<pid>/status; 0 for a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return 0
    match = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match[1]) if match else 0


def _phases(log: str) -> dict[str, Phase]:
    phases: dict[str, Phase] = {}
    for line in log.splitlines():
        if match := _PHASE.search(line):
            rate = match[3]
            phases[match[1]] = Phase(float(match[2]), float(rate.replace(",", "")) if rate else None)
    return phases


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().split("\n")
    return lines[-1] or "no output"
