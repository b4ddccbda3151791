"""Reference models: EASE as in its paper, and `implicit`'s ALS with its defaults.

Nothing here is shared with `batch.models`. EASE is plain numpy in double precision, on whether a movie was watched. ALS
has all its defaults, the weights that Marquee's ALS learns from, a seed, and one BLAS thread beside `implicit`'s own.
Equal scores are ordered by popularity, which is also what a user without history gets; movies that the user has seen
are left out.
"""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import threadpoolctl
from implicit.cpu.als import AlternatingLeastSquares

from batch.history.interactions import Interactions
from stream.event import LIST_LENGTH

EASE, ALS = "textbook EASE", "implicit ALS"
"""Their names in the results."""
Scores = Callable[[np.ndarray], np.ndarray]
"""A fitted model: from users (int64 rows) to the scores of all movies, float [len(users), m]."""

PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Penalties of EASE that are tried on the choice slice."""
MOST_MOVIES = 12_000
"""EASE inverts a matrix of movies × movies, which takes too long for more, in double precision."""
_BLOCK = 500


def ease(known: Interactions) -> Callable[[float], Scores]:
    """EASE (Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019), to be fitted with any penalty.

    With X the users' movies, 0 or 1, and P the inverse of XᵀX + λI: B is -P / diag P by columns, its diagonal 0, and
    the scores are X B.

    All penalties share XᵀX. They could also share its eigenvectors, but these take as long as ten inverses.
    """
    watched = sp.csr_matrix(known.matrix > 0, dtype=np.float64)
    gram = (watched.T @ watched).toarray()
    counts = gram.diagonal().copy()

    def fit(penalty: float) -> Scores:
        np.fill_diagonal(gram, counts + penalty)
        weights = np.linalg.inv(gram)
        weights /= -weights.diagonal().copy()
        np.fill_diagonal(weights, 0.0)
        return lambda users: np.asarray(watched[users] @ weights)

    return fit


def als(known: Interactions, seed: int) -> Scores:
    """Alternating least squares (Hu, Koren & Volinsky 2008) of `implicit` with its defaults."""
    with threadpoolctl.threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(random_state=seed)
        model.fit(known.matrix, show_progress=False)
    return lambda users: np.asarray(model.user_factors[users] @ model.item_factors.T)


def top_lists(scores: Scores, known: Interactions, users: np.ndarray) -> np.ndarray:
    """The best unseen movies of each user: int32 [len(users), 20], best first, -1 for none."""
    by_popularity = np.lexsort((np.arange(known.shape[1]), -known.popularity))
    lists = np.full((len(users), LIST_LENGTH), -1, np.int32)
    for start in range(0, len(users), _BLOCK):
        block = users[start : start + _BLOCK]
        block_scores = np.array(scores(block), np.float64)
        seen = known.matrix[block]
        block_scores[np.repeat(np.arange(len(block)), np.diff(seen.indptr)), seen.indices] = -np.inf
        row, rank, column = _best(block_scores[:, by_popularity])
        lists[start + row, rank] = by_popularity[column]
    return lists


def _best(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The highest scores above -inf (float64 [k, m]) of each row, at most 20, of equal ones the first columns: as
    int64 [entries] their rows, ranks from 0, and columns."""
    last = max(scores.shape[1] - LIST_LENGTH, 0)
    row, column = np.nonzero(scores >= np.partition(scores, last, axis=1)[:, [last]])
    order = np.lexsort((-scores[row, column], row))  # stable, so that equal scores stay in the order of columns
    row, column = row[order], column[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    listed = (rank < LIST_LENGTH) & (scores[row, column] > -np.inf)
    return row[listed], rank[listed], column[listed]
