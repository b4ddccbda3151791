"""The benchmark `night`: how long a night takes that learns from a million users, and what memory it holds.

| part | what is measured |
|---|---|
| `compaction` | `python -m batch sessions` on a day of 95 million lines; and again, when there is nothing to do |
| `night` | `python -m batch nightly`, all steps, on twenty days of which the last one lies in the archive |
| `growth` | the same with a quarter and a half of the users, who do as much as before |

What the night finds is written straight into Marquee's forms, see `synthetic_history.py`; that is not part of any time.
Each command is a process of its own with all settings at their defaults, timed from its start to its end; memory is
what was resident at most, see `measured_command.py`. The night's own summary says the seconds and the memory of its
steps.

| figure | what it is |
|---|---|
| `compaction_seconds`, `compaction_lines_per_s`, `compaction_peak_memory_mb` | of the first time |
| `compaction_again_seconds` | of the second; `compaction_again_changes_nothing`: every file has the same digest |
| `night_seconds`, `night_peak_memory_mb` | of all steps together, with what the process needs to start |
| `night_steps` | by step: seconds, peak memory and rows of all kinds, as the night tells them |
| `night_phases` | by phase that the night's progress shows: seconds; `night_lists_users_per_s` is that of the lists |
| `growth` | by number of users: seconds, peak memory, and the seconds of each step |
| `growth_exponent` | of the seconds by the users, from the smallest night to the largest: 1 is in proportion |

`--quick` measures the same on 20,000 users; times and memory are then held against targets that they cannot miss, and
only `compaction_again_changes_nothing` says anything.
"""

import hashlib
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from batch.history.day_store import DayStore
from loadtest.bench.night import measured_command, synthetic_history
from loadtest.bench.night.measured_command import MeasuredCommand
from loadtest.bench.night.synthetic_history import SyntheticHistory
from loadtest.bench.result import BenchmarkResult, Target
from loadtest.bench.serving.bench_processes import ends_on_sigterm
from loadtest.demo.processes import ROOT

log = logging.getLogger(__name__)

TARGETS: dict[str, Target] = {
    "compaction_seconds": ("<=", 360),
    "compaction_peak_memory_mb": ("<=", 4096),
    "compaction_again_changes_nothing": ("==", True),
    "night_seconds": ("<=", 600),
    "night_peak_memory_mb": ("<=", 8192),
}
_WORK = ROOT / "var" / "bench"


@dataclass(frozen=True)
class NightSize:
    """How much is measured."""

    past: synthetic_history.HistorySize
    shares: tuple[float, ...]
    """Of the users, for `growth`, ascending; the whole is the last one."""


FULL = NightSize(synthetic_history.HistorySize(users=1_000_000, movies=27_000, sessions=20_000_000), (0.25, 0.5, 1.0))
QUICK = NightSize(synthetic_history.HistorySize(users=20_000, movies=1_000, sessions=210_000), (0.5, 1.0))


class NightRun:
    """What the parts share: the folder, the past and the night on the whole of it, each made when it is asked for."""

    def __init__(self, folder: Path, size: NightSize, seed: int) -> None:
        self.folder, self.size, self.seed = folder, size, seed

    @cached_property
    def past(self) -> SyntheticHistory:
        """The past of full size."""
        return self.written("whole", self.size.past)

    @cached_property
    def night(self) -> MeasuredCommand:
        """The night on it."""
        return spent(self.past)

    def written(self, name: str, size: synthetic_history.HistorySize) -> SyntheticHistory:
        """A past, told of."""
        began = time.monotonic()
        found = synthetic_history.write(self.folder / name, size, self.seed)
        text = "%s users, %s sessions, %s minutes in the archive: %.1f s"
        log.info(text, f"{size.users:,}", f"{found.sessions:,}", f"{found.lines:,}", time.monotonic() - began)
        return found


def run(size: NightSize, seed: int, parts: tuple[str, ...] = ()) -> BenchmarkResult:
    """Measure the parts, all where none is named. Raises `LoadtestError` where the disk is full or a command fails."""
    figures: dict[str, Any] = {"users": size.past.users, "movies": size.past.movies}
    _WORK.mkdir(parents=True, exist_ok=True)
    with ends_on_sigterm(), tempfile.TemporaryDirectory(dir=_WORK) as folder:
        bench = NightRun(Path(folder), size, seed)
        for name, part in PARTS.items():
            if not parts or name in parts:
                log.info("%s …", name)
                began = time.monotonic()
                figures |= part(bench)
                log.info("%s: %.1f s", name, time.monotonic() - began)
    return BenchmarkResult("night", figures, TARGETS)


def compaction(bench: NightRun) -> dict[str, Any]:
    """The lines of a day to sessions, twice."""
    found = bench.past
    first = measured_command.batch(found.var, "sessions")
    before = digests(found.var / "sessions")
    again = measured_command.batch(found.var, "sessions")
    return {
        "compaction_lines": found.lines,
        "compaction_all_lines": found.all_lines,
        "compaction_seconds": round(first.seconds, 2),
        "compaction_lines_per_s": round(found.all_lines / first.seconds),
        "compaction_peak_memory_mb": round(first.peak_memory_mb),
        "compaction_again_seconds": round(again.seconds, 2),
        "compaction_again_changes_nothing": digests(found.var / "sessions") == before,
    }


def night(bench: NightRun) -> dict[str, Any]:
    """All steps, on everything."""
    found = bench.night
    phases = {name: seconds for name, (seconds, _) in found.phases.items()}
    return {
        "sessions": bench.past.sessions,
        **_whole(found, "night_"),
        "night_steps": steps_of(found),
        "night_phases": phases,
        "night_lists_users_per_s": found.phases.get("lists", (0.0, None))[1],
    }


def growth(bench: NightRun) -> dict[str, Any]:
    """Nights on pasts of several sizes; the largest is that of `night`."""
    table: dict[str, dict[str, Any]] = {}
    for share in bench.size.shares:
        size = bench.size.past.of(share)
        if share == 1:
            found = bench.night
        else:
            made = bench.written(f"share-{share}", size)
            found = spent(made)
            shutil.rmtree(made.var)
        seconds = {f"{name}_s": step["seconds"] for name, step in steps_of(found).items()}
        table[str(size.users)] = {**_whole(found, ""), **seconds}
    return {"growth": table, "growth_exponent": exponent([(int(name), row["seconds"]) for name, row in table.items()])}


def exponent(nights: list[tuple[int, float]]) -> float | None:
    """Of the seconds by the users, from the first night to the last; None of a single one."""
    (users, seconds), (more, longer) = nights[0], nights[-1]
    return round(math.log(longer / seconds) / math.log(more / users), 3) if more > users else None


def spent(found: SyntheticHistory) -> MeasuredCommand:
    """A night on a past as it was written: what an earlier part made of it is forgotten."""
    DayStore(found.var).remove(found.days[-1])
    for name in ("night", "releases"):
        shutil.rmtree(found.var / name, ignore_errors=True)
    return measured_command.batch(found.var, "nightly")


def _whole(found: MeasuredCommand, prefix: str) -> dict[str, float]:
    return {
        f"{prefix}seconds": round(found.seconds, 2),
        f"{prefix}peak_memory_mb": round(found.peak_memory_mb),
    }


def steps_of(found: MeasuredCommand) -> dict[str, dict[str, float]]:
    """By step, in their order: seconds, peak memory, and whatever else the step counted."""
    told: dict[str, dict[str, Any]] = found.told["steps"]
    return {
        name: {key: value for key, value in step.items() if isinstance(value, int | float)}
        for name, step in told.items()
    }


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


PARTS: dict[str, Callable[[NightRun], dict[str, Any]]] = {"compaction": compaction, "night": night, "growth": growth}
