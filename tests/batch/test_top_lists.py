"""Lists against a naive ranking: exact, nothing seen, ties by number, -1 where there is nothing left."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from batch import lists
from batch.interactions import Interactions
from batch.lists import LENGTH, RESERVE, popular_lists, top_lists


class Fixed:
    """A model with scores made up beforehand."""

    name = "fixed"

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores.astype(np.float32)

    def fit(self, data: Interactions) -> None:
        """Nothing to learn."""

    def score(self, users: np.ndarray) -> np.ndarray:
        return self._scores[users].copy()


def naive(scores: np.ndarray, seen: np.ndarray, user: int) -> list[int]:
    fresh = [movie for movie in range(scores.shape[1]) if not seen[user, movie]]
    best = sorted(fresh, key=lambda movie: (-scores[user, movie], movie))[:LENGTH]
    return best + [-1] * (LENGTH - len(best))


def drawn(seed: int, users: int, movies: int, seen_share: float, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-levels, levels, (users, movies)) if levels else rng.permutation(users * movies)
    return scores.reshape(users, movies), rng.random((users, movies)) < seen_share


sizes = (st.integers(0, 9999), st.integers(1, 6), st.sampled_from([1, 5, 19, 20, 21, 22, 60]), st.floats(0, 1))


@settings(deadline=None, max_examples=120)
@given(*sizes)
def test_lists_are_exact_and_hold_nothing_seen(seed: int, users: int, movies: int, share: float) -> None:
    scores, seen = drawn(seed, users, movies, share, 0)
    asked = np.random.default_rng(seed).permutation(users)
    got = top_lists(Fixed(scores), sp.csr_matrix(seen), asked)
    assert got.tolist() == [naive(scores, seen, user) for user in asked.tolist()]
    assert got.dtype == np.int32


@settings(deadline=None, max_examples=120)
@given(*sizes)
def test_movies_that_score_alike_are_ordered_by_number(seed: int, users: int, movies: int, share: float) -> None:
    scores, seen = drawn(seed, users, movies, share, 3)
    got = top_lists(Fixed(scores), sp.csr_matrix(seen), np.arange(users))
    assert got.tolist() == [naive(scores, seen, user) for user in range(users)]


def test_who_has_seen_everything_gets_an_empty_list() -> None:
    scores, seen = np.ones((2, 30)), np.ones((2, 30), bool)
    seen[1, 7] = False
    got = top_lists(Fixed(scores), sp.csr_matrix(seen), np.arange(2))
    assert got.tolist() == [[-1] * 20, [7] + [-1] * 19]


def test_lists_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, seen = drawn(5, 50, 40, 0.3, 0)
    whole = top_lists(Fixed(scores), sp.csr_matrix(seen), np.arange(50))
    monkeypatch.setattr(lists, "_BLOCK_CELLS", 7 * 40 + 3)
    told: list[int] = []
    assert top_lists(Fixed(scores), sp.csr_matrix(seen), np.arange(50), told.append).tolist() == whole.tolist()
    assert told == [7] * 7 + [1]


def test_nobody_gets_no_list() -> None:
    assert top_lists(Fixed(np.ones((3, 30))), sp.csr_matrix(np.zeros((3, 30))), np.zeros(0, np.int64)).shape == (0, 20)


@settings(deadline=None, max_examples=120)
@given(
    st.integers(0, 9999),
    st.integers(1, 12),
    st.sampled_from([1, 5, 99, 100, 130]),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_popular_lists_are_those_of_a_naive_count(
    seed: int, users: int, movies: int, segments: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    popularity = rng.integers(0, levels + 1, movies).astype(np.float64)
    starts, own = rng.random((users, movies)) < 0.4, rng.integers(0, segments + 1, users)
    got = popular_lists(popularity, sp.csr_matrix(starts), own, segments)
    for segment in range(segments + 1):
        count = starts[own == segment].sum(axis=0) if segment else np.zeros(movies)
        order = sorted(range(movies), key=lambda movie: (-count[movie], -popularity[movie], movie))[:RESERVE]
        assert got[segment].tolist() == order + [-1] * (RESERVE - len(order))


def test_a_segment_without_users_gets_everyones_list() -> None:
    got = popular_lists(np.array([1.0, 5.0, 3.0]), sp.csr_matrix(np.zeros((4, 3), bool)), np.zeros(4, np.int64), 2)
    assert got[:, :4].tolist() == [[1, 2, 0, -1]] * 3
