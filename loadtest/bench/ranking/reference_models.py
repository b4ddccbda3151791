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


def ease(known: Interactions, penalty: float) -> Scores:
    """EASE (Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019).

    With X the users' movies, 0 or 1, and P the inverse of XᵀX + λI: B is -P / diag P by columns, its diagonal 0, and
    the scores are X B.
    """
    watched = sp.csr_matrix(known.matrix > 0, dtype=np.float64)
    gram = (watched.T @ watched).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return lambda users: np.asarray(watched[users] @ weights)


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
        block_scores = block_scores[:, by_popularity]
        best = np.argsort(-block_scores, axis=1, kind="stable")[:, :LIST_LENGTH]
        unseen = np.take_along_axis(block_scores, best, axis=1) > -np.inf
        lists[start : start + _BLOCK, : best.shape[1]] = np.where(unseen, by_popularity[best], -1)
    return lists
