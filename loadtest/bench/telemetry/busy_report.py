"""The report of a day that is busier than any seen: its rows come from the store, as those of an open report do."""

import resource
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from loadtest.bench.cpu_clock import one_core
from loadtest.bench.lines.line_sources import SETTINGS
from quality.settings import QualitySettings
from quality.telemetry.report import Reports
from quality.telemetry.store import Store, pack_lists
from stream.zone import HOUR_MS, day_number, zone_named

_DAY = "2022-03-18"
_MOVIES, _STARTS = 27_000, 5
_CHUNK = 50_000


class ReportFigures(Struct, frozen=True, kw_only=True):
    """One report of the day."""

    answers: int
    starts: int
    cpu_s: float
    """CPU seconds of reading the rows and computing the report; telemetry reads on meanwhile."""
    peak_mib: int
    """Largest resident memory of the process so far."""


def measure(answers: int, seed: int, folder: Path) -> ReportFigures:
    """Compute the report of a day with so many answers and five times as many starts."""
    reports = Reports(replace(SETTINGS, var=folder / "busy"), QualitySettings())
    day = day_number(_DAY)
    with closing(Store(folder / "busy" / "telemetry.db")) as store:
        _fill(store, answers, np.random.default_rng(seed))
        with one_core():
            began = time.process_time()
            report = reports.build(day, store.day_rows(day, reports.days), reports.days.closes(day))
            cpu_s = time.process_time() - began
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return ReportFigures(
        answers=report.total.answers.requests,
        starts=_STARTS * answers,
        cpu_s=round(cpu_s, 2),
        peak_mib=peak_kib // 1024,
    )


def _fill(store: Store, answers: int, rng: np.random.Generator) -> None:
    """Random answers and starts, as rows of the store."""
    first, _ = zone_named(SETTINGS.timezone).bounds(_DAY)
    with store.transaction() as db:
        db.executemany("INSERT INTO movies VALUES (?, ?)", ((n, f"film+{n}+2000") for n in range(_MOVIES)))
        for size in _chunks(answers):
            lists = rng.integers(0, _MOVIES, (size, 20), dtype=np.int32)
            times, users = _times_and_users(first, size, rng)
            rows = zip(times, users, rng.integers(1 << 60, size=size).tolist(), pack_lists(lists), strict=True)
            db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, 200, 20, ?)", rows)
        for size in _chunks(_STARTS * answers):
            times, users = _times_and_users(first, size, rng)
            movies = rng.integers(0, _MOVIES, size).tolist()
            db.executemany(
                "INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?)", zip(times, users, movies, times, strict=True)
            )


def _chunks(total: int) -> list[int]:
    return [min(_CHUNK, total - done) for done in range(0, total, _CHUNK)]


def _times_and_users(first: int, size: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    times = np.sort(rng.integers(first, first + 24 * HOUR_MS, size))
    return times.tolist(), rng.integers(1, 1_000_000, size).tolist()
