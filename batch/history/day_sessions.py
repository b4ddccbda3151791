"""Makes the sessions of each day from the minutes in the archive.

A session is the minutes of one user and movie with pauses of at most `session_gap_hours`, here within one day. The
minutes of a day lie in memory once, in 16 bytes each, and are sorted a share of the users at a time: 95 million of
them take less than 4 GB. Exact duplicates that lay in different batches are dropped here, and counted.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch.errors import MixedSources
from batch.history.day_store import DAY_SCHEMAS, LAYOUT, DaySource, DayStore, day_table
from quality.metrics.watch_sessions import TimeSpans, merge_spans, session_key, split_key
from stream.archive import Archive, LedgerEntry
from stream.errors import ArchiveError
from stream.event import KINDS, Kind
from stream.zone import DAY_MS, day_number

Files = dict[Kind, list[Path]]
Minutes = list[tuple[np.ndarray, np.ndarray]]
"""By file, of each line: user and movie (`session_key`); ms since a base, and the minute below it. Both uint64."""
_SHARE_ROWS = 4_000_000
"""Minutes that are sorted together."""
_THREADS = 2
_LAST = np.uint64(2**64 - 1)
"""No key is so large: movies are numbered in 31 bits."""


@dataclass
class _Words:
    """Movie ids as they come, numbered."""

    numbers: dict[str, int] = field(default_factory=dict)

    def indices(self, column: pa.ChunkedArray) -> np.ndarray:
        """Number of each movie of a dictionary column: int32."""
        encoded = column.combine_chunks()
        words = encoded.dictionary.to_pylist()
        known = np.array([self.numbers.setdefault(word, len(self.numbers)) for word in words] or [0], np.int32)
        rows: np.ndarray = encoded.indices.to_numpy()
        return known[rows]

    def sorted(self) -> tuple[list[str], np.ndarray]:
        """The ids that there are, ascending, and by number the place among them: int32."""
        names = sorted(self.numbers)
        places = np.empty(len(names), np.int32)
        places[[self.numbers[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        return names, places


def compact_days(
    archive: Archive, entries: list[LedgerEntry], day_store: DayStore, gap_ms: int, advance: Callable[[int], object]
) -> Counter[str]:
    """Bring the days up to what the archive holds; `advance` gets the rows that were read.

    Only days are read whose files are others than before: new lines, or late ones. Returns what was counted in them,
    and `days` (read) of `all_days`. Raises `MixedSources` where a day was imported, and archived as well, and
    `ArchiveError` where a file that the ledger names cannot be read.
    """
    kept, found, counts = day_store.days(), _by_day(archive, entries), Counter[str](days=0)
    for day, files in found.items():
        if day in kept and kept[day].imported is not None:
            raise MixedSources(
                f"sessions: {day} was imported from {kept[day].imported}, and archived; use another `var`"
            )
        inputs = _digest(files, gap_ms)
        if day not in kept or kept[day].inputs != inputs:
            counts.update(_compacted(day_store, day, files, inputs, gap_ms, advance), days=1)
    for day in [day for day, made in kept.items() if day not in found and made.imported is None]:
        day_store.remove(day)  # the ledger was cut back: its lines will be read again
    counts["all_days"] = len(day_store.days())
    return counts


def rows_to_read(archive: Archive, entries: list[LedgerEntry], day_store: DayStore, gap_ms: int) -> int:
    """How many rows `compact_days` will read."""
    kept = {day: made.inputs for day, made in day_store.days().items()}
    new = {day for day, files in _by_day(archive, entries).items() if kept.get(day) != _digest(files, gap_ms)}
    return sum(file.rows for entry in entries for file in entry.files if file.room in KINDS and file.day in new)


def _by_day(archive: Archive, entries: list[LedgerEntry]) -> dict[str, Files]:
    days: dict[str, Files] = {}
    for kind in KINDS:
        for day, paths in archive.files(kind, entries).items():
            days.setdefault(day, {})[kind] = paths
    return dict(sorted(days.items()))


def _digest(files: Files, gap_ms: int) -> str:
    """Files are never changed, so their names say what is in them."""
    names = sorted(f"{kind}/{path.name}" for kind, paths in files.items() for path in paths)
    return hashlib.sha256("\n".join([str(LAYOUT), str(gap_ms), *names]).encode()).hexdigest()


def _compacted(
    day_store: DayStore, day: str, files: Files, inputs: str, gap_ms: int, advance: Callable[[int], object]
) -> Counter[str]:
    sessions, counts = sessions_of(files.get("watch", []), day, gap_ms, advance)
    tables = {
        "sessions": sessions,
        "ratings": _ratings(files.get("rate", []), advance),
        "requests": _who_and_when(files.get("recommend", []), advance, pc.field("status") == 200),
        "accounts": _who_and_when(files.get("account", []), advance),
    }
    counts.update({part: table.num_rows for part, table in tables.items()})
    day_store.write(day, DaySource(inputs=inputs, counts=dict(counts)), tables)  # type: ignore[arg-type]
    return counts


def sessions_of(
    files: list[Path], day: str, gap_ms: int, advance: Callable[[int], object] = lambda rows: None
) -> tuple[pa.Table, Counter[str]]:
    """Sessions of the watch files of a day, sorted by user, movie and start; and `minutes` and `duplicates`, counted.

    What was counted are lines, and those that were the same as another.
    """
    words, base = _Words(), (day_number(day) - 1) * DAY_MS  # a day of the zone may begin before that of UTC
    minutes = [_minutes(path, words, base, advance) for path in files]
    total = sum(len(keys) for keys, _ in minutes)
    edges = _edges(minutes, total) if total else np.zeros(0, np.uint64)
    with ThreadPoolExecutor(_THREADS) as threads:
        shares = threads.map(lambda low, high: _cut(*_between(minutes, low, high), base, gap_ms), edges, edges[1:])
        cut = list(shares)
    names, places = words.sorted()
    user, number = split_key(np.concatenate([spans.key for spans, _ in cut] or [np.zeros(0, np.uint64)]))
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(spans, name) for spans, _ in cut] or [np.zeros(0, np.int64)])
        for name in ("start", "last")
    }
    columns["minutes"] = np.concatenate([lengths for _, lengths in cut] or [np.zeros(0, np.int32)])
    movie = places[number]
    order = np.lexsort((columns["start"], movie, user))
    columns = {name: column[order] for name, column in columns.items()}
    columns["user"] = user[order].astype(np.uint32)
    columns["movie"] = pa.DictionaryArray.from_arrays(movie[order], pa.array(names, pa.string()))
    watched = int(columns["minutes"].sum())
    return day_table("sessions", columns), Counter(minutes=total, duplicates=total - watched)


def _minutes(path: Path, words: _Words, base: int, advance: Callable[[int], object]) -> tuple[np.ndarray, np.ndarray]:
    table = _rows(path, ["time", "user", "movie", "minute"])
    keys = session_key(table.column("user").to_numpy(), words.indices(table.column("movie")))
    since = (table.column("time").cast(pa.int64()).to_numpy() - base).astype(np.uint64)
    advance(table.num_rows)
    return keys, since << np.uint64(32) | table.column("minute").to_numpy().astype(np.uint64)


def _edges(minutes: Minutes, total: int) -> np.ndarray:
    """Keys (uint64, ascending) between which there are about `_SHARE_ROWS` minutes, and no user is divided."""
    count = -(-total // _SHARE_ROWS)
    sample = np.concatenate([keys[::97] for keys, _ in minutes] or [np.zeros(0, np.uint64)]) >> np.uint64(32)
    inner = np.quantile(sample, np.arange(1, count) / count, method="lower") if count > 1 else []
    return np.concatenate([[np.uint64(0)], np.array(inner, np.uint64) << np.uint64(32), [_LAST]])


def _between(minutes: Minutes, low: np.uint64, high: np.uint64) -> tuple[np.ndarray, np.ndarray]:
    """The minutes of some users."""
    rows = [(keys >= low) & (keys < high) for keys, _ in minutes]
    return (
        np.concatenate([keys[own] for (keys, _), own in zip(minutes, rows, strict=True)]),
        np.concatenate([times[own] for (_, times), own in zip(minutes, rows, strict=True)]),
    )


def _cut(keys: np.ndarray, times: np.ndarray, base: int, gap_ms: int) -> tuple[TimeSpans, np.ndarray]:
    """Minutes in any order to sessions, and the different minutes of each (int32)."""
    order = np.argsort(keys, kind="stable")
    keys, times = keys[order], times[order]
    same = keys[1:] == keys[:-1]
    if (same & (times[1:] < times[:-1])).any():  # lines nearly always come in the order of their times
        order = np.lexsort((times, keys))
        keys, times = keys[order], times[order]
        same = keys[1:] == keys[:-1]
    new = np.append(True, ~same | (times[1:] != times[:-1])) if len(keys) else np.zeros(0, bool)
    at = (times[new] >> np.uint64(32)).astype(np.int64) + base
    spans, rows = merge_spans(TimeSpans(keys[new], at, at), gap_ms)
    return spans, np.bincount(rows, minlength=len(spans)).astype(np.int32)


def _ratings(files: list[Path], advance: Callable[[int], object]) -> pa.Table:
    """Every rating, each line once, by user, movie and time."""
    table = _read(files, ["user", "movie", "time", "rating"], advance, None)
    words, column = _Words(), table.column("movie").unify_dictionaries()
    number = words.indices(column) if len(table) else np.zeros(0, np.int32)
    names, places = words.sorted()
    columns = [table.column("user").to_numpy(), places[number], table.column("time").cast(pa.int64()).to_numpy()]
    rows = np.stack([*columns, table.column("rating").to_numpy()], axis=1, dtype=np.int64, casting="unsafe")
    rows = np.unique(rows, axis=0)
    movie = pa.DictionaryArray.from_arrays(rows[:, 1].astype(np.int32), pa.array(names, pa.string()))
    return day_table("ratings", {"user": rows[:, 0], "movie": movie, "time": rows[:, 2], "rating": rows[:, 3]})


def _who_and_when(files: list[Path], advance: Callable[[int], object], chosen: pc.Expression | None = None) -> pa.Table:
    table = _read(files, ["user", "time"], advance, chosen)
    user, time = table.column("user").to_numpy(), table.column("time").cast(pa.int64()).to_numpy()
    order = np.lexsort((time, user))
    return day_table("requests", {"user": user[order], "time": time[order]})


def _read(
    files: list[Path], columns: list[str], advance: Callable[[int], object], chosen: pc.Expression | None
) -> pa.Table:
    tables = []
    for path in files:
        whole = _rows(path)
        advance(whole.num_rows)
        tables.append((whole if chosen is None else whole.filter(chosen)).select(columns))
    if not tables:
        return DAY_SCHEMAS["ratings"].empty_table().select(columns)
    return pa.concat_tables(tables).unify_dictionaries()


def _rows(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        mend = "restore it, or remove its ledger entry and all later ones of its partition: they are then read again"
        raise ArchiveError(f"archive: {path} is gone or damaged: {error}; {mend}") from error
