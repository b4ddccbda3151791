"""Intervals: right in coverage also where data are thin, equal to a bootstrap over users where they are not."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quality.errors import MetricError
from quality.metrics.intervals import (
    NOTHING,
    Interval,
    interval_text,
    mean_difference_interval,
    mean_interval,
    ratio_difference_interval,
    ratio_interval,
    score_interval,
    t_quantile,
)

Z = stats.norm.ppf(0.975)


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def width(interval: Interval) -> float:
    low, high = ends(interval)
    return high - low


def by_bootstrap(numerators: np.ndarray, denominators: np.ndarray, samples: int = 4000) -> tuple[float, float]:
    rng = np.random.default_rng(99)
    drawn = [rng.integers(len(numerators), size=len(numerators)) for _ in range(samples)]
    ratios = [numerators[rows].sum() / denominators[rows].sum() for rows in drawn]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


Asked = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def asked(users: int, seed: int = 3) -> Asked:
    """By user, correlated: hits, hits of the baseline, answers that are a hit of one only, and answers."""
    rng = np.random.default_rng(seed)
    answers = rng.integers(1, 9, size=users)
    taste = rng.beta(1, 6, size=users)
    hits = rng.binomial(answers, taste)
    both = rng.binomial(hits, 0.5)
    baseline = both + rng.binomial(answers - hits, taste * 0.3)
    return hits, baseline, hits + baseline - 2 * both, answers


@st.composite
def any_users(draw: st.DrawFn) -> Asked:
    """The same of any users; some are not asked."""
    cell = st.tuples(*[st.integers(0, 40)] * 4)  # hits of both, of one, of the other, of none
    both, one, other, none = np.array(draw(st.lists(cell, min_size=1, max_size=12))).T
    return both + one, both + other, one + other, both + one + other + none


@given(any_users())
def test_a_rate_is_never_certain_and_lies_in_its_interval(users: Asked) -> None:
    hits, _, _, answers = users
    interval = ratio_interval(hits, answers)
    if not answers.any():
        assert interval == NOTHING
        return
    low, high = ends(interval)
    mean = hits.sum() / answers.sum()
    assert interval.mean == mean
    assert 0 <= low <= mean <= high <= 1
    # no more is known than from as many independent answers, and no less than from one
    total = answers.sum()
    assert width(interval) > 0.9 * min(1.0, Z / (total + Z**2))
    mirrored = ratio_interval(answers - hits, answers)
    assert ends(mirrored) == pytest.approx((1 - high, 1 - low))


@given(any_users())
def test_a_difference_is_never_certain_and_lies_in_its_interval(users: Asked) -> None:
    interval = ratio_difference_interval(*users)
    hits, others, differing, answers = users
    if not answers.any():
        assert interval == NOTHING
        return
    low, high = ends(interval)
    mean = (hits.sum() - others.sum()) / answers.sum()
    assert interval.mean == mean
    assert -1 <= low <= mean <= high <= 1
    assert high > low
    assert ends(ratio_difference_interval(others, hits, differing, answers)) == pytest.approx((-high, -low))


@given(any_users(), st.integers(0, 2**32 - 1))
def test_the_order_of_users_does_not_matter_nor_do_those_who_were_not_asked(users: Asked, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(users[0]))
    shuffled = [np.append(counts[order], [0, 0]) for counts in users]
    if users[-1].any():
        assert ends(ratio_interval(shuffled[0], shuffled[-1])) == pytest.approx(
            ends(ratio_interval(users[0], users[-1]))
        )
        assert ends(ratio_difference_interval(*shuffled)) == pytest.approx(ends(ratio_difference_interval(*users)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_mean_lies_in_its_interval_within_0_and_1(values: list[float]) -> None:
    scores = np.array(values)
    interval, against_none = mean_interval(scores), mean_difference_interval(scores, np.zeros(len(scores)))
    low, high = ends(interval)
    mean = float(scores.mean())
    assert interval.mean == against_none.mean == mean
    assert 0 <= low <= mean <= high <= 1
    assert low < high
    assert -1 <= ends(against_none)[0] <= mean <= ends(against_none)[1] <= 1


@pytest.mark.parametrize(("hits", "users"), [(0, 100), (1, 10), (7, 20), (100, 100), (300, 1000)])
def test_one_answer_each_is_the_interval_of_agresti_and_coull(hits: int, users: int) -> None:
    is_hit = np.arange(users) < hits
    centre = (hits + Z**2 / 2) / (users + Z**2)
    reach = Z * (centre * (1 - centre) / (users + Z**2)) ** 0.5
    expected = max(0, centre - reach), min(1, centre + reach)
    assert ends(ratio_interval(is_hit, np.ones(users))) == pytest.approx(expected)
    assert ends(mean_interval(is_hit.astype(float))) == pytest.approx(expected)


def test_one_pair_each_is_the_interval_of_bonett_and_price() -> None:
    one, other, users = 12, 5, 60  # p12 = 13/62, p21 = 6/62
    hits, others = np.arange(users) < one, np.arange(users) >= users - other
    interval = ratio_difference_interval(hits.astype(int), others.astype(int), hits ^ others, np.ones(users))
    reach = Z * ((13 / 62 + 6 / 62 - (7 / 62) ** 2) / 62) ** 0.5
    assert ends(interval) == pytest.approx((7 / 62 - reach, 7 / 62 + reach))


def test_answers_that_are_all_alike_count_as_one() -> None:
    is_hit = np.arange(400) < 40  # one user in ten watches all that is shown
    many, one = ratio_interval(is_hit * 20, np.full(400, 20)), ratio_interval(is_hit, np.ones(400))
    assert ends(many) == pytest.approx(ends(one), abs=0.002)
    by_answers = ratio_interval(np.repeat(is_hit, 20), np.ones(8000))
    assert width(many) > 4 * width(by_answers)


def test_with_many_users_it_is_the_bootstrap_over_users() -> None:
    hits, baseline, differing, answers = asked(3000)
    assert ends(ratio_interval(hits, answers)) == pytest.approx(by_bootstrap(hits, answers), rel=0.02)
    paired = ratio_difference_interval(hits, baseline, differing, answers)
    assert ends(paired) == pytest.approx(by_bootstrap(hits - baseline, answers), rel=0.05)
    values = np.random.default_rng(5).beta(1, 3, size=3000)
    assert ends(mean_interval(values)) == pytest.approx(by_bootstrap(values, np.ones(3000)), rel=0.01)


def score_sums(scores: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By user: sum of the scores, sum of their squares, and their number."""
    return np.bincount(users, scores), np.bincount(users, scores**2), np.bincount(users)


def test_scores_of_users_with_several_have_the_interval_of_a_bootstrap_over_users() -> None:
    rng = np.random.default_rng(6)
    users = np.repeat(np.arange(3000), rng.integers(1, 9, size=3000))
    scores = np.clip(rng.normal(0.7, 0.15, 3000)[users] + rng.normal(0, 0.1, len(users)), 0, 1)
    sums, squares, counts = score_sums(scores, users)
    assert ends(score_interval(sums, squares, counts)) == pytest.approx(by_bootstrap(sums, counts), rel=0.002)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10)), min_size=1, max_size=12))
def test_scores_are_never_certain_and_their_mean_lies_in_its_interval(rows: list[tuple[int, int]]) -> None:
    users, scores = np.array(rows).T
    interval = score_interval(*score_sums(scores / 10, users))
    low, high = ends(interval)
    assert interval.mean == pytest.approx((scores / 10).mean())
    assert 0 <= low <= (scores / 10).mean() + 1e-9
    assert (scores / 10).mean() - 1e-9 <= high <= 1
    assert high > low
    once = np.ones(len(scores))
    assert ends(score_interval(scores / 10, (scores / 10) ** 2, once)) == pytest.approx(
        ends(mean_interval(scores / 10))
    )


def test_scores_beyond_1_are_refused() -> None:
    with pytest.raises(MetricError, match="beyond its maximum"):
        score_interval(np.array([2.0]), np.array([2.5]), np.array([2]))


def test_busy_users_may_have_other_rates() -> None:
    rng = np.random.default_rng(4)
    answers = np.where(np.arange(2000) % 100 == 0, 40, 1)
    hits = rng.binomial(answers, np.where(answers > 1, 0.9, 0.05))
    low, high = by_bootstrap(hits, answers)
    assert width(ratio_interval(hits, answers)) > 0.95 * (high - low)


def test_users_without_a_hit_may_be_alike() -> None:
    nothing = ratio_interval(np.zeros(20), np.full(20, 20))
    assert ends(nothing) == pytest.approx(ends(ratio_interval(np.zeros(20), np.ones(20))))


THIN = [
    (20, 0.01, 0.5, 20),  # half of the days have no hit
    *((users, rate, alike, 1) for users in (10, 50) for rate in (0.01, 0.2, 0.99) for alike in (0.0, 0.2)),
]
"""Users, rate, correlation within a user, and fewest answers to a user."""


@pytest.mark.parametrize(("users", "rate", "alike", "fewest"), THIN)
def test_at_least_93_of_100_intervals_hold_the_truth(users: int, rate: float, alike: float, fewest: int) -> None:
    rng = np.random.default_rng(7)
    runs = 400
    held, held_difference = 0, 0
    for _ in range(runs):
        answers = np.floor(fewest * (1 - rng.random(users)) ** (-1 / 1.5)).astype(int)  # Pareto
        weight = 1 / alike - 1 if alike else 0
        taste = rng.beta(rate * weight, (1 - rate) * weight, users) if alike else np.full(users, rate)
        hits = rng.binomial(answers, taste)
        both = rng.binomial(hits, 0.4)
        low, high = ends(ratio_interval(hits, answers))
        held += low <= rate <= high
        low, high = ends(ratio_difference_interval(hits, both, hits - both, answers))
        held_difference += low <= 0.6 * rate <= high
    # 0.93 less 2.5 standard errors of 400 runs; the bootstrap holds 0.01 with 10 users in 20 of 100 cases
    assert min(held, held_difference) / runs >= 0.93 - 2.5 * (0.93 * 0.07 / runs) ** 0.5


def test_a_difference_of_means_is_that_of_student() -> None:
    rng = np.random.default_rng(6)
    scores, others = rng.beta(2, 5, 12), rng.beta(2, 5, 12)
    expected = stats.ttest_rel(scores, others).confidence_interval(0.95)
    assert ends(mean_difference_interval(scores, others)) == pytest.approx((expected.low, expected.high), abs=1e-4)
    one = mean_difference_interval(np.array([0.5]), np.array([0.25]))
    assert one == Interval(0.25, -1.0, 1.0)


def test_quantiles_of_student() -> None:
    degrees = np.arange(1, 2000)
    assert [t_quantile(each) for each in degrees.tolist()] == pytest.approx(stats.t.ppf(0.975, degrees), abs=2e-4)


def test_nothing_is_none() -> None:
    none = np.zeros(0)
    assert mean_interval(none) == mean_difference_interval(none, none) == NOTHING
    assert ratio_interval(none, none) == ratio_difference_interval(none, none, none, none) == NOTHING
    assert ratio_interval(np.zeros(3), np.zeros(3)) == NOTHING


def test_impossible_counts_are_an_error() -> None:
    one, two = np.ones(2), np.full(2, 2)
    for arrays in ((one, np.ones(3)), (two, one), (-one, one), (np.ones((2, 2)), np.ones((2, 2))), (one * np.nan, one)):
        with pytest.raises(MetricError):
            ratio_interval(*arrays)
        with pytest.raises(MetricError):
            mean_difference_interval(np.zeros(2), arrays[0] * 2)
    with pytest.raises(MetricError):
        ratio_difference_interval(two, one, np.zeros(2), two)  # they differ, but no answer does
    with pytest.raises(MetricError):
        mean_interval(two)
    assert mean_interval(one + 1e-12).mean == pytest.approx(1)  # a sum of floats is not exact


def test_an_interval_is_printed_in_one_way() -> None:
    rate = Interval(0.48501, 0.473, 0.49699)
    assert interval_text(rate) == "0.4850 [0.4730, 0.4970]"
    assert interval_text(rate, ".2f", scale=100) == "48.50 [47.30, 49.70]"
    assert interval_text(Interval(0.01, -0.002, 0.02), "+.3f") == "+0.010 [-0.002, +0.020]"
    assert interval_text(NOTHING) == interval_text(None) == "–"
    assert interval_text(Interval(0.0, 0.0, 0.0)) == "0.0000 [0.0000, 0.0000]"


def test_a_million_users_are_cheap() -> None:
    users = asked(1_000_000)
    began = time.process_time()
    ratio_difference_interval(*users)
    assert time.process_time() - began < 10  # a loop over users takes longer, and this a fraction of a second
