"""Lists against a naive ranking: exact, nothing seen or hidden, ties by number, -1 where there is nothing left."""

import os

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.errors import BatchError
from batch.history.interactions import Interactions
from batch.models.top_lists import RESERVE, popular_lists, popular_ranking, top_lists, unseen_lists
from stream.event import LIST_LENGTH

pytestmark = pytest.mark.blas


class Fixed:
    """A model with scores made up beforehand."""

    name = "fixed"

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores.astype(np.float32)

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        return self._scores[users].copy()


def having(seen: np.ndarray) -> Interactions:
    """Interactions of users who saw what `seen` (bool [n, m]) says, the highest number first."""
    movies = [np.flatnonzero(row)[::-1] for row in seen]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in movies])])
    flat = np.concatenate(movies).astype(np.int32)
    count = len(flat)
    return Interactions(
        indptr.astype(np.int64),
        flat,
        np.arange(count, dtype=np.int64),
        np.ones(count, np.float32),
        seen.sum(axis=0).astype(np.float64),
        np.zeros(len(seen), np.uint8),
        count,
    )


def naive(scores: np.ndarray, barred: np.ndarray) -> list[int]:
    """The list of one user."""
    fresh = np.flatnonzero(~barred & (scores > -np.inf)).tolist()
    best = sorted(fresh, key=lambda movie: (-scores[movie], movie))[:LIST_LENGTH]
    return best + [-1] * (LIST_LENGTH - len(best))


kinds = st.sampled_from(["all different", "falling", "many ties", "all alike", "some -inf"])
sizes = st.sampled_from([1, 5, 19, 20, 21, 60, 640, 671, 672, 673, 700, 900])
shares = st.sampled_from([0.0, 0.1, 0.5, 0.97, 1.0])


def drawn(rng: np.random.Generator, users: int, movies: int, kind: str) -> np.ndarray:
    if kind == "many ties":
        return rng.integers(-3, 3, (users, movies)).astype(np.float32)
    if kind == "all alike":
        return np.full((users, movies), -2.5, np.float32)
    if kind == "falling":  # the best twenty are side by side, each in a group of its own
        return np.repeat(-np.arange(movies, dtype=np.float32)[None, :], users, axis=0)
    scores = rng.permutation(users * movies).reshape(users, movies).astype(np.float32)
    if kind == "some -inf":
        scores[rng.random((users, movies)) < 0.7] = -np.inf
    return scores


@settings(deadline=None, max_examples=120)
@given(st.integers(0, 9999), st.integers(1, 6), sizes, shares, shares, kinds)
def test_lists_are_those_of_a_whole_stable_sort(
    seed: int, users: int, movies: int, seen_share: float, hidden_share: float, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    scores, seen = drawn(rng, users, movies, kind), rng.random((users, movies)) < seen_share
    hidden = rng.random(movies) < hidden_share
    asked = rng.permutation(users)
    lists = top_lists(Fixed(scores), having(seen), asked, hidden)
    assert lists.tolist() == [naive(scores[user], seen[user] | hidden) for user in asked.tolist()]
    assert lists.dtype == np.int32


def test_a_user_who_has_seen_everything_gets_an_empty_list() -> None:
    seen = np.ones((2, 30), bool)
    seen[1, 7] = False
    assert top_lists(Fixed(np.ones((2, 30))), having(seen), np.arange(2)).tolist() == [[-1] * 20, [7] + [-1] * 19]


@pytest.mark.parametrize("cores", [1, 3])
def test_lists_do_not_depend_on_blocks_and_threads(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    rng = np.random.default_rng(5)
    scores, data = drawn(rng, 50, 700, "many ties"), having(rng.random((50, 700)) < 0.3)
    whole = top_lists(Fixed(scores), data, np.arange(50))
    monkeypatch.setattr("batch.models.top_lists._BLOCK_CELLS", 7 * 700 + 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    advances: list[int] = []
    assert top_lists(Fixed(scores), data, np.arange(50), advance=advances.append).tolist() == whole.tolist()
    assert advances == [7] * 7 + [1]


@pytest.mark.parametrize("place", [0, 699])
def test_scores_that_are_no_numbers_are_refused(place: int) -> None:
    scores = np.ones((3, 700))
    scores[1, place] = np.nan
    with pytest.raises(BatchError, match="a score of model fixed is not a number"):
        top_lists(Fixed(scores), having(np.zeros((3, 700), bool)), np.arange(3))


def test_without_users_there_are_no_lists() -> None:
    data = having(np.zeros((3, 30), bool))
    assert top_lists(Fixed(np.ones((3, 30))), data, np.zeros(0, np.int64)).shape == (0, 20)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 9999), st.integers(1, 9), st.sampled_from([1, 19, 20, 21, 60, 200]), shares, shares)
def test_lists_of_one_ranking_are_those_of_a_model_that_ranks_so_for_everyone(
    seed: int, users: int, movies: int, seen_share: float, hidden_share: float
) -> None:
    rng = np.random.default_rng(seed)
    seen, hidden = rng.random((users, movies)) < seen_share, rng.random(movies) < hidden_share
    popularity = rng.integers(0, 5, movies).astype(np.float64)
    data = having(seen)
    for row in range(users):  # as a history has them, a user's events are in the order of time
        rng.shuffle(data.movies[data.indptr[row] : data.indptr[row + 1]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batch.models.top_lists._BLOCK_USERS", 4)
        lists = unseen_lists(popular_ranking(popularity, hidden), data)
    assert lists.tolist() == [naive(popularity, row | hidden) for row in seen]
    assert lists.dtype == np.int32


@settings(deadline=None, max_examples=60)
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
    lists = popular_lists(popularity, sp.csr_matrix(starts), own, segments)
    for segment in range(segments + 1):
        count = starts[own == segment].sum(axis=0) if segment else np.zeros(movies)
        order = sorted(range(movies), key=lambda movie: (-count[movie], -popularity[movie], movie))[:RESERVE]
        assert lists[segment].tolist() == order + [-1] * (RESERVE - len(order))


def test_a_segment_without_users_gets_everyones_list() -> None:
    lists = popular_lists(np.array([1.0, 5.0, 3.0]), sp.csr_matrix(np.zeros((4, 3), bool)), np.zeros(4, np.int64), 2)
    assert lists[:, :4].tolist() == [[1, 2, 0, -1]] * 3
