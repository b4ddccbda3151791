"""The benchmark `quality`: how fast lines become typed, checked columns, how that compares, and how careful it is.

| part | what is measured |
|---|---|
| `speed` | judging as the collector does it; reading and schemas alone; the contestants: `judging_speed.py` |
| `repair` | precision and recall of repair: `repair_accuracy.py` |
| `collect` | Kafka to the archive, as a process: `collector_speed.py` |
| `bad_lines` | lines far worse than any of the stream: `bad_line_verdicts.py` |
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from loadtest.bench.benchmark import Benchmark, BenchmarkRun
from loadtest.bench.cpu_clock import ROUNDS
from loadtest.bench.lines import bad_line_verdicts, collector_speed, judging_speed, repair_accuracy
from loadtest.bench.lines.damage import corrupted
from loadtest.bench.lines.judging_speed import CORRUPTED, DAMAGE_SEED
from loadtest.bench.lines.line_sources import LineSource, RecordedLines, SimulatedLines
from loadtest.bench.result import Figures, as_figures

_SOURCE_SEED = 1
"""The good lines are always the same; the seed of a run makes the bad ones."""


@dataclass(frozen=True)
class LinesSize:
    """How much is measured: lines, but for `users`, `movies`, `collects` and `rounds`."""

    judged: int
    compared: dict[str, int]
    """By contestant: how many of those it gets; the slow ones get fewer."""
    repaired: int
    collected: int
    collects: int
    """How often they are collected."""
    bad: int
    rounds: int = ROUNDS
    users: int = 1_000_000
    """Of the simulated world."""
    movies: int = 27_000


class LinesRun(BenchmarkRun[LinesSize]):
    """One run of `quality`."""

    @cached_property
    def source(self) -> LineSource:
        """Recorded lines where a file was given, else those of the simulated world."""
        if self.inputs.lines:
            return RecordedLines(self.inputs.lines, self.inputs.movies, _SOURCE_SEED)
        return SimulatedLines(self.size.users, self.size.movies, _SOURCE_SEED)


def _speed(run: LinesRun) -> Figures:
    size = run.size
    return as_figures(judging_speed.measure(run.source, size.judged, size.compared, size.rounds, run.seed))


def _repair(run: LinesRun) -> Figures:
    return as_figures(repair_accuracy.measure(run.source, run.size.repaired), "repair")


def _collect(run: LinesRun) -> Figures:
    sample = corrupted(run.source.sample(run.size.collected), CORRUPTED, np.random.default_rng(DAMAGE_SEED))
    speed = collector_speed.measure(sample, run.source.runtimes, run.size.collects, run.folder)
    return as_figures(speed, "collect")


def _bad_lines(run: LinesRun) -> Figures:
    return as_figures(bad_line_verdicts.measure(run.source, run.size.bad, run.seed))


QUALITY = Benchmark(
    name="quality",
    full=LinesSize(
        judged=300_000,
        compared={
            "schema_only": 300_000,
            "pydantic": 50_000,
            "pandera": 100_000,
            "cerberus": 1_000,
            "cerberus_kept": 1_000,
        },
        repaired=100_000,
        collected=500_000,
        collects=3,
        bad=1_000_000,
    ),
    quick=LinesSize(
        judged=100_000,
        compared={"schema_only": 100_000, "pydantic": 20_000, "pandera": 20_000, "cerberus": 300, "cerberus_kept": 300},
        repaired=5_000,
        collected=200_000,
        collects=1,
        bad=20_000,
    ),
    parts={"speed": _speed, "repair": _repair, "collect": _collect, "bad_lines": _bad_lines},
    targets={
        "lines_per_s": (">=", 400_000),
        "split_ratio": ("<=", 2.0),
        "pydantic_ratio": (">=", 5.0),
        "cerberus_ratio": (">=", 100.0),
        "verdicts_equal": ("==", True),
        "repair_precision": (">=", 0.995),
        "collect_lines_per_s": (">=", 50_000),
        "bad_lines_accounted": ("==", True),
    },
    begin=LinesRun,
)
