"""What telemetry holds: memory for each user with an open answer and session, and memory and disk over a month."""

import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from loadtest.bench.lines.line_sources import SETTINGS
from quality.settings import QualitySettings
from quality.telemetry.batch import TelemetryBatch, batch_of
from quality.telemetry.consumer import Telemetry
from quality.telemetry.store import Store
from stream.event import Event
from stream.grammar import render
from stream.kafka import FetchedRecords
from stream.zone import DAY_MS, HOUR_MS, zone_named

_ZONE = zone_named(SETTINGS.timezone)
_FIRST, _ = _ZONE.bounds("2022-03-18")
_MOVIES, _CHUNK = 2_000, 20_000
_SETTLED = 4
"""From this day on, counted from 0, nothing should grow: rows are kept for three days."""


class UserFigures(Struct, frozen=True, kw_only=True):
    """Users who each have an answer whose window is open and a session that may grow."""

    memory_bytes_per_user: int
    """Python's and numpy's memory."""
    disk_bytes_per_user: int
    """The store's file."""


class MonthFigures(Struct, frozen=True, kw_only=True):
    """Days of the stream, each as busy as the others; the last third by those from the fifth day to the middle."""

    month_memory_ratio: float
    month_disk_ratio: float


def measure_users(users: int, folder: Path) -> UserFigures:
    """Let so many users ask and start a session within an hour."""
    with closing(Store(folder / "open" / "telemetry.db")) as store:
        telemetry = Telemetry(store, replace(SETTINGS, var=folder / "open"), QualitySettings())
        tracemalloc.start()
        offset = 0
        for first in range(0, users, _CHUNK):
            events = [
                event
                for user in range(first, min(first + _CHUNK, users))
                for event in _visit(_FIRST + user * HOUR_MS // users, user + 1)
            ]
            telemetry.ingest.take(_batch(events, offset))
            offset += len(events)
            del events
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        size = _pages(folder / "open" / "telemetry.db") * 4096
    return UserFigures(memory_bytes_per_user=round(held / users), disk_bytes_per_user=round(size / users))


def measure_days(days: int, users: int, seed: int, folder: Path) -> MonthFigures:
    """Let so many users ask and watch on each of some days."""
    rng, offset, memory, disk = np.random.default_rng(seed), 0, [], []
    path = folder / "month" / "telemetry.db"
    with closing(Store(path)) as store, _traced():
        telemetry = Telemetry(store, replace(SETTINGS, var=folder / "month"), QualitySettings())
        for day in range(days):
            times = np.sort(rng.integers(0, DAY_MS, users)) + _FIRST + day * DAY_MS
            events = [event for user, time in enumerate(times.tolist()) for event in _visit(time, user + 1)]
            telemetry.ingest.take(_batch(events, offset))
            offset += len(events)
            del events, times
            telemetry.report()
            memory.append(tracemalloc.get_traced_memory()[0])
            disk.append(_pages(path))
    return MonthFigures(month_memory_ratio=_growth(memory), month_disk_ratio=_growth(disk))


def _growth(sizes: list[int]) -> float:
    return round(max(sizes[2 * len(sizes) // 3 :]) / max(sizes[_SETTLED : len(sizes) // 2]), 2)


def _pages(path: Path) -> int:
    """Pages of a database, also those that only its journal has."""
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA page_count").fetchone()[0])


@contextmanager
def _traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def _visit(time_ms: int, user: int) -> list[Event]:
    """An answer, and a listed movie that is started a minute later."""
    movies = tuple(f"film+{2000 + (user + place) % _MOVIES}" for place in range(20))
    return [
        Event("recommend", time_ms, user, host="us:8082", status=200, movies=movies, latency_ms=9),
        Event("watch", time_ms + 60_000, user, movies[user % 20], minute=0),
    ]


def _batch(events: list[Event], first: int) -> TelemetryBatch:
    ordered = sorted(events, key=lambda event: event.time)
    lines = [render(event, _ZONE) for event in ordered]
    times = np.array([event.time for event in ordered], np.int64)
    records = FetchedRecords(0, lines, np.arange(first, first + len(lines)), times)
    return batch_of([records], {0: first + len(lines)}, _ZONE)
