"""Users with a short history get the popular list where the evaluation says that a model serves them worse."""

import numpy as np

from batch.history.interactions import Interactions
from batch.models.model import rank_scores
from batch.models.top_lists import Scorer


class PopularForShort:
    """What a release shows of a model: its own ranking, but the popular list for users with fewer than `below` events.

    It stands outside of the models, so that the evaluation, the lists of a release and a benchmark apply one rule to
    all of them.
    """

    def __init__(self, model: Scorer, below: float, popularity: np.ndarray) -> None:
        """`popularity` is that of the data which the model was fitted to."""
        self.name = model.name
        self._model, self._below = model, below
        self._popular = rank_scores(popularity)

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        """As `Model.score`."""
        scores = self._model.score(data, users)
        scores[data.indptr[users + 1] - data.indptr[users] < self._below] = self._popular
        return scores
