"""Offline figures of a model's lists, from the scores of each user.

Every mean has its 95 % interval, by the variation between users. All users have the same weight, also within a segment.
"""

from dataclasses import dataclass

import numpy as np

from batch.evaluation.splits import Slice
from batch.evaluation_file import CHOICE_METRIC, LargestGap, ModelFigures, ScoreDifference, SegmentFigures
from batch.history.segments import NAMES
from quality.metrics import ranking
from quality.metrics.intervals import mean_difference_interval, mean_interval

LEAST_USERS = 100
"""A segment with fewer users is not compared with others."""
_DRAWS = 10_000
"""Random gaps that the largest gap is compared with."""


@dataclass(frozen=True)
class MeasuredLists:
    """The lists that one model makes for some users of a slice, and their scores."""

    lists: np.ndarray
    """int32 [users, 20], -1 for none."""
    scores: ranking.RankingScores
    """Of the same users, in the same order."""


def measure_lists(part: Slice, users: np.ndarray, lists: np.ndarray) -> MeasuredLists:
    """Score the lists of some users (int64, each with something relevant) of a slice."""
    relevant = part.relevant[users]
    return MeasuredLists(lists, ranking.rank_metrics(lists, relevant.indptr.astype(np.int64), relevant.indices))


def figures_of(part: Slice, users: np.ndarray, model: MeasuredLists, popular: MeasuredLists, seed: int) -> ModelFigures:
    """All figures of a model; `popular` is the popular list for the same users (int64)."""
    segments = part.known.segments[users]
    watched = np.bincount(part.known.movies, minlength=part.known.shape[1])
    return ModelFigures(
        users=len(users),
        hit_rate=mean_interval(ranking.HIT_RATE.scores(model.scores)),
        recall=mean_interval(ranking.RECALL.scores(model.scores)),
        ndcg=mean_interval(ranking.NDCG.scores(model.scores)),
        mrr=mean_interval(ranking.MRR.scores(model.scores)),
        coverage=ranking.coverage(model.lists, part.known.shape[1]),
        novelty_bits=ranking.novelty(model.lists, watched, part.known.shape[0]),
        personal=float((model.lists != popular.lists).any(axis=1).mean()),
        segments=_by_segment(model.scores.ndcg, segments),
        largest_gap=largest_gap(model.scores.ndcg, segments, seed),
    )


def score_difference(scores: np.ndarray, other_scores: np.ndarray) -> ScoreDifference:
    """Mean of `scores` less `other_scores`, NDCG@20 of the same users by two models: float64 [users] each."""
    interval = mean_difference_interval(scores, other_scores)
    return ScoreDifference(CHOICE_METRIC, interval.mean, interval.low, interval.high)


def largest_gap(scores: np.ndarray, segments: np.ndarray, seed: int) -> LargestGap | None:
    """The gap between the segments served best and worst, among those with enough users; None if fewer than two have.

    `scores` is float64 [users], `segments` int [users], 0 for none. Some segment is always best. So the gap is beyond
    noise only if it is larger than 95 % of the gaps that as many segments, of this size and spread, would show if
    they all had the same mean; their means are taken as normal.
    """
    mean_and_error = {}
    for segment in np.unique(segments[segments > 0]).tolist():
        own_scores = scores[segments == segment]
        if len(own_scores) >= LEAST_USERS:
            error = float(own_scores.std(ddof=1)) / len(own_scores) ** 0.5
            mean_and_error[segment] = float(own_scores.mean()), error
    if len(mean_and_error) < 2:
        return None
    by_mean = sorted(mean_and_error, key=lambda segment: mean_and_error[segment][0])
    best, worst = by_mean[-1], by_mean[0]
    gap = mean_and_error[best][0] - mean_and_error[worst][0]
    errors = np.array([error for _, error in mean_and_error.values()])
    by_chance = np.ptp(np.random.default_rng(seed).normal(size=(_DRAWS, len(errors))) * errors, axis=1)
    return LargestGap(NAMES[best], NAMES[worst], gap, bool(gap > np.quantile(by_chance, 0.95)))


def _by_segment(scores: np.ndarray, segments: np.ndarray) -> dict[str, SegmentFigures]:
    figures = {}
    for segment in np.unique(segments).tolist():
        own_scores = scores[segments == segment]
        name = NAMES[segment] if segment else "no segment"
        figures[name] = SegmentFigures(len(own_scores), mean_interval(own_scores))
    return figures
