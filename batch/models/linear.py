"""Linear models in closed form: the score of a movie is a weighted sum over the user's history.

`EASE` regresses each movie on all others that the same user watched, whatever came first. `Order` regresses what is
watched next on what was watched before. Both are fed with a history that decays, which is where most of the gain lies
when tastes drift within a history.

The weights are dense between the `dense_movies` most watched movies, which takes one factorisation of that size. Every
other movie is regressed on the few dense movies that it goes with most often: it can still be recommended, in scores
of the same scale, and costs next to nothing. A history without a dense movie says nothing: the popular list.
"""

from contextlib import AbstractContextManager

import numpy as np
import scipy.sparse as sp
import threadpoolctl
from scipy.linalg import lapack

from batch.errors import BatchError
from batch.history.interactions import Interactions
from batch.models.conditioning import cholesky
from batch.models.folded import Folded
from batch.models.pair_sums import regressed, watched_by_the_same, watched_in_turn


class Linear(Folded):
    """What the two have in common. A subclass solves for the weights."""

    _dense: np.ndarray
    """int64 [d]: indices of the movies that are weighed against each other in full, ascending."""
    _others: np.ndarray
    """int64 [m - d]: those of the others, ascending."""
    _weights: np.ndarray
    """float32 [d, d]: from the dense movies (rows) to each other."""
    _few: sp.csr_matrix
    """float32 [d, m]: from the dense movies to the others, in the columns of those."""

    def learn(self, sample: Interactions) -> None:
        watched = np.bincount(sample.movies, minlength=sample.shape[1])
        by_count = np.argsort(-watched, kind="stable")
        self._dense = np.sort(by_count[: self.settings.dense_movies])
        self._others = np.sort(by_count[self.settings.dense_movies :])
        try:
            self._weights, few = self.solve(sample)
        except np.linalg.LinAlgError as error:
            why = "movies are watched too much alike for so small a penalty"
            raise BatchError(f"models: {self.name}: {why}: raise [batch] {self.name}_penalty") from error
        size = len(self._dense), sample.shape[1]
        self._few = sp.csr_matrix((few.data, self._others[few.indices], few.indptr), size)

    def solve(self, sample: Interactions) -> tuple[np.ndarray, sp.csr_matrix]:
        """Weights from the dense movies to each other (float32 [d, d]), and to the others ([d, m - d]).

        Raises `LinAlgError` where single precision cannot tell them, see `conditioning`.
        """
        raise NotImplementedError

    def history(self, data: Interactions, users: np.ndarray) -> sp.csr_matrix:
        history = super().history(data, users)
        return history[:, self._dense] if len(self._others) else history

    def weigh(self, history: sp.csr_matrix) -> np.ndarray:
        return self.placed(*self.weighed(history))

    def weighed(self, history: sp.csr_matrix) -> tuple[np.ndarray, sp.csr_matrix]:
        """Scores of the dense movies (float32 [k, d]), and of the others ([k, m])."""
        return history @ self._weights, history @ self._few

    def placed(self, dense: np.ndarray, others: sp.csr_matrix) -> np.ndarray:
        """The two of `weighed` as one: float32 [k, m]."""
        if not len(self._others):
            return dense
        scores = others.toarray()
        scores[:, self._dense] = dense
        return scores

    @property
    def item_embeddings(self) -> np.ndarray:
        """Random projection of the weights that lead to each movie: alike where movies are recommended alike."""
        rng = np.random.default_rng(self.settings.seed)
        directions = rng.standard_normal((len(self._dense), self.settings.factors), dtype=np.float32)
        embeddings = np.asarray(self._few.T @ directions, np.float32)
        embeddings[self._dense] = self._weights.T @ directions
        return embeddings


class EASE(Linear):
    """Embarrassingly shallow autoencoder (Steck, WWW 2019): B = -P / diag(P), its diagonal 0, P = (X'X + λ)^-1."""

    name = "ease"

    def variants(self) -> list[dict[str, float]]:
        return [{"penalty": self.settings.ease_penalty * scale} for scale in (1.0, 0.3, 3.0)]

    def solve(self, sample: Interactions) -> tuple[np.ndarray, sp.csr_matrix]:
        gram, _, others = watched_by_the_same(sample, self._dense, self._others)
        gram[np.diag_indices_from(gram)] += self.parameters["penalty"]
        few = regressed(gram, others)
        with alone():
            factor = cholesky(gram)
            inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)  # its upper triangle is not set
        weights = np.tril(inverse) + np.tril(inverse, -1).T
        weights /= -np.diag(weights).copy()
        np.fill_diagonal(weights, 0)
        return weights, few


class Order(Linear):
    """Ridge regression from the decayed past to the near future: (S'S + λ) B = S'Y.

    `reach` says over how many places both fade: `pair_sums.watched_in_turn`.
    """

    name = "order"

    def variants(self) -> list[dict[str, float]]:
        return [{"reach": reach} for reach in (10.0, 5.0, 20.0)]

    def solve(self, sample: Interactions) -> tuple[np.ndarray, sp.csr_matrix]:
        gram, future, others = watched_in_turn(sample, self._dense, self._others, self.parameters["reach"])
        gram[np.diag_indices_from(gram)] += self.settings.order_penalty
        few = regressed(gram, others)
        with alone():
            factor = cholesky(gram)
        solved, _ = lapack.spotrs(factor, np.asfortranarray(future), lower=1, overwrite_b=1)
        return np.ascontiguousarray(solved), few


def alone() -> AbstractContextManager[object]:
    """BLAS on one thread: its threads wait for each other in a factorisation, on a busy machine nine times as long."""
    return threadpoolctl.threadpool_limits(1, "blas")
