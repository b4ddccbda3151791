"""Is the order within lists right? A movie that two users are shown should stand higher for the one it matches more.

How well movies match is counted among the histories of other users, as in `list_relevance.py`. Only the difference
between users counts, so what all lists have in common (popular movies first, or an order by number) comes to 0, as
random order does; lists turned round come below 0. It is a correlation: of the difference in rank, among the movies
that two lists share, with the difference in relevance.

Lists are refused if the correlation is surely too small, so few users prove nothing. Measured on the simulated service
and on sequences, 100 to 5,000 users, correlation with its standard error: the models, and a LightGBM re-ranker of the
blend, .15 to .39 (.006 to .03) from 400 users on; with 100 users .04 to .47 (.01 to .05), so that at best at least .11
is possible. In random order -.04 to .01, at best .05 from 100 users on, and in one order for all 0.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from batch.gate.list_relevance import CoOccurrence, relevance_of_listed

_GROUP = 8
"""Rows that are compared with each other, each with all others of the group."""
_LEAST_GROUPS = 8
_LEAST_CORRELATION, _ERRORS = 0.06, 3.0
"""Lists are in no order if the correlation is below this by so many standard errors."""


@dataclass(frozen=True)
class Correlation:
    """A correlation, and its standard error by the variation between groups of users."""

    value: float
    error: float

    @property
    def most(self) -> float:
        """What it may be at best."""
        return self.value + _ERRORS * self.error

    @property
    def is_too_small(self) -> bool:
        """Whether no sound model orders its lists so, beyond doubt."""
        return self.most < _LEAST_CORRELATION


def order_correlations(
    histories: sp.csr_matrix, lists: np.ndarray, counted: CoOccurrence, parts: int = 1
) -> list[Correlation]:
    """How well order goes with relevance: over all rows, then in each of so many parts; without what is too small to
    tell.

    `histories` is [k, m], nonzero where seen; `lists` int [k, l], best first, -1 for none. The rows of each part are in
    random order.
    """
    rows = len(lists) // _GROUP * _GROUP
    relevance = relevance_of_listed(histories[:rows], lists[:rows], counted.second_half)
    shape = rows // _GROUP, _GROUP, lists.shape[1]
    sums = _products(lists[:rows].reshape(shape), relevance.reshape(shape))
    pieces = [sums, *np.array_split(sums, parts)] if parts > 1 else [sums]
    return [_correlation(piece) for piece in pieces if len(piece) >= _LEAST_GROUPS and piece[:, 2].any()]


def _products(lists: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """By group: the sums over its pairs of d·e, d·d and e·e: float64 [groups, 3].

    Both arguments are [groups, rows, l]. Of each movie that two rows share, d is how much higher the first row ranks it
    among the shared ones, and e how much more relevant it is to the first row, less the mean over the shared ones.
    """
    sums = np.zeros((len(lists), 3))
    for apart in range(1, lists.shape[1]):
        first, second = lists[:, :-apart], lists[:, apart:]
        is_same = (first[..., :, None] == second[..., None, :]) & (first >= 0)[..., :, None]
        is_shared, place = is_same.any(axis=-1), is_same.argmax(axis=-1)
        rank = np.cumsum(is_same.any(axis=-2), axis=-1)
        higher = np.take_along_axis(rank, place, axis=-1) - np.cumsum(is_shared, axis=-1)
        d = np.where(is_shared, higher, 0)
        gain = relevance[:, :-apart] - np.take_along_axis(relevance[:, apart:], place, axis=-1)
        gain = np.where(is_shared, gain, 0.0)
        mean = gain.sum(axis=-1, keepdims=True) / np.maximum(is_shared.sum(axis=-1, keepdims=True), 1)
        e = np.where(is_shared, gain - mean, 0.0)
        sums += np.stack([(d * e).sum(axis=(1, 2)), (d * d).sum(axis=(1, 2)), (e * e).sum(axis=(1, 2))], axis=1)
    return sums


def _correlation(sums: np.ndarray) -> Correlation:
    """The ratio of sums over groups, with its error by linearisation (Cochran, Sampling Techniques, 1977)."""
    de, dd, ee = sums.sum(axis=0)
    if not dd:  # one order for all
        return Correlation(0.0, 0.0)
    spread, count = np.sqrt(dd * ee), len(sums)
    value = de / spread
    residuals = sums[:, 0] / spread - value / 2 * (sums[:, 1] / dd + sums[:, 2] / ee)
    return Correlation(float(value), float(np.sqrt((residuals**2).sum() * count / (count - 1))))
