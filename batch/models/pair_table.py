"""A table of what is known of each pair of dense movies, packed so that one look-up brings all of it.

Candidates are described by sums over the pairs of the user's latest movies and the candidate: thousands of look-ups a
user, each a wait for memory. So the statistics of a pair lie side by side, 16 bytes in all, as bfloat16: the upper half
of a float32, with which a number is known to 0.4 %, and the table of 8,192 movies takes 1 GiB.
"""

from enum import IntEnum

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions


class Relation(IntEnum):
    """The statistics of a pair (i, j), i from the history and j the candidate, by their place."""

    EASE = 0
    """The weight from i to j in EASE."""
    ORDER = 1
    """The weight from i to j in the order-aware regression."""
    NEXT = 2
    """How often j came right after i, as a share of those who watched i."""
    SOON = 3
    """How often j was one of the five after i, likewise."""
    NEXT_BEFORE = 4
    """How often j came right before i, likewise."""
    SOON_BEFORE = 5
    """How often j was one of the five before i, likewise."""
    TOGETHER = 6
    """Users who watched both, likewise."""
    LIFT = 7
    """Logarithm of the users who watched both, relative to what chance gives."""


_SOON = 5
_BLOCK = 256
"""Movies whose pairs are packed at once."""
_PRIOR = np.float32(10)
"""Users that are added to those of a movie, so that shares of rare movies stay small."""
_PACKED = np.dtype(np.complex128)
"""Stands for the 16 bytes of a pair: NumPy copies an element of this size at once."""


class PairTable:
    """The packed statistics of all pairs of the d dense movies."""

    def __init__(self, sample: Interactions, dense: np.ndarray, ease: np.ndarray, order: np.ndarray) -> None:
        """Count pairs in the histories of a sample; `ease` and `order` are the models' weights, float32 [d, d].

        `dense` are the dense movies (int64 [d], ascending).
        """
        self._size = size = len(dense)
        index = np.full(sample.shape[1], -1)
        index[dense] = np.arange(size)
        movie = index[sample.movies]
        watched = np.bincount(movie[movie >= 0], minlength=size).astype(np.float32)
        share = (1 / (watched + _PRIOR))[:, None]
        cells = np.empty((size, size, len(Relation)), np.uint16)
        _pack(cells, Relation.EASE, ease)
        _pack(cells, Relation.ORDER, order)
        counts = np.zeros((size, size), np.float32)
        for lag in range(1, _SOON + 1):
            _count_pairs(counts.reshape(-1), sample, movie, lag)
            if lag == 1:
                _pack(cells, Relation.NEXT, counts, share)
                _pack(cells, Relation.NEXT_BEFORE, counts.T, share)
        _pack(cells, Relation.SOON, counts, share)
        _pack(cells, Relation.SOON_BEFORE, counts.T, share)
        del counts
        together = _watched_together(sample, dense)
        _pack(cells, Relation.TOGETHER, together, share)
        together += 1
        together /= 1 + watched[:, None] * (watched / np.float32(max(1, sample.shape[0])))
        _pack(cells, Relation.LIFT, np.log(together, out=together))
        self._cells = cells.reshape(-1).view(_PACKED)

    def look_up(self, history: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """The statistics of pairs: float32 [k, h, c, 8], from dense movies (int64 [k, h]) to others ([k, c])."""
        pairs = (history[:, :, None] * self._size + candidates[:, None, :]).reshape(-1)
        halves = self._cells.take(pairs).view(np.uint16).astype(np.uint32)
        halves <<= 16
        return halves.view(np.float32).reshape(*history.shape, candidates.shape[1], len(Relation))


def _pack(cells: np.ndarray, pair: Relation, values: np.ndarray, factors: np.ndarray | None = None) -> None:
    """Set one statistic (float32 [d, d], times `factors` of the rows, float32 [d, 1]) to the nearest bfloat16."""
    for first in range(0, len(values), _BLOCK):
        rows = slice(first, first + _BLOCK)
        own = values[rows] if factors is None else values[rows] * factors[rows]
        cells[rows, :, pair] = (np.ascontiguousarray(own).view(np.uint32) + np.uint32(0x8000)) >> 16


def _count_pairs(counts: np.ndarray, sample: Interactions, movie: np.ndarray, lag: int) -> None:
    """Add the pairs of dense movies that are `lag` events apart to `counts`: float32 [d * d]."""
    user = np.repeat(np.arange(sample.shape[0], dtype=np.int32), np.diff(sample.indptr))
    earlier, later = movie[:-lag], movie[lag:]
    is_pair = (user[:-lag] == user[lag:]) & (earlier >= 0) & (later >= 0)
    size = round(len(counts) ** 0.5)
    np.add.at(counts, earlier[is_pair] * size + later[is_pair], np.float32(1))


def _watched_together(sample: Interactions, dense: np.ndarray) -> np.ndarray:
    """How many users of a sample watched both of two movies: float32 [d, d]."""
    watched = sp.csr_matrix(
        (np.ones(len(sample.movies), np.float32), sample.movies, sample.indptr), sample.shape, copy=True
    )[:, dense]
    return np.asarray((watched.T @ watched).toarray(), np.float32)
