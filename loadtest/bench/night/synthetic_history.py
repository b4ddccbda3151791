"""Synthetic history for the night benchmark: weeks of a million users, written in Marquee's storage formats.

    var/sessions/day=…        all days but the last: pieces of sessions, ratings and requests, as `batch sessions` would
                              have made them (`batch.history.day_store`); made.json names them as imported
    var/archive/, its ledger  the last day: one line for each minute watched, in batches, see `busy_day.py`
    var/catalog/              the records of all movies and users, as the APIs would have answered

People behave as `synthetic_crowd.py` says. A session across midnight is in two days, in two pieces, as in real data;
the last day ends at its midnight. Zone and generation are the settings' defaults; none of the twenty days has 23 or 25
hours.

Guarantee: the same size and seed give the same bytes, except for the ledger's times of writing.
"""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from batch.history.day_store import DayPart, DaySource, DayStore, day_table
from loadtest.bench.night.busy_day import RATING, REQUEST, BusyDay, DayLines, lines_of
from loadtest.bench.night.synthetic_crowd import Crowd, CrowdVisits
from loadtest.errors import LoadtestError
from loadtest.settings import WorldSettings
from loadtest.simulation.catalogue import ApiRecord, make_catalogue
from loadtest.simulation.population import make_population
from quality.catalog import Catalog, FoundRecord
from quality.lines.schemas import MOVIE_RECORD, checked
from stream.archive import Archive
from stream.event import Kind
from stream.settings import StreamSettings
from stream.zone import DAY_MS, day_name, day_number, zone_named

log = logging.getLogger(__name__)

FIRST_DAY = "2022-02-15"
SOURCE = "the benchmark"
_LONGEST_STEP_MS = 62_000
"""Upper bound for a minute of a session, which tells whether a session can run past midnight."""
_RECORDS = 100_000
"""User records that are made and stored at a time."""


@dataclass(frozen=True)
class HistorySize:
    """The size of a history."""

    users: int
    movies: int
    sessions: int
    """Of all days together, spread evenly; 95 lines each."""
    days: int = 20
    batch_lines: int = 100_000

    def of(self, share: float) -> "HistorySize":
        """The same history with a share of the users, each of whom does as much as before."""
        return HistorySize(
            round(self.users * share), self.movies, round(self.sessions * share), self.days, self.batch_lines
        )

    @property
    def bytes(self) -> int:
        """Bytes on disk that the history and a night on it need, estimated on the safe side."""
        lines = 95 * self.sessions // self.days
        return 16 * lines + 60 * self.sessions + 1_500 * self.users + 500_000_000


@dataclass(frozen=True)
class SyntheticHistory:
    """A history that was written."""

    var: Path
    days: list[str]
    """Ascending; the last one is in the archive."""
    sessions: int
    """Sessions begun on all days."""
    lines: int
    """Lines of minutes in the archive."""
    all_lines: int
    """Lines in the archive, with ratings and recommendations."""


def write(
    var: Path, size: HistorySize, seed: int, advance: Callable[[int], object] = lambda days: None
) -> SyntheticHistory:
    """Write a history. Raises `LoadtestError` if the disk has too little room, or `var` is not empty."""
    streaming = StreamSettings()
    _require(var, size)
    clock, archive, day_store = zone_named(streaming.timezone), Archive(var), DayStore(var)
    days = [day_name(day_number(FIRST_DAY) + number) for number in range(size.days)]
    crowd = Crowd(
        make_catalogue(size.movies, seed, streaming.generation),
        make_population(WorldSettings(users=size.users, seed=seed, generation=streaming.generation)),
        seed,
    )
    rng, names = np.random.default_rng([seed, 41]), MovieNames(crowd.catalogue.ids)
    keep_catalogue(Catalog(var), crowd)
    running, sessions = RunningSessions.none(), 0
    for day in days:
        begins = clock.bounds(day)[0]
        visits = crowd.day(begins, size.sessions / size.days)
        sessions += len(visits.users)
        if day == days[-1]:
            counts = _archive(archive, crowd, running, visits, begins, day, size.batch_lines, streaming.topic, rng)
        else:
            tables, running = day_tables(running, visits, begins, names, rng)
            day_store.write(
                day, DaySource(imported=SOURCE, counts={part: len(table) for part, table in tables.items()}), tables
            )
        advance(1)
    return SyntheticHistory(var, days, sessions, counts["watch"], sum(counts.values()))


class MovieNames:
    """Movie ids, sorted: the order that tables are sorted by."""

    def __init__(self, ids: list[str]) -> None:
        """`ids` are those of the catalogue, by row."""
        order = np.argsort(np.array(ids))
        self.sorted_ids = pa.array([ids[row] for row in order], pa.string())
        self.ranks = np.empty(len(ids), np.int32)
        """int32 [movies]: by row of the catalogue, the index into `sorted_ids`."""
        self.ranks[order] = np.arange(len(ids), dtype=np.int32)


@dataclass(frozen=True)
class RunningSessions:
    """Sessions that began on one day and go on after its midnight."""

    visits: CrowdVisits
    lines: DayLines
    """Their lines after midnight: seconds since then, rows of `visits`."""

    @staticmethod
    def none() -> "RunningSessions":
        """No sessions."""
        empty = np.zeros(0, np.int64)
        visits = CrowdVisits(*(empty.astype(kind) for kind in (np.int32, np.int32, np.int64, np.int32, np.int8, bool)))
        return RunningSessions(visits, DayLines(*(empty.astype(kind) for kind in (np.int32, np.int32, np.int16))))


def day_tables(
    running: RunningSessions, visits: CrowdVisits, begins_ms: int, names: MovieNames, rng: np.random.Generator
) -> tuple[dict[DayPart, pa.Table], RunningSessions]:
    """The tables of a day, from the sessions of the day before that still run and those that begin.

    Also returns the sessions that go on after the day.
    """
    ends = begins_ms + DAY_MS
    late = visits.starts + visits.minutes * np.int64(_LONGEST_STEP_MS) + 90_000 > ends
    crossing, ending = visits.rows(late), visits.rows(~late)
    lines = lines_of(crossing, 0, begins_ms, rng)
    before = lines.time < DAY_MS // 1000
    pieces = [
        _ended_pieces(ending, rng),
        _pieces(crossing, lines.rows(before), begins_ms),
        _pieces(running.visits, running.lines, begins_ms),
    ]
    after = lines.rows(~before)
    after = after._replace(time=after.time - np.int32(DAY_MS // 1000))
    return _tables(pieces, names), RunningSessions(crossing, after)


def _ended_pieces(visits: CrowdVisits, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Columns of the sessions that end before midnight, and of their ratings and requests."""
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
    """The same columns, from some lines of the sessions."""
    times = begins_ms + lines.time.astype(np.int64) * 1000
    watched = lines.code >= 0
    minutes = np.bincount(lines.session[watched], minlength=len(visits.users)).astype(np.int32)
    first = np.full(len(minutes), np.iinfo(np.int64).max)
    last = np.zeros(len(minutes), np.int64)
    np.minimum.at(first, lines.session[watched], times[watched])
    np.maximum.at(last, lines.session[watched], times[watched])
    has_minutes = minutes > 0
    rated, asked = lines.code == RATING, lines.code == REQUEST
    return {
        "user": visits.users[has_minutes],
        "movie": visits.movies[has_minutes],
        "start": first[has_minutes],
        "last": last[has_minutes],
        "minutes": minutes[has_minutes],
        "rated_user": visits.users[lines.session[rated]],
        "rated_movie": visits.movies[lines.session[rated]],
        "rated_time": times[rated],
        "rating": visits.ratings[lines.session[rated]],
        "asked_user": visits.users[lines.session[asked]],
        "asked_time": times[asked],
    }


def _tables(pieces: list[dict[str, np.ndarray]], names: MovieNames) -> dict[DayPart, pa.Table]:
    """The sorted tables of a day."""
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
    """A table sorted by user, movie and time; rows of the population and the catalogue become ids."""
    time = columns["start" if part == "sessions" else "time"]
    ranks = names.ranks[columns["movie"]] if "movie" in columns else np.zeros(len(time), np.int32)
    order = np.lexsort((time, ranks, columns["user"]))
    in_order: dict[str, np.ndarray | pa.Array] = {name: column[order] for name, column in columns.items()}
    in_order["user"] = (in_order["user"] + 1).astype(np.uint32)
    if "movie" in in_order:
        in_order["movie"] = pa.DictionaryArray.from_arrays(ranks[order], names.sorted_ids)
    return day_table(part, in_order)


def _archive(
    archive: Archive,
    crowd: Crowd,
    running: RunningSessions,
    visits: CrowdVisits,
    begins_ms: int,
    day: str,
    batch_lines: int,
    topic: str,
    rng: np.random.Generator,
) -> dict[Kind, int]:
    """Archive the last day, with the sessions of the day before that still run; returns lines by kind."""
    all_visits = CrowdVisits(*(np.concatenate(pair) for pair in zip(running.visits, visits, strict=True)))
    with archive.writing():
        return BusyDay(archive, crowd, all_visits, begins_ms, day, topic).write(running.lines, batch_lines, rng)


def keep_catalogue(catalog: Catalog, crowd: Crowd) -> None:
    """Store the records of all movies and users, as if the APIs had been asked for them."""
    movies, people = crowd.catalogue, crowd.people
    catalog.keep("movie", [_movie(movies.record(row)) for row in range(len(movies))])
    for since in range(0, len(people), _RECORDS):
        rows = range(since, min(since + _RECORDS, len(people)))
        catalog.keep("user", [(str(row + 1), "known", people.record(row), "") for row in rows])


def _movie(record: ApiRecord) -> FoundRecord:
    """A movie's record in the form of its schema, which users' records have already."""
    document, reason = checked(record, MOVIE_RECORD)
    return record["id"], "known" if document else "bad", document, reason


def _require(var: Path, size: HistorySize) -> None:
    var.mkdir(parents=True, exist_ok=True)
    if any(var.iterdir()):
        raise LoadtestError(f"bench: {var} is not empty; a history is written into an empty folder")
    if (free := shutil.disk_usage(var).free) < size.bytes:
        needed = f"{size.bytes / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free"
        raise LoadtestError(f"bench: a history of {size.users:,} users needs {needed}; make room")
