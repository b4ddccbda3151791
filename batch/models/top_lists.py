"""Top lists: the 20 movies with the highest scores that a user has not seen, exactly.

Movies are split into groups, and the best score of each group is found first: the 20th of these is a bound that the
20 best scores of the row reach, and hardly any other. What reaches it is sorted, whole, so lists are exact, and ties
are by movie index, whatever the size of a block of users and however many threads share the blocks.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import threadpoolctl

from batch.errors import BatchError
from batch.history.interactions import Interactions
from stream.event import LIST_LENGTH

RESERVE = 100
"""Movies in a popular list: the first 20 are shown, the others take the places of movies that are hidden later."""
_BLOCK_CELLS = 1 << 22
"""Scores that a thread has in hand at once: 16 MB."""
_GROUP = 32
"""Movies in a group."""


class Scorer(Protocol):
    """What lists need of a model."""

    name: str

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        """As `Model.score`; called by several threads at once."""


def top_lists(
    model: Scorer,
    data: Interactions,
    users: np.ndarray,
    hidden: np.ndarray | None = None,
    advance: Callable[[int], object] = lambda users: None,
) -> np.ndarray:
    """Movie indices for some users (int64 rows of `data`), best first: int32 [len(users), 20].

    None is listed that `data` says the user has seen, none that is `hidden` (bool [m]), none scored -inf. -1 stands
    for none, at the end of a row, where there is nothing left. Scores that are alike are ordered by movie index.
    Raises `BatchError` where a score is not a number.
    """
    size = max(1, _BLOCK_CELLS // data.shape[1])
    blocks = [users[at : at + size] for at in range(0, len(users), size)]
    lists = np.full((len(users), LIST_LENGTH), -1, np.int32)

    def fill(number: int) -> int:
        lists[number * size : (number + 1) * size] = _best(_fresh(model, data, blocks[number], hidden), model.name)
        return len(blocks[number])

    # a block a core: BLAS threads within would only wait for each other
    with _pools().limit(limits=1, user_api="blas"), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for done in threads.map(fill, range(len(blocks))):
            advance(done)
    return lists


@functools.cache
def _pools() -> threadpoolctl.ThreadpoolController:
    """The libraries that have threads of their own; to look for them takes longer than a short list."""
    return threadpoolctl.ThreadpoolController()


def _fresh(model: Scorer, data: Interactions, users: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    """Scores with what is seen or hidden at -inf."""
    scores = model.score(data, users)
    row = np.repeat(np.arange(len(users)), data.indptr[users + 1] - data.indptr[users])
    scores[row, data.movies[data.events_of(users)]] = -np.inf
    if hidden is not None:
        scores[:, hidden] = -np.inf
    return scores


def _best(scores: np.ndarray, name: str) -> np.ndarray:
    rows, movies = scores.shape
    groups = movies // _GROUP if movies // _GROUP >= LIST_LENGTH else 0
    # group g holds the movies g, g + groups, g + 2 groups, …: whole rows are compared at a time
    peaks = scores[:, : groups * _GROUP].reshape(rows, _GROUP, groups).max(axis=1)
    if np.isnan(peaks).any() or np.isnan(scores[:, groups * _GROUP :]).any():
        raise BatchError(f"lists: model {name} scores something that is not a number")
    reach = np.full((rows, 1), np.finfo(np.float32).min)
    if groups:
        reach = np.maximum(np.partition(peaks, groups - LIST_LENGTH, axis=1)[:, groups - LIST_LENGTH, None], reach)
    row, movie = np.divmod(np.flatnonzero(scores >= reach), movies)
    order = np.lexsort((-scores[row, movie], row))  # stable: scores alike stay in order of movie
    row, movie = row[order], movie[order]
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
    first = rank < LIST_LENGTH
    lists = np.full((rows, LIST_LENGTH), -1, np.int32)
    lists[row[first], rank[first]] = movie[first]
    return lists


def popular_lists(
    popularity: np.ndarray, starts: sp.csr_matrix, segments: np.ndarray, count: int, hidden: np.ndarray | None = None
) -> np.ndarray:
    """The most popular movies of everyone (row 0) and of the segments 1..`count`: int32 [count + 1, 100].

    `popularity` is float64 [m]; `starts` bool [n, m] says who started what; `segments` is int [n], 0 for none; none is
    listed that is `hidden` (bool [m]). A segment whose list is short is filled up from everyone's; -1 stands for none
    where the catalogue is short.
    """
    everyone = np.argsort(-popularity, kind="stable")
    if hidden is not None:
        everyone = everyone[~hidden[everyone]]
    lists = np.full((count + 1, RESERVE), -1, np.int32)
    for segment in range(count + 1):
        watched = starts[segments == segment].sum(axis=0) if segment else popularity
        score = np.asarray(watched, np.float64).ravel()
        order = everyone[np.argsort(-score[everyone], kind="stable")]
        lists[segment, : len(order[:RESERVE])] = order[:RESERVE]
    return lists
