"""The contract of a model, and the sample of users that models are fitted to.

A model knows indices only, of users and movies, and nothing of days, files or lists. Scores of one user are comparable
with each other, not between users. What a model learns is about movies; a user is folded in from the history that is
handed over when scores are asked for, so a new user is scored as well as one that was there when the model was fitted.
"""

from typing import Protocol

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions


class Model(Protocol):
    """What the night needs of a model. Scoring leaves the model as it is: several threads may score at once."""

    name: str

    @property
    def parameters(self) -> dict[str, float]:
        """What `tune` chose, by name: with these, `make` makes the model anew. {} for a model without any."""

    def fit(self, data: Interactions) -> None:
        """Learn from interactions; the same data, seed and parameters give the same model, bit for bit."""

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        """Choose the parameters, after `fit(data)`, by NDCG@20 on what some users (int64 [k]) did next.

        `relevant` is bool [n, m]: what each user started after `data.until` and had not seen before.
        """

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        """Scores of all movies for some users (int64 rows of `data`): float32 [len(users), m], larger is better.

        `data` may hold other users than `fit` saw; the movies are the same. The array is the caller's to write to.
        A user of whom the model can tell nothing gets the scores of the popular list.
        """

    @property
    def item_embeddings(self) -> np.ndarray:
        """float32 [m, d]: movies that are near each other are watched by the same people."""


def sampled(data: Interactions, count: int, seed: int) -> Interactions:
    """The interactions of at most `count` users, drawn from those with two events or more; popularity is everyone's."""
    users = np.flatnonzero(np.diff(data.indptr) > 1)
    if len(users) <= count:
        return data
    users = np.sort(np.random.default_rng(seed).choice(users, count, replace=False))
    at = data.events_of(users)
    indptr = np.concatenate([[0], np.cumsum(data.indptr[users + 1] - data.indptr[users])])
    return Interactions(
        indptr, data.movies[at], data.starts[at], data.weights[at], data.popularity, data.segments[users], data.until
    )


def ranks(values: np.ndarray) -> np.ndarray:
    """Minus the rank of each value, the largest first, ties by index: float32, all different, so no order is chance."""
    scores = np.empty(len(values), np.float32)
    scores[np.argsort(-values, kind="stable")] = -np.arange(len(values), dtype=np.float32)
    return scores
