"""Top lists: the movies, 20 unless told otherwise, with the highest scores that a user has not seen, exactly.

Movies are split into groups, and the best score of each group is found first: the 20th of these is a bound that the 20
best scores of the row reach, and hardly any others. All scores that reach it are sorted, so lists are exact, and ties
are broken by movie index, whatever the size of a block of users and the number of threads.
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
from batch.models.list_caps import ListCaps
from stream.event import LIST_LENGTH

RESERVE = 100
"""Movies in a popular list: the first 20 are shown, the others replace movies that are hidden later."""
_BLOCK_CELLS = 1 << 22
"""Scores that a thread holds at once: 16 MB."""
_BLOCK_USERS = 1 << 16
"""Users whose seen movies are ranked at once."""
_GROUP = 32
"""Most movies in a group."""


class Scorer(Protocol):
    """The part of a model that lists need."""

    name: str

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        """As `Model.score`; called by several threads at once."""


def top_lists(
    model: Scorer,
    data: Interactions,
    users: np.ndarray,
    hidden: np.ndarray | None = None,
    advance: Callable[[int], object] = lambda users: None,
    count: int = LIST_LENGTH,
    caps: ListCaps | None = None,
) -> np.ndarray:
    """Movie indices for some users (int64 rows of `data`), best first: int32 [len(users), count].

    Skips movies that are seen or barred according to `data`, `hidden` movies (bool [m]), what the `caps` leave out, and
    scores of -inf; short rows are padded with -1. Equal scores are ordered by movie index. Raises `BatchError` if a
    score is not a number.
    """
    size = max(1, _BLOCK_CELLS // data.shape[1])
    blocks = [users[start : start + size] for start in range(0, len(users), size)]
    lists = np.full((len(users), count), -1, np.int32)

    def fill(number: int) -> int:
        scores = _scores_of_unseen(model, data, blocks[number], hidden)
        if caps is not None:
            caps.leave_out(scores, blocks[number])
        lists[number * size : (number + 1) * size] = best_movies(scores, count, model.name)
        return len(blocks[number])

    # one block for each core: BLAS threads within a block would only wait for each other
    with _thread_pools().limit(limits=1, user_api="blas"), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for users_done in threads.map(fill, range(len(blocks))):
            advance(users_done)
    return lists


@functools.cache
def _thread_pools() -> threadpoolctl.ThreadpoolController:
    """The libraries that have threads of their own. Finding them takes longer than making a few lists."""
    return threadpoolctl.ThreadpoolController()


def _scores_of_unseen(model: Scorer, data: Interactions, users: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    """Scores of all movies, -inf for movies that are seen or hidden: float32 [len(users), m]."""
    scores = model.score(data, users)
    scores[data.unlisted(users)] = -np.inf
    if hidden is not None:
        scores[:, hidden] = -np.inf
    return scores


def best_movies(scores: np.ndarray, count: int, name: str) -> np.ndarray:
    """The movies with the best scores of each row: int32 [rows, count], padded with -1; none with a score of -inf.

    Equal scores are ordered by movie index. Raises `BatchError`, with the `name` of the model, if a score is not a
    number.
    """
    rows, movies = scores.shape
    # of few movies, smaller groups: there must be more of them than movies to find
    size = min(_GROUP, movies // (2 * count))
    groups = movies // size if size else 0
    # group g holds the movies g, g + groups, g + 2 groups, …, so that whole rows are compared at a time
    peaks = scores[:, : groups * size].reshape(rows, size, groups).max(axis=1) if groups else scores[:, :0]
    if np.isnan(peaks).any() or np.isnan(scores[:, groups * size :]).any():
        raise BatchError(f"lists: a score of model {name} is not a number")
    bound = np.full((rows, 1), np.finfo(np.float32).min)
    if groups:
        bound = np.maximum(np.partition(peaks, groups - count, axis=1)[:, groups - count, None], bound)
    row, movie = np.divmod(np.flatnonzero(scores >= bound), movies)
    order = np.lexsort((-scores[row, movie], row))  # stable: equal scores stay in the order of movies
    row, movie = row[order], movie[order]
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
    is_listed = rank < count
    lists = np.full((rows, count), -1, np.int32)
    lists[row[is_listed], rank[is_listed]] = movie[is_listed]
    return lists


def popular_ranking(popularity: np.ndarray, hidden: np.ndarray | None = None) -> np.ndarray:
    """All movies but the `hidden` ones (bool [m]), the most popular first, ties by index: int64 [m or less].

    `popularity` is float64 [m].
    """
    ranking = np.argsort(-popularity, kind="stable")
    return ranking if hidden is None else ranking[~hidden[ranking]]


def unseen_lists(ranking: np.ndarray, data: Interactions) -> np.ndarray:
    """The first 20 movies of one ranking (int [r], best first) that each user has not seen: int32 [n, 20].

    Short rows are padded with -1. These are the `top_lists` of a model that ranks so for everyone, but the time they
    take depends on the events alone, not on the size of the catalogue.
    """
    users, movies = data.shape
    rank_of_movie = np.full(movies, len(ranking))
    rank_of_movie[ranking] = np.arange(len(ranking))
    padded = np.append(ranking, -1).astype(np.int32)
    lists = np.empty((users, LIST_LENGTH), np.int32)
    for first in range(0, users, _BLOCK_USERS):
        indptr = data.indptr[first : first + _BLOCK_USERS + 1]
        ranks = _ranks_of_unseen(rank_of_movie[data.movies[indptr[0] : indptr[-1]]], np.diff(indptr), len(ranking))
        lists[first : first + _BLOCK_USERS] = padded[np.minimum(ranks, len(ranking))]
    return lists


def _ranks_of_unseen(seen: np.ndarray, counts: np.ndarray, unranked: int) -> np.ndarray:
    """The 20 best ranks that each user has not seen: int64 [users, 20].

    `seen` are the ranks that were seen, user by user, `counts` (int64 [users]) of each; ranks from `unranked` on mean
    none. Counted from 0, the k-th unseen rank comes after k unseen ones, and after all seen ones that have k unseen
    ones or fewer before them.
    """
    user, rank = np.divmod(np.sort(np.repeat(np.arange(len(counts)), counts) * (unranked + 1) + seen), unranked + 1)
    unseen_before = rank - (np.arange(len(seen)) - (np.cumsum(counts) - counts)[user])
    counted = (rank < unranked) & (unseen_before < LIST_LENGTH)
    cells = user[counted] * LIST_LENGTH + unseen_before[counted]
    skipped = np.bincount(cells, minlength=len(counts) * LIST_LENGTH).reshape(-1, LIST_LENGTH)
    return np.arange(LIST_LENGTH) + skipped.cumsum(axis=1)


def popular_lists(
    popularity: np.ndarray, starts: sp.csr_matrix, segments: np.ndarray, count: int, hidden: np.ndarray | None = None
) -> np.ndarray:
    """The most popular movies of everyone (row 0) and of the segments 1..`count`: int32 [count + 1, 100].

    `popularity` is float64 [m]; `starts` bool [n, m], what each user started; `segments` int [n], 0 for none. Skips
    `hidden` movies (bool [m], or [count + 1, m] for each list its own). A segment's list continues with movies that no
    user of the segment started, in the order of everyone's list; rows are padded with -1 if the catalogue is short.
    """
    by_list = np.broadcast_to(False if hidden is None else hidden, (count + 1, len(popularity)))
    lists = np.full((count + 1, RESERVE), -1, np.int32)
    for segment in range(count + 1):
        watched = starts[segments == segment].sum(axis=0) if segment else popularity
        score = np.asarray(watched, np.float64).ravel()
        everyone = popular_ranking(popularity, by_list[segment])
        order = everyone[np.argsort(-score[everyone], kind="stable")]
        lists[segment, : len(order[:RESERVE])] = order[:RESERVE]
    return lists
