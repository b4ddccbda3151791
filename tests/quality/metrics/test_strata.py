"""Comparison within strata: Mantel and Haenszel's difference, and what it must not be deceived by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality.metrics.intervals import Interval
from quality.metrics.strata import StratifiedMeans, stratified_means

Row = tuple[int, bool, int, int]
"""Value, whether it is of the second group, stratum, user."""


def means(rows: list[Row]) -> StratifiedMeans:
    values, is_second, stratum, user = (np.array(column) for column in zip(*rows, strict=True))
    return stratified_means(values, is_second.astype(bool), stratum, user, widest=2)


def mantel_haenszel(rows: list[Row]) -> float | None:
    numerator = denominator = 0.0
    for stratum in {row[2] for row in rows}:
        first, second = (
            [value for value, is_second, own, _ in rows if own == stratum and is_second == group]
            for group in (False, True)
        )
        if first and second:
            weight = len(first) * len(second) / (len(first) + len(second))
            numerator += weight * (sum(second) / len(second) - sum(first) / len(first))
            denominator += weight
    return numerator / denominator if denominator else None


rows = st.lists(
    st.tuples(st.integers(-1, 1), st.booleans(), st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=40
)


@given(rows)
def test_the_difference_is_that_of_mantel_and_haenszel(rows: list[Row]) -> None:
    result, expected = means(rows), mantel_haenszel(rows)
    if expected is None:
        assert result == StratifiedMeans(None, None, Interval(None, None, None))
        return
    assert result.difference.mean == pytest.approx(expected, abs=1e-12)
    assert result.first is not None
    assert result.second is not None
    assert result.second - result.first == pytest.approx(expected, abs=1e-12)


def test_better_hours_of_one_group_are_not_a_difference() -> None:
    # half of the answers are hits by day and all by night; the second group is mostly there by night
    day = [(value, is_second, 0, user) for user, is_second in enumerate([False] * 90 + [True] * 10) for value in (0, 1)]
    night = [(1, is_second, 1, user) for user, is_second in enumerate([False] * 10 + [True] * 90) for _ in range(2)]
    result = means(day + night)
    assert result.difference.mean == pytest.approx(0)
    assert result.first == pytest.approx(result.second)


def test_too_little_data_is_never_certain() -> None:
    few = means([(0, is_second, 0, user) for user, is_second in enumerate([False] * 20 + [True] * 20)]).difference
    assert few.mean == 0
    assert few.high is not None
    assert few.high > 0.1
    one_user = means([(0, False, 0, 1), (1, True, 0, 1)]).difference
    assert one_user == Interval(1.0, -2, 2)


def covered(effect: float, seed: int) -> bool:
    """Whether the interval of a drawn day has the effect: hits depend on user and stratum, answers are uneven."""
    rng = np.random.default_rng(seed)
    user = rng.integers(300, size=1500)
    stratum, is_second = rng.integers(3, size=1500), rng.random(1500) < 0.3
    liking = rng.normal(0, 0.15, 300)[user] + np.array([0.2, 0.3, 0.5])[stratum] + effect * is_second
    result = stratified_means(rng.random(1500) < liking, is_second, stratum, user, widest=1).difference
    assert result.low is not None
    assert result.high is not None
    return result.low <= effect <= result.high


@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_the_interval_has_the_true_difference_about_as_often_as_it_says(effect: float) -> None:
    # of 120 intervals of 95 % at least 105 in all but one of 10,000 cases, at most all of them
    assert sum(covered(effect, seed) for seed in range(120)) >= 105


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=60))
def test_rounding_takes_no_rate_beyond_one(answers: list[tuple[bool, int]]) -> None:
    is_second, stratum = (np.array(column) for column in zip(*answers, strict=True))
    means = stratified_means(np.ones(len(answers)), is_second, stratum, np.arange(len(answers)), 1)
    assert {means.first, means.second} in ({1.0}, {None})


def test_a_rate_that_rounding_took_beyond_one() -> None:
    sizes = [(3, 7), (5, 2), (1, 9), (11, 4), (6, 6)]
    is_second = np.concatenate([[False] * first + [True] * second for first, second in sizes])
    stratum = np.repeat(np.arange(5), [sum(both) for both in sizes])
    means = stratified_means(np.ones(len(stratum)), is_second, stratum, np.arange(len(stratum)), 1)
    assert (means.first, means.second) == (1.0, 1.0)
