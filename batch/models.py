"""Models behind one small interface: fit to what users watched, score every movie for a block of users.

A model knows indices only, of users and movies, and nothing of days, files or lists. Scores of one user are
comparable with each other, not between users.
"""

from typing import Protocol

import numpy as np
import scipy.sparse as sp
import threadpoolctl
from implicit.cpu.als import AlternatingLeastSquares

from batch.interactions import Interactions
from batch.settings import BatchSettings


class Model(Protocol):
    """What the night needs of a model."""

    name: str

    def fit(self, data: Interactions) -> None:
        """Learn from interactions; the same data and seed give the same model."""

    def score(self, users: np.ndarray) -> np.ndarray:
        """Scores of all movies for some users (int64 indices): float32 [len(users), movies], the larger the better."""


class Popular:
    """The most watched movies, recent starts weighing more; the same for everyone."""

    name = "popular"

    def fit(self, data: Interactions) -> None:
        # ranks instead of counts: no ties, so that the order never depends on a sort's whim
        order = np.lexsort((np.arange(len(data.popularity)), -data.popularity))
        self._score = np.empty(len(order), np.float32)
        self._score[order] = -np.arange(len(order), dtype=np.float32)

    def score(self, users: np.ndarray) -> np.ndarray:
        return np.repeat(self._score[None, :], len(users), axis=0)


class ALS:
    """Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren, Volinsky, ICDM 2008).

    A user without history scores as `Popular` does.
    """

    name = "als"

    def __init__(self, settings: BatchSettings) -> None:
        self._settings = settings
        self._popular = Popular()

    def fit(self, data: Interactions) -> None:
        self._popular.fit(data)
        settings = self._settings
        confidence = sp.csr_matrix(data.weights, dtype=np.float32, copy=True)
        confidence.data = 1 + settings.confidence * confidence.data
        # implicit has its own threads; BLAS threads below them make it slower by far
        with threadpoolctl.threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=min(settings.factors, *data.weights.shape),
                regularization=settings.regularization,
                iterations=settings.iterations,
                random_state=settings.seed,
            )
            model.fit(confidence, show_progress=False)
        self.user_embeddings: np.ndarray = model.user_factors
        self.item_embeddings: np.ndarray = model.item_factors
        self._has_history = np.diff(data.weights.indptr) > 0

    def score(self, users: np.ndarray) -> np.ndarray:
        scores = self.user_embeddings[users] @ self.item_embeddings.T
        strangers = ~self._has_history[users]
        scores[strangers] = self._popular.score(users[strangers])
        return np.asarray(scores, np.float32)
