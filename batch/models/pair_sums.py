"""Sums over pairs of movies that the same user watched; the linear models are solved from them.

`dense` are the d movies with weights between all of them (int64 [d], ascending), `others` the m - d other movies. Of
these only pairs with a dense movie are counted, so that they can be recommended.
"""

import itertools
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from batch.models.decay import decayed_histories

_SOURCES = 32
"""Dense movies that a movie outside the dense part is regressed on."""
_BLOCK = 256
"""Movies that are regressed at once."""
_HORIZON = 6
"""Pairs further apart than this many times `reach` are left out."""


class PairSums(NamedTuple):
    """Sums of sources × sources and of sources × targets, over users or over places in their histories."""

    gram: np.ndarray
    """float32 [d, d]: S'S."""
    dense: np.ndarray
    """float32 [d, d]: S'Y for dense targets."""
    others: sp.csc_matrix
    """float32 [d, m - d]: S'Y for the others."""


def sums_by_user(sample: Interactions, dense: np.ndarray, others: np.ndarray) -> PairSums:
    """For each pair of movies the users who watched both, in any order."""
    watched = decayed_histories(sample, np.arange(sample.shape[0]), {})
    sources = watched[:, dense]
    gram = np.asarray((sources.T @ sources).toarray(), np.float32)
    return PairSums(gram, gram, sp.csc_matrix(sources.T @ watched[:, others]))


def sums_by_order(sample: Interactions, dense: np.ndarray, others: np.ndarray, reach: float) -> PairSums:
    """At each place of a history but the last, the movies up to it are sources, and those after it are targets.

    Both weigh 1/e less for every `reach` places away. The sums need only the pairs of movies by distance: a pair `lag`
    places apart is in `lag` products of source and target, each exp(-(lag - 1) / reach).
    """
    fade, lengths = np.exp(-1 / reach), np.diff(sample.indptr)
    position = np.arange(len(sample.movies)) - np.repeat(sample.indptr[:-1], lengths)
    dense_index = np.full(sample.shape[1], -1)
    dense_index[dense] = np.arange(len(dense))
    movie = dense_index[sample.movies]  # -1 for movies that are not dense
    # two sources are in the same products from the later one to the last place but one
    after = np.repeat(lengths, lengths) - 1 - position
    kept = ((1 - fade ** (2 * after)) / (1 - fade**2)).astype(np.float32)
    gram, future = np.zeros((2, len(dense) ** 2), np.float32)
    outside = []
    later = np.arange(len(movie))
    for lag in range(1, round(_HORIZON * reach)):
        weight = np.float32(lag * fade ** (lag - 1))
        later = later[position[later] >= lag]
        pair = later[movie[later - lag] >= 0]
        to_other = pair[movie[pair] < 0]
        outside.append((movie[to_other - lag], sample.movies[to_other], np.full(len(to_other), weight)))
        pair = pair[movie[pair] >= 0]
        cell = movie[pair - lag] * len(dense) + movie[pair]
        np.add.at(gram, cell, kept[pair] * np.float32(fade**lag))
        np.add.at(future, cell, weight)
    square = gram.reshape(len(dense), -1)
    square += square.T
    square[np.diag_indices_from(square)] = np.bincount(movie[movie >= 0], kept[movie >= 0], len(dense))
    return PairSums(square, future.reshape(len(dense), -1), _summed(outside, (len(dense), sample.shape[1]))[:, others])


def _summed(cells: list[tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int]) -> sp.csc_matrix:
    """Weights by rows and columns, as a matrix of their sums."""
    rows, columns, weights = (np.concatenate(arrays) for arrays in zip(*cells, strict=True))
    return sp.csc_matrix((weights, (rows, columns)), shape)


def regress_on_few(gram: np.ndarray, targets: sp.csc_matrix) -> sp.csr_matrix:
    """Regress each target (a column of S'Y, [d, t]) on its few closest sources: csr float32 [d, t].

    `gram` is S'S + λ, float32 [d, d]. Of each column the sources with the largest share of S'Y in their own weight are
    kept, and the ridge regression on these alone is solved exactly.

    The condition is not checked here: a system of some rows and columns of `gram` has a condition (2-norm) no worse
    than that of the whole (Cauchy's interlacing theorem), which is checked when the whole is factorised. Raises
    `LinAlgError` where a system is singular.
    """
    source, products = _largest(targets, np.sqrt(np.diag(gram)))
    weights = np.zeros_like(products)
    for start in range(0, len(source), _BLOCK):
        block = slice(start, start + _BLOCK)
        block_gram = gram[source[block, :, None], source[block, None, :]]
        weights[block] = np.linalg.solve(block_gram, products[block, :, None])[:, :, 0]
    column = np.repeat(np.arange(len(source)), source.shape[1])
    return sp.csr_matrix((weights.ravel(), (source.ravel(), column)), targets.shape)


def _largest(targets: sp.csc_matrix, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The few rows of each column that are largest relative to their scale, and their values: int64, float32 [t, few].

    Columns are sparse, and only nonzero values are sorted; a column with fewer is filled up with rows of zeros.
    """
    size, count = targets.shape
    few = min(_SOURCES, size)
    rows, values = np.zeros((count, few), np.int64), np.zeros((count, few), np.float32)
    share = targets.data / scale[targets.indices]
    for column, (begin, end) in enumerate(itertools.pairwise(targets.indptr.tolist())):
        cells = np.arange(begin, end)
        if len(cells) > few:
            cells = cells[np.argpartition(share[begin:end], len(cells) - few)[len(cells) - few :]]
        rows[column, : len(cells)], values[column, : len(cells)] = targets.indices[cells], targets.data[cells]
        if len(cells) < few:
            rows[column, len(cells) :] = np.setdiff1d(np.arange(size), targets.indices[cells])[: few - len(cells)]
    return rows, values
