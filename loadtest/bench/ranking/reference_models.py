"""Reference models: EASE as in its paper, and `implicit`'s ALS with its defaults.

Nothing here is shared with `batch.models`: what is known of a slice goes in, lists come out. EASE is plain numpy in
double precision, on what was watched or not. ALS has all its defaults, the weights that ours learns from, a seed, and
its threads held right: one of BLAS, those of `implicit` otherwise. Scores that are equal are put in the order of
popularity, which is also what somebody without a history gets; what the user has seen is left out.
"""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import threadpoolctl
from implicit.cpu.als import AlternatingLeastSquares

from batch.history.interactions import Interactions

Scores = Callable[[np.ndarray], np.ndarray]
"""Users (int64 rows) to the scores of all movies: float [len(users), m]."""

PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Of EASE: what is tried on the choice slice."""
MOST_MOVIES = 12_000
"""EASE inverts a matrix of movies by movies: of more, that takes too long in double precision."""
_LENGTH, _BLOCK = 20, 500


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
    """Alternating least squares of `implicit` with its defaults."""
    with threadpoolctl.threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(random_state=seed)
        model.fit(known.matrix, show_progress=False)
    return lambda users: np.asarray(model.user_factors[users] @ model.item_factors.T)


def top_lists(scores: Scores, known: Interactions, users: np.ndarray) -> np.ndarray:
    """The best unseen movies of each user: int32 [len(users), 20], best first, -1 for none."""
    by_popularity = np.lexsort((np.arange(known.shape[1]), -known.popularity))
    found = np.full((len(users), _LENGTH), -1, np.int32)
    for at in range(0, len(users), _BLOCK):
        block = users[at : at + _BLOCK]
        worth = np.array(scores(block), np.float64)
        seen = known.matrix[block]
        worth[np.repeat(np.arange(len(block)), np.diff(seen.indptr)), seen.indices] = -np.inf
        worth = worth[:, by_popularity]
        best = np.argsort(-worth, axis=1, kind="stable")[:, :_LENGTH]
        lists = np.where(np.take_along_axis(worth, best, axis=1) > -np.inf, by_popularity[best], -1)
        found[at : at + _BLOCK, : lists.shape[1]] = lists
    return found
