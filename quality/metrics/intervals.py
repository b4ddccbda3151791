"""95 % intervals of rates and means over users, in closed form: equal data give equal intervals.

Answers to one user are not independent, so a rate's interval is that of as many independent answers as have the same
variance: the *effective* answers, answers by design effect (Kish 1965; Rao & Scott 1992). Around these it is the
interval of Agresti & Coull (1998) for a rate, and of Bonett & Price (2012) for a paired difference, as Dean & Pagano
(2015) compare them for clustered surveys. Both add a few made-up answers, so that thin data never look certain: after 0
hits of 100 a rate above 0 remains possible. `python -m loadtest bench intervals` measures how often they hold.

What is estimated is the rate over all answers that users like these would get, so a user with many answers weighs more.
An interval covers the chance of which users came and what they did. It does not cover that days differ (`trend.py`).
"""

import msgspec
import numpy as np

from quality.errors import MetricError

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
_T = (12.70620, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.30600, 2.26216, 2.22814)
"""97.5 % quantiles of Student's t distribution with 1, 2, ... degrees of freedom."""

_ROUNDING = 1e-9
"""By how much a score may exceed 1."""


class Interval(msgspec.Struct, frozen=True):
    """A figure and its 95 % interval; all None (null) if there was nothing to measure."""

    mean: float | None
    low: float | None
    high: float | None


NOTHING = Interval(None, None, None)


def interval_text(interval: Interval | None, spec: str = ".4f", scale: float = 1.0) -> str:
    """`0.4850 [0.4730, 0.4970]`: the mean and its 95 % interval, times `scale`; `–` if nothing was measured."""
    if interval is None or interval.mean is None or interval.low is None or interval.high is None:
        return "–"
    mean, low, high = (format(scale * value, spec) for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def ratio_interval(hits: np.ndarray, answers: np.ndarray) -> Interval:
    """Sum of the hits by sum of the answers; both [users]. Users without answers are left out.

    Raises `MetricError` unless 0 <= hits <= answers. The interval lies within [0, 1] and has a width.
    """
    _require_within(hits, answers)
    return _interval_of_scores(hits, hits, answers)


def score_interval(sums: np.ndarray, squares: np.ndarray, counts: np.ndarray) -> Interval:
    """Mean of all scores, each within [0, 1], of which a user may have several; all [users].

    `sums` and `squares` are of a user's scores and of their squares, `counts` how many there are. For scores of 0 and 1
    it is `ratio_interval`. Raises `MetricError` unless squares <= sums <= counts.
    """
    _require_within(sums, counts)
    _require_within(squares, sums)
    return _interval_of_scores(sums, squares, counts)


def _interval_of_scores(sums: np.ndarray, squares: np.ndarray, counts: np.ndarray) -> Interval:
    scored = counts > 0
    if not scored.any():
        return NOTHING
    sums, squares, counts = (values[scored].astype(np.float64) for values in (sums, squares, counts))
    total = counts.sum()
    return _interval_of_share(sums.sum() / total, squares.sum() / total, _effective_answers(sums, squares, counts))


def ratio_difference_interval(
    hits: np.ndarray, other_hits: np.ndarray, differing: np.ndarray, answers: np.ndarray
) -> Interval:
    """Ratio of `hits` less ratio of `other_hits`, paired over the same answers; all [users].

    `differing` counts the answers that are a hit of only one of the two. Raises `MetricError` unless the counts are
    possible. The interval lies within [-1, 1] and has a width.
    """
    for counts in (hits, other_hits, differing):
        _require_within(counts, answers)
    gains = hits.astype(np.float64) - other_hits
    if (np.abs(gains) > differing).any():
        raise MetricError("intervals: hits differ by more than the answers that differ")
    asked = answers > 0
    gains, differing, answers = (counts[asked].astype(np.float64) for counts in (gains, differing, answers))
    if not len(gains):
        return NOTHING
    mean, square = gains.sum() / answers.sum(), differing.sum() / answers.sum()
    # Bonett & Price add one answer of each kind that differs
    reach = _with_added(mean, square, _effective_answers(gains, differing, answers), 2.0, 0.0, 1.0)
    return _interval(mean, *reach, -1.0)


def mean_interval(scores: np.ndarray) -> Interval:
    """Mean of one score within [0, 1] per user, float[users]; for scores of 0 and 1 the interval of their rate.

    Raises `MetricError` if a score is not within [0, 1]. The interval lies within [0, 1] and has a width.
    """
    _require_within(scores, np.ones(len(scores)))
    if not len(scores):
        return NOTHING
    return _interval_of_share(float(scores.mean()), float(np.square(scores).mean()), len(scores))


def mean_difference_interval(scores: np.ndarray, other_scores: np.ndarray) -> Interval:
    """Mean of `scores` less `other_scores`, paired by user, each within [0, 1]; both float[users].

    By Student's t, since differences of scores are not skewed as scores are. One user proves nothing: [-1, 1].
    """
    _require_within(scores, np.ones(len(scores)))
    _require_within(other_scores, np.ones(len(scores)))
    if not len(scores):
        return NOTHING
    gains = scores - other_scores
    mean = float(gains.mean())
    if len(gains) == 1:
        return Interval(mean, -1.0, 1.0)
    reach = t_quantile(len(gains) - 1) * float(gains.std(ddof=1)) / len(gains) ** 0.5
    return _interval(mean, mean - reach, mean + reach, -1.0)


def t_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t distribution, to 2e-4: a table, then the expansion of Fisher & Cornish (1960)."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    terms = (
        Z,
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))


def _effective_answers(sums: np.ndarray, squares: np.ndarray, answers: np.ndarray) -> float:
    """How many independent answers would tell as much; all float64 [users], `answers` above 0.

    `sums` and `squares` are of the values of a user's answers, each within [-1, 1], and of their squares.
    """
    total = answers.sum()
    mean = sums.sum() / total
    variance = squares.sum() / total - mean**2
    own_size = np.square(answers).sum() / total  # of the user who got an answer, averaged over answers
    design_effect = 1 + (own_size - 1) * _likeness(sums, squares, answers, mean, variance)
    if variance > _ROUNDING:
        # the variance of a ratio by linearisation, which also holds where busy users have other rates
        design_effect = max(design_effect, np.square(sums - mean * answers).sum() / total / variance)
    return float(total / design_effect)


def _likeness(sums: np.ndarray, squares: np.ndarray, answers: np.ndarray, mean: float, variance: float) -> float:
    """Correlation of two answers to the same user, within [0, 1].

    The moment estimate (Williams 1982), and one more user whose answers are all alike: users who all had the same
    outcome, such as no hit, say nothing about it.
    """
    users, total = len(answers), answers.sum()
    uniform = max(np.count_nonzero(squares == 0), np.count_nonzero(sums == answers), np.count_nonzero(sums == -answers))
    telling = users - uniform
    if not telling or variance <= _ROUNDING:
        return 1.0
    size = np.square(answers).sum() / total
    # expected values, by the variance of one answer, without correlation and for each unit of it
    spread = (np.square(sums - mean * answers) / answers).sum() / variance
    gained = total - users - size + 1 + spread * (size - 1) / total
    if gained <= 0:  # one answer each
        return 1.0
    correlation = (spread * (1 - 1 / total) - (users - 1)) / gained
    return float((telling * min(max(correlation, 0.0), 1.0) + 1) / (telling + 1))


def _with_added(
    mean: float, square: float, count: float, added: float, added_mean: float, added_square: float
) -> tuple[float, float]:
    """Low and high end by the normal distribution, after adding answers to `count` answers with these means."""
    total = count + added
    centre = (count * mean + added * added_mean) / total
    variance = (count * square + added * added_square) / total - centre**2
    reach = Z * (variance / total) ** 0.5
    return centre - reach, centre + reach


def _interval_of_share(mean: float, square: float, count: float) -> Interval:
    """Agresti & Coull add Z² answers, half of them hits."""
    return _interval(mean, *_with_added(mean, square, count, Z**2, 0.5, 0.5), 0.0)


def _interval(mean: float, low: float, high: float, least: float) -> Interval:
    return Interval(float(mean), float(max(low, least)), float(min(high, 1.0)))


def _require_within(counts: np.ndarray, most: np.ndarray) -> None:
    if counts.shape != most.shape or counts.ndim != 1:
        raise MetricError(f"intervals: arrays of {counts.shape} and {most.shape}")
    if not ((counts >= 0) & (counts <= most + _ROUNDING)).all():
        raise MetricError("intervals: a value is below 0 or beyond its maximum")
