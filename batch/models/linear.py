"""Linear models in closed form: the score of a movie is a weighted sum over the user's history.

`EASE` regresses each movie on all others that the same user watched, in any order. `Order` regresses later movies on
earlier ones. Both score decayed histories, which brings most of the gain when tastes drift within a history.

The weights are dense between the `dense_movies` most watched movies, which takes one factorisation of that size. Every
other movie is regressed on the few dense movies that it is watched with most often: it can still be recommended, with
scores of the same scale, at almost no cost. A history without a dense movie gives no scores, and its user gets the
popular list.
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
from batch.models.pair_sums import regress_on_few, sums_by_order, sums_by_user


class Linear(Folded):
    """Common base of the two. A subclass solves for the weights. d of the m movies are dense."""

    _dense: np.ndarray
    """int64 [d]: indices of the movies with weights between all of them, ascending."""
    _others: np.ndarray
    """int64 [m - d]: indices of the other movies, ascending."""
    _weights: np.ndarray
    """float32 [d, d]: from the dense movies (rows) to each other."""
    _few: sp.csr_matrix
    """float32 [d, m]: from the dense movies (rows) to the others; the columns of dense movies are empty."""

    def learn(self, sample: Interactions) -> None:
        watched = np.bincount(sample.movies, minlength=sample.shape[1])
        by_count = np.argsort(-watched, kind="stable")
        self._dense = np.sort(by_count[: self.settings.dense_movies])
        self._others = np.sort(by_count[self.settings.dense_movies :])
        try:
            self._weights, few = self.solve(sample)
        except np.linalg.LinAlgError as error:
            reason = "movies are watched too much alike for so small a penalty"
            raise BatchError(f"models: {self.name}: {reason}: raise [batch] {self.name}_penalty") from error
        size = len(self._dense), sample.shape[1]
        self._few = sp.csr_matrix((few.data, self._others[few.indices], few.indptr), size)

    @property
    def dense(self) -> np.ndarray:
        """int64 [d]: indices of the movies with weights between all of them, ascending."""
        return self._dense

    @property
    def weights(self) -> np.ndarray:
        """float32 [d, d]: from the dense movies (rows) to each other. Not to be written to."""
        return self._weights

    def solve(self, sample: Interactions) -> tuple[np.ndarray, sp.csr_matrix]:
        """Weights from the dense movies to each other (float32 [d, d]), and to the others ([d, m - d]).

        Raises `LinAlgError` if single precision cannot solve for them, see `conditioning`.
        """
        raise NotImplementedError

    def histories(self, data: Interactions, users: np.ndarray) -> sp.csr_matrix:
        histories = super().histories(data, users)
        return histories[:, self._dense] if len(self._others) else histories

    def score_histories(self, histories: sp.csr_matrix) -> np.ndarray:
        return self.merge_scores(*self.partial_scores(histories))

    def partial_scores(self, histories: sp.csr_matrix) -> tuple[np.ndarray, sp.csr_matrix]:
        """Scores of the dense movies (float32 [k, d]), and of the others ([k, m])."""
        return histories @ self._weights, histories @ self._few

    def merge_scores(self, dense: np.ndarray, others: sp.csr_matrix) -> np.ndarray:
        """The scores of all movies from the two of `partial_scores`: float32 [k, m]."""
        if not len(self._others):
            return dense
        scores = others.toarray()
        for row, dense_scores in zip(scores, dense, strict=True):  # NumPy would go column by column
            row[self._dense] = dense_scores
        return scores

    @property
    def item_embeddings(self) -> np.ndarray:
        """Random projection of the weights that lead to each movie: near each other if recommended alike."""
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
        gram, _, others = sums_by_user(sample, self._dense, self._others)
        gram[np.diag_indices_from(gram)] += self.parameters["penalty"]
        few = regress_on_few(gram, others)
        with one_blas_thread():
            factor = cholesky(gram)
            inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)  # sets the lower triangle only
        weights = np.tril(inverse) + np.tril(inverse, -1).T
        weights /= -np.diag(weights).copy()
        np.fill_diagonal(weights, 0)
        return weights, few


class Order(Linear):
    """Ridge regression from the decayed past to the near future: (S'S + λ) B = S'Y.

    `reach` is the distance, in events, over which both decay to 1/e: see `pair_sums.sums_by_order`.
    """

    name = "order"

    def variants(self) -> list[dict[str, float]]:
        return [{"reach": reach} for reach in (10.0, 5.0, 20.0)]

    def solve(self, sample: Interactions) -> tuple[np.ndarray, sp.csr_matrix]:
        gram, future, others = sums_by_order(sample, self._dense, self._others, self.parameters["reach"])
        gram[np.diag_indices_from(gram)] += self.settings.order_penalty
        few = regress_on_few(gram, others)
        with one_blas_thread():
            factor = cholesky(gram)
        solved, _ = lapack.spotrs(factor, np.asfortranarray(future), lower=1, overwrite_b=1)
        return np.ascontiguousarray(solved), few


def one_blas_thread() -> AbstractContextManager[object]:
    """BLAS on one thread: in a factorisation its threads wait for each other, nine times as long on a busy machine."""
    return threadpoolctl.threadpool_limits(1, "blas")
