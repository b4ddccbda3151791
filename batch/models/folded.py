"""Base of the models that are fitted to a sample of users and fold in everyone by a decayed history."""

import weakref
from collections.abc import Callable

import msgspec
import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from batch.models import tuning
from batch.models.decay import decayed_histories
from batch.models.model import rank_scores, sample_users
from batch.settings import BatchSettings

_SMALL_MOVIES, _SMALL_USERS = 2_048, 30_000
"""Dense movies and fitted users of the small models in which variants are tried."""


def no_data() -> None:
    """Stands for the reference to the data before the first `fit` or `tune`."""


class Folded:
    """A subclass learns about movies from the sample, and scores histories.

    `fit` and `tune` do nothing if the last call had the same data: a blend shares its parts with the competition.
    Parameters are those of the decay, which only scoring needs, and those of `variants`, which fitting needs.
    """

    name: str
    personal = True
    learned = b""

    def __init__(self, settings: BatchSettings, parameters: dict[str, float]) -> None:
        self.settings = settings
        self.parameters = {"items": 0.0, "floor": 0.0, "days": 0.0, **self.variants()[0], **parameters}
        self._fitted: Callable[[], Interactions | None] = no_data
        self._tuned: Callable[[], Interactions | None] = no_data

    def fit(self, data: Interactions) -> None:
        if self._fitted() is not data:
            self._popular = rank_scores(data.popularity)
            self.learn(sample_users(data, self.settings.fit_users, self.settings.seed))
            self._fitted = weakref.ref(data)

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        if self._tuned() is not data:
            self.choose(data, relevant, users)
            self._tuned = weakref.ref(data)

    def choose(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        """Choose the decay, then a variant with that decay, and the decay again if the variant is not the first one.

        Variants are compared in small models, each of which takes seconds.
        """
        tuning.choose_decay(self, data, relevant, users)
        small = msgspec.structs.replace(
            self.settings,
            dense_movies=min(_SMALL_MOVIES, self.settings.dense_movies),
            fit_users=min(_SMALL_USERS, self.settings.fit_users),
        )
        scores = []
        for variant in self.variants():
            probe = type(self)(small, {**self.parameters, **variant})
            probe.fit(data)
            scores.append(tuning.trial_scores(probe, data, relevant, users))
        best = self.variants()[tuning.simplest_trial(scores)]
        if best != {name: self.parameters[name] for name in best}:
            self.parameters = {**self.parameters, **best}
            self.learn(sample_users(data, self.settings.fit_users, self.settings.seed))
            tuning.choose_decay(self, data, relevant, users)

    def variants(self) -> list[dict[str, float]]:
        """All values of the parameters that fitting needs which tuning tries, the default first."""
        raise NotImplementedError

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        histories = self.histories(data, users)
        scores = self.score_histories(histories)
        scores[np.diff(histories.indptr) == 0] = self._popular
        return scores

    def learn(self, sample: Interactions) -> None:
        """Learn about movies from the sample."""
        raise NotImplementedError

    def histories(self, data: Interactions, users: np.ndarray) -> sp.csr_matrix:
        """The input of `score_histories`: float32 [k, movies that the model knows]; an empty row has no information."""
        return decayed_histories(data, users, self.parameters)

    def score_histories(self, histories: sp.csr_matrix) -> np.ndarray:
        """Scores of all movies: float32 [k, m]."""
        raise NotImplementedError

    @property
    def item_embeddings(self) -> np.ndarray:
        raise NotImplementedError
