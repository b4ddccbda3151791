"""The contract of a model, and the sample of users that models are fitted to.

A model knows users and movies by index only, and nothing about days, files or lists. Scores are comparable for one
user, not between users. A model learns about movies; users are folded in from the history that is passed to `score`, so
new users are scored just as well as fitted ones.
"""

from typing import Protocol

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions


class Model(Protocol):
    """The interface of a model. Scoring does not change the model: several threads may score at once."""

    name: str
    """Its key in `MODELS` and in the setting `[batch] model`."""
    personal: bool
    """Whether users with different histories get different rankings. The gate judges the lists by it, and
    `server.release.list_source` names them by it."""
    learned: bytes
    """What `tune` has learned beyond the numbers in `parameters`; b"" for nothing. `make` sets it; `fit` keeps it."""

    @property
    def parameters(self) -> dict[str, float]:
        """The tuned parameters by name; `make` creates the same model from them. {} for a model without parameters."""

    def fit(self, data: Interactions) -> None:
        """Learn from interactions; the same data, seed and parameters give the same model, bit for bit."""

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        """Choose the parameters, after `fit(data)`, by NDCG@20 on the next movies of some users (int64 [k]).

        `relevant` is bool [n, m]: what each user started after `data.until` and had not seen before.
        """

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        """Scores of all movies for some users (int64 rows of `data`): float32 [len(users), m], larger is better.

        `data` may have other users than `fit` got; the movies are the same. The caller may write to the array. A user
        about whom the model knows nothing gets the scores of the popular list.
        """

    @property
    def item_embeddings(self) -> np.ndarray:
        """float32 [m, d]: movies with nearby embeddings are watched by the same users."""


def sample_users(data: Interactions, count: int, seed: int) -> Interactions:
    """The interactions of at most `count` users, drawn from those with two events or more; popularity is everyone's."""
    users = np.flatnonzero(np.diff(data.indptr) > 1)
    if len(users) <= count:
        return data
    users = np.sort(np.random.default_rng(seed).choice(users, count, replace=False))
    rows = data.events_of(users)
    indptr = np.concatenate([[0], np.cumsum(data.indptr[users + 1] - data.indptr[users])])
    return Interactions(
        indptr,
        data.movies[rows],
        data.starts[rows],
        data.weights[rows],
        data.popularity,
        data.segments[users],
        data.until,
        None if data.exposed is None else data.exposed[rows],
    )


def rank_scores(values: np.ndarray) -> np.ndarray:
    """Minus the rank of each value, the largest first, ties by index: float32, all different, so the order is fixed."""
    scores = np.empty(len(values), np.float32)
    scores[np.argsort(-values, kind="stable")] = -np.arange(len(values), dtype=np.float32)
    return scores
