"""Scores of neighbours against the same by loops, and blocks of embeddings that were shifted."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from batch.gate.embedding_parts import has_wrong_part, neighbour_scores

pytestmark = pytest.mark.blas


@given(st.integers(0, 2**32))
def test_a_score_compares_neighbours_with_what_is_usual(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cosines = rng.random((6, 6)) * (rng.random((6, 6)) < 0.7)
    movies, nearest = rng.permutation(6)[:4], rng.integers(-1, 6, (4, 3))
    listed = nearest[nearest >= 0]
    for movie, own, score in zip(
        movies, nearest, neighbour_scores(nearest, movies, sp.csr_matrix(cosines)).tolist(), strict=True
    ):
        usual = cosines[movie][listed]
        if not len(usual) or usual.std() < 1e-6:
            continue
        mean = cosines[movie][own[own >= 0]].mean() if (own >= 0).any() else 0
        assert score == pytest.approx((mean - usual.mean()) / usual.std())


def test_a_movie_that_goes_with_no_other_has_no_score() -> None:
    assert np.isnan(neighbour_scores(np.array([[1], [0]]), np.arange(2), sp.csr_matrix((2, 2)))).all()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [80, 400])
def test_a_window_is_wrong_if_it_is_surely_worse_than_all(count: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(2, 0.8, count)
    assert not has_wrong_part(scores)
    begin = seed * count // 40  # not only where windows begin
    scores[begin : begin + count // 4] -= 2
    assert has_wrong_part(scores)
    assert not has_wrong_part(np.repeat(scores[:79], 1))


def test_movies_without_a_score_do_not_count_and_noise_has_no_wrong_part() -> None:
    scores = np.random.default_rng(1).normal(2, 0.8, 200)
    assert not has_wrong_part(np.append(scores, np.full(100, np.nan)))
    assert not has_wrong_part(np.random.default_rng(1).normal(0, 1, 400))
    assert not has_wrong_part(np.zeros(0))
