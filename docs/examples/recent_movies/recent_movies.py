"""An example of a model for Marquee: movies that were watched by the same users as the user's latest ones.

`[batch] model = "recent_movies:Recent"`, or once it is installed `model = "recent"`. See docs/models.md.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp


class Recent:
    """Cosine similarity between movies, summed over the latest `latest` movies of a user."""

    personal = True
    learned = b""

    def __init__(self, settings: Any, parameters: dict[str, float]) -> None:
        self.parameters = {"latest": 10.0, **parameters}

    def fit(self, data: Any) -> None:
        watched = data.matrix
        watched.data[:] = 1
        lengths = np.sqrt(np.maximum(np.asarray(watched.sum(axis=0)).ravel(), 1))
        unit = watched @ sp.diags_array((1 / lengths).astype(np.float32))
        cosines = (unit.T @ unit).tolil()
        cosines.setdiag(0)
        self._cosines = cosines.tocsr()
        self._popular = (data.popularity / max(data.popularity.max(), 1e-9) * 1e-3).astype(np.float32)

    def tune(self, data: Any, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        """Take the number of latest movies with the most hits among the first 20."""
        hits = {}
        for latest in (3.0, 10.0, 30.0):
            self.parameters = {"latest": latest}
            scores = self.score(data, users)
            for row, user in enumerate(users):
                scores[row, data.movies[data.indptr[user] : data.indptr[user + 1]]] = -np.inf
            best = np.argsort(-scores, axis=1, kind="stable")[:, :20]
            hits[latest] = int(relevant[np.repeat(users, best.shape[1]), best.ravel()].sum())
        self.parameters = {"latest": max(hits, key=lambda latest: hits[latest])}

    def score(self, data: Any, users: np.ndarray) -> np.ndarray:
        count = int(self.parameters["latest"])
        last = [
            data.movies[max(data.indptr[user], data.indptr[user + 1] - count) : data.indptr[user + 1]] for user in users
        ]
        rows = np.repeat(np.arange(len(users)), [len(movies) for movies in last])
        movies = np.concatenate([np.zeros(0, np.int64), *last])
        latest = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, movies)), (len(users), data.shape[1]))
        return np.asarray((latest @ self._cosines).toarray() + self._popular, np.float32)
