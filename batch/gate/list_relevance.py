"""Do lists match their users? Shuffled or transposed factors give plausible lists for the wrong users.

Two rows (users with their lists, or movies with their neighbours) are held against each other: how well each one's
list goes with what it has seen, less how well the other's would. What is popular, and who watches much, cancels out,
so that lists dealt out at random come to 0. How well movies go together is counted among other users' histories.

Whether the data can tell at all is tried on the naive neighbour method: lists made of what half of the users watched,
held against the other half. Where even these come to nothing beyond doubt, nothing is said of the model.

Seen on worlds of 150 to 10,000 users, in standard errors above 0: naive lists 1 to 76; those of ALS at 8 and at 64
factors 9 to 88, blended with the popular list 7 to 44; with users or movies shuffled, or transposed, -7 to +7.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

ROWS = 4000
"""Rows that are looked at, two by two."""
_BLOCK = 200
_NEIGHBOURS = 10
_PAIRS = 10_000_000
"""Pairs of movies within histories that are counted, of each half of the users: 160 MB at most."""
_TELLS = 12.0
"""Standard errors that the naive lists must be above 0, for the data to tell."""
_LEAST, _SHARE = 5.0, 1 / 6
"""Standard errors that lists must be above 0, at least so many, and so large a share of those of the naive ones."""


@dataclass(frozen=True)
class CoOccurrence:
    """How often movies are seen by the same users, as cosine, 0 on the diagonal: float32 [m, m], by half the users."""

    one: sp.csr_matrix
    other: sp.csr_matrix


def count_co_occurrence(seen: sp.csr_matrix, rng: np.random.Generator) -> CoOccurrence:
    """Count it among as many users, drawn at random, as time and memory allow."""
    lengths = np.diff(seen.indptr).astype(np.int64)
    users = rng.permutation(np.flatnonzero(lengths > 1))
    users = users[np.cumsum(lengths[users] ** 2) <= 2 * _PAIRS]
    return CoOccurrence(_cosine(seen[users[::2]]), _cosine(seen[users[1::2]]))


def lists_match(histories: sp.csr_matrix, lists: np.ndarray, counted: CoOccurrence, parts: int = 1) -> bool | None:
    """Whether lists go with the histories of their rows, all in all and in each part; None where data cannot tell.

    `histories` is [k, m], nonzero where seen; `lists` int [k, l], -1 for none. The rows are in no order within each of
    so many parts, as long as each other.
    """
    histories = _ones(histories)
    naive = _preference(histories, _naive(histories, counted.one, lists.shape[1]), counted.other)
    own = _preference(histories, lists, counted.other)
    if (all_in_all := _beyond_doubt(naive, own)) is None:
        return None
    pieces = zip(np.array_split(naive, parts), np.array_split(own, parts), strict=True)
    return all_in_all and all(_beyond_doubt(*piece, parts) is not False for piece in pieces)


def is_best_first(histories: sp.csr_matrix, lists: np.ndarray, counted: CoOccurrence) -> bool:
    """Whether the first halves of lists go with the histories no worse, beyond doubt, than the last halves."""
    half, histories = lists.shape[1] // 2, _ones(histories)
    first, last = (_preference(histories, part, counted.other) for part in (lists[:, :half], lists[:, half:]))
    return _errors_above(last - first) <= _LEAST


def neighbours(items: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The movies nearest by angle to some: int64 [len(rows), 10], each without itself, -1 where there are fewer."""
    lengths = np.maximum(np.linalg.norm(items, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    unit = items / lengths
    count = min(_NEIGHBOURS, len(items) - 1)
    found = np.full((len(rows), _NEIGHBOURS), -1, np.int64)
    for at in range(0, len(rows), _BLOCK):
        block = rows[at : at + _BLOCK]
        near = unit[block] @ unit.T
        near[np.arange(len(block)), block] = -np.inf
        found[at : at + _BLOCK, :count] = np.argpartition(-near, count - 1, axis=1)[:, :count]
    return found


def _beyond_doubt(naive: np.ndarray, own: np.ndarray, parts: int = 1) -> bool | None:
    """Whether rows prefer their own lists, beyond doubt; None where not even the naive lists are preferred so.

    Of one of many parts less is asked: what is the same preference by fewer rows is fewer standard errors.
    """
    if (errors := _errors_above(naive)) < _TELLS:
        return None
    return bool(_errors_above(own) > max(_LEAST / parts**0.5, _SHARE * errors))


def _cosine(seen: sp.csr_matrix) -> sp.csr_matrix:
    counts = np.bincount(seen.indices, minlength=seen.shape[1])
    scaled = _ones(seen) @ sp.diags_array((1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32))
    found = sp.csr_matrix(scaled.T @ scaled)
    found.setdiag(0)
    return found


def _ones(seen: sp.csr_matrix) -> sp.csr_matrix:
    return sp.csr_matrix((np.ones(seen.nnz, np.float32), seen.indices, seen.indptr), seen.shape)


def _naive(histories: sp.csr_matrix, counted: sp.csr_matrix, length: int) -> np.ndarray:
    """Lists of what goes best with each history: int64 [k, l], -1 for what goes with nothing."""
    lists = np.full((histories.shape[0], length), -1, np.int64)
    count = min(length, histories.shape[1])
    for at in range(0, len(lists), _BLOCK):
        block = histories[at : at + _BLOCK]
        scores = (block @ counted).toarray()
        scores[block.nonzero()] = 0
        best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        lists[at : at + _BLOCK, :count] = np.where(np.take_along_axis(scores, best, axis=1) > 0, best, -1)
    return lists


def _preference(histories: sp.csr_matrix, lists: np.ndarray, counted: sp.csr_matrix) -> np.ndarray:
    """By how much two rows are better off with their own lists than with each other's: float64 [k // 2].

    Movies that either of them has seen do not count.
    """
    found = [np.zeros(0)]
    for at in range(0, len(lists) - 1, _BLOCK):
        rows = np.arange(at, min(at + _BLOCK, len(lists) // 2 * 2))
        block = histories[rows]
        goes = (block @ counted).toarray() / np.maximum(np.diff(block.indptr), 1)[:, None]
        seen = block.toarray() > 0
        either = seen[::2] | seen[1::2]
        one, two = lists[rows[::2]], lists[rows[1::2]]
        own = _mean(goes[::2], one, either) + _mean(goes[1::2], two, either)
        found.append(own - _mean(goes[::2], two, either) - _mean(goes[1::2], one, either))
    return np.concatenate(found)


def _mean(goes: np.ndarray, lists: np.ndarray, without: np.ndarray) -> np.ndarray:
    """How well lists go with rows, on average: 0 for one without movies."""
    movies = np.maximum(lists, 0)
    counts = (lists >= 0) & ~np.take_along_axis(without, movies, axis=1)
    values = np.where(counts, np.take_along_axis(goes, movies, axis=1), 0)
    return values.sum(axis=1, dtype=np.float64) / np.maximum(counts.sum(axis=1), 1)


def _errors_above(values: np.ndarray) -> float:
    """How many standard errors the mean of those that are not 0 is above 0; 0 where they are too few to say."""
    told = values[values != 0]
    if len(told) < 2 or not told.std():
        return 0.0
    return float(told.mean() / (told.std(ddof=1) / np.sqrt(len(told))))
