"""Comparison of two groups within strata, as of two releases within hours of the day. Pure functions of arrays.

The difference is Mantel and Haenszel's: the groups' means are compared within each stratum, and the strata weighted by
n1 n2 / (n1 + n2) (Greenland & Robins 1985, for proportions). So a stratum that only one group has counts for nothing,
and one group's better hours are never credited to it.
"""

from dataclasses import dataclass

import numpy as np

from quality.metrics.intervals import NOTHING, Interval, t_quantile


@dataclass(frozen=True, slots=True)
class StratifiedMeans:
    """Means of two groups over the same mixture of strata."""

    first: float | None
    second: float | None
    difference: Interval
    """Second less first; all None if no stratum has both groups."""


def stratified_means(
    values: np.ndarray, is_second: np.ndarray, stratum: np.ndarray, user: np.ndarray, widest: float
) -> StratifiedMeans:
    """Compare `values` (number or bool [answers]) of the second group with the first, within strata (int64, from 0).

    `widest` is the largest possible value less the smallest, so the interval lies within [-`widest`, `widest`]. It
    comes from the variation between users, who may be in both groups.
    """
    sizes = [np.bincount(stratum[rows], minlength=stratum.max(initial=0) + 1) for rows in (~is_second, is_second)]
    both = sizes[0] + sizes[1]
    weights = np.stack([sizes[1], sizes[0]]) / np.maximum(both, 1)  # of one answer of each group
    weight = weights[is_second.astype(np.int64), stratum]
    kept = np.flatnonzero(weight > 0)
    if not len(kept):
        return StratifiedMeans(None, None, NOTHING)
    values, is_second, stratum, weight = values[kept].astype(float), is_second[kept], stratum[kept], weight[kept]
    total = weight[is_second].sum()
    # a mean is within its values, which rounding may leave: a rate above 1 would make a report invalid
    first, second = (
        float(np.clip((weight * values)[rows].sum() / total, values[rows].min(), values[rows].max()))
        for rows in (~is_second, is_second)
    )
    # values are taken from the mean of their stratum, so that users with more answers of one group are no difference
    centres = np.bincount(stratum, weights=values) / np.maximum(np.bincount(stratum), 1)
    signed = np.where(is_second, weight, -weight) * (values - centres[stratum])
    _, rows = np.unique(user[kept], return_inverse=True)
    made_up = (widest * float(weight.mean())) ** 2
    return StratifiedMeans(
        first, second, _interval(np.bincount(rows, signed), np.bincount(rows, weight) / 2, made_up, widest)
    )


def _interval(sums: np.ndarray, weights: np.ndarray, made_up: float, widest: float) -> Interval:
    """Ratio of two sums over users (float64 [users]), by linearisation and Student's t. One user proves nothing.

    `made_up` is the sum of squares of one more answer of each extreme value in each group, as Agresti & Caffo (2000)
    add them: without it a day without hits would look certain.
    """
    users, total = len(sums), weights.sum()
    difference = float(sums.sum() / total)
    if users == 1:
        return Interval(difference, -widest, widest)
    squares = float(np.square(sums - difference * weights).sum()) + made_up
    reach = t_quantile(users - 1) * (users / (users - 1) * squares) ** 0.5 / float(total)
    return Interval(difference, max(difference - reach, -widest), min(difference + reach, widest))
