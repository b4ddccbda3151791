"""Lists drawn by lot: who explores, from which pools, and that every movie has the chance that is stated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.history.interactions import Interactions
from batch.models.exploring import POOL, draw_lists, explores, lots, pools

NIGHT = 1_770_710_400_000
HOUR = 3_600_000


def interactions_of(seen: np.ndarray) -> Interactions:
    """Interactions of users who saw what `seen` (bool [n, m]) says."""
    users, movies = np.nonzero(seen)
    return Interactions(
        indptr=np.searchsorted(users, np.arange(len(seen) + 1)),
        movies=movies.astype(np.int32),
        starts=np.arange(len(users)),
        weights=np.ones(len(users), np.float32),
        popularity=seen.sum(axis=0).astype(np.float64),
        segments=np.zeros(len(seen), np.uint8),
        until=len(users),
    )


class Scores:
    """A model that knows its scores, float32 [n, m]."""

    name = "scores"

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        return self.scores[users].copy()


def test_lots_are_the_same_for_each_user_and_movie_whatever_they_are_drawn_with() -> None:
    users, movies = np.arange(50, dtype=np.uint32), np.tile(np.arange(200), (50, 1))
    whole = lots(users, movies, NIGHT)
    assert np.array_equal(lots(users[7:9], movies[7:9, 30:40], NIGHT), whole[7:9, 30:40])
    assert len(np.unique(whole)) == whole.size
    assert not np.isin(lots(users, movies, NIGHT + 1), whole).any()
    assert ((whole >= 0) & (whole < 1)).all()


@pytest.mark.parametrize("axis", ["user", "movie", "night"])
def test_lots_are_uniform_and_do_not_go_together(axis: str) -> None:
    count = 20_000
    number = np.arange(count)
    if axis == "user":
        drawn = lots(number.astype(np.uint32), np.zeros((count, 1), int), NIGHT)[:, 0]
    elif axis == "movie":
        drawn = lots(np.array([5], np.uint32), number[None], NIGHT)[0]
    else:
        one = np.array([5], np.uint32)
        drawn = np.array([lots(one, np.array([[3]]), NIGHT + night * HOUR)[0, 0] for night in range(2000)])
    expected = len(drawn) / 20
    counts = np.histogram(drawn, 20, (0, 1))[0]
    assert ((counts - expected) ** 2 / expected).sum() < 50  # chi-square of 19 degrees, p < .0002
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 5 / len(drawn) ** 0.5


def test_as_many_explore_as_the_share_says_and_others_each_night() -> None:
    users = np.arange(100_000, dtype=np.uint32)
    nights = [explores(users, NIGHT + night * 24 * HOUR, 0.02) for night in range(3)]
    for drawn in nights:
        assert abs(drawn.sum() - 2000) < 5 * (2000 * 0.98) ** 0.5
    assert abs((nights[0] & nights[1]).sum() - 40) < 5 * 40**0.5
    assert not explores(users, NIGHT, 0.0).any()
    assert explores(users, NIGHT, 1.0).all()
    assert (explores(users, NIGHT, 0.01) <= nights[0]).all()  # a larger share adds users


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9999), st.sampled_from([5, 19, 30, 90, 300]), st.sampled_from([0.0, 0.1, 0.9]))
def test_a_pool_are_the_best_unseen_movies_of_both_rankings(seed: int, movies: int, hidden_share: float) -> None:
    rng = np.random.default_rng(seed)
    seen = rng.random((12, movies)) < rng.choice([0.05, 0.3, 0.95])
    seen[np.arange(12), rng.integers(0, movies, 12)] = True
    data = interactions_of(seen)
    scores = rng.permuted(np.tile(np.arange(movies, dtype=np.float32), (12, 1)), axis=1)
    is_hidden = rng.random(movies) < hidden_share
    rows = np.array([0, 3, 11])
    made = pools(Scores(scores), data, rows, is_hidden)
    for row, pool in zip(rows.tolist(), made.tolist(), strict=True):
        is_open = ~seen[row] & ~is_hidden
        by_model, by_popularity = np.argsort(-scores[row]), np.argsort(-data.popularity, kind="stable")
        due = {movie for order in (by_model, by_popularity) for movie in order[is_open[order]][:POOL].tolist()}
        assert [movie for movie in pool if movie >= 0] == sorted(due)
        assert len(pool) == 2 * POOL


def test_a_movie_of_a_pool_is_on_the_list_with_its_chance_at_any_rank() -> None:
    """Over 4,000 nights, with a pool of 64: each movie is listed in 20 of 64, at each rank in one of 64."""
    pool = np.full((4000, 100), -1)
    pool[:, 36:] = np.sort(np.random.default_rng(3).permutation(500)[:64])
    nights = [draw_lists(pool[:1], np.array([77], np.uint32), NIGHT + night * HOUR) for night in range(4000)]
    lists = np.vstack([drawn for drawn, _ in nights])
    assert {chance for _, chances in nights for chance in chances.ravel().tolist()} == {np.float32(20 / 64)}
    counts = np.array([[(lists[:, rank] == movie).sum() for rank in range(20)] for movie in pool[0, 36:]])
    assert counts.sum() == 80_000
    assert ((counts.sum(axis=1) - 1250) ** 2 / (1250 * (1 - 20 / 64))).sum() < 63 + 5 * (2 * 63) ** 0.5
    assert ((counts - 62.5) ** 2 / 62.5).sum() < 1280 + 5 * (2 * 1280) ** 0.5


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(0, 2**32 - 9), st.integers(0, 2**42))
def test_lists_are_drawn_from_their_pools_with_chances_that_add_up_to_their_length(
    sizes: list[int], first: int, night_ms: int
) -> None:
    pool = np.full((len(sizes), 100), -1)
    for row, size in enumerate(sizes):
        pool[row, 100 - size :] = np.arange(size) * 3
    users = np.arange(first, first + len(sizes)).astype(np.uint32)
    lists, chances = draw_lists(pool, users, night_ms)
    for row, size in enumerate(sizes):
        listed = [movie for movie in lists[row].tolist() if movie >= 0]
        assert lists[row, len(listed) :].tolist() == [-1] * (20 - len(listed))
        assert len(set(listed)) == len(listed) == min(size, 20)
        assert set(listed) <= set(pool[row].tolist())
        assert chances[row].tolist() == [np.float32(min(20 / max(size, 1), 1)) if movie >= 0 else 0
                                         for movie in lists[row].tolist()]  # fmt: skip
