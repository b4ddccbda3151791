"""Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren & Volinsky, ICDM 2008).

The library `implicit` fits movies' embeddings to a sample of the users; every user is then folded in by one least
squares from their history. Confidence in an event is 1 + `confidence` × weight, times its decay: a fully decayed event
is neither positive nor negative, while a movie that was never watched is weakly negative.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import scipy.sparse as sp
import threadpoolctl
from implicit.cpu.als import AlternatingLeastSquares
from implicit.recommender_base import ModelFitError

from batch.errors import BatchError
from batch.history.interactions import Interactions
from batch.models.conditioning import LEAST_RCOND
from batch.models.decay import decayed_histories
from batch.models.folded import Folded

_ADVICE = "raise [batch] regularization, or lower confidence"


class ALS(Folded):
    """Embeddings of movies, and users folded in with a decay."""

    name = "als"

    def variants(self) -> list[dict[str, float]]:
        """Those of the settings, and stronger and weaker ones: the best depend on how much users watch."""
        scales = ((1.0, 1.0), (1.0, 0.2), (1.0, 0.05), (6.0, 1.0), (6.0, 0.2))
        regularization, confidence = self.settings.regularization, self.settings.confidence
        return [
            {"regularization": regularization * penalty_scale, "confidence": confidence * confidence_scale}
            for penalty_scale, confidence_scale in scales
        ]

    def learn(self, sample: Interactions) -> None:
        settings, everyone = self.settings, np.arange(sample.shape[0])
        watched = decayed_histories(sample, everyone, {}, self.parameters["confidence"])
        # implicit has its own threads; BLAS threads below them make it far slower
        with threadpoolctl.threadpool_limits(1, "blas"), _naming_the_settings():
            model = AlternatingLeastSquares(
                factors=min(settings.factors, *sample.shape),
                regularization=self.parameters["regularization"],
                iterations=settings.iterations,
                random_state=settings.seed,
                num_threads=len(os.sched_getaffinity(0)),
            )
            model.fit(watched, show_progress=False)
        model.user_factors = None  # users are folded in
        model.num_threads = 1  # several threads score at once, each a block of users
        self._model = model
        self._squares = np.square(model.item_factors, dtype=np.float64).sum(axis=1)

    def histories(self, data: Interactions, users: np.ndarray) -> sp.csr_matrix:
        return decayed_histories(data, users, self.parameters, self.parameters["confidence"])

    def score_histories(self, histories: sp.csr_matrix) -> np.ndarray:
        return np.asarray(self.user_embeddings(histories) @ self._model.item_factors.T, np.float32)

    def user_embeddings(self, histories: sp.csr_matrix) -> np.ndarray:
        """The users of some histories, folded in: float32 [k, d].

        Raises `BatchError` if single precision may not solve a user's system, see `conditioning`.
        """
        self._require_solvable(histories)
        with _naming_the_settings():
            return np.asarray(self._model.recalculate_user(np.arange(histories.shape[0]), histories), np.float32)

    def _require_solvable(self, histories: sp.csr_matrix) -> None:
        """Refuse users whose system may be too ill-conditioned, by a bound that is cheap beside solving it.

        A user's matrix is Y'Y + Y'(C - 1)Y + λ: no eigenvalue is below the penalty λ, none above the trace. `implicit`
        itself stops only if LAPACK fails, which depends on the BLAS kernel.
        """
        penalty = self._model.regularization
        traces = self._squares.sum() + histories @ self._squares + penalty * self._model.factors
        if not penalty >= LEAST_RCOND * traces.max(initial=0.0):
            raise BatchError(f"models: als: a history weighs too much beside the penalty; {_ADVICE}")

    @property
    def item_embeddings(self) -> np.ndarray:
        return np.asarray(self._model.item_factors, np.float32)


@contextmanager
def _naming_the_settings() -> Iterator[None]:
    """Map the error of `implicit` for an unsolvable system to one that names the settings to change."""
    try:
        yield
    except (ValueError, ModelFitError) as error:
        raise BatchError(f"models: als: {error}; {_ADVICE}") from error
