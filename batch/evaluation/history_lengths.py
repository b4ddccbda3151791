"""Figures by length of history, and how long a history must be for a list of its own.

A model may rank better than the popular list over all users and yet worse for newcomers, of whom it knows next to
nothing. Where it does so beyond noise on the choice slice, these users get the popular list (`popular_below`).
"""

from collections.abc import Mapping

import numpy as np

from batch.evaluation_file import HISTORY_LENGTHS, LEAST_USERS, HistoryLength, LengthFigures
from quality.metrics.intervals import mean_difference_interval, mean_interval

Scores = Mapping[str, np.ndarray]
"""By model: NDCG@20 of each user, float64 [users]."""


def figures_by_length(lengths: np.ndarray, scores: Scores, popular: str) -> dict[str, HistoryLength]:
    """The figures of all models by length of history; `lengths` is int64 [users], `popular` the popular list's name."""
    figures = {}
    for name, (least, most) in HISTORY_LENGTHS.items():
        rows = np.flatnonzero((lengths >= least) & (lengths <= most))
        if len(rows):
            by_model = {model: _figures(own[rows], scores[popular][rows]) for model, own in scores.items()}
            figures[name] = HistoryLength(len(rows), by_model)
    return figures


def popular_below(lengths: np.ndarray, scores: np.ndarray, popular_scores: np.ndarray) -> float:
    """With how few events users are better off with the popular list: those with fewer than this; 0 for none.

    It is the end of the last group of `HISTORY_LENGTHS` that the model serves worse beyond noise: alone, or together
    with all shorter histories if the group's own mean is worse too, since few newcomers are in any one group. inf if
    that is the group of the longest histories. All arrays are [users]; users without a history do not count.
    """
    below = 0.0
    for least, most in HISTORY_LENGTHS.values():
        group = (lengths >= max(least, 1)) & (lengths <= most)
        shorter = (lengths >= 1) & (lengths <= most)
        is_worse = (_is_worse(scores[rows], popular_scores[rows]) for rows in (group, shorter))
        if group.any() and (scores - popular_scores)[group].mean() < 0 and any(is_worse):
            below = most + 1
    return below


def _is_worse(scores: np.ndarray, popular_scores: np.ndarray) -> bool:
    """Whether a model ranks below the popular list beyond noise, for at least `LEAST_USERS` users."""
    if len(scores) < LEAST_USERS:
        return False
    high = mean_difference_interval(scores, popular_scores).high
    return high is not None and high < 0


def _figures(scores: np.ndarray, popular_scores: np.ndarray) -> LengthFigures:
    return LengthFigures(mean_interval(scores), mean_difference_interval(scores, popular_scores))
