"""Trend of a daily figure: mean over days, how much days differ, and the slope, with intervals that allow for that.

A random-effects regression on days: a day's figure is a line, plus the day's own deviation, plus the sampling error
that its interval states. The deviations' variance is the moment estimate of DerSimonian & Laird (1986), and the
intervals are those of Knapp & Hartung (2003), never narrower than the sampling errors alone make them. Their weights
use a slightly larger variance between days, as the estimate from a few days is itself uncertain. Deviations of
different days count as independent: a weekly rhythm looks like noise, or in less than two weeks like a trend.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from quality.metrics.intervals import NOTHING, Interval, Z, t_quantile


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over days; a day without the figure is left out."""

    days: int
    """Days that have the figure."""
    mean: Interval
    """Mean over days, each with its own deviation; None with fewer than two days."""
    between_days: float | None
    """Standard deviation of the days' true figures about the line, without sampling error; None as for `slope`."""
    slope: Interval
    """Change per day; None with fewer than three days."""


def trend(days: Sequence[int], figures: Sequence[Interval]) -> Trend:
    """The trend of a figure over `days`: different day numbers, in any order, one for each figure."""
    measured = [
        (day, each.mean, (each.high - each.low) / (2 * Z))
        for day, each in zip(days, figures, strict=True)
        if each.mean is not None and each.low is not None and each.high is not None
    ]
    if len(measured) < 2:
        return Trend(days=len(measured), mean=NOTHING, between_days=None, slope=NOTHING)
    day, figure, error = np.array(measured, np.float64).T
    # an interval without width is a bootstrap of too little data: the day counts as the least certain one
    error = np.where(error > 0, error, error.max() or 1.0)
    constant = np.ones((len(day), 1))
    mean, _ = _last_coefficient(constant, figure, error)
    if len(day) < 3:
        return Trend(days=len(day), mean=mean, between_days=None, slope=NOTHING)
    slope, between_days = _last_coefficient(np.column_stack([constant, day - day.mean()]), figure, error)
    return Trend(days=len(day), mean=mean, between_days=between_days, slope=slope)


def _last_coefficient(columns: np.ndarray, figure: np.ndarray, error: np.ndarray) -> tuple[Interval, float]:
    """The interval of the last of the columns' coefficients, and the standard deviation between days.

    `columns` is float64 [days, coefficients], `figure` and its standard `error` are [days].
    """
    free = len(figure) - columns.shape[1]
    variance = _variance_between_days(columns, figure, error)
    weights = 1 / (error**2 + variance + np.mean(error**2) / len(figure))
    coefficients, inverse, misfit = _weighted_fit(columns, figure, weights)
    reach = t_quantile(free) * float(max(misfit / free, 1.0) * inverse[-1, -1]) ** 0.5
    value = float(coefficients[-1])
    return Interval(value, value - reach, value + reach), variance**0.5


def _variance_between_days(columns: np.ndarray, figure: np.ndarray, error: np.ndarray) -> float:
    """DerSimonian & Laird's estimate, for a regression: the variance at which the misfit is as large as expected."""
    weights = error**-2
    _, inverse, misfit = _weighted_fit(columns, figure, weights)
    expected = len(figure) - columns.shape[1]
    gained = weights.sum() - np.trace(inverse @ (columns.T * weights**2) @ columns)
    return float(max((misfit - expected) / gained, 0.0))


def _weighted_fit(columns: np.ndarray, figure: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Weighted least squares: the coefficients, the inverse of their information, and the weighted sum of squares."""
    inverse = np.linalg.inv((columns.T * weights) @ columns)
    coefficients = inverse @ (columns.T * weights) @ figure
    return coefficients, inverse, float((weights * (figure - columns @ coefficients) ** 2).sum())
