"""Lists: for each user the best movies of a model that the user has not seen, exactly, filled up to 20."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from batch.models import Model

LENGTH = 20
RESERVE = 100
"""Movies in a popular list: the first 20 are shown, the others take the places of movies that are hidden later."""
_BLOCK_CELLS = 1 << 24
"""Scores in memory at once: 64 MB."""


def top_lists(
    model: Model, seen: sp.csr_matrix, users: np.ndarray, advance: Callable[[int], object] = lambda users: None
) -> np.ndarray:
    """Movie indices for some users (int64 row numbers of `seen`), best first, none seen: int32 [len(users), 20].

    -1 stands for none, at the end of a row, where a user has seen nearly everything. Scores that are alike are
    ordered by movie index.
    """
    lists = np.full((len(users), LENGTH), -1, np.int32)
    size = max(1, _BLOCK_CELLS // seen.shape[1])
    for at in range(0, len(users), size):
        block = users[at : at + size]
        lists[at : at + size] = _best(model.score(block), seen[block])
        advance(len(block))
    return lists


def _best(scores: np.ndarray, seen: sp.csr_matrix) -> np.ndarray:
    rows = np.repeat(np.arange(len(scores)), np.diff(seen.indptr))
    scores[rows, seen.indices] = -np.inf
    count = min(LENGTH, scores.shape[1])
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    values = np.take_along_axis(scores, best, axis=1)
    # a partition takes any of those that tie for the last place: these few rows are sorted whole
    tied = np.flatnonzero((scores >= values.min(axis=1, keepdims=True)).sum(axis=1) > count)
    best[tied] = np.argsort(-scores[tied], axis=1, kind="stable")[:, :count]
    values = np.take_along_axis(scores, best, axis=1)
    order = np.lexsort((best, -values), axis=1)
    best, values = np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)
    lists = np.full((len(scores), LENGTH), -1, np.int32)
    lists[:, :count] = np.where(np.isneginf(values), -1, best)
    return lists


def popular_lists(popularity: np.ndarray, starts: sp.csr_matrix, segments: np.ndarray, count: int) -> np.ndarray:
    """The most popular movies of everyone (row 0) and of the segments 1..`count`: int32 [count + 1, 100].

    `popularity` is float64 [m]; `starts` bool [n, m] says who started what; `segments` is int [n], 0 for none. A
    segment whose list is short is filled up from everyone's; -1 stands for none where the catalogue is short.
    """
    everyone = np.lexsort((np.arange(len(popularity)), -popularity))
    lists = np.full((count + 1, RESERVE), -1, np.int32)
    for segment in range(count + 1):
        watched = starts[segments == segment].sum(axis=0) if segment else popularity
        score = np.asarray(watched, np.float64).ravel()
        order = everyone[np.argsort(-score[everyone], kind="stable")]
        lists[segment, : len(order[:RESERVE])] = order[:RESERVE]
    return lists
