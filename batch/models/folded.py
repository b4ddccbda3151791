"""Base of the models that learn from a sample of users and fold everyone in by a history that decays."""

import weakref
from collections.abc import Callable

import msgspec
import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from batch.models import tuning
from batch.models.decay import recent
from batch.models.model import ranks, sampled
from batch.settings import BatchSettings

_SMALL_MOVIES, _SMALL_USERS = 2_048, 30_000
"""Of a small model: the dense part, and whom it is fitted to."""


def _nothing() -> None:
    """What a model has been fitted to at first."""


class Folded:
    """A subclass learns from the sample, and weighs histories.

    `fit` and `tune` do nothing where the same data was their last: a blend and the competition share one model.
    Parameters are those of the decay, which only scoring needs, and those of `variants`, which fitting needs.
    """

    name: str

    def __init__(self, settings: BatchSettings, parameters: dict[str, float]) -> None:
        self.settings = settings
        self.parameters = {"items": 0.0, "floor": 0.0, "days": 0.0, **self.variants()[0], **parameters}
        self._fitted: Callable[[], Interactions | None] = _nothing
        self._tuned: Callable[[], Interactions | None] = _nothing

    def fit(self, data: Interactions) -> None:
        if self._fitted() is not data:
            self._popular = ranks(data.popularity)
            self.learn(sampled(data, self.settings.fit_users, self.settings.seed))
            self._fitted = weakref.ref(data)

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        if self._tuned() is not data:
            self.choose(data, relevant, users)
            self._tuned = weakref.ref(data)

    def choose(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        """Choose the decay, then between the variants with it, and the decay anew where another variant is better.

        Variants are compared in small models, each of which takes seconds.
        """
        tuning.choose_decay(self, data, relevant, users)
        small = msgspec.structs.replace(
            self.settings,
            dense_movies=min(_SMALL_MOVIES, self.settings.dense_movies),
            fit_users=min(_SMALL_USERS, self.settings.fit_users),
        )
        found = []
        for variant in self.variants():
            probe = type(self)(small, {**self.parameters, **variant})
            probe.fit(data)
            found.append(tuning.trial(probe, data, relevant, users))
        best = self.variants()[tuning.simplest(found)]
        if best != {name: self.parameters[name] for name in best}:
            self.parameters = {**self.parameters, **best}
            self.learn(sampled(data, self.settings.fit_users, self.settings.seed))
            tuning.choose_decay(self, data, relevant, users)

    def variants(self) -> list[dict[str, float]]:
        """Parameters that fitting needs, all that are tried, the first choice first."""
        raise NotImplementedError

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        history = self.history(data, users)
        scores = self.weigh(history)
        scores[np.diff(history.indptr) == 0] = self._popular
        return scores

    def learn(self, sample: Interactions) -> None:
        """Set what is known of movies."""
        raise NotImplementedError

    def history(self, data: Interactions, users: np.ndarray) -> sp.csr_matrix:
        """What `weigh` is to weigh: float32 [k, the movies that say something]; a row without any is a stranger's."""
        return recent(data, users, self.parameters)

    def weigh(self, history: sp.csr_matrix) -> np.ndarray:
        """Scores: float32 [k, m]."""
        raise NotImplementedError

    @property
    def item_embeddings(self) -> np.ndarray:
        raise NotImplementedError
