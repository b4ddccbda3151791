"""Do lists match their users? Shuffled or transposed factors give plausible lists for the wrong users.

Two rows (users with their lists, or movies with their neighbours) are compared: how well each row's list matches its
own history, minus how well the other row's list would. Popular movies and heavy viewers cancel out, so that lists
assigned at random come to 0. How well movies match is counted among the histories of other users.

Whether the data suffice for a verdict is tested with the naive neighbour method: lists made from the histories of half
of the users, compared by the other half. If even these do not stand out, there is no verdict on the model.

Measured on worlds of 150 to 10,000 users, in standard errors above 0: naive lists 1 to 76; those of ALS at 8 and at 64
factors 9 to 88, blended with the popular list 7 to 44; with users or movies shuffled, or transposed, -7 to +7.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

ROWS = 4000
"""Rows that are compared, in pairs."""
_BLOCK = 200
_NEIGHBOURS = 10
_PAIRS = 10_000_000
"""Pairs of movies within histories that are counted, of each half of the users: 160 MB at most."""
_NAIVE_ERRORS = 12.0
"""The data can tell if the naive lists are so many standard errors above 0."""
_LEAST_ERRORS, _LEAST_SHARE = 5.0, 1 / 6
"""Lists match their users if they are more than so many standard errors above 0, and more than this share of the
standard errors of the naive lists."""


@dataclass(frozen=True)
class CoOccurrence:
    """How often movies are seen by the same users, as cosine, 0 on the diagonal: float32 [m, m], for each half of the
    users."""

    first_half: sp.csr_matrix
    second_half: sp.csr_matrix

    @property
    def everyone(self) -> sp.csr_matrix:
        """The mean of both halves."""
        return sp.csr_matrix((self.first_half + self.second_half) / 2)


def count_co_occurrence(seen: sp.csr_matrix, rng: np.random.Generator) -> CoOccurrence:
    """Count co-occurrence among as many users, drawn at random, as time and memory allow."""
    lengths = np.diff(seen.indptr).astype(np.int64)
    users = rng.permutation(np.flatnonzero(lengths > 1))
    users = users[np.cumsum(lengths[users] ** 2) <= 2 * _PAIRS]
    return CoOccurrence(_cosine(seen[users[::2]]), _cosine(seen[users[1::2]]))


def lists_match(histories: sp.csr_matrix, lists: np.ndarray, counted: CoOccurrence, parts: int = 1) -> bool | None:
    """Whether lists go with the histories of their rows, over all rows and in each part; None if the data cannot tell.

    `histories` is [k, m], nonzero where seen; `lists` int [k, l], -1 for none. The rows are divided into so many parts
    of the same length; within each they are in random order.
    """
    histories = _ones(histories)
    naive = _preference(histories, _naive_lists(histories, counted.first_half, lists.shape[1]), counted.second_half)
    own = _preference(histories, lists, counted.second_half)
    if (matches_overall := _stands_out(naive, own)) is None:
        return None
    pieces = zip(np.array_split(naive, parts), np.array_split(own, parts), strict=True)
    return matches_overall and all(_stands_out(*piece, parts) is not False for piece in pieces)


def relevance_of_listed(histories: sp.csr_matrix, lists: np.ndarray, cosines: sp.csr_matrix) -> np.ndarray:
    """How well each listed movie goes with the history of its row: float64 [k, l], anything for none."""
    histories, relevance = _ones(histories), np.zeros(lists.shape)
    for start in range(0, len(lists), _BLOCK):
        own_relevance = _relevance(histories[start : start + _BLOCK], cosines)
        listed = np.maximum(lists[start : start + _BLOCK], 0)
        relevance[start : start + _BLOCK] = np.take_along_axis(own_relevance, listed, axis=1)
    return relevance


def neighbours(items: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The movies nearest by angle to some: int64 [len(rows), 10], each without itself, -1 where there are fewer."""
    lengths = np.maximum(np.linalg.norm(items, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    unit = items / lengths
    count = min(_NEIGHBOURS, len(items) - 1)
    nearest = np.full((len(rows), _NEIGHBOURS), -1, np.int64)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        cosines = unit[block] @ unit.T
        cosines[np.arange(len(block)), block] = -np.inf
        nearest[start : start + _BLOCK, :count] = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    return nearest


def neighbours_among(items: np.ndarray, rows: np.ndarray, first: int) -> np.ndarray:
    """The movies nearest by angle to some, among the first so many, of which these are none: int64 [len(rows), 10 or
    fewer].
    """
    lengths = np.maximum(np.linalg.norm(items, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    unit, count = items / lengths, min(_NEIGHBOURS, first)
    nearest = np.zeros((len(rows), count), np.int64)
    for start in range(0, len(rows), _BLOCK):
        cosines = unit[rows[start : start + _BLOCK]] @ unit[:first].T
        nearest[start : start + _BLOCK] = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    return nearest


def _stands_out(naive: np.ndarray, own: np.ndarray, parts: int = 1) -> bool | None:
    """Whether rows prefer their own lists beyond doubt; None if they do not even prefer the naive lists beyond doubt.

    One of many parts needs fewer standard errors: the same preference of fewer rows has a larger error.
    """
    if (naive_errors := _errors_above_zero(naive)) < _NAIVE_ERRORS:
        return None
    return bool(_errors_above_zero(own) > max(_LEAST_ERRORS / parts**0.5, _LEAST_SHARE * naive_errors))


def _cosine(seen: sp.csr_matrix) -> sp.csr_matrix:
    counts = np.bincount(seen.indices, minlength=seen.shape[1])
    scaled = _ones(seen) @ sp.diags_array((1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32))
    cosines = sp.csr_matrix(scaled.T @ scaled)
    cosines.setdiag(0)
    return cosines


def _ones(seen: sp.csr_matrix) -> sp.csr_matrix:
    return sp.csr_matrix((np.ones(seen.nnz, np.float32), seen.indices, seen.indptr), seen.shape)


def _naive_lists(histories: sp.csr_matrix, cosines: sp.csr_matrix, length: int) -> np.ndarray:
    """Lists of the movies that go best with each history: int64 [k, l], -1 for movies that do not go with it at all."""
    lists = np.full((histories.shape[0], length), -1, np.int64)
    count = min(length, histories.shape[1])
    for start in range(0, len(lists), _BLOCK):
        block = histories[start : start + _BLOCK]
        scores = (block @ cosines).toarray()
        scores[block.nonzero()] = 0
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        lists[start : start + _BLOCK, :count] = np.where(np.take_along_axis(scores, best, axis=1) > 0, best, -1)
    return lists


def _preference(histories: sp.csr_matrix, lists: np.ndarray, cosines: sp.csr_matrix) -> np.ndarray:
    """How much better each two rows go with their own lists than with each other's: float64 [k // 2].

    Movies that either of the two has seen do not count.
    """
    blocks = [np.zeros(0)]
    for start in range(0, len(lists) - 1, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(lists) // 2 * 2))
        block = histories[rows]
        relevance = _relevance(block, cosines)
        is_seen = block.toarray() > 0
        seen_by_either = is_seen[::2] | is_seen[1::2]
        even_lists, odd_lists = lists[rows[::2]], lists[rows[1::2]]
        even, odd = relevance[::2], relevance[1::2]
        own = _mean_relevance(even, even_lists, seen_by_either) + _mean_relevance(odd, odd_lists, seen_by_either)
        swapped = _mean_relevance(even, odd_lists, seen_by_either), _mean_relevance(odd, even_lists, seen_by_either)
        blocks.append(own - swapped[0] - swapped[1])
    return np.concatenate(blocks)


def _relevance(histories: sp.csr_matrix, cosines: sp.csr_matrix) -> np.ndarray:
    """How well each movie goes with the movies of each history, on average: float [k, m]."""
    return np.asarray((histories @ cosines).toarray() / np.maximum(np.diff(histories.indptr), 1)[:, None])


def _mean_relevance(relevance: np.ndarray, lists: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Mean relevance (float [k, m]) of the movies on each list, without some (bool [k, m]); 0 for an empty list."""
    movies = np.maximum(lists, 0)
    counts = (lists >= 0) & ~np.take_along_axis(left_out, movies, axis=1)
    values = np.where(counts, np.take_along_axis(relevance, movies, axis=1), 0)
    return values.sum(axis=1, dtype=np.float64) / np.maximum(counts.sum(axis=1), 1)


def _errors_above_zero(values: np.ndarray) -> float:
    """How many standard errors the mean of the nonzero values is above 0; 0 if they are too few to say."""
    nonzero = values[values != 0]
    if len(nonzero) < 2 or not nonzero.std():
        return 0.0
    return float(nonzero.mean() / (nonzero.std(ddof=1) / np.sqrt(len(nonzero))))
