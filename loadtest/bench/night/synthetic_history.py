"""Synthetic history for the night benchmark: weeks of a million users, written in Marquee's storage formats.

    var/sessions/day=…        the days before the last one: pieces of sessions, ratings and requests, as `batch
                              sessions` would have made them (`batch.history.day_store`); made.json names them as
                              imported
    var/archive/, its ledger  the last day: one line a minute watched, in batches, see `busy_day.py`
    var/catalog/              the records of all movies and users, as the APIs would have told them

People behave as `synthetic_crowd.py` says. A session that goes over midnight lies in two days, in two pieces, as in
truth; of the last day only what came before its end. The zone and the generation are the settings' defaults, the days
are twenty of which none has 23 or 25 hours.

Guarantee: the same size and seed give the same bytes, but for the ledger's times of writing.
"""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batch.history.day_store import DayPart, DaySource, DayStore, day_table
from loadtest.bench.night.busy_day import RATING, REQUEST, BusyDay, DayLines, lines_of
from loadtest.bench.night.synthetic_crowd import Crowd, CrowdVisits
from loadtest.errors import LoadtestError
from loadtest.simulation.catalogue import make_catalogue
from loadtest.simulation.population import make_population
from quality.catalog import Catalog, FoundRecord
from quality.lines.schemas import MOVIE_RECORD, checked
from stream.archive import Archive
from stream.settings import StreamSettings
from stream.zone import DAY_MS, day_name, day_number, zone_named

log = logging.getLogger(__name__)

FIRST_DAY = "2022-02-15"
SOURCE = "the benchmark"
_LONGEST_STEP_MS = 62_000
"""A session takes at most so long a minute, and 20 s: whether one can go over midnight."""
_RECORDS = 100_000
"""User records that are made and kept at a time."""


@dataclass(frozen=True)
class HistorySize:
    """How large a past is."""

    users: int
    movies: int
    sessions: int
    """In all days together, spread evenly; 95 lines each."""
    days: int = 20
    batch_lines: int = 100_000

    def of(self, share: float) -> "HistorySize":
        """The same with a share of the users, who do as much as before."""
        return HistorySize(
            round(self.users * share), self.movies, round(self.sessions * share), self.days, self.batch_lines
        )

    @property
    def bytes(self) -> int:
        """What a past of this size, and a night on it, take on the disk, rather too much than too little."""
        lines = 95 * self.sessions // self.days
        return 16 * lines + 60 * self.sessions + 1_500 * self.users + 500_000_000


@dataclass(frozen=True)
class SyntheticHistory:
    """A past that was written."""

    var: Path
    days: list[str]
    """Ascending; the last one is in the archive."""
    sessions: int
    """That were begun."""
    lines: int
    """Of minutes, in the archive."""
    all_lines: int
    """In the archive, with ratings and recommendations."""


def write(
    var: Path, size: HistorySize, seed: int, advance: Callable[[int], object] = lambda days: None
) -> SyntheticHistory:
    """Write a past. Raises `LoadtestError` where the disk has too little room for it, or `var` has one already."""
    streaming = StreamSettings()
    _require(var, size)
    clock, archive, day_store = zone_named(streaming.timezone), Archive(var), DayStore(var)
    days = [day_name(day_number(FIRST_DAY) + number) for number in range(size.days)]
    crowd = Crowd(
        make_catalogue(size.movies, seed, streaming.generation),
        make_population(size.users, seed, streaming.generation),
        seed,
    )
    rng, names = np.random.default_rng([seed, 41]), MovieNames(crowd.catalogue.ids)
    keep_catalogue(Catalog(var), crowd)
    running, sessions = Begun.nothing(), 0
    for day in days:
        begins = clock.bounds(day)[0]
        visits = crowd.day(begins, size.sessions / size.days)
        sessions += len(visits.users)
        if day == days[-1]:
            counts = _archive(archive, crowd, running, visits, begins, day, size.batch_lines, streaming.topic, rng)
        else:
            tables, running = straight(running, visits, begins, names, rng)
            day_store.write(
                day, DaySource(imported=SOURCE, counts={part: len(table) for part, table in tables.items()}), tables
            )
        advance(1)
    return SyntheticHistory(var, days, sessions, counts["watch"], sum(counts.values()))


class MovieNames:
    """Movie ids in the order that tables are sorted by."""

    def __init__(self, ids: list[str]) -> None:
        order = np.argsort(np.array(ids))
        self.words = pa.array([ids[row] for row in order], pa.string())
        self.places = np.empty(len(ids), np.int32)
        """By row of the catalogue: the place among the words."""
        self.places[order] = np.arange(len(ids), dtype=np.int32)


@dataclass(frozen=True)
class Begun:
    """Sessions that began on one day and go on after midnight."""

    visits: CrowdVisits
    lines: DayLines
    """What is to come of them; seconds since that midnight, rows of `visits`."""

    @staticmethod
    def nothing() -> "Begun":
        empty = np.zeros(0, np.int64)
        visits = CrowdVisits(*(empty.astype(kind) for kind in (np.int32, np.int32, np.int64, np.int32, np.int8, bool)))
        return Begun(visits, DayLines(*(empty.astype(kind) for kind in (np.int32, np.int32, np.int16))))


def straight(
    running: Begun, visits: CrowdVisits, begins_ms: int, names: MovieNames, rng: np.random.Generator
) -> tuple[dict[DayPart, pa.Table], Begun]:
    """The tables of a day: what was left of the day before, and what began; and what goes on after it."""
    ends = begins_ms + DAY_MS
    late = visits.starts + visits.minutes * np.int64(_LONGEST_STEP_MS) + 90_000 > ends
    on, whole = visits.rows(late), visits.rows(~late)
    lines = lines_of(on, 0, begins_ms, rng)
    before = lines.time < DAY_MS // 1000
    pieces = [
        _whole(whole, rng),
        _pieces(on, lines.rows(before), begins_ms),
        _pieces(running.visits, running.lines, begins_ms),
    ]
    after = lines.rows(~before)
    return _tables(pieces, names), Begun(on, after._replace(time=after.time - np.int32(DAY_MS // 1000)))


def _whole(visits: CrowdVisits, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The pieces of sessions that end before midnight."""
    lasts = visits.starts + (np.rint(60.4 * (visits.minutes - 1)) * 1000).astype(np.int64)
    rated, asked = np.flatnonzero(visits.ratings), np.flatnonzero(visits.asked)
    return {
        "user": visits.users,
        "movie": visits.movies,
        "start": visits.starts,
        "last": lasts,
        "minutes": visits.minutes,
        "rated_user": visits.users[rated],
        "rated_movie": visits.movies[rated],
        "rated_time": lasts[rated] + 60_000,
        "rating": visits.ratings[rated],
        "asked_user": visits.users[asked],
        "asked_time": visits.starts[asked] - rng.integers(3_000, 40_000, len(asked)),
    }


def _pieces(visits: CrowdVisits, lines: DayLines, begins_ms: int) -> dict[str, np.ndarray]:
    """What some lines of sessions come to: the same columns."""
    times = begins_ms + lines.time.astype(np.int64) * 1000
    watched = lines.code >= 0
    minutes = np.bincount(lines.session[watched], minlength=len(visits.users)).astype(np.int32)
    first = np.full(len(minutes), np.iinfo(np.int64).max)
    last = np.zeros(len(minutes), np.int64)
    np.minimum.at(first, lines.session[watched], times[watched])
    np.maximum.at(last, lines.session[watched], times[watched])
    there = minutes > 0
    rated, asked = lines.code == RATING, lines.code == REQUEST
    return {
        "user": visits.users[there],
        "movie": visits.movies[there],
        "start": first[there],
        "last": last[there],
        "minutes": minutes[there],
        "rated_user": visits.users[lines.session[rated]],
        "rated_movie": visits.movies[lines.session[rated]],
        "rated_time": times[rated],
        "rating": visits.ratings[lines.session[rated]],
        "asked_user": visits.users[lines.session[asked]],
        "asked_time": times[asked],
    }


def _tables(pieces: list[dict[str, np.ndarray]], names: MovieNames) -> dict[DayPart, pa.Table]:
    """Pieces of all kinds as the sorted tables of a day."""
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    return {
        "sessions": _sorted(
            "sessions", names, {name: columns[name] for name in ("user", "movie", "start", "last", "minutes")}
        ),
        "ratings": _sorted(
            "ratings",
            names,
            {name: columns[f"rated_{name}"] for name in ("user", "movie", "time")} | {"rating": columns["rating"]},
        ),
        "requests": _sorted("requests", names, {name: columns[f"asked_{name}"] for name in ("user", "time")}),
    }


def _sorted(part: DayPart, names: MovieNames, columns: dict[str, np.ndarray]) -> pa.Table:
    """A table by user, movie and time; users become ids, rows of movies words."""
    time = columns["start" if part == "sessions" else "time"]
    places = names.places[columns["movie"]] if "movie" in columns else np.zeros(len(time), np.int32)
    order = np.lexsort((time, places, columns["user"]))
    found: dict[str, Any] = {name: column[order] for name, column in columns.items()}
    found["user"] = (found["user"] + 1).astype(np.uint32)
    if "movie" in found:
        found["movie"] = pa.DictionaryArray.from_arrays(places[order], names.words)
    return day_table(part, found)


def _archive(
    archive: Archive,
    crowd: Crowd,
    running: Begun,
    visits: CrowdVisits,
    begins_ms: int,
    day: str,
    batch_lines: int,
    topic: str,
    rng: np.random.Generator,
) -> dict[Any, int]:
    """The last day, with what was left of the day before."""
    together = CrowdVisits(*(np.concatenate(pair) for pair in zip(running.visits, visits, strict=True)))
    with archive.writing():
        return dict(BusyDay(archive, crowd, together, begins_ms, day, topic).write(running.lines, batch_lines, rng))


def keep_catalogue(catalog: Catalog, crowd: Crowd) -> None:
    """Keep the records of all movies and users, as if the APIs had been asked for them."""
    movies, people = crowd.catalogue, crowd.people
    catalog.keep("movie", [_movie(movies.record(row)) for row in range(len(movies))])
    for since in range(0, len(people), _RECORDS):
        rows = range(since, min(since + _RECORDS, len(people)))
        catalog.keep("user", [(str(row + 1), "known", people.record(row), "") for row in rows])


def _movie(record: dict[str, Any]) -> FoundRecord:
    """The record as its schema wants it; users' are so already."""
    document, reason = checked(record, MOVIE_RECORD)
    return record["id"], "known" if document else "bad", document, reason


def _require(var: Path, size: HistorySize) -> None:
    var.mkdir(parents=True, exist_ok=True)
    if any(var.iterdir()):
        raise LoadtestError(f"bench: {var} is not empty; a past is written into an empty folder")
    if (free := shutil.disk_usage(var).free) < size.bytes:
        needed = f"{size.bytes / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free"
        raise LoadtestError(f"bench: a past of {size.users:,} users needs {needed}")
