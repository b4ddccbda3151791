"""What content says about a movie that few or none have watched: a ridge regression from content to what is known.

Fitted to the movies that users have watched, each weighing n / (n + 20) for n users, it predicts an embedding, or a
popularity, from genres, decade and language (Gantner et al., Learning attribute-to-feature mappings for cold-start
recommendations, ICDM 2010). Movies of a collection share what the regression leaves over of those that were watched.
The penalty is the one with the least error when each movie is left out in turn, which has a closed form.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from batch.history.movie_content import KINDS, MovieContent, feature_matrix

_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_RELIABLE = 20
"""A movie with so many users has half of the weight of one with all users."""


class ContentRegression:
    """w movies that were watched come first among the m movies."""

    def __init__(self, contents: Sequence[MovieContent], users: np.ndarray) -> None:
        """`contents` are those of all m movies, `users` (int64 [w]) says how many users watched each of the first w."""
        self._weight = users / (users + _RELIABLE)
        self._total = max(float(self._weight.sum()), 1e-9)
        names = sorted({name for content in contents for name in content.features})
        *groups, collections = ([name for name in names if name.startswith(kind)] for kind in KINDS)
        self._features = np.hstack([self._centred(feature_matrix(contents, group)) for group in groups])
        self._collections = feature_matrix(contents, collections)

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Predict for all movies what is known of the watched ones (float [w, d]): float64 [m, d]."""
        watched, weight = self._features[: len(values)], self._weight[:, None]
        mean = (weight * values).sum(axis=0) / self._total
        rest = values - mean
        predicted = self._features @ _ridge(watched, self._weight, rest)
        left_over = self._collections[: len(values)].T @ (weight * (rest - predicted[: len(values)]))
        known = self._collections[: len(values)].T @ self._weight
        return np.asarray(mean + predicted + self._collections @ (left_over / (known[:, None] + 1)))

    def _centred(self, features: sp.csr_matrix) -> np.ndarray:
        """The features of one kind less their mean over the watched movies; 0 for movies of which they are unknown."""
        dense = features.toarray().astype(np.float64)
        is_known, weight = (dense != 0).any(axis=1), self._weight
        own = np.where(is_known[: len(weight)], weight, 0.0)
        mean = own @ dense[: len(own)] / max(float(own.sum()), 1e-9)
        return np.where(is_known[:, None], dense - mean, 0.0)


def content_embeddings(regression: ContentRegression, items: np.ndarray) -> np.ndarray:
    """Embeddings of all m movies: float32 [m, d]. The w watched ones keep theirs (float32 [w, d]), those of the others
    are what their content predicts.
    """
    return np.concatenate([items, regression.predict(items)[len(items) :].astype(np.float32)])


def _ridge(features: np.ndarray, weight: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients of a weighted ridge regression (float64 [f, d]), with the best of the penalties.

    The error of a movie that is left out is its residual by 1 - h, h being its leverage (Golub, Heath & Wahba 1979).
    """
    weighted = features * weight[:, None]
    gram, product = weighted.T @ features, weighted.T @ values
    best: tuple[float, np.ndarray] = (np.inf, np.zeros((features.shape[1], values.shape[1])))
    for penalty in _PENALTIES:
        inverse = np.linalg.inv(gram + penalty * np.eye(len(gram)))
        coefficients = inverse @ product
        leverage = weight * np.einsum("ij,jk,ik->i", features, inverse, features, optimize=True)
        residual = (values - features @ coefficients) / (1 - leverage)[:, None]
        error = float((weight[:, None] * residual**2).sum())
        if error < best[0]:
            best = error, coefficients
    return best[1]
