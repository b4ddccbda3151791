"""Intervals: equal to a bootstrap by hand, right in coverage, cheap for a million users, None for nothing."""

import time

import numpy as np
import pytest

from quality.errors import MetricError
from quality.metrics.bootstrap import Interval, interval_text, mean_interval, ratio_difference_interval, ratio_interval

NOTHING = Interval(None, None, None)


def by_hand(numerators: np.ndarray, denominators: np.ndarray, samples: int = 4000) -> tuple[float, float]:
    rng = np.random.default_rng(99)
    drawn = [rng.integers(len(numerators), size=len(numerators)) for _ in range(samples)]
    ratios = [numerators[rows].sum() / denominators[rows].sum() for rows in drawn]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def asked(users: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, hits of the baseline and answers of users, correlated within a user."""
    rng = np.random.default_rng(seed)
    answers = rng.integers(1, 9, size=users)
    taste = rng.beta(1, 6, size=users)
    return rng.binomial(answers, taste), rng.binomial(answers, taste * 0.6), answers


def test_cells_are_exactly_the_bootstrap_over_users() -> None:
    hits, baseline, answers = asked(800)
    got = ratio_interval(hits, answers, samples=4000)
    assert got.mean == hits.sum() / answers.sum()
    assert (got.low, got.high) == pytest.approx(by_hand(hits, answers), rel=0.02)
    paired = ratio_difference_interval(hits, baseline, answers, samples=4000)
    assert paired.mean == pytest.approx((hits.sum() - baseline.sum()) / answers.sum())
    assert (paired.low, paired.high) == pytest.approx(by_hand(hits - baseline, answers), rel=0.05)


def test_an_interval_by_answers_would_be_too_narrow() -> None:
    answers = np.full(400, 20)
    hits = np.where(np.arange(400) < 40, 20, 0)  # one user in ten watches all that is shown
    got = ratio_interval(hits, answers)
    one_by_one = mean_interval(np.repeat([1.0, 0.0], [800, 7200]))
    assert got.low is not None
    assert one_by_one.low is not None
    assert 0.1 - got.low > 3 * (0.1 - one_by_one.low)


def test_means_of_values_that_all_differ() -> None:
    values = np.random.default_rng(5).normal(10, 3, size=2000)
    got = mean_interval(values, samples=4000)
    assert got.mean == pytest.approx(values.mean())
    # the standard error of a mean is known: 3 / sqrt(2000)
    mean, reach = values.mean(), 1.96 * values.std() / np.sqrt(2000)
    assert (got.low, got.high) == pytest.approx((mean - reach, mean + reach), abs=0.01)


def test_95_of_100_intervals_hold_the_truth() -> None:
    held = 0
    for seed in range(200):
        values = np.random.default_rng(seed).binomial(1, 0.3, size=300)
        got = mean_interval(values.astype(float), samples=400, seed=seed)
        held += got.low is not None and got.high is not None and got.low <= 0.3 <= got.high
    assert 180 <= held <= 199


@pytest.mark.parametrize("values", [np.arange(50) % 3 * 1.0, np.linspace(0, 1, 50)], ids=["cells", "users"])
def test_seeded_and_independent_of_the_order_of_users(values: np.ndarray) -> None:
    assert mean_interval(values) == mean_interval(values[::-1])
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_nothing_is_none_and_users_who_were_not_asked_are_left_out() -> None:
    none = np.zeros(0)
    assert mean_interval(none) == ratio_interval(none, none) == ratio_difference_interval(none, none, none) == NOTHING
    assert ratio_interval(np.zeros(3), np.zeros(3)) == NOTHING
    hits, _, answers = asked(50)
    with_silent = ratio_interval(np.append(hits, [0, 0]), np.append(answers, [0, 0]))
    assert with_silent == ratio_interval(hits, answers)
    assert mean_interval(np.array([0.5])) == Interval(0.5, 0.5, 0.5)
    with pytest.raises(MetricError):
        ratio_interval(np.zeros(2), np.zeros(3))


def test_an_interval_is_printed_in_one_way() -> None:
    rate = Interval(0.48501, 0.473, 0.49699)
    assert interval_text(rate) == "0.4850 [0.4730, 0.4970]"
    assert interval_text(rate, ".2f", scale=100) == "48.50 [47.30, 49.70]"
    assert interval_text(Interval(0.01, -0.002, 0.02), "+.3f") == "+0.010 [-0.002, +0.020]"
    assert interval_text(NOTHING) == interval_text(None) == "–"
    assert interval_text(Interval(0.0, 0.0, 0.0)) == "0.0000 [0.0000, 0.0000]"


def test_a_million_users_are_cheap() -> None:
    hits, baseline, answers = asked(1_000_000)
    began = time.process_time()
    ratio_difference_interval(hits, baseline, answers)
    assert time.process_time() - began < 10  # a draw for each user takes longer, and this a fraction of a second
