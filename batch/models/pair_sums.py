"""Sums over pairs of movies that the same user watched; the linear models are solved from them.

`dense` names the d movies that are weighed against each other in full (int64 [d], ascending). Of the m - d others only
that they are watched beside the dense ones is counted, so that they can be recommended.
"""

import itertools
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from batch.models.decay import recent

_SOURCES = 32
"""Dense movies that a movie outside the dense part is regressed on."""
_BLOCK = 256
"""Movies that are regressed at once."""
_HORIZON = 6
"""Pairs that are further apart than so many reaches are left out."""


class PairSums(NamedTuple):
    """Sums over users, or over places in their histories, of sources × sources and of sources × targets."""

    gram: np.ndarray
    """float32 [d, d]: S'S."""
    dense: np.ndarray
    """float32 [d, d]: S'Y for dense targets."""
    others: sp.csc_matrix
    """float32 [d, m - d]: S'Y for the others."""


def watched_by_the_same(sample: Interactions, dense: np.ndarray, others: np.ndarray) -> PairSums:
    """Sources and targets are the movies of a user, in whatever order: users who watched both."""
    watched = recent(sample, np.arange(sample.shape[0]), {})
    sources = watched[:, dense]
    gram = np.asarray((sources.T @ sources).toarray(), np.float32)
    return PairSums(gram, gram, sp.csc_matrix(sources.T @ watched[:, others]))


def watched_in_turn(sample: Interactions, dense: np.ndarray, others: np.ndarray, reach: float) -> PairSums:
    """At each place of a history but the last: the source are the movies up to it, the target those after it.

    Either weighs 1/e less for every `reach` places away. Only pairs of movies by distance are needed for the sums: a
    pair `lag` places apart stands in `lag` products of source and target, each exp(-(lag - 1) / reach).
    """
    fade, lengths = np.exp(-1 / reach), np.diff(sample.indptr)
    position = np.arange(len(sample.movies)) - np.repeat(sample.indptr[:-1], lengths)
    place = np.full(sample.shape[1], -1)
    place[dense] = np.arange(len(dense))
    movie = place[sample.movies]
    # two sources go on together from the later one to the last place but one
    after = np.repeat(lengths, lengths) - 1 - position
    kept = ((1 - fade ** (2 * after)) / (1 - fade**2)).astype(np.float32)
    gram, future = np.zeros((2, len(dense) ** 2), np.float32)
    outside = []
    later = np.arange(len(movie))
    for lag in range(1, round(_HORIZON * reach)):
        weight = np.float32(lag * fade ** (lag - 1))
        later = later[position[later] >= lag]
        pair = later[movie[later - lag] >= 0]
        beside = pair[movie[pair] < 0]
        outside.append((movie[beside - lag], sample.movies[beside], np.full(len(beside), weight)))
        pair = pair[movie[pair] >= 0]
        cell = movie[pair - lag] * len(dense) + movie[pair]
        np.add.at(gram, cell, kept[pair] * np.float32(fade**lag))
        np.add.at(future, cell, weight)
    square = gram.reshape(len(dense), -1)
    square += square.T
    square[np.diag_indices_from(square)] = np.bincount(movie[movie >= 0], kept[movie >= 0], len(dense))
    return PairSums(square, future.reshape(len(dense), -1), _counted(outside, (len(dense), sample.shape[1]))[:, others])


def _counted(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int]) -> sp.csc_matrix:
    """Rows, columns and weights, summed."""
    rows, columns, weights = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    return sp.csc_matrix((weights, (rows, columns)), shape)


def regressed(gram: np.ndarray, targets: sp.csc_matrix) -> sp.csr_matrix:
    """Regress each target (a column of S'Y, [d, t]) on the few sources that it goes with most: csr float32 [d, t].

    `gram` is S'S + λ, float32 [d, d]. Of each column the sources with the largest share of S'Y in their own weight are
    kept, and the ridge regression on these alone is solved exactly.

    Nothing is checked here: a system of some rows and columns of `gram` has a condition (2-norm) no worse than that of
    the whole (Cauchy's interlacing theorem), which is checked where the whole is factorised. Raises `LinAlgError`
    where a system is singular.
    """
    source, wanted = _largest(targets, np.sqrt(np.diag(gram)))
    weights = np.zeros_like(wanted)
    for at in range(0, len(source), _BLOCK):
        block = slice(at, at + _BLOCK)
        own = gram[source[block, :, None], source[block, None, :]]
        weights[block] = np.linalg.solve(own, wanted[block, :, None])[:, :, 0]
    column = np.repeat(np.arange(len(source)), source.shape[1])
    return sp.csr_matrix((weights.ravel(), (source.ravel(), column)), targets.shape)


def _largest(targets: sp.csc_matrix, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column the few rows that are largest beside their scale, and what is there: int64, float32 [t, few].

    Nearly all of a column is nothing, and only what is something is sorted; a column with less is filled up.
    """
    size, count = targets.shape
    few = min(_SOURCES, size)
    rows, values = np.zeros((count, few), np.int64), np.zeros((count, few), np.float32)
    share = targets.data / scale[targets.indices]
    for column, (since, until) in enumerate(itertools.pairwise(targets.indptr.tolist())):
        at = np.arange(since, until)
        if len(at) > few:
            at = at[np.argpartition(share[since:until], len(at) - few)[len(at) - few :]]
        rows[column, : len(at)], values[column, : len(at)] = targets.indices[at], targets.data[at]
        if len(at) < few:
            rows[column, len(at) :] = np.setdiff1d(np.arange(size), targets.indices[at])[: few - len(at)]
    return rows, values
