"""Interactions against their definition, and that nothing of what came later is in them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.history.interactions import MINUTE_MS, Interactions, TrainingHistory
from stream.zone import DAY_MS

USERS, MOVIES = 3, 4
RUNTIMES = np.array([100.0, 50.0, np.nan, np.nan])
NOW = 100 * DAY_MS
Session = tuple[int, int, int, int, int, int]
"""User, movie, days before now, minutes watched (0: only rated), rating of 5 (0: none), days before now that it was
given."""

sessions = st.lists(
    st.tuples(
        st.integers(0, USERS - 1),
        st.integers(0, MOVIES - 1),
        st.integers(-5, 20),
        st.sampled_from([0, 1, 30, 50, 99, 150]),
        st.integers(0, 5),
        st.integers(-5, 20),
    ),
    max_size=20,
)


def history(rows: list[Session], runtimes: np.ndarray = RUNTIMES) -> TrainingHistory:
    table = np.array(sorted(rows, key=lambda row: (row[0], -row[2], row[1])), np.int64).reshape(-1, 6)
    user, movie, days, minutes, rating, rated = table.T
    return TrainingHistory(
        user=user.astype(np.int32),
        movie=movie.astype(np.int32),
        start=NOW - days * DAY_MS,
        minutes=minutes.astype(np.int32),
        share=np.minimum(minutes / runtimes[movie], 1).astype(np.float32),
        rating=np.where(rating > 0, rating / 5, np.nan).astype(np.float32),
        rated=np.where(rating > 0, NOW - rated * DAY_MS, 0),
        users=np.array([3, 5, 2**32 - 1], np.uint32),
        movies=[f"movie+{movie}+1999" for movie in range(MOVIES)],
        segments=np.zeros(USERS, np.uint8),
    )


def earlier(rows: list[Session], until_days: int = 0) -> list[Session]:
    return [row for row in rows if row[2] > until_days]


def weights_of(rows: list[Session]) -> dict[tuple[int, int], float]:
    """By user and movie, of what is given: share watched, at most all of it, times 0.5 + rating where there is one."""
    longest = [max([100, *(row[3] for row in rows if row[1] == movie)]) for movie in range(MOVIES)]
    lengths = [longest[movie] if np.isnan(RUNTIMES[movie]) else RUNTIMES[movie] for movie in range(MOVIES)]
    weights: dict[tuple[int, int], float] = {}
    for user, movie, _, minutes, _, _ in rows:
        share = max(min(minutes / lengths[movie], 1), 0.05) if minutes else 0.5
        weights[user, movie] = min(weights.get((user, movie), 0) + share, 1)
    for user, movie in weights:
        # the rating of the pair stands in each of its sessions; the latest is looked at
        _, _, _, _, rating, rated = min(
            (row for row in sorted(rows, key=lambda r: (r[0], -r[2], r[1])) if row[:2] == (user, movie)),
            key=lambda row: row[2],
        )
        weights[user, movie] *= 0.5 + rating / 5 if rating and rated > 0 else 1
    return weights


def pairs(data: Interactions) -> dict[tuple[int, int], float]:
    weighted_pairs = zip(users_of(data), data.movies.tolist(), data.weights.tolist(), strict=True)
    return {(user, movie): weight for user, movie, weight in weighted_pairs}


def users_of(data: Interactions) -> list[int]:
    """The user of each event."""
    return np.repeat(np.arange(USERS), np.diff(data.indptr)).tolist()


def one_a_day(rows: list[Session]) -> list[Session]:
    """No two sessions of a user and movie on one day: their order would be undefined."""
    return list({row[:3]: row for row in rows}.values())


@settings(deadline=None, max_examples=150)
@given(sessions)
def test_weights_match_a_naive_reference(drawn: list[Session]) -> None:
    rows = one_a_day(drawn)
    got = history(rows).before(NOW, 14)
    assert pairs(got) == pytest.approx(weights_of(earlier(rows)), abs=1e-5)
    assert got.matrix.nnz == len(got.movies)
    assert got.weights.dtype == np.float32
    assert (got.weights > 0).all()


@settings(deadline=None, max_examples=80)
@given(sessions)
def test_events_are_sorted_by_user_and_time_with_the_latest_of_each_pair(drawn: list[Session]) -> None:
    rows = earlier(one_a_day(drawn))
    got = history(rows).before(NOW, 14)
    latest: dict[tuple[int, int], int] = {}
    for user, movie, days, *_ in rows:
        latest[user, movie] = max(NOW - days * DAY_MS, latest.get((user, movie), 0))
    expected = sorted((user, start, movie) for (user, movie), start in latest.items())
    starts = zip(users_of(got), got.starts.tolist(), got.movies.tolist(), strict=True)
    assert list(starts) == expected
    assert got.until == NOW
    assert got.shape == (USERS, MOVIES)


@settings(deadline=None, max_examples=80)
@given(sessions, st.floats(0.5, 30))
def test_starts_count_half_for_every_half_life(rows: list[Session], half_life: float) -> None:
    popularity = np.zeros(MOVIES)
    for _, movie, days, *_ in earlier(rows):
        popularity[movie] += 0.5 ** (days / half_life)
    assert history(rows).before(NOW, half_life).popularity == pytest.approx(popularity)


def same(first: Interactions, second: Interactions) -> None:
    for name in ("indptr", "movies", "starts", "weights", "popularity"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


@settings(deadline=None, max_examples=100)
@given(sessions)
def test_a_history_as_of_a_moment_holds_nothing_later(drawn: list[Session]) -> None:
    rows = one_a_day(drawn)
    unrated: list[Any] = [(*row[:4], 0, 0) if row[5] <= 0 else row for row in earlier(rows)]
    same(history(rows).before(NOW, 14), history(unrated).before(NOW, 14))


def test_only_the_watched_part_of_a_running_session_counts() -> None:
    whole = history([(0, 0, 1, 80, 0, 0)])
    until = NOW - DAY_MS + 29 * MINUTE_MS  # in its 30th minute
    assert whole.before(until, 14).weights.tolist() == pytest.approx([0.3])
    assert whole.before(NOW, 14).weights.tolist() == pytest.approx([0.8])
    unknown = history([(0, 2, 1, 200, 0, 0)])
    assert unknown.before(NOW - DAY_MS + 49 * MINUTE_MS, 14).weights.tolist() == pytest.approx([0.5])


@settings(deadline=None, max_examples=80)
@given(sessions, st.integers(-6, 20), st.integers(0, 9))
def test_an_interval_holds_the_starts_within_it(rows: list[Session], ago: int, length: int) -> None:
    since, until = NOW - ago * DAY_MS, NOW - ago * DAY_MS + length * DAY_MS
    whole = history(rows)
    got = whole.touched((whole.start >= since) & (whole.start < until)).toarray()
    expected = np.zeros((USERS, MOVIES), bool)
    for user, movie, days, *_ in rows:
        expected[user, movie] |= since <= NOW - days * DAY_MS < until
    assert got.tolist() == expected.tolist()
    assert got.dtype == bool


def test_reordering_the_matrix_leaves_the_order_of_time() -> None:
    data = history([(0, 3, 3, 30, 0, 0), (0, 1, 2, 30, 0, 0), (0, 2, 1, 30, 0, 0)]).before(NOW, 14)
    _ = (data.matrix > 0).tocsc()
    data.matrix.sort_indices()
    assert data.movies.tolist() == [3, 1, 2]
