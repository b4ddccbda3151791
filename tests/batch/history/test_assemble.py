"""The history: sessions with the ratings that belong to them, every rating once, in order; and the same read back."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.history.assemble import FILES, GatheredDays, assemble, load_history, save_history
from batch.history.interactions import Requests, TrainingHistory
from quality.metrics.watch_sessions import TimeSpans, session_key

USERS = np.array([3, 5, 2**32 - 1], np.uint32)
MOVIES = ["a+1999", "b+1999", "c+1999"]
RUNTIMES = np.array([100.0, 50.0, np.nan])
places = st.tuples(st.integers(0, 2), st.integers(0, 2))


def gathered(
    sessions: list[tuple[int, int, int, int]], ratings: dict[tuple[int, int], tuple[int, int]]
) -> GatheredDays:
    """Sessions are user, movie, start, minutes; ratings by user and movie: time, rating."""
    table = np.array(sorted(sessions), np.int64).reshape(-1, 4)
    keys = session_key(USERS[table[:, 0]], table[:, 1].astype(np.int32))
    rated = np.array([(*pair, *ratings[pair]) for pair in sorted(ratings)], np.int64).reshape(-1, 4)
    spans = TimeSpans(session_key(USERS[rated[:, 0]], rated[:, 1].astype(np.int32)), rated[:, 2], rated[:, 2])
    return GatheredDays(
        TimeSpans(keys, table[:, 2], table[:, 2] + table[:, 3]), table[:, 3].astype(np.int32),
        spans, rated[:, 3].astype(np.int8), MOVIES, USERS, 0,
    )  # fmt: skip


def as_rows(history: TrainingHistory) -> list[tuple[int, int, int, int, float, float, int]]:
    names = ("user", "movie", "start", "minutes", "share", "rating", "rated")
    return list(zip(*(getattr(history, name).tolist() for name in names), strict=True))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(places, st.integers(0, 9), st.integers(1, 150)), max_size=12, unique_by=lambda row: row[:2]),
    st.dictionaries(places, st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=6),
)
def test_sessions_and_ratings_are_all_kept_and_joined(
    watched: list[tuple[tuple[int, int], int, int]], ratings: dict[tuple[int, int], tuple[int, int]]
) -> None:
    sessions = [(*pair, start, minutes) for pair, start, minutes in watched]
    expected = []
    for user, movie, start, minutes in sessions:
        when, rating = ratings.get((user, movie), (0, np.nan))
        expected.append((user, movie, start, minutes, min(minutes / RUNTIMES[movie], 1.0), rating / 5, when))
    for (user, movie), (when, rating) in ratings.items():
        if not any(row[:2] == (user, movie) and row[2] <= when for row in sessions):  # not seen to be watched by then
            expected.append((user, movie, when, 0, 0.0 if movie < 2 else np.nan, rating / 5, when))
    expected.sort(key=lambda row: (row[0], row[2], row[1]))
    history = assemble(gathered(sessions, ratings), RUNTIMES, 5, np.zeros(3, np.uint8))
    assert np.array(as_rows(history)).reshape(-1, 7) == pytest.approx(
        np.array(expected, np.float64).reshape(-1, 7), nan_ok=True
    )


def test_a_history_is_read_back_as_written() -> None:
    written = assemble(
        gathered([(0, 1, 5, 30), (2, 2, 6, 20)], {(1, 0): (4, 5)}), RUNTIMES, 5, np.array([1, 0, 2], np.uint8)
    )
    requests = Requests(np.array([2, 0], np.int32), np.array([7, 8]))
    with tempfile.TemporaryDirectory() as folder:
        save_history(Path(folder), written, requests)
        assert {path.name for path in Path(folder).iterdir()} == set(FILES)
        loaded, asked = load_history(Path(folder))
    for name in ("user", "movie", "start", "minutes", "share", "rating", "rated", "users", "segments"):
        kept, read = getattr(written, name), getattr(loaded, name)
        assert kept.dtype == read.dtype, name
        assert np.array_equal(kept, read, equal_nan=kept.dtype.kind == "f"), name
    assert written.movies == loaded.movies
    assert [asked.user.tolist(), asked.time.tolist()] == [[2, 0], [7, 8]]
    assert (written.until, written.shape) == (7, (3, 3))
