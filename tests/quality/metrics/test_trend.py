"""Trends: least squares by hand where days are alike, right in coverage where they differ, None for too few days."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quality.metrics.intervals import NOTHING, Interval, Z
from quality.metrics.trend import Trend, trend


def with_errors(figures: np.ndarray, errors: np.ndarray) -> list[Interval]:
    rows = zip(figures.tolist(), errors.tolist(), strict=True)
    return [Interval(figure, figure - Z * error, figure + Z * error) for figure, error in rows]


def holds(interval: Interval, truth: float) -> bool:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= truth <= interval.high


def test_equally_certain_days_are_least_squares() -> None:
    days = np.array([3, 4, 5, 8, 9, 10, 11])  # two are missing
    figures = 0.3 + 0.01 * days + np.array([0.03, -0.02, 0.01, -0.04, 0.02, 0.03, -0.03])
    got = trend(days.tolist(), with_errors(figures, np.full(7, 0.0005)))
    line = stats.linregress(days, figures)
    reach = stats.t.ppf(0.975, 5) * line.stderr
    slope = (got.slope.mean, got.slope.low, got.slope.high)
    assert slope == pytest.approx((line.slope, line.slope - reach, line.slope + reach), rel=2e-3)
    residuals = figures - line.intercept - line.slope * days
    # what is left of the variance about the line, less that of sampling
    assert got.between_days == pytest.approx(((residuals**2).sum() / 5 - 0.0005**2) ** 0.5)
    expected = stats.ttest_1samp(figures, 0).confidence_interval(0.95)
    mean = (got.mean.mean, got.mean.low, got.mean.high)
    assert mean == pytest.approx((figures.mean(), expected.low, expected.high), rel=2e-3)


def test_days_that_differ_by_less_than_sampling_are_as_uncertain_as_sampling() -> None:
    got = trend(range(5), with_errors(np.full(5, 0.3), np.full(5, 0.02)))
    assert got.between_days == 0
    assert got.slope.mean == pytest.approx(0)
    assert got.slope.high is not None
    # Student's t of 3 degrees of freedom; the squares of the days about their mean sum to 10
    assert got.slope.high >= 3.18 * 0.02 / 10**0.5


def test_a_day_of_few_answers_counts_less() -> None:
    figures = np.array([0.3, 0.3, 0.3, 0.3, 0.3, 0.9])
    errors = np.array([0.01, 0.01, 0.01, 0.01, 0.01, 0.4])
    got = trend(range(6), with_errors(figures, errors))
    assert got.mean.mean == pytest.approx(0.3, abs=0.05)
    assert holds(got.slope, 0)


def test_an_interval_without_width_is_no_certainty() -> None:
    thin = [Interval(0.0, 0.0, 0.0), *with_errors(np.full(5, 0.3), np.full(5, 0.02))]
    got = trend(range(6), thin)
    assert got.mean.mean == pytest.approx(0.25, abs=0.01)
    assert trend(range(3), [Interval(1.0, 1.0, 1.0)] * 3).mean.mean == 1


def test_too_few_days_have_no_trend() -> None:
    nothing = Trend(days=0, mean=NOTHING, between_days=None, slope=NOTHING)
    assert trend([], []) == trend([1, 2], [NOTHING, NOTHING]) == nothing
    one, two, three = (with_errors(np.full(days, 0.3), np.full(days, 0.02)) for days in (1, 2, 3))
    assert trend([5], one).mean == NOTHING
    of_two = trend([5, 6, 7], [*two, NOTHING])
    assert (of_two.days, of_two.mean.mean, of_two.slope, of_two.between_days) == (2, 0.3, NOTHING, None)
    assert trend([5, 6, 7], three).slope.mean == pytest.approx(0)


@given(st.dictionaries(st.integers(0, 400), st.tuples(st.floats(0, 1), st.floats(1e-3, 0.5)), min_size=3, max_size=12))
def test_any_days_have_a_trend_whatever_their_order(days: dict[int, tuple[float, float]]) -> None:
    numbers = list(days)
    figures, errors = np.array(list(days.values())).T
    got, reversed_ = (trend(numbers[::step], with_errors(figures[::step], errors[::step])) for step in (1, -1))
    for interval, again in ((got.mean, reversed_.mean), (got.slope, reversed_.slope)):
        assert interval.mean is not None
        assert again.mean is not None
        assert np.isfinite(interval.mean)
        assert holds(interval, interval.mean)
        assert again.mean == pytest.approx(interval.mean, abs=1e-6)


@pytest.mark.parametrize("days", [5, 12])
@pytest.mark.parametrize("between", [0.0, 0.01])
@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["equal", "unequal"])
def test_at_least_93_of_100_intervals_hold_the_truth(days: int, between: float, spread: float) -> None:
    rng = np.random.default_rng([days, int(100 * between)])
    runs, held = 200, np.zeros(2)
    day = np.arange(days)
    for _ in range(runs):
        errors = 0.01 * np.exp(rng.normal(0, spread, days))  # widths of `unequal` days are within a factor of about 50
        own = 0.3 + 0.002 * day + rng.normal(0, between, days)
        got = trend(day.tolist(), with_errors(own + rng.normal(0, errors), errors))
        flat = trend(day.tolist(), with_errors(own - 0.002 * day + rng.normal(0, errors), errors))
        held += holds(got.slope, 0.002), holds(flat.mean, 0.3)
    # 0.93 less 2.5 standard errors of 200 runs
    assert (held / runs).min() >= 0.93 - 2.5 * (0.93 * 0.07 / runs) ** 0.5
