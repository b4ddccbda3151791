"""Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren & Volinsky, ICDM 2008).

The library `implicit` fits movies' embeddings to a sample of the users; every user is then folded in by one least
squares from what they watched. Confidence in an event is 1 + `confidence` × weight, times what decay has left of it: an
event that is long forgotten says neither yes nor no, while a movie that was never watched says a weak no.
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
from batch.models.decay import recent
from batch.models.folded import Folded

_ADVICE = "raise [batch] regularization, or lower confidence"


class ALS(Folded):
    """Embeddings of movies, and users folded in with a decay."""

    name = "als"

    def variants(self) -> list[dict[str, float]]:
        """The settings', and stronger and weaker ones: what is best depends on how much users watch."""
        scales = ((1.0, 1.0), (1.0, 0.2), (1.0, 0.05), (6.0, 1.0), (6.0, 0.2))
        regularization, confidence = self.settings.regularization, self.settings.confidence
        return [{"regularization": regularization * one, "confidence": confidence * two} for one, two in scales]

    def learn(self, sample: Interactions) -> None:
        settings, everyone = self.settings, np.arange(sample.shape[0])
        watched = recent(sample, everyone, {}, self.parameters["confidence"])
        # implicit has its own threads; BLAS threads below them make it slower by far
        with threadpoolctl.threadpool_limits(1, "blas"), _told():
            model = AlternatingLeastSquares(
                factors=min(settings.factors, *sample.shape),
                regularization=self.parameters["regularization"],
                iterations=settings.iterations,
                random_state=settings.seed,
                num_threads=len(os.sched_getaffinity(0)),
            )
            model.fit(watched, show_progress=False)
        model.user_factors = None  # users are folded in
        model.num_threads = 1  # whoever scores has several blocks in hand at once
        self._model = model
        self._squares = np.square(model.item_factors, dtype=np.float64).sum(axis=1)

    def history(self, data: Interactions, users: np.ndarray) -> sp.csr_matrix:
        return recent(data, users, self.parameters, self.parameters["confidence"])

    def weigh(self, history: sp.csr_matrix) -> np.ndarray:
        return np.asarray(self.embedded(history) @ self._model.item_factors.T, np.float32)

    def embedded(self, history: sp.csr_matrix) -> np.ndarray:
        """What the users of a history are like: float32 [k, d].

        Raises `BatchError` where single precision may not tell, see `conditioning`.
        """
        self._require_solvable(history)
        with _told():
            return np.asarray(self._model.recalculate_user(np.arange(history.shape[0]), history), np.float32)

    def _require_solvable(self, history: sp.csr_matrix) -> None:
        """Refuse users whose system may be too ill-conditioned, by a bound that costs nothing beside solving it.

        A user's matrix is Y'Y + Y'(C - 1)Y + λ: no eigenvalue is below the penalty λ, none above the trace. `implicit`
        itself stops only where LAPACK breaks off, which another BLAS kernel may not do.
        """
        penalty = self._model.regularization
        traces = self._squares.sum() + history @ self._squares + penalty * self._model.factors
        if not penalty >= LEAST_RCOND * traces.max(initial=0.0):
            raise BatchError(f"models: als: a history weighs too much beside the penalty; {_ADVICE}")

    @property
    def item_embeddings(self) -> np.ndarray:
        return np.asarray(self._model.item_factors, np.float32)


@contextmanager
def _told() -> Iterator[None]:
    """Say which setting makes what `implicit` cannot solve."""
    try:
        yield
    except (ValueError, ModelFitError) as error:
        raise BatchError(f"models: als: {error}; {_ADVICE}") from error
