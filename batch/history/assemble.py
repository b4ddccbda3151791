"""Assembles the training history: the sessions of all days, with ratings, catalogue and segments.

Sessions across midnight are joined from their pieces. Left out are events that lie ahead of the stream's clock, and
those of movies that are missing in the catalogue, which are counted. Users and movies are numbered in ascending order.
The history is stored in `night/`, so that all later steps use the same one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.history.day_store import DayPart, DayStore
from batch.history.interactions import Requests, TrainingHistory
from quality.metrics.watch_sessions import TimeSpans, merge_spans, session_key, split_key
from stream import durable
from stream.zone import DAY_MS, day_name

FILES = ("history.parquet", "requests.parquet", "users.npy", "watched.txt", "segments.npy")
_MANY_USERS = 30
"""So many users do not have the wrong time."""
_USERS_AND_TIMES: tuple[DayPart, ...] = ("requests", "accounts")
_SESSIONS = ("user", "movie", "start", "minutes", "share", "rating", "rated")


@dataclass(frozen=True)
class GatheredDays:
    """The sessions and ratings of some days, for known movies; movies by their index in `movies`."""

    spans: TimeSpans
    """Sessions, ascending by user, movie and start."""
    minutes: np.ndarray
    """int32: different minutes of each session."""
    rated: TimeSpans
    """A span from the first rating of each user and movie to the latest, ascending by both."""
    ratings: np.ndarray
    """int8: the latest rating of each."""
    movies: list[str]
    """Known movies that were watched or rated, ascending."""
    users: np.ndarray
    """uint32, ascending: all users with an event."""
    unknown: int
    """Number of rows (sessions by day, and ratings) of unknown movies."""


def history_end(day_store: DayStore, days: Sequence[str], stream_time: int) -> int:
    """The latest time that an event of a history may have, ms UTC: how far the stream has come (`stream_time`).

    The clock of a sender may be wrong, and what it dated ahead belongs to a later night. But if many users began a
    session after `stream_time`, it is Kafka's time that is behind, as in a replay or for a wrong zone. Then the history
    ends where that many have come; in a small archive, more than half of the users.
    """
    recent = [day for day in days if day >= day_name(stream_time // DAY_MS - 1)]  # days are those of another zone
    sessions = day_store.read("sessions", recent)
    user, start = _column(sessions, "user"), _column(sessions, "start")
    ahead = start > stream_time
    _, row = np.unique(user[ahead], return_inverse=True)
    latest = np.zeros(row.max(initial=-1) + 1, np.int64)
    np.maximum.at(latest, row, start[ahead])
    many = min(_MANY_USERS, len(_unique(user)) // 2 + 1)
    return int(np.sort(latest)[-many]) if len(latest) >= many else stream_time


def gather_days(
    day_store: DayStore, days: Sequence[str], known: Mapping[str, object], gap_ms: int, end: int | None = None
) -> GatheredDays:
    """Read some days. The keys of `known` are the movies of the catalogue.

    Sessions that began after `end` (ms UTC), and all other events after it, are left out.
    """
    sessions, ratings = day_store.read("sessions", days, end), day_store.read("ratings", days, end)
    movies = sorted((_named(sessions) | _named(ratings)) & known.keys())
    index = {name: number for number, name in enumerate(movies)}
    watched, rated = _movie_indices(sessions, index), _movie_indices(ratings, index)
    kept = watched >= 0
    users = [table.column("user").to_numpy() for table in (sessions, ratings)]
    users += [day_store.read(part, days, end).column("user").to_numpy() for part in _USERS_AND_TIMES]
    unknown = int((~kept).sum() + (rated < 0).sum())
    keys = session_key(_column(sessions, "user")[kept], watched[kept])
    spans, rows = merge_spans(
        TimeSpans(keys, _column(sessions, "start")[kept], _column(sessions, "last")[kept]), gap_ms
    )
    minutes = np.bincount(rows, _column(sessions, "minutes")[kept], len(spans)).astype(np.int32)
    rating_spans, latest = _latest_ratings(ratings, rated)
    return GatheredDays(spans, minutes, rating_spans, latest, movies, _unique(np.concatenate(users)), unknown)


def assemble(gathered: GatheredDays, runtimes: np.ndarray, best_rating: int, segments: np.ndarray) -> TrainingHistory:
    """The history of some days.

    `runtimes` is float64 [movies], minutes, NaN for unknown; `segments` uint8 [users].
    """
    spans, rated = gathered.spans, gathered.rated
    unseen = _before_any(rated, spans)  # rated before any session, with or without a later one
    keys = np.concatenate([spans.key, rated.key[unseen]])
    order = np.argsort(keys, kind="stable")
    keys, start = keys[order], np.concatenate([spans.start, rated.start[unseen]])[order]
    minutes = np.concatenate([gathered.minutes, np.zeros(int(unseen.sum()), np.int32)])[order]
    user, movie = split_key(keys)
    # an extra rating at the end stands for unrated pairs
    row = np.searchsorted(rated.key, keys)
    is_rated = np.append(rated.key, np.uint64(2**64 - 1))[row] == keys
    rating = np.where(is_rated, np.append(gathered.ratings / best_rating, np.nan)[row], np.nan)
    rated_at = np.where(is_rated, np.append(rated.last, 0)[row], 0)
    user = np.searchsorted(gathered.users, user)
    order = _in_time(user, start)
    share = np.minimum(minutes / runtimes[movie], 1)
    return TrainingHistory(
        user=user[order].astype(np.int32),
        movie=movie[order].astype(np.int32),
        start=start[order].astype(np.int64),
        minutes=minutes[order],
        share=share[order].astype(np.float32),
        rating=rating[order].astype(np.float32),
        rated=rated_at[order].astype(np.int64),
        users=gathered.users,
        movies=gathered.movies,
        segments=segments,
    )


def requests_of(day_store: DayStore, days: Sequence[str], users: np.ndarray, end: int | None = None) -> Requests:
    """The lists that users (ids, ascending) were shown on some days, until `end` (ms UTC)."""
    table = day_store.read("requests", days, end)
    return Requests(
        np.searchsorted(users, table.column("user").to_numpy()).astype(np.int32), table.column("time").to_numpy()
    )


def save_history(folder: Path, history: TrainingHistory, requests: Requests) -> None:
    """Write the files of `FILES`, each whole."""
    _write(folder / "history.parquet", {name: getattr(history, name) for name in _SESSIONS})
    _write(folder / "requests.parquet", {"user": requests.user, "time": requests.time})
    durable.write_array(folder / "users.npy", history.users)
    durable.write_bytes(folder / "watched.txt", "".join(f"{name}\n" for name in history.movies).encode())
    durable.write_array(folder / "segments.npy", history.segments)


def load_history(folder: Path) -> tuple[TrainingHistory, Requests]:
    """Read what `save_history` wrote. Raises `OSError` for a missing file, other errors for damaged ones."""
    table = pq.ParquetFile(folder / "history.parquet").read()
    requests = pq.ParquetFile(folder / "requests.parquet").read()
    history = TrainingHistory(
        **{name: table.column(name).to_numpy() for name in _SESSIONS},
        users=np.load(folder / "users.npy"),
        movies=(folder / "watched.txt").read_text("utf-8").splitlines(),
        segments=np.load(folder / "segments.npy"),
    )
    return history, Requests(*(requests.column(name).to_numpy() for name in ("user", "time")))


def _write(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    table = pa.table(dict(columns))
    durable.write(path, lambda temporary: pq.write_table(table, temporary, compression="zstd", compression_level=1))


def _before_any(rated: TimeSpans, spans: TimeSpans) -> np.ndarray:
    """Which pairs of user and movie were rated before their first session, or without one: bool."""
    if not len(spans):
        return np.ones(len(rated), bool)
    first = np.minimum(np.searchsorted(spans.key, rated.key), len(spans) - 1)
    before: np.ndarray = (spans.key[first] != rated.key) | (rated.start < spans.start[first])
    return before


def _in_time(user: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The order of rows by user and start: int64. The input is sorted by user and movie; equal starts keep that order.

    User and start are packed into one number if both fit, which sorts millions of rows faster.
    """
    since = start - start.min(initial=2**62)
    bits = int(since.max(initial=0)).bit_length()
    if int(user.max(initial=0)).bit_length() + bits > 63:
        return np.lexsort((since, user))
    return np.argsort(user << bits | since, kind="stable")


def _unique(values: np.ndarray) -> np.ndarray:
    """Each value once, ascending. np.unique, which hashes since NumPy 2.3, is many times slower."""
    values = np.sort(values)
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values


def _named(table: pa.Table) -> set[str]:
    """The movies that a table names."""
    column = table.column("movie")
    return set(column.chunk(0).dictionary.to_pylist()) if column.num_chunks else set()


def _movie_indices(table: pa.Table, index: Mapping[str, int]) -> np.ndarray:
    """Index of each row's movie: int32, -1 for an unknown one."""
    column = table.column("movie")
    if not column.num_chunks:
        return np.zeros(0, np.int32)
    encoded = column.combine_chunks()
    by_word = np.array([index.get(word, -1) for word in encoded.dictionary.to_pylist()] or [-1], np.int32)
    indices: np.ndarray = by_word[encoded.indices.to_numpy()]
    return indices


def _column(table: pa.Table, name: str) -> np.ndarray:
    values: np.ndarray = table.column(name).to_numpy()
    return values


def _latest_ratings(ratings: pa.Table, movie: np.ndarray) -> tuple[TimeSpans, np.ndarray]:
    """The time span in which each user rated each movie, and the latest rating; of simultaneous ratings the better."""
    kept = movie >= 0
    keys, times = session_key(_column(ratings, "user")[kept], movie[kept]), _column(ratings, "time")[kept]
    values = _column(ratings, "rating")[kept]
    order = np.lexsort((values, times, keys))
    new = np.append(True, np.diff(keys[order]) != 0) if len(order) else np.zeros(0, bool)
    first, last = order[new], order[np.roll(new, -1)]
    return TimeSpans(keys[last], times[first], times[last]), values[last]
