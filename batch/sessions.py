"""Sessions: what a user watched, made of the minutes in the archive.

A session is the minutes of one user and movie with gaps of at most `session_gap_hours`. The archive is read a day at a
time, so memory holds one day of minutes; the pieces of a session that goes over midnight are joined afterwards. Exact
duplicates that lay in different batches are dropped here, and counted.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stream.zone import HOUR_MS

SESSION_TYPES = {"user": "uint32", "movie": "int32", "start": "int64", "last": "int64", "minutes": "int32"}
"""Columns of the sessions: user id, index of the movie, first and last minute (ms UTC), different minutes watched."""


@dataclass(frozen=True)
class Words:
    """Movie ids and their indices: `names[i]` has index i."""

    names: list[str]
    index: Mapping[str, int]

    @staticmethod
    def of(names: list[str]) -> "Words":
        return Words(names, {name: at for at, name in enumerate(names)})

    def indices(self, column: pa.ChunkedArray) -> np.ndarray:
        """Index of each movie of a dictionary column: int32, -1 for one that is not among the names."""
        encoded = column.combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):  # no chunk at all
            return np.zeros(0, np.int32)
        known = np.array([self.index.get(word, -1) for word in encoded.dictionary.to_pylist()] or [-1], np.int32)
        rows: np.ndarray = encoded.indices.to_numpy()
        return known[rows]


def movies_in(files: Iterator[Path]) -> set[str]:
    """All movie ids that stand in files of the archive."""
    found: set[str] = set()
    for path in files:
        for chunk in pq.read_table(path, columns=["movie"]).column("movie").chunks:
            found.update(chunk.dictionary.to_pylist())
    return found


def users_in(files: Iterator[Path]) -> np.ndarray:
    """All user ids that stand in files of the archive: uint32, ascending."""
    parts = [np.unique(pq.read_table(path, columns=["user"]).column("user").to_numpy()) for path in files]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint32)


def sessions_of(
    days: Mapping[str, list[Path]], words: Words, gap_hours: float, advance: Callable[[], object] = lambda: None
) -> tuple[pd.DataFrame, Counter[str]]:
    """Sessions of the watch files by day, sorted by user, movie and start, and what was counted on the way.

    Counted are `minutes`, `duplicates` (the same line in two batches) and `unknown_movie` (left out).
    """
    gap_ms, counts, pieces = round(gap_hours * HOUR_MS), Counter[str](), []
    for files in days.values():
        pieces.append(_pieces(_minutes(files, words, counts), gap_ms, counts))
        advance()
    frame = pd.concat(pieces) if pieces else pd.DataFrame({name: [] for name in SESSION_TYPES})
    return _joined(frame.astype(SESSION_TYPES), gap_ms), counts


def _minutes(files: list[Path], words: Words, counts: Counter[str]) -> pd.DataFrame:
    tables = [pq.read_table(path, columns=["time", "user", "movie", "minute"]) for path in files]
    table = pa.concat_tables(tables).unify_dictionaries()
    movie = words.indices(table.column("movie"))
    frame = pd.DataFrame(
        {
            "user": table.column("user").to_numpy(),
            "movie": movie,
            "time": table.column("time").cast(pa.int64()).to_numpy(),
            "minute": table.column("minute").to_numpy(),
        }
    )
    counts.update(minutes=len(frame), unknown_movie=int((movie < 0).sum()))
    return frame[movie >= 0]


def _pieces(minutes: pd.DataFrame, gap_ms: int, counts: Counter[str]) -> pd.DataFrame:
    """Sessions of one day's minutes."""
    if minutes.empty:
        return pd.DataFrame({name: np.zeros(0, np.int64) for name in SESSION_TYPES})
    user, movie = minutes["user"].to_numpy(), minutes["movie"].to_numpy()
    time, minute = minutes["time"].to_numpy(), minutes["minute"].to_numpy()
    key = user.astype(np.int64) << 32 | movie
    order = np.lexsort((minute, time, key))
    key, time, minute = key[order], time[order], minute[order]
    new_pair = np.diff(key, prepend=-1) != 0
    same = ~new_pair & (np.diff(time, prepend=0) == 0) & (np.diff(minute, prepend=-1) == 0)
    counts.update(duplicates=int(same.sum()))
    key, time, new_pair = key[~same], time[~same], new_pair[~same]
    first = np.flatnonzero(new_pair | (np.diff(time, prepend=0) > gap_ms))
    ends = np.append(first[1:], len(key))
    return pd.DataFrame(
        {
            "user": (key[first] >> 32).astype(np.uint32),
            "movie": (key[first] & 0xFFFFFFFF).astype(np.int32),
            "start": time[first],
            "last": time[ends - 1],
            "minutes": (ends - first).astype(np.int32),
        }
    )


def _joined(pieces: pd.DataFrame, gap_ms: int) -> pd.DataFrame:
    """Join the pieces of sessions that go over midnight."""
    pieces = pieces.sort_values(["user", "movie", "start"], ignore_index=True)
    pair = pieces.groupby(["user", "movie"], sort=False)
    # the farthest that any earlier piece of the pair reached: a late line can make pieces overlap
    reached = pair["last"].cummax().groupby([pieces["user"], pieces["movie"]], sort=False).shift()
    new = reached.isna() | (pieces["start"] - reached > gap_ms)
    joined = pieces.groupby(new.cumsum().to_numpy(), sort=False).agg(
        user=("user", "first"),
        movie=("movie", "first"),
        start=("start", "first"),
        last=("last", "max"),
        minutes=("minutes", "sum"),
    )
    return joined.reset_index(drop=True).astype(SESSION_TYPES)


def ratings_of(days: Mapping[str, list[Path]], words: Words) -> tuple[pd.DataFrame, Counter[str]]:
    """The latest rating of each user and movie (columns user, movie, time, rating), and how many were not the first."""
    columns = ["time", "user", "movie", "rating"]
    tables = [pq.read_table(path, columns=columns) for files in days.values() for path in files]
    if not tables:
        return pd.DataFrame({name: np.zeros(0, np.int64) for name in columns}), Counter(ratings=0, second_ratings=0)
    table = pa.concat_tables(tables).unify_dictionaries()
    frame = pd.DataFrame(
        {
            "user": table.column("user").to_numpy(),
            "movie": words.indices(table.column("movie")),
            "time": table.column("time").cast(pa.int64()).to_numpy(),
            "rating": table.column("rating").to_numpy(),
        }
    )
    frame = frame[frame["movie"] >= 0].sort_values(["user", "movie", "time"]).drop_duplicates()
    latest = frame.drop_duplicates(["user", "movie"], keep="last", ignore_index=True)
    return latest, Counter(ratings=len(latest), second_ratings=len(frame) - len(latest))
