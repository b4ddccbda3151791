"""The benchmark `telemetry`: how fast the stream becomes reports, and how much memory and disk that takes.

| part | what is measured |
|---|---|
| `columns` | parsed lines to the store, reports included: `reading_speed.py` |
| `archive` | archived lines to a final report: `reading_speed.py` |
| `kafka` | Kafka to the store, as a process, beside two simple programs: `kafka_readers.py` |
| `report` | the report of a very busy day: `busy_report.py` |
| `memory` | bytes for each user with an open answer and session: `open_state.py` |
| `days` | memory and disk over a month: `open_state.py` |
"""

from dataclasses import dataclass
from functools import cached_property

from loadtest.bench.benchmark import Benchmark, BenchmarkRun
from loadtest.bench.cpu_clock import ROUNDS
from loadtest.bench.lines.line_sources import LineSample, SimulatedLines
from loadtest.bench.result import Figures, as_figures
from loadtest.bench.telemetry import busy_report, kafka_readers, open_state, reading_speed


@dataclass(frozen=True)
class TelemetrySize:
    """How much is measured."""

    lines: int
    """Lines that are read from each source."""
    runs: int
    """How often each program reads them from Kafka."""
    answers: int
    """Of the busy day; it has five times as many starts."""
    open_users: int
    days: int
    daily_users: int
    """Users of each of these days."""
    rounds: int = ROUNDS
    users: int = 1_000_000
    """Of the simulated world."""
    movies: int = 27_000


class TelemetryRun(BenchmarkRun[TelemetrySize]):
    """One run of `telemetry`."""

    @cached_property
    def source(self) -> SimulatedLines:
        """The simulated world."""
        return SimulatedLines(self.size.users, self.size.movies, self.seed)

    @cached_property
    def sample(self) -> LineSample:
        """The lines that are read."""
        return self.source.sample(self.size.lines)


def _columns(run: TelemetryRun) -> Figures:
    return as_figures(reading_speed.measure_columns(run.sample, run.source.runtimes, run.size.rounds, run.folder))


def _archive(run: TelemetryRun) -> Figures:
    return as_figures(reading_speed.measure_archive(run.sample, run.source.runtimes, run.size.rounds, run.folder))


def _kafka(run: TelemetryRun) -> Figures:
    return as_figures(kafka_readers.measure(run.sample, run.source.runtimes, run.size.runs, run.folder), "kafka")


def _report(run: TelemetryRun) -> Figures:
    return as_figures(busy_report.measure(run.size.answers, run.seed, run.folder), "report")


def _memory(run: TelemetryRun) -> Figures:
    return as_figures(open_state.measure_users(run.size.open_users, run.folder))


def _days(run: TelemetryRun) -> Figures:
    return as_figures(open_state.measure_days(run.size.days, run.size.daily_users, run.seed, run.folder))


TELEMETRY = Benchmark(
    name="telemetry",
    full=TelemetrySize(lines=500_000, runs=3, answers=1_000_000, open_users=500_000, days=30, daily_users=5_000),
    quick=TelemetrySize(
        lines=60_000,
        runs=1,
        answers=30_000,
        open_users=50_000,
        days=12,
        daily_users=500,
        rounds=1,
        users=100_000,
        movies=5_000,
    ),
    parts={
        "columns": _columns,
        "archive": _archive,
        "kafka": _kafka,
        "report": _report,
        "memory": _memory,
        "days": _days,
    },
    targets={
        "columns_lines_per_s": (">=", 100_000),
        "archive_lines_per_s": (">=", 50_000),
        "kafka_telemetry_lines_per_s": (">=", 50_000),
        "memory_bytes_per_user": ("<=", 400),
        "month_memory_ratio": ("<=", 1.1),
        "month_disk_ratio": ("<=", 1.1),
    },
    begin=TelemetryRun,
)
