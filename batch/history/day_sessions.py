"""Builds the sessions of each day from the minutes in the archive.

A session is the minutes of one user and movie with gaps of at most `session_gap_hours`, here within one day. The
minutes of a day are in memory once, in 16 bytes each, and are sorted for a share of the users at a time: 95 million
minutes take less than 4 GB. Exact duplicates from different batches are dropped and counted here.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch.errors import MixedSources
from batch.history.day_store import LAYOUT, DayPart, DaySource, DayStore, day_table
from quality.metrics.watch_sessions import TimeSpans, merge_spans, session_key, split_key
from stream.archive import Archive
from stream.errors import ArchiveError
from stream.event import KINDS, Kind
from stream.ledger_entry import LedgerEntry
from stream.parquet_columns import read_columns
from stream.tables import ARCHIVE_SCHEMAS
from stream.zone import DAY_MS, day_number

Files = dict[Kind, list[Path]]
Minutes = list[tuple[np.ndarray, np.ndarray]]
"""By file, two uint64 per line: the `session_key`; ms since a base, with the minute in the lower half."""
_SHARE_ROWS = 4_000_000
"""Minutes sorted at a time."""
_THREADS = 2
_LAST = np.uint64(2**64 - 1)
"""Larger than every key: movies are numbered in 31 bits."""


@dataclass
class _MovieNumbers:
    """Numbers movie ids in order of their appearance."""

    numbers: dict[str, int] = field(default_factory=dict)

    def indices(self, column: pa.ChunkedArray) -> np.ndarray:
        """Number of each movie of a dictionary column: int32."""
        encoded = column.combine_chunks()
        words = encoded.dictionary.to_pylist()
        by_word = np.array([self.numbers.setdefault(word, len(self.numbers)) for word in words] or [0], np.int32)
        rows: np.ndarray = encoded.indices.to_numpy()
        return by_word[rows]

    def sorted(self) -> tuple[list[str], np.ndarray]:
        """All ids, ascending, and by number the index of each in that list: int32."""
        names = sorted(self.numbers)
        index = np.empty(len(names), np.int32)
        index[[self.numbers[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        return names, index


@dataclass
class ArchivedDay:
    """The archive's files of a day."""

    is_kept: bool = True
    """Whether retention has left them; of others the sessions stay as they are."""
    rows: int = 0
    paths: dict[Kind, list[str]] = field(default_factory=dict)

    def files(self) -> Files:
        """By kind: the files."""
        return {kind: [Path(path) for path in paths] for kind, paths in self.paths.items()}

    def digest(self, gap_ms: int) -> str:
        """Digest of the inputs of a day. Files never change, so their names stand for their contents."""
        names = sorted(f"{kind}/{path.rpartition('/')[2]}" for kind, paths in self.paths.items() for path in paths)
        return hashlib.sha256("\n".join([str(LAYOUT), str(gap_ms), *names]).encode()).hexdigest()


def archived_days(archive: Archive, entries: Sequence[LedgerEntry]) -> dict[str, ArchivedDay]:
    """The days of the events in these ledger entries (of `Archive.condensed`, or single ones), ascending."""
    days, folder = dict[str, ArchivedDay](), str(archive.var)
    for entry in archive.expand(entries):
        for file in entry.files:
            if (kind := file.room) in KINDS:
                day = days.setdefault(file.day, ArchivedDay(archive.is_kept(file)))
                day.rows += file.rows
                day.paths.setdefault(kind, []).append(f"{folder}/{file.path}")
    return dict(sorted(days.items()))


def compact_days(
    archived: Mapping[str, ArchivedDay], day_store: DayStore, gap_ms: int, advance: Callable[[int], object]
) -> Counter[str]:
    """Update the days from the archive; `advance` gets the number of rows read.

    Only days whose archive files have changed are read, and none whose files retention has dropped. Returns their
    counts, with `days` (read) of `all_days`.
    Raises `MixedSources` if an imported day is in the archive as well, and `ArchiveError` if a file that the ledger
    names cannot be read.
    """
    kept, counts = day_store.days(), Counter[str](days=0)
    for day, files in archived.items():
        if day in kept and kept[day].imported is not None:
            raise MixedSources(
                f"sessions: {day} was imported from {kept[day].imported}, but is in the archive too; use another `var`"
            )
        if not files.is_kept:
            continue
        inputs = files.digest(gap_ms)
        if day not in kept or kept[day].inputs != inputs:
            counts.update(_compact_day(day_store, day, files.files(), inputs, gap_ms, advance), days=1)
    for day in [day for day, source in kept.items() if day not in archived and source.imported is None]:
        day_store.remove(day)  # ledger entries were removed: their lines will be read again
    counts["all_days"] = len(day_store.days())
    return counts


def rows_to_read(archived: Mapping[str, ArchivedDay], day_store: DayStore, gap_ms: int) -> int:
    """The number of rows that `compact_days` will read."""
    kept = {day: source.inputs for day, source in day_store.days().items()}
    changed = (each for day, each in archived.items() if each.is_kept and kept.get(day) != each.digest(gap_ms))
    return sum(each.rows for each in changed)


def _compact_day(
    day_store: DayStore, day: str, files: Files, inputs: str, gap_ms: int, advance: Callable[[int], object]
) -> Counter[str]:
    counts, tables = Counter[str](), dict[DayPart, pa.Table]()
    for kind in KINDS:
        parts, lines = _day_parts(kind, files.get(kind, []), day, gap_ms, advance)
        tables.update(parts)
        counts.update(lines, **{part: table.num_rows for part, table in parts.items()})
    day_store.write(day, DaySource(inputs=inputs, counts=dict(counts)), tables)
    return counts


def _day_parts(
    kind: Kind, files: list[Path], day: str, gap_ms: int, advance: Callable[[int], object]
) -> tuple[dict[DayPart, pa.Table], Counter[str]]:
    """The data that a night stores of a day's events of one kind: the rows of each part of the day, and counts."""
    match kind:
        case "watch":
            sessions, counts = sessions_of(files, day, gap_ms, advance)
            return {"sessions": sessions}, counts
        case "rate":
            return {"ratings": _ratings(files, advance)}, Counter()
        case "recommend":
            return _requests(files, advance), Counter()
        case "account":
            return {"accounts": _users_and_times(_read(kind, files, ["user", "time"], advance))}, Counter()
        case _:
            assert_never(kind)


def sessions_of(
    files: list[Path], day: str, gap_ms: int, advance: Callable[[int], object] = lambda rows: None
) -> tuple[pa.Table, Counter[str]]:
    """Sessions of the watch files of a day, sorted by user, movie and start.

    Counts `minutes` (lines) and `duplicates` (lines that repeat another one).
    """
    numbers, base = _MovieNumbers(), (day_number(day) - 1) * DAY_MS  # a day of the zone may begin before the UTC day
    minutes = [_minutes(path, numbers, base, advance) for path in files]
    total = sum(len(keys) for keys, _ in minutes)
    edges = _edges(minutes, total) if total else np.zeros(0, np.uint64)
    with ThreadPoolExecutor(_THREADS) as threads:
        shares = threads.map(lambda low, high: _cut(*_between(minutes, low, high), base, gap_ms), edges, edges[1:])
        parts = list(shares)
    names, index = numbers.sorted()
    user, number = split_key(np.concatenate([spans.key for spans, _ in parts] or [np.zeros(0, np.uint64)]))
    start, last = (
        np.concatenate([getattr(spans, name) for spans, _ in parts] or [np.zeros(0, np.int64)])
        for name in ("start", "last")
    )
    lengths = np.concatenate([counted for _, counted in parts] or [np.zeros(0, np.int32)])
    movie = index[number]
    order = np.lexsort((start, movie, user))
    columns = {
        "user": user[order].astype(np.uint32),
        "movie": pa.DictionaryArray.from_arrays(movie[order], pa.array(names, pa.string())),
        "start": start[order],
        "last": last[order],
        "minutes": lengths[order],
    }
    return day_table("sessions", columns), Counter(minutes=total, duplicates=total - int(lengths.sum()))


def _minutes(
    path: Path, numbers: _MovieNumbers, base: int, advance: Callable[[int], object]
) -> tuple[np.ndarray, np.ndarray]:
    table = _rows("watch", path, ["time", "user", "movie", "minute"])
    keys = session_key(table.column("user").to_numpy(), numbers.indices(table.column("movie")))
    since = (table.column("time").cast(pa.int64()).to_numpy() - base).astype(np.uint64)
    advance(table.num_rows)
    return keys, since << np.uint64(32) | table.column("minute").to_numpy().astype(np.uint64)


def _edges(minutes: Minutes, total: int) -> np.ndarray:
    """Keys (uint64, ascending) with about `_SHARE_ROWS` minutes between two of them; no user is split."""
    count = -(-total // _SHARE_ROWS)
    sample = np.concatenate([keys[::97] for keys, _ in minutes] or [np.zeros(0, np.uint64)]) >> np.uint64(32)
    inner = np.quantile(sample, np.arange(1, count) / count, method="lower") if count > 1 else []
    return np.concatenate([[np.uint64(0)], np.array(inner, np.uint64) << np.uint64(32), [_LAST]])


def _between(minutes: Minutes, low: np.uint64, high: np.uint64) -> tuple[np.ndarray, np.ndarray]:
    """The minutes of the users between two keys."""
    rows = [(keys >= low) & (keys < high) for keys, _ in minutes]
    return (
        np.concatenate([keys[own] for (keys, _), own in zip(minutes, rows, strict=True)]),
        np.concatenate([times[own] for (_, times), own in zip(minutes, rows, strict=True)]),
    )


def _cut(keys: np.ndarray, times: np.ndarray, base: int, gap_ms: int) -> tuple[TimeSpans, np.ndarray]:
    """Join minutes, in any order, into sessions, and count the different minutes of each (int32)."""
    order = np.argsort(keys, kind="stable")
    keys, times = keys[order], times[order]
    same = keys[1:] == keys[:-1]
    if (same & (times[1:] < times[:-1])).any():  # rare: lines nearly always come in order of time
        order = np.lexsort((times, keys))
        keys, times = keys[order], times[order]
        same = keys[1:] == keys[:-1]
    new = np.append(True, ~same | (times[1:] != times[:-1])) if len(keys) else np.zeros(0, bool)
    time_ms = (times[new] >> np.uint64(32)).astype(np.int64) + base
    spans, rows = merge_spans(TimeSpans(keys[new], time_ms, time_ms), gap_ms)
    return spans, np.bincount(rows, minlength=len(spans)).astype(np.int32)


def _ratings(files: list[Path], advance: Callable[[int], object]) -> pa.Table:
    """All ratings without duplicates, sorted by user, movie and time."""
    table = _read("rate", files, ["user", "movie", "time", "rating"], advance)
    numbers, column = _MovieNumbers(), table.column("movie").unify_dictionaries()
    number = numbers.indices(column) if len(table) else np.zeros(0, np.int32)
    names, index = numbers.sorted()
    columns = [table.column("user").to_numpy(), index[number], table.column("time").cast(pa.int64()).to_numpy()]
    rows = np.stack([*columns, table.column("rating").to_numpy()], axis=1, dtype=np.int64, casting="unsafe")
    rows = np.unique(rows, axis=0)
    movie = pa.DictionaryArray.from_arrays(rows[:, 1].astype(np.int32), pa.array(names, pa.string()))
    return day_table("ratings", {"user": rows[:, 0], "movie": movie, "time": rows[:, 2], "rating": rows[:, 3]})


def _users_and_times(table: pa.Table) -> pa.Table:
    user, time = table.column("user").to_numpy(), table.column("time").cast(pa.int64()).to_numpy()
    order = np.lexsort((time, user))
    return day_table("requests", {"user": user[order], "time": time[order]})


def _requests(files: list[Path], advance: Callable[[int], object]) -> dict[DayPart, pa.Table]:
    """Who was shown a list (an answer with status 200) and when, and how many lists showed each movie.

    The lists of one file at a time are in memory: those of a large day take gigabytes.
    """
    requests, counts = [_columns("recommend", ["user", "time"]).empty_table()], Counter[str]()
    for path in files:
        table = _rows("recommend", path, ["user", "time", "status", "movies"])
        answered = table.filter(pc.field("status") == 200)
        requests.append(answered.select(["user", "time"]))
        for each in pc.value_counts(pc.list_flatten(answered.column("movies"))).to_pylist():
            counts[each["values"]] += each["counts"]
        advance(table.num_rows)
    names = sorted(counts)
    lists = np.array([counts[name] for name in names], np.int64)
    movies = pa.array(names, pa.string()).dictionary_encode()
    shown = day_table("shown", {"movie": movies, "lists": lists})
    return {"requests": _users_and_times(pa.concat_tables(requests)), "shown": shown}


def _read(kind: Kind, files: list[Path], columns: list[str], advance: Callable[[int], object]) -> pa.Table:
    tables = [_columns(kind, columns).empty_table()]
    for path in files:
        tables.append(_rows(kind, path, columns))
        advance(tables[-1].num_rows)
    return pa.concat_tables(tables).unify_dictionaries()


def _columns(kind: Kind, columns: list[str]) -> pa.Schema:
    return pa.schema([ARCHIVE_SCHEMAS[kind].field(name) for name in columns])


def _rows(kind: Kind, path: Path, columns: list[str]) -> pa.Table:
    try:
        return read_columns(path, _columns(kind, columns))
    except (OSError, pa.ArrowException) as error:
        remedy = "restore it, or remove its ledger entry and all later ones of its partition: they are then read again"
        raise ArchiveError(f"archive: {path} is missing or damaged: {error}; {remedy}") from error
