"""Offline figures of a model's lists, from the scores of each user.

Every mean has its 95 % interval by bootstrap over users; every user counts alike, and so does a segment's.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from batch.evaluation.splits import Slice
from batch.history.segments import NAMES
from quality.metrics import ranking
from quality.metrics.bootstrap import mean_interval

CHOICE_METRIC = "ndcg@20"
LEAST_USERS = 100
"""Users of a segment whose figure is held against that of another."""
_DRAWS = 10_000


@dataclass(frozen=True)
class MeasuredLists:
    """The lists that one model makes for some users of a slice, and what they are worth."""

    lists: np.ndarray
    """int32 [users, 20], -1 for none."""
    scores: ranking.RankingScores
    """Of all these users, in their order."""


def measure_lists(part: Slice, users: np.ndarray, lists: np.ndarray) -> MeasuredLists:
    """Score the lists of some users (int64, each with something relevant) of a slice."""
    relevant = part.relevant[users]
    return MeasuredLists(lists, ranking.rank_metrics(lists, relevant.indptr.astype(np.int64), relevant.indices))


def figures_of(
    part: Slice, users: np.ndarray, model: MeasuredLists, popular: MeasuredLists, seed: int
) -> dict[str, Any]:
    """All figures of a model, for `evaluation.json`; `popular` is the popular list for the same users."""
    segments = part.known.segments[users]
    watched = np.bincount(part.known.movies, minlength=part.known.shape[1])
    return {
        "users": len(users),
        **{name: _interval(values, seed) for name, values in _named(model.scores)},
        "coverage": ranking.coverage(model.lists, part.known.shape[1]),
        "novelty_bits": ranking.novelty(model.lists, watched, part.known.shape[0]),
        "personal": float((model.lists != popular.lists).any(axis=1).mean()),
        "segments": _by_segment(model.scores.ndcg, segments, seed),
        "largest_gap": largest_gap(model.scores.ndcg, segments, seed),
    }


def difference(one: np.ndarray, other: np.ndarray, seed: int) -> dict[str, Any]:
    """Mean difference of two models' scores of the same users, float64 [users], with its interval."""
    return {"metric": CHOICE_METRIC, **_interval(one - other, seed)}


def largest_gap(scores: np.ndarray, segments: np.ndarray, seed: int) -> dict[str, Any] | None:
    """The segments that are served best and worst, among those with enough users; None where there are not two.

    Some segment is always best. So the gap is beyond noise only where it is larger than 95 % of the gaps of as many
    segments of this size and spread would be if they all had the same mean (their means are taken as normal).
    """
    spread = {}
    for segment in np.unique(segments[segments > 0]).tolist():
        own = scores[segments == segment]
        if len(own) >= LEAST_USERS:
            spread[segment] = (float(own.mean()), float(own.std(ddof=1)) / len(own) ** 0.5)
    if len(spread) < 2:
        return None
    ordered = sorted(spread, key=lambda segment: spread[segment][0])
    high, low = ordered[-1], ordered[0]
    gap = spread[high][0] - spread[low][0]
    errors = np.array([error for _, error in spread.values()])
    by_chance = np.ptp(np.random.default_rng(seed).normal(size=(_DRAWS, len(errors))) * errors, axis=1)
    beyond = bool(gap > np.quantile(by_chance, 0.95))
    return {"high": NAMES[high], "low": NAMES[low], CHOICE_METRIC: gap, "beyond_noise": beyond}


def _by_segment(scores: np.ndarray, segments: np.ndarray, seed: int) -> dict[str, Any]:
    found = {}
    for segment in np.unique(segments).tolist():
        own = scores[segments == segment]
        found[NAMES[segment] if segment else "no segment"] = {"users": len(own), CHOICE_METRIC: _interval(own, seed)}
    return found


def _named(scores: ranking.RankingScores) -> list[tuple[str, np.ndarray]]:
    return [
        ("hr@20", scores.hit),
        ("recall@20", scores.recall),
        (CHOICE_METRIC, scores.ndcg),
        ("mrr", scores.reciprocal_rank),
    ]


def _interval(values: np.ndarray, seed: int) -> dict[str, Any]:
    return dict(msgspec.to_builtins(mean_interval(values, seed=seed)))
