"""Lines to measure with, in the shape of the real stream: from the simulated world, or recorded.

A sample is a stretch of the stream at its busiest: some 65,000 sessions run at a time and each writes a line a minute,
so users, movies and times repeat within a batch as in the real stream. Kafka's time of a line is up to two seconds
behind the line's own. Equal arguments give equal samples.
"""

import csv
import datetime as dt
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from loadtest.errors import LoadtestError
from loadtest.settings import WorldSettings
from loadtest.simulation.world import World
from stream.event import Event
from stream.grammar import LineRefused, parse_time, render
from stream.settings import StreamSettings
from stream.zone import HOUR_MS, Zone, zone_named

SETTINGS = StreamSettings()
"""The defaults: the service of 2022 on its own clock, whatever `settings.toml` says."""
CLOCK: Zone = zone_named(SETTINGS.timezone)
WATCH_SHARE, RATE_SHARE = 0.984, 0.006
"""The rest, 1 %, are recommendations."""
LAG_MS = 2_000
"""Kafka's time of a line is at most this much later than the line's."""

_WATCHES_PER_S = 1_080
_STEP_MS = 60_400
_BEGINS = CLOCK.bounds("2022-03-18")[0] + 20 * HOUR_MS + 10_000
"""Ten seconds past a minute: of a hundred thousand lines, a hundred seconds, one second then has the short form."""
_HOST = "team17.example.edu:8082"
_FAILURES = (
    (400, "movie 1 not found"),
    (400, "invalid recommendation format (empty)"),
    (0, f"java.util.concurrent.TimeoutException: Request timeout to {_HOST} after 800 ms"),
    (0, "dispatch.StatusCode: Unexpected response status: 500"),
)


@dataclass(frozen=True)
class LineSample:
    """Lines in the order of Kafka's times."""

    lines: list[bytes]
    kafka_times: np.ndarray
    """int64 ms UTC."""

    def __len__(self) -> int:
        return len(self.lines)

    def batches(self, size: int) -> list[tuple[pa.Array, np.ndarray]]:
        """Values and Kafka times as the collector has them, at most `size` a batch."""
        return [
            (pa.array(self.lines[start : start + size], pa.binary()), self.kafka_times[start : start + size])
            for start in range(0, len(self), size)
        ]


class LineSource(Protocol):
    """Something that gives samples."""

    runtimes: dict[str, int | None]
    """The catalogue: minutes by movie, None if not known. Empty: any movie may exist."""

    def sample(self, count: int, rare: bool = False) -> LineSample:
        """`count` lines in the service's proportions; with `rare` ratings and recommendations only."""
        ...


class SimulatedLines:
    """Lines of the simulated world: all of them good."""

    def __init__(self, users: int, movies: int, seed: int) -> None:
        self._world = World(WorldSettings(users=users, movies=movies, seed=seed))
        self._seen = self._world.new_seen()
        self._seed = seed
        visits = self._world.activity.visits_per_day
        self._visits_upto = np.cumsum(visits / visits.sum())
        catalogue = self._world.catalogue
        self.runtimes: dict[str, int | None] = dict(zip(catalogue.ids, catalogue.length_min.tolist(), strict=True))

    def sample(self, count: int, rare: bool = False) -> LineSample:
        rng = np.random.default_rng([self._seed, 13, count, rare])
        watches, rates = (0, count // 2) if rare else (round(count * WATCH_SHARE), round(count * RATE_SHARE))
        length_ms = 1000 * count // _WATCHES_PER_S + 1000
        events = [*self._watches(watches, rng), *self._rates(rates, length_ms, rng)]
        events += self._recommendations(count - watches - rates, length_ms, rng)
        times = np.array([event.time for event, _ in events], np.int64) + rng.integers(0, LAG_MS, len(events))
        order = np.argsort(times, kind="stable")
        lines = [render(event, CLOCK, fraction) for event, fraction in events]
        return LineSample([lines[row] for row in order.tolist()], times[order])

    def _watches(self, count: int, rng: np.random.Generator) -> Iterator[tuple[Event, str]]:
        """Minutes of the running sessions; one that ends begins again, so that their number stays the same.

        As the next two: events, each with the digits of its time beyond milliseconds.
        """
        running = _WATCHES_PER_S * _STEP_MS // 1000
        users, movies = self._visits(2 * running, rng)
        lengths = self._world.watch_plan(users, movies, rng).last_minute.astype(np.int64) + 1
        sessions = rng.choice(len(users), running, p=lengths / lengths.sum())
        begun, phase = rng.integers(0, lengths[sessions]), rng.integers(0, _STEP_MS, running)
        line = np.argsort(phase, kind="stable")[np.arange(count) % running]
        step = np.arange(count) // running
        times = _BEGINS + (phase[line] + step * _STEP_MS) // 1000 * 1000
        session = sessions[line]
        minutes = (begun[line] + step) % lengths[session]
        rows = times.tolist(), users[session].tolist(), movies[session].tolist(), minutes.tolist()
        for time, user, movie, minute in zip(*rows, strict=True):
            yield Event("watch", time, user + 1, self._world.catalogue.ids[movie], minute=minute), ""

    def _rates(self, count: int, length_ms: int, rng: np.random.Generator) -> Iterator[tuple[Event, str]]:
        users, movies = self._visits(8 * count + 64, rng)
        ratings = self._world.watch_plan(users, movies, rng).ratings
        rated = np.flatnonzero(ratings)[:count].tolist()
        times = _times(len(rated), length_ms, rng) // 1000 * 1000
        for row, time in zip(rated, times.tolist(), strict=True):
            movie = self._world.catalogue.ids[movies[row]]
            yield Event("rate", time, int(users[row]) + 1, movie, rating=int(ratings[row])), ""

    def _recommendations(self, count: int, length_ms: int, rng: np.random.Generator) -> Iterator[tuple[Event, str]]:
        users, _ = self._visits(count, rng)
        shown = self._world.choose(np.repeat(users, 20), self._seen, rng).reshape(-1, 20).tolist()
        times, ids = _times(count, length_ms, rng).tolist(), self._world.catalogue.ids
        for user, listed, time in zip(users.tolist(), shown, times, strict=True):
            digits = int(rng.integers(3)) * 3
            fraction = f"{rng.integers(10**digits):0{digits}}" if digits else ""
            latency_ms = int(rng.integers(3, 700))
            if rng.random() < 0.9:
                movies = tuple(dict.fromkeys(ids[movie] for movie in listed))
                answer = Event("recommend", time, user + 1, status=200, movies=movies)
            else:
                status, error = _FAILURES[int(rng.integers(len(_FAILURES)))]
                answer = Event("recommend", time, user + 1, status=status, error=error)
            yield replace(answer, host=_HOST, latency_ms=latency_ms), fraction

    def _visits(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Users drawn by how often they visit, and what they choose: rows of population and catalogue."""
        drawn = np.searchsorted(self._visits_upto, rng.random(count), side="right")
        users = np.minimum(drawn, len(self._visits_upto) - 1)
        return users, self._world.choose(users, self._seen, rng)


def _times(count: int, length_ms: int, rng: np.random.Generator) -> np.ndarray:
    return _BEGINS + rng.integers(0, length_ms, count)


class RecordedLines:
    """Lines of a file, with all their faults. Asked for more lines than it has, it begins again, a day later."""

    def __init__(self, file: Path, movies: Path | None, seed: int) -> None:
        self._lines = file.read_bytes().removesuffix(b"\n").split(b"\n")
        self._rare = [line for line in self._lines if b",GET /data/m/" not in line]
        self._seed = seed
        self.runtimes: dict[str, int | None] = _runtimes(movies) if movies else {}

    def sample(self, count: int, rare: bool = False) -> LineSample:
        lines = self._rare if rare else self._lines
        if not lines:
            raise LoadtestError("bench: the file holds no line of the kind that is needed; give another one as --lines")
        days = -(-count // len(lines))
        sample = [_days_later(line, day) for day in range(days) for line in lines][:count]
        rng = np.random.default_rng([self._seed, 17, count, rare])
        times = np.array(list(_line_times(sample)), np.int64) + rng.integers(0, LAG_MS, len(sample))
        return LineSample(sample, times)


_DATE = re.compile(rb"\d{4}-\d\d-\d\d(?=T)")


def _days_later(line: bytes, days: int) -> bytes:
    """The same line some days later; unchanged where it begins with no date."""
    match = _DATE.match(line)
    if not days or not match:
        return line
    try:
        date = dt.date.fromisoformat(match[0].decode()) + dt.timedelta(days)
    except (ValueError, OverflowError):
        return line
    return date.isoformat().encode() + line[10:]


def _line_times(lines: list[bytes]) -> Iterator[int]:
    """The time in each line, ms UTC; that of the line before where it has none."""
    time = _BEGINS
    for line in lines:
        with suppress(LineRefused):
            time = parse_time(line.partition(b",")[0].decode("ascii", "replace"), CLOCK)
        yield time


def _runtimes(movies: Path) -> dict[str, int | None]:
    with movies.open(encoding="utf-8", newline="") as source:
        reader = csv.DictReader(source)
        if not {"id", "runtime"} <= set(reader.fieldnames or ()):
            raise LoadtestError(f"bench: {movies.name} needs the columns id and runtime")
        try:
            return {row["id"]: round(float(row["runtime"])) or None if row["runtime"] else None for row in reader}
        except ValueError as error:
            raise LoadtestError(f"bench: {movies.name}, line {reader.line_num}: {error}") from error
