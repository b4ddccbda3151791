"""Capped lists against naive ones, and the movies that lists for everyone may not hold."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from batch.history.list_facts import ListFacts
from batch.history.segments import NAMES
from batch.models.list_caps import ListCaps
from batch.models.top_lists import popular_lists, top_lists
from batch.settings import BatchSettings
from quality.catalog import LARGEST_COST
from stream.event import LIST_LENGTH
from tests.batch.models.test_top_lists import Fixed, drawn, having, naive


def facts_of(rng: np.random.Generator, users: int, movies: int) -> ListFacts:
    """Users of all ages and of unknown age, movies of all kinds and of unknown kind."""
    costs = rng.choice([0.0, 1.0, 2.0, 3.99, np.nan], movies)
    return ListFacts(
        rng.choice([0, 8, 17, 18, 30, 90], users).astype(np.uint8),
        rng.choice([-1, 0, 1], movies).astype(np.int8),
        costs,
    )


@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 5, 30, 60, 700]),
    st.sampled_from(["all different", "many ties", "all alike", "some -inf"]),
    st.sampled_from([0.0, 0.05, 0.149, 0.15, 0.5, 0.99, 1.0]),
    st.sampled_from([8, 18, 31]),
    st.sampled_from([0.0, 1.0, 3.98, 3.99, LARGEST_COST]),
)
def test_lists_are_the_best_that_keep_to_the_caps(
    seed: int, movies: int, kind: str, share: float, age: int, max_cost: float
) -> None:
    rng, users = np.random.default_rng(seed), 12
    scores, seen = drawn(rng, users, movies, kind).astype(np.float32), rng.random((users, movies)) < 0.2
    hidden, facts = rng.random(movies) < 0.1, facts_of(rng, users, movies)
    settings = BatchSettings(adult_share_minors=share, minor_below_age=age, max_cost=max_cost)
    lists = top_lists(Fixed(scores), having(seen), np.arange(users), hidden, caps=ListCaps.of(facts, settings))
    for user in range(users):
        barred = seen[user] | hidden | (facts.costs > max_cost)
        if facts.ages[user] < age:
            best = sorted(np.flatnonzero(~barred & (facts.adult == 1)), key=lambda movie: (-scores[user, movie], movie))
            barred[best[{0.0: 0, 0.05: 1, 0.149: 2, 0.15: 3, 0.5: 10, 0.99: 19, 1.0: movies}[share] :]] = True
        assert lists[user].tolist() == naive(scores[user], barred)


def test_by_default_no_minor_and_nobody_of_unknown_age_gets_an_adult_movie_and_any_cost_is_allowed() -> None:
    facts = ListFacts(
        np.array([0, 17, 18], np.uint8), np.array([1, 0, -1], np.int8), np.array([LARGEST_COST, 1, np.nan])
    )
    caps = ListCaps.of(facts, BatchSettings())
    lists = top_lists(Fixed(np.tile([3.0, 2, 1], (3, 1))), having(np.zeros((3, 3), bool)), np.arange(3), caps=caps)
    assert lists[:, :3].tolist() == [[1, 2, -1], [1, 2, -1], [0, 1, 2]]
    assert caps.minor_kinds.tolist() == [2, 1, 0]
    assert caps.not_for_everyone.tolist() == [True, False, False]
    assert not caps.too_dear.any()


@pytest.mark.parametrize(
    ("age", "with_minors"), [(1, 3), (18, 3), (19, 5), (25, 5), (26, 7), (55, 11), (56, 13), (90, 13)]
)
def test_popular_lists_of_segments_that_minors_may_be_in_hold_no_adult_movie(age: int, with_minors: int) -> None:
    facts = ListFacts(np.zeros(0, np.uint8), np.array([1, 0, 0], np.int8), np.array([1.0, 9.0, 1.0]))
    caps = ListCaps.of(facts, BatchSettings(minor_below_age=age, max_cost=5.0, adult_share_minors=0.95))
    starts = sp.csr_matrix(np.zeros((1, 3), bool))
    lists = popular_lists(np.array([3.0, 2, 1]), starts, np.zeros(1, np.int64), len(NAMES) - 1, caps.kept_off)
    assert [row[row >= 0].tolist() for row in lists] == [[2]] * with_minors + [[0, 2]] * (len(NAMES) - with_minors)


def test_without_a_cap_on_adult_movies_they_are_for_everyone() -> None:
    facts = ListFacts(np.zeros(2, np.uint8), np.array([1, 0], np.int8), np.full(2, np.nan))
    caps = ListCaps.of(facts, BatchSettings(adult_share_minors=1.0))
    assert caps.most_adult == LIST_LENGTH
    assert not caps.kept_off.any()
    assert not caps.not_for_everyone.any()


def test_out_of_reach_of_minors_are_what_they_have_seen_and_adult_movies() -> None:
    facts = ListFacts(np.array([17, 40], np.uint8), np.array([1, 0, 1], np.int8), np.full(3, 1.0))
    caps = ListCaps.of(facts, BatchSettings())
    seen = having(np.array([[True, False, False], [False, True, False]])).matrix
    assert (caps.out_of_reach(seen, np.arange(2)).toarray() != 0).tolist() == [
        [True, False, True],
        [False, True, False],
    ]
    assert caps.out_of_reach(seen[[]], np.zeros(0, np.int64)).shape == (0, 3)
