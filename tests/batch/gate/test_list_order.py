"""Order within lists: the correlation against the same by loops, and lists in order, at random and by number."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from batch.gate import list_order, list_relevance
from batch.gate.list_order import Correlation, order_correlations
from tests.batch.gate.candidates import build_parts

pytestmark = pytest.mark.blas


@given(st.integers(0, 2**32))
def test_sums_are_those_of_each_pair_and_the_movies_that_it_shares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lists = np.array([[rng.permutation(7)[:4] for _ in range(3)] for _ in range(2)])
    lists[rng.random(lists.shape) < 0.2] = -1
    relevance = rng.random(lists.shape)
    for own, rows, values in zip(
        list_order._products(lists, relevance), lists.tolist(), relevance.tolist(), strict=True
    ):
        expected = np.zeros(3)
        for first, second in ((0, 1), (0, 2), (1, 2)):
            shared = [movie for movie in rows[first] if movie >= 0 and movie in rows[second]]
            other = [movie for movie in rows[second] if movie in shared]
            d = np.array([other.index(movie) - shared.index(movie) for movie in shared])
            of_first, of_second = (
                np.array([values[row][rows[row].index(movie)] for movie in shared]) for row in (first, second)
            )
            e = of_first - of_second
            e = e - e.mean() if shared else e
            expected += [(d * e).sum(), (d * d).sum(), (e * e).sum()]
        assert own == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_sound_lists_are_in_order_and_others_are_not(seed: int) -> None:
    built, rng = build_parts(seed=seed), np.random.default_rng(seed)
    seen, lists = sp.csr_matrix(built.seen.astype(np.float32)), built.made_lists()
    counted = list_relevance.count_co_occurrence(seen, rng)

    def found(lists: np.ndarray) -> Correlation:
        [correlation] = order_correlations(seen, lists, counted)
        return correlation

    assert found(lists).value - 3 * found(lists).error > 0.06
    assert found(rng.permuted(lists, axis=1)).is_too_small
    assert found(np.sort(lists, axis=1)) == Correlation(0, 0)
    assert found(np.sort(lists, axis=1)).is_too_small
    backwards = found(lists[:, ::-1])
    assert (backwards.value, backwards.error) == pytest.approx((-found(lists).value, found(lists).error))


def test_a_block_at_random_is_found_among_parts_and_little_data_tell_nothing() -> None:
    built = build_parts(users=1600)
    seen, lists = sp.csr_matrix(built.seen.astype(np.float32)), built.made_lists()
    counted = list_relevance.count_co_occurrence(seen, np.random.default_rng(1))
    lists[400:800] = np.random.default_rng(1).permuted(lists[400:800], axis=1)
    too_small = [found.is_too_small for found in order_correlations(seen, lists, counted, 4)]
    assert too_small == [False, False, True, False, False]
    assert order_correlations(seen[:63], lists[:63], counted) == []
    assert len(order_correlations(seen[:64], lists[:64], counted)) == 1
    assert order_correlations(seen[:200], np.full((200, 20), -1), counted) == []


@pytest.mark.parametrize(
    ("value", "error", "expected"), [(0, 0, True), (0, 0.03, False), (0.05, 0.002, True), (0.07, 0, False)]
)
def test_a_correlation_is_too_small_if_it_is_so_beyond_doubt(value: float, error: float, expected: bool) -> None:
    assert Correlation(value, error).is_too_small is expected


def test_the_error_is_the_spread_of_the_correlation_over_samples() -> None:
    rng = np.random.default_rng(1)

    def sample() -> np.ndarray:
        d, gain = rng.normal(size=(2, 200, 9))
        e = 0.3 * d + gain * rng.gamma(1, size=(200, 1))
        return np.stack([(d * e).sum(axis=1), (d * d).sum(axis=1), (e * e).sum(axis=1)], axis=1)

    found = [list_order._correlation(sample()) for _ in range(300)]
    spread = np.std([correlation.value for correlation in found])
    assert np.mean([correlation.error for correlation in found]) == pytest.approx(spread, rel=0.15)
