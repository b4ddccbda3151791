"""Interactions: sessions and ratings as the sparse matrix that models learn from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from stream.zone import DAY_MS

_TYPICAL_RUNTIME = 100
"""Minutes, for a movie of unknown length that nobody watched for longer."""


@dataclass(frozen=True)
class Interactions:
    """What users did before some moment; n users, m movies, by index."""

    weights: sp.csr_matrix
    """float32 [n, m]: share of the movie that was watched, weighed by the rating where there is one; > 0 where seen."""
    popularity: np.ndarray
    """float64 [m]: starts, each halved for every half-life that it lies back."""
    starts: np.ndarray
    """int64 [m]: starts, all alike."""


@dataclass(frozen=True)
class History:
    """All sessions and ratings, with the users and movies that they are about."""

    sessions: pd.DataFrame
    ratings: pd.DataFrame
    users: np.ndarray
    """User ids, ascending; row number = user index."""
    runtimes: np.ndarray
    """float64 [m]: minutes; NaN for unknown."""
    best_rating: int

    def before(self, until_ms: int, half_life_days: float) -> Interactions:
        """The interactions that began before a moment."""
        sessions = self.sessions[self.sessions["start"] < until_ms]
        ratings = self.ratings[self.ratings["time"] < until_ms]
        shape = len(self.users), len(self.runtimes)
        movie = sessions["movie"].to_numpy()
        age_days = (until_ms - sessions["start"].to_numpy()) / DAY_MS
        return Interactions(
            self._weights(sessions, ratings, shape),
            np.bincount(movie, 0.5 ** (age_days / half_life_days), shape[1]),
            np.bincount(movie, minlength=shape[1]),
        )

    def started(self, since_ms: int, until_ms: int) -> sp.csr_matrix:
        """bool [n, m]: who started what in a stretch of time."""
        sessions = self.sessions
        part = sessions[(sessions["start"] >= since_ms) & (sessions["start"] < until_ms)]
        rows, columns = self._rows(part), part["movie"].to_numpy()
        return sp.csr_matrix((np.ones(len(part), bool), (rows, columns)), (len(self.users), len(self.runtimes)))

    def _weights(self, sessions: pd.DataFrame, ratings: pd.DataFrame, shape: tuple[int, int]) -> sp.csr_matrix:
        share = sessions["minutes"].to_numpy() / self._lengths(sessions)[sessions["movie"].to_numpy()]
        rows = self._rows(sessions)
        watched = sp.csr_matrix((np.clip(share, 0.05, 1), (rows, sessions["movie"])), shape, np.float32)
        watched.data = np.minimum(watched.data, 1)  # watching twice is liking, not twice the movie
        rows, movies = self._rows(ratings), ratings["movie"]
        factor = sp.csr_matrix((ratings["rating"] / self.best_rating - 0.5, (rows, movies)), shape, np.float32)
        # 0.5 + rating / best where rated, 1 elsewhere; who rated without being seen to watch counts as half a movie
        rated = watched + watched.multiply(factor)
        unseen = sp.csr_matrix((np.full(len(ratings), 0.5), (rows, movies)), shape, np.float32)
        only_rated = unseen - unseen.multiply(watched > 0)
        only_rated.eliminate_zeros()
        return sp.csr_matrix(rated + only_rated)

    def _lengths(self, sessions: pd.DataFrame) -> np.ndarray:
        """Minutes of each movie: the runtime, else the longest of these sessions, else what is typical: float64 [m]."""
        longest = np.zeros(len(self.runtimes))
        np.maximum.at(longest, sessions["movie"].to_numpy(), sessions["minutes"].to_numpy())
        lengths = np.where(np.isnan(self.runtimes), longest, self.runtimes)
        return np.where(lengths > 0, lengths, _TYPICAL_RUNTIME)

    def _rows(self, frame: pd.DataFrame) -> np.ndarray:
        """Index of each row's user: int64."""
        return np.searchsorted(self.users, frame["user"])


def runtimes_of(names: list[str], records: Mapping[str, Mapping[str, object]]) -> np.ndarray:
    """Runtime of each movie in minutes, NaN where the catalogue does not know it: float64 [m]."""
    return np.array([records[name].get("runtime") or np.nan for name in names], np.float64)
