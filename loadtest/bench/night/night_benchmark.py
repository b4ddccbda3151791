"""The benchmark `night`: time and memory of a night on a million users.

| part | what is measured |
|---|---|
| `compaction` | `python -m batch sessions` on a day of 95 million lines; and again, when there is nothing to do |
| `night` | `python -m batch nightly`, all steps, on twenty days, the last of them in the archive |
| `growth` | the same with a quarter and a half of the users, each as active as before |

The data are written straight into Marquee's storage formats, see `synthetic_history.py`; no figure includes that. Each
command is a separate process with default settings, timed from start to end; for its memory see `measured_command.py`.
Seconds and memory of the single steps come from the night's own summary.

`--quick` measures the same on 20,000 users, for which every target of time and memory is easily met; only
`compaction_again_changes_nothing` is meaningful there.
"""

import hashlib
import logging
import math
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from msgspec import Struct

from batch.history.day_store import DayStore
from loadtest.bench.benchmark import Benchmark, BenchmarkRun
from loadtest.bench.night import measured_command, night_plot, synthetic_history
from loadtest.bench.night.measured_command import MeasuredCommand, StepFigures
from loadtest.bench.night.synthetic_history import HistorySize, SyntheticHistory
from loadtest.bench.result import Figures, as_figures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NightSize:
    """How much is measured."""

    history: HistorySize
    shares: tuple[float, ...]
    """Shares of the users, for `growth`, ascending; the last one is 1."""


class CompactionFigures(Struct, frozen=True, kw_only=True):
    """The busy day turned into sessions, twice."""

    lines: int
    """Lines of minutes."""
    all_lines: int
    """With ratings and recommendations."""
    seconds: float
    lines_per_s: int
    peak_memory_mb: int
    """MiB, as in all figures of `night`."""
    again_seconds: float
    """Of the second time."""
    again_changes_nothing: bool
    """Whether every file has the same digest after the second time."""


class NightFigures(Struct, frozen=True, kw_only=True):
    """One night on the whole history."""

    sessions: int
    """Sessions begun in the whole history."""
    night_seconds: float
    """From the start of the process to its end."""
    night_peak_memory_mb: int
    night_steps: dict[str, StepFigures]
    """By step: seconds, peak memory and what else the step counts."""
    night_phases: dict[str, float]
    """Seconds by phase of the night's progress."""
    night_lists_users_per_s: float | None


class GrowthFigures(Struct, frozen=True, kw_only=True):
    """Nights on histories of several sizes."""

    growth: dict[str, dict[str, float]]
    """By number of users: `seconds`, `peak_memory_mb`, and the seconds of each step as `<step>_s`."""
    growth_exponent: float | None
    """Exponent of time over users, from the smallest to the largest: 1 is proportional. None for a single size."""


class NightRun(BenchmarkRun[NightSize]):
    """One run of `night`."""

    @cached_property
    def history(self) -> SyntheticHistory:
        """The history of full size."""
        return self.write_history("whole", self.size.history)

    @cached_property
    def night(self) -> MeasuredCommand:
        """The night on it."""
        return run_night(self.history)

    def facts(self) -> Figures:
        return {"users": self.size.history.users, "movies": self.size.history.movies}

    def write_history(self, name: str, size: HistorySize) -> SyntheticHistory:
        """Write a history into a new folder. Raises `LoadtestError` if the disk is full."""
        began = time.monotonic()
        history = synthetic_history.write(self.folder / name, size, self.seed)
        text = "%s users, %s sessions, %s minutes in the archive: %.1f s"
        log.info(text, f"{size.users:,}", f"{history.sessions:,}", f"{history.lines:,}", time.monotonic() - began)
        return history


def compaction(run: NightRun) -> CompactionFigures:
    """Turn the lines of a day into sessions, twice. As the other parts: raises `LoadtestError` if a command fails."""
    history = run.history
    first = measured_command.batch(history.var, "sessions")
    before = digests(history.var / "sessions")
    again = measured_command.batch(history.var, "sessions")
    return CompactionFigures(
        lines=history.lines,
        all_lines=history.all_lines,
        seconds=round(first.seconds, 2),
        lines_per_s=round(history.all_lines / first.seconds),
        peak_memory_mb=round(first.peak_memory_mb),
        again_seconds=round(again.seconds, 2),
        again_changes_nothing=digests(history.var / "sessions") == before,
    )


def night(run: NightRun) -> NightFigures:
    """Run all steps on the whole history."""
    command = run.night
    lists = command.phases.get("lists")
    return NightFigures(
        sessions=run.history.sessions,
        night_seconds=round(command.seconds, 2),
        night_peak_memory_mb=round(command.peak_memory_mb),
        night_steps=command.steps(),
        night_phases={name: phase.seconds for name, phase in command.phases.items()},
        night_lists_users_per_s=lists.per_s if lists else None,
    )


def growth(run: NightRun) -> GrowthFigures:
    """Run nights on histories of several sizes; the largest is that of `night`."""
    rows: dict[int, dict[str, float]] = {}
    for share in run.size.shares:
        size = run.size.history.of(share)
        if share == 1:
            command = run.night
        else:
            history = run.write_history(f"share-{share}", size)
            command = run_night(history)
            shutil.rmtree(history.var)
        rows[size.users] = {
            "seconds": round(command.seconds, 2),
            "peak_memory_mb": round(command.peak_memory_mb),
            **{f"{name}_s": step["seconds"] for name, step in command.steps().items()},
        }
    seconds = [(users, row["seconds"]) for users, row in rows.items()]
    return GrowthFigures(growth={str(users): row for users, row in rows.items()}, growth_exponent=exponent(seconds))


def exponent(nights: list[tuple[int, float]]) -> float | None:
    """Exponent of seconds over users, from the first night (users, seconds) to the last; None for a single one."""
    (fewest, shortest), (most, longest) = nights[0], nights[-1]
    return round(math.log(longest / shortest) / math.log(most / fewest), 3) if most > fewest else None


def run_night(history: SyntheticHistory) -> MeasuredCommand:
    """Run a night on a history as it was written: whatever an earlier part derived from it is removed."""
    DayStore(history.var).remove(history.days[-1])
    for name in ("night", "releases"):
        shutil.rmtree(history.var / name, ignore_errors=True)
    return measured_command.batch(history.var, "nightly")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path there."""
    by_path = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                by_path[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return by_path


NIGHT = Benchmark(
    name="night",
    full=NightSize(HistorySize(users=1_000_000, movies=27_000, sessions=20_000_000), (0.25, 0.5, 1.0)),
    quick=NightSize(HistorySize(users=20_000, movies=1_000, sessions=210_000), (0.5, 1.0)),
    parts={
        "compaction": lambda run: as_figures(compaction(run), "compaction"),
        "night": lambda run: as_figures(night(run)),
        "growth": lambda run: as_figures(growth(run)),
    },
    targets={
        "compaction_seconds": ("<=", 360),
        "compaction_peak_memory_mb": ("<=", 4096),
        "compaction_again_changes_nothing": ("==", True),
        "night_seconds": ("<=", 600),
        "night_peak_memory_mb": ("<=", 8192),
    },
    begin=NightRun,
    plot=night_plot.draw,
)
