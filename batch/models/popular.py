"""The popular list as a model, of everyone and of each segment: the baseline that every other model must beat."""

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from batch.models import tuning
from batch.models.model import rank_scores
from batch.settings import BatchSettings
from stream.zone import DAY_MS


class Popular:
    """The most watched movies, recent starts weighing more; the same for everyone."""

    name = "popular"
    personal = False
    learned = b""

    def __init__(self, settings: BatchSettings, parameters: dict[str, float]) -> None:
        self.parameters: dict[str, float] = {}

    def fit(self, data: Interactions) -> None:
        self._score = rank_scores(data.popularity)

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        """Has no parameters to choose."""

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        return np.repeat(self._score[None, :], len(users), axis=0)

    @property
    def item_embeddings(self) -> np.ndarray:
        return self._score[:, None].copy()


class SegmentPopular:
    """The most watched movies of the user's segment, its recent starts smoothed towards everyone's.

    A segment's starts are joined by `smoothing` more that fall like everyone's (a Dirichlet prior: Zhai & Lafferty,
    SIGIR 2001), so that a small segment, or a movie that few of its users have seen, stays near the popular list. A
    user without a segment gets the popular list itself. A user's own history plays no part.
    """

    name = "segment"
    personal = False
    learned = b""

    def __init__(self, settings: BatchSettings, parameters: dict[str, float]) -> None:
        self._half_life_days = settings.half_life_days
        self.parameters = {"smoothing": 10_000.0, **parameters}

    def fit(self, data: Interactions) -> None:
        segment = np.repeat(data.segments, np.diff(data.indptr)).astype(np.int64)
        count, movies = int(data.segments.max(initial=0)) + 1, data.shape[1]
        weights = 0.5 ** ((data.until - data.starts) / DAY_MS / self._half_life_days)
        self._starts = np.bincount(segment * movies + data.movies, weights, count * movies).reshape(count, movies)
        self._popularity = data.popularity
        self._rank()

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        trials = [{"smoothing": strength} for strength in (1e6, 1e5, 1e4, 1e3, 1e2)]
        tuning.choose(self, self._set_parameters, trials, data, relevant, users)

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        segment = data.segments[users]
        return self._score[np.where(segment < len(self._score), segment, 0)]

    @property
    def item_embeddings(self) -> np.ndarray:
        return np.ascontiguousarray(self._score.T)

    def _set_parameters(self, parameters: dict[str, float]) -> None:
        self.parameters = parameters
        self._rank()

    def _rank(self) -> None:
        """Row 0, for users without a segment, is the popular list of everyone."""
        everyone = self._popularity / max(self._popularity.sum(), 1e-9)
        mixed = self._starts + self.parameters["smoothing"] * everyone
        self._score = np.stack([rank_scores(self._popularity), *(rank_scores(row) for row in mixed[1:])])
