"""Interactions against their definition, and that nothing of what came later is in them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.interactions import History, runtimes_of
from batch.sessions import SESSION_TYPES
from stream.zone import DAY_MS

USERS = np.array([3, 5, 2**32 - 1], np.uint32)
RUNTIMES = np.array([100.0, 50.0, np.nan, np.nan])
NOW = 100 * DAY_MS
Sessions = list[tuple[int, int, int, int]]
"""User id, movie index, days before now, minutes watched."""
Ratings = list[tuple[int, int, int, int]]
"""User id, movie index, days before now, rating; each user and movie once."""

user_ids = st.sampled_from(USERS.tolist())
all_sessions = st.lists(
    st.tuples(user_ids, st.integers(0, 3), st.integers(-5, 20), st.sampled_from([1, 30, 50, 99, 150])), max_size=20
)
all_ratings = st.lists(
    st.tuples(user_ids, st.integers(0, 3), st.integers(-5, 20), st.integers(1, 5)),
    max_size=8,
    unique_by=lambda row: row[:2],
)


def history(sessions: Sessions, ratings: Ratings, runtimes: np.ndarray = RUNTIMES) -> History:
    starts = [NOW - days * DAY_MS for _, _, days, _ in sessions]
    frame = pd.DataFrame(
        {
            "user": [user for user, *_ in sessions],
            "movie": [movie for _, movie, *_ in sessions],
            "start": starts,
            "last": starts,
            "minutes": [minutes for *_, minutes in sessions],
        }
    ).astype(SESSION_TYPES)
    rated = pd.DataFrame(
        {
            "user": np.array([user for user, *_ in ratings], np.uint32),
            "movie": np.array([movie for _, movie, *_ in ratings], np.int32),
            "time": np.array([NOW - days * DAY_MS for _, _, days, _ in ratings], np.int64),
            "rating": np.array([rating for *_, rating in ratings], np.int8),
        }
    )
    return History(frame, rated, USERS, runtimes, 5)


def lengths(sessions: Sessions) -> list[float]:
    longest = [max([minutes for _, m, _, minutes in sessions if m == movie], default=100) for movie in range(4)]
    return [100, 50, longest[2], longest[3]]


def by_definition(sessions: Sessions, ratings: Ratings) -> np.ndarray:
    """Weights of everything that is given: share watched, at most all of it, times 0.5 + rating / best."""
    weights, runtime = np.zeros((3, 4)), lengths(sessions)
    rows = USERS.tolist()
    for user, movie, _, minutes in sessions:
        weights[rows.index(user), movie] += min(max(minutes / runtime[movie], 0.05), 1)
    weights = np.minimum(weights, 1)
    for user, movie, _, rating in ratings:
        cell = rows.index(user), movie
        weights[cell] = weights[cell] * (0.5 + rating / 5) if weights[cell] else 0.5
    return weights


@settings(deadline=None, max_examples=80)
@given(all_sessions, all_ratings)
def test_weights_are_those_of_the_definition(sessions: Sessions, ratings: Ratings) -> None:
    got = history(sessions, ratings).before(NOW + 6 * DAY_MS, 14)
    assert got.weights.toarray() == pytest.approx(by_definition(sessions, ratings), abs=1e-6)
    assert got.weights.dtype == np.float32
    assert (got.weights.data > 0).all()


@settings(deadline=None, max_examples=80)
@given(all_sessions, st.floats(0.5, 30))
def test_starts_count_half_for_every_half_life(sessions: Sessions, half_life: float) -> None:
    got = history(sessions, []).before(NOW, half_life)
    starts, popularity = np.zeros(4), np.zeros(4)
    for _, movie, days, _ in sessions:
        if days > 0:
            starts[movie] += 1
            popularity[movie] += 0.5 ** (days / half_life)
    assert got.starts.tolist() == starts.tolist()
    assert got.popularity == pytest.approx(popularity)


def assert_same(one: History, two: History) -> None:
    first, second = (some.before(NOW, 14) for some in (one, two))
    assert first.weights.toarray().tolist() == second.weights.toarray().tolist()
    assert first.popularity.tolist() == second.popularity.tolist()
    assert first.starts.tolist() == second.starts.tolist()


def earlier(rows: list[Any]) -> list[Any]:
    return [row for row in rows if row[2] > 0]


@settings(deadline=None, max_examples=60)
@given(all_sessions, all_ratings)
def test_what_came_later_is_not_in_what_was_known(sessions: Sessions, ratings: Ratings) -> None:
    known = np.array([100.0, 50.0, 90.0, 120.0])
    assert_same(history(sessions, ratings, known), history(earlier(sessions), earlier(ratings), known))


def test_a_later_session_does_not_change_how_long_a_movie_is_thought_to_be() -> None:
    sessions = [(3, 2, 2, 30), (5, 2, -2, 150)]
    assert_same(history(sessions, []), history(earlier(sessions), []))


@settings(deadline=None, max_examples=80)
@given(all_sessions, st.integers(-6, 20), st.integers(0, 9))
def test_a_stretch_of_time_has_the_starts_within_it(sessions: Sessions, ago: int, length: int) -> None:
    since, until = NOW - ago * DAY_MS, NOW - ago * DAY_MS + length * DAY_MS
    got = history(sessions, []).started(since, until).toarray()
    expected = np.zeros((3, 4), bool)
    for user, movie, days, _ in sessions:
        expected[USERS.tolist().index(user), movie] |= since <= NOW - days * DAY_MS < until
    assert got.tolist() == expected.tolist()
    assert got.dtype == bool


def test_runtimes_are_those_of_the_records_and_nan_where_unknown() -> None:
    records: dict[str, dict[str, object]] = {"a+1984": {"runtime": 90}, "b+1984": {"runtime": None}, "c+1984": {}}
    assert runtimes_of(["c+1984", "a+1984", "b+1984"], records) == pytest.approx([np.nan, 90, np.nan], nan_ok=True)
