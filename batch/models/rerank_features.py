"""What the second stage sees of a candidate: a table of named functions, each from `Candidates` to float32 [k, c].

k users have c candidates each. Everything comes from the history before the candidate, the first stage, and counts over
movies; `Latest` names ways to sum over the user's latest movies.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from batch.models.pair_table import Relation

LATEST = 10
"""Movies of a history that are paired with the candidates: the latest ones."""
_LEAST_SPREAD = np.float32(1e-6)


class Latest(IntEnum):
    """How statistics of the latest movies and a candidate become one number: weighted means, and the maximum."""

    LAST = 0
    """The latest movie alone."""
    THREE = 1
    """The mean of the latest three."""
    FADING = 2
    """The latest weighs most; 1/e after three more."""
    TEN = 3
    """The mean of the latest ten."""
    MOST = 4
    """The maximum over the latest ten."""


_AGE = np.arange(LATEST)
_WEIGHTS = np.stack([_AGE < 1, _AGE < 3, np.exp(-_AGE / 3), _AGE < LATEST]).astype(np.float32)
"""float32 [4, h]: of the means, unnormalised."""


@dataclass(frozen=True)
class Candidates:
    """What is known of the candidates of k users. Candidates are ordered by the blend's score, the best first."""

    blend: np.ndarray
    """float32 [k, c]: the blend's scores."""
    ease: np.ndarray
    """float32 [k, c]: what EASE contributes to them; 0 if the mix does without it, or the movie is not dense."""
    order: np.ndarray
    """float32 [k, c]: what the order-aware regression contributes to them, likewise."""
    pairs: np.ndarray
    """float32 [k, 5, c, s]: by `Latest` and `Relation`."""
    lengths: np.ndarray
    """int64 [k]: events of each history."""
    popularity: np.ndarray
    """float32 [k, c]: logarithm of the share of recent starts."""
    trend: np.ndarray
    """float32 [k, c]: logarithm of the share of recent starts, relative to the share of all users who watched it."""
    segment_lift: np.ndarray
    """float32 [k, c]: logarithm of the starts in the user's segment, relative to the share of everyone's."""


def sum_over_latest(statistics: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """By `Latest`: float32 [k, 5, c, s] of statistics (float32 [k, h, c, s]), the latest movie first.

    `is_known` is bool [k, h]; statistics of other movies do not count.
    """
    users, latest, count, kinds = statistics.shape
    weights = _WEIGHTS * is_known[:, None, :]
    weights /= np.maximum(weights.sum(axis=2, keepdims=True), _LEAST_SPREAD)
    statistics *= is_known[:, :, None, None]
    sums = np.empty((users, len(Latest), count, kinds), np.float32)
    flat = statistics.reshape(users, latest, count * kinds)
    np.matmul(weights, flat, out=sums[:, : Latest.MOST].reshape(users, -1, count * kinds))
    np.max(statistics, axis=1, out=sums[:, Latest.MOST])
    return sums


Feature = Callable[[Candidates], np.ndarray]


def _standardised(values: np.ndarray) -> np.ndarray:
    """Values less the mean of the user's candidates, by their deviation."""
    spread = values.std(axis=1, keepdims=True) + _LEAST_SPREAD
    return (values - values.mean(axis=1, keepdims=True)) / spread


def blend_z(candidates: Candidates) -> np.ndarray:
    """The blend's score, standardised."""
    return _standardised(candidates.blend)


def blend_gap(candidates: Candidates) -> np.ndarray:
    """How far the blend's score is below that of the best candidate."""
    return candidates.blend[:, :1] - candidates.blend


def ease_z(candidates: Candidates) -> np.ndarray:
    """EASE's share of the score, standardised."""
    return _standardised(candidates.ease)


def order_z(candidates: Candidates) -> np.ndarray:
    """The order-aware regression's share of the score, standardised."""
    return _standardised(candidates.order)


def popularity(candidates: Candidates) -> np.ndarray:
    """Share of recent starts, logarithm."""
    return candidates.popularity


def popularity_z(candidates: Candidates) -> np.ndarray:
    """The same, standardised."""
    return _standardised(candidates.popularity)


def trend(candidates: Candidates) -> np.ndarray:
    """Whether the movie is watched more than before."""
    return candidates.trend


def segment_lift(candidates: Candidates) -> np.ndarray:
    """Whether the user's segment watches the movie more than others do."""
    return candidates.segment_lift


def length(candidates: Candidates) -> np.ndarray:
    """Events of the history: how far the others can be trusted."""
    shape = candidates.blend.shape
    return np.broadcast_to(candidates.lengths.astype(np.float32)[:, None], shape)


def _pair(statistic: Relation, latest: Latest) -> Feature:
    """A statistic of the latest movies and the candidate."""
    return lambda candidates: candidates.pairs[:, latest, :, statistic]


def soon_z(candidates: Candidates) -> np.ndarray:
    """How often it comes soon after the latest movies, standardised."""
    return _standardised(candidates.pairs[:, Latest.FADING, :, Relation.SOON])


FEATURES: Mapping[str, Feature] = {
    "blend z": blend_z,
    "popularity z": popularity_z,
    "blend gap": blend_gap,
    "ease z": ease_z,
    "order z": order_z,
    "popularity": popularity,
    "trend": trend,
    "segment lift": segment_lift,
    "length": length,
    "soon z": soon_z,
    "next, last": _pair(Relation.NEXT, Latest.LAST),
    "next, fading": _pair(Relation.NEXT, Latest.FADING),
    "next, most": _pair(Relation.NEXT, Latest.MOST),
    "soon, three": _pair(Relation.SOON, Latest.THREE),
    "soon, fading": _pair(Relation.SOON, Latest.FADING),
    "next before, last": _pair(Relation.NEXT_BEFORE, Latest.LAST),
    "soon before, fading": _pair(Relation.SOON_BEFORE, Latest.FADING),
    "soon before, ten": _pair(Relation.SOON_BEFORE, Latest.TEN),
    "together, last": _pair(Relation.TOGETHER, Latest.LAST),
    "together, most": _pair(Relation.TOGETHER, Latest.MOST),
    "lift, three": _pair(Relation.LIFT, Latest.THREE),
    "lift, ten": _pair(Relation.LIFT, Latest.TEN),
    "lift, most": _pair(Relation.LIFT, Latest.MOST),
    "ease, last": _pair(Relation.EASE, Latest.LAST),
    "ease, most": _pair(Relation.EASE, Latest.MOST),
    "order, last": _pair(Relation.ORDER, Latest.LAST),
    "order, fading": _pair(Relation.ORDER, Latest.FADING),
}
"""By name. The first two are what the trees correct, see `correction`."""


def feature_matrix(candidates: Candidates) -> np.ndarray:
    """All features: float32 [f, k, c], in the order of `FEATURES`."""
    matrix = np.empty((len(FEATURES), *candidates.blend.shape), np.float32)
    for row, feature in zip(matrix, FEATURES.values(), strict=True):
        row[:] = feature(candidates)
    return matrix
