"""95 % intervals by the percentile bootstrap over users (Efron & Tibshirani 1993, chapters 13 and 14), seeded.

Whole users are resampled, with all their answers: answers to one user are not independent. Users with equal figures
are exchangeable, so a resample of the users is a multinomial draw over the distinct cells (numerator, denominator)
with the cells' frequencies. This is exactly the user bootstrap, and a million users take no longer than their cells.
Where hardly any two users are equal, user indices are drawn in blocks. Equal data, in any order, give equal intervals.
"""

from collections.abc import Iterator

import msgspec
import numpy as np

from quality.errors import MetricError

_LEVELS = (0.025, 0.975)
_BLOCK = 4_000_000
"""Numbers drawn at a time: 32 MB."""


class Interval(msgspec.Struct, frozen=True):
    """A figure and its 95 % interval; all None (null) if there was nothing to measure."""

    mean: float | None
    low: float | None
    high: float | None


def interval_text(interval: Interval | None, spec: str = ".4f", scale: float = 1.0) -> str:
    """`0.4850 [0.4730, 0.4970]`: the mean and its 95 % interval, times `scale`; `–` if nothing was measured."""
    if interval is None or interval.mean is None or interval.low is None or interval.high is None:
        return "–"
    mean, low, high = (format(scale * value, spec) for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def mean_interval(values: np.ndarray, samples: int = 1000, seed: int = 1) -> Interval:
    """Mean of one value per user, float[users]."""
    return ratio_interval(values, np.ones(len(values), np.int64), samples, seed)


def ratio_interval(numerators: np.ndarray, denominators: np.ndarray, samples: int = 1000, seed: int = 1) -> Interval:
    """Sum of the numerators by sum of the denominators, such as hits by answers; both [users].

    Users with denominator 0 are left out.
    """
    if numerators.shape != denominators.shape or numerators.ndim != 1:
        raise MetricError(f"bootstrap: {numerators.shape} numerators, {denominators.shape} denominators")
    asked = denominators > 0
    numerators, denominators = numerators[asked].astype(np.float64), denominators[asked].astype(np.float64)
    if not len(numerators):
        return Interval(None, None, None)
    order = np.lexsort((denominators, numerators))
    numerators, denominators = numerators[order], denominators[order]
    ratios = np.concatenate(list(_resampled(numerators, denominators, samples, np.random.default_rng(seed))))
    low, high = np.quantile(ratios, _LEVELS)
    return Interval(float(numerators.sum() / denominators.sum()), float(low), float(high))


def ratio_difference_interval(
    numerators_a: np.ndarray, numerators_b: np.ndarray, denominators: np.ndarray, samples: int = 1000, seed: int = 1
) -> Interval:
    """Ratio of a minus ratio of b, paired by user over the same answers; all [users]."""
    return ratio_interval(numerators_a.astype(np.float64) - numerators_b, denominators, samples, seed)


def _resampled(
    numerators: np.ndarray, denominators: np.ndarray, samples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Blocks of resampled ratios, `samples` in all; equal users are adjacent."""
    users = len(numerators)
    changed = (np.diff(numerators) != 0) | (np.diff(denominators) != 0)
    firsts = np.flatnonzero(np.concatenate([[True], changed]))
    shares = np.diff(np.append(firsts, users)) / users
    few = 16 * len(firsts) <= users  # a multinomial count costs about sixteen drawn indices
    for block in _blocks(samples, len(firsts) if few else users):
        if few:
            counts = rng.multinomial(users, shares, size=block).astype(np.float64)
            yield (counts @ numerators[firsts]) / (counts @ denominators[firsts])
        else:
            drawn = rng.integers(users, size=(block, users), dtype=np.int32)
            yield numerators[drawn].sum(axis=1) / denominators[drawn].sum(axis=1)


def _blocks(samples: int, width: int) -> Iterator[int]:
    most = max(1, _BLOCK // width)
    for done in range(0, samples, most):
        yield min(most, samples - done)
