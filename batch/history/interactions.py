"""Interactions: the sessions and ratings of a period, in the form that models are fitted to.

`TrainingHistory` has all data of a night, one row per session. `TrainingHistory.before` cuts it at a moment and
excludes everything later: no session that began later, no later rating, and of a session still running no more minutes
than had passed since its start (its pauses are not recorded). Models get `Interactions`: indices and times, without
names, days and files.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from stream.zone import DAY_MS

MINUTE_MS = 60_000
_LEAST_SHARE = 0.05
"""Least share of a started movie: a click counts a little."""
_UNSEEN_SHARE = 0.5
"""Share assumed for a movie rated without a watched minute."""
_TYPICAL_RUNTIME = 100
"""Minutes assumed for a movie of unknown runtime; or its longest session, if that is longer."""


@dataclass(frozen=True)
class Interactions:
    """The events of n users and m movies before a moment: e events, ordered by user, then by time.

    Each pair of a user and a movie has one event, at its latest start, with the total share of all its sessions.
    """

    indptr: np.ndarray
    """int64 [n + 1]: the events of user u are `indptr[u] : indptr[u + 1]`."""
    movies: np.ndarray
    """int32 [e]: movie indices."""
    starts: np.ndarray
    """int64 [e]: ms UTC, ascending within a user; equal starts are ordered by movie index."""
    weights: np.ndarray
    """float32 [e]: share of the movie that was watched, weighted by the rating if there is one; > 0."""
    popularity: np.ndarray
    """float64 [m]: starts of all sessions; a start's weight halves with every half-life of its age."""
    segments: np.ndarray
    """uint8 [n]: index into `segments.NAMES`, 0 for none; small segments are 0 already."""
    until: int
    """The moment, ms UTC: all events began before it."""
    exposed: np.ndarray | None = None
    """bool [e]: whether the pair's first start was exposed (`exposure.py`); None if that is not known of any."""
    barred: sp.csr_matrix | None = None
    """bool [n, m]: movies that no list of a user has, besides those of the user's events; None for none."""

    @property
    def shape(self) -> tuple[int, int]:
        """Users, movies."""
        return len(self.indptr) - 1, len(self.popularity)

    def events_of(self, users: np.ndarray) -> np.ndarray:
        """Indices of the events of some users (int64 [k]), user by user, ordered by time within each: int64."""
        ends = np.cumsum(self.indptr[users + 1] - self.indptr[users])
        first = self.indptr[users + 1] - ends
        return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first, np.diff(ends, prepend=0))

    def unlisted(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What no list of some users (int64 [k]) has, since they have seen it or it is `barred`: rows of `users` and
        movies, both int64, one pair a row."""
        rows = np.repeat(np.arange(len(users)), self.indptr[users + 1] - self.indptr[users])
        movies = self.movies[self.events_of(users)]
        if self.barred is None:
            return rows, movies
        barred = self.barred[users].tocoo()
        return np.concatenate([rows, barred.row]), np.concatenate([movies, barred.col])

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """float32 [n, m]: the weights, each pair once."""
        # copied: SciPy may sort the columns of a row in place, but these are in time order
        return sp.csr_matrix((self.weights, self.movies, self.indptr), self.shape, copy=True)


@dataclass(frozen=True)
class TrainingHistory:
    """All sessions, one per row, ascending by user, start and movie. s sessions, n users, m movies."""

    user: np.ndarray
    """int32 [s]: index of the user."""
    movie: np.ndarray
    """int32 [s]: index of the movie."""
    start: np.ndarray
    """int64 [s]: ms UTC."""
    minutes: np.ndarray
    """int32 [s]: different minutes watched; 0 for a rating without a watched minute."""
    share: np.ndarray
    """float32 [s]: share of the movie that was watched, 0..1; NaN if its runtime is unknown."""
    rating: np.ndarray
    """float32 [s]: the user's latest rating of the movie as a share of the best, 0..1; NaN for none."""
    rated: np.ndarray
    """int64 [s]: when that rating was given, ms UTC; 0 for none."""
    users: np.ndarray
    """uint32 [n]: user ids, ascending."""
    movies: list[str]
    """[m] movie ids, ascending."""
    segments: np.ndarray
    """uint8 [n]: segment of each user, 0 for none; small segments are 0."""
    exposed: np.ndarray | None = None
    """bool [s]: whether a list was shown to the user within `window_ms` before the start (`exposure.py`); None if that
    is not known of any."""
    window_ms: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Users, movies."""
        return len(self.users), len(self.movies)

    @property
    def until(self) -> int:
        """The moment after the last start, ms UTC."""
        return int(self.start.max()) + 1

    def before(self, until_ms: int, half_life_days: float) -> Interactions:
        """The interactions before a moment."""
        return self.part(self.start < until_ms, until_ms, half_life_days)

    def part(self, rows: np.ndarray, until_ms: int, half_life_days: float) -> Interactions:
        """The interactions of some sessions (bool [s]) that began before a moment, as known at that moment."""
        chosen = np.flatnonzero(rows)
        user, movie, start = self.user[chosen], self.movie[chosen], self.start[chosen]
        popularity = np.bincount(movie, 0.5 ** ((until_ms - start) / DAY_MS / half_life_days), self.shape[1])
        key = user.astype(np.int64) * self.shape[1] + movie
        order = np.argsort(key, kind="stable")  # sessions of a pair side by side, the latest last
        latest = np.append(np.diff(key[order]) != 0, True) if len(chosen) else np.zeros(0, bool)
        shares = self._shares(chosen, until_ms)[order]
        watched = np.add.reduceat(shares, _firsts(latest)) if len(chosen) else np.zeros(0)
        weights = np.zeros(len(chosen), np.float32)
        last = order[latest]
        weights[last] = np.clip(watched, 0, 1) * self._liking(chosen[last], until_ms)
        kept = np.flatnonzero(weights)  # back in time order
        indptr = np.searchsorted(user[kept], np.arange(self.shape[0] + 1))
        exposed = None
        if self.exposed is not None and len(chosen):
            exposed = np.zeros(len(chosen), bool)
            exposed[last] = self.exposed[chosen[order[_firsts(latest)]]]
            exposed = exposed[kept]
        return Interactions(
            indptr, movie[kept], start[kept], weights[kept], popularity, self.segments, until_ms, exposed
        )

    def touched(self, rows: np.ndarray) -> sp.csr_matrix:
        """bool [n, m]: the movies that each user started in some sessions (bool [s], or int64 rows)."""
        user, movie = self.user[rows], self.movie[rows]
        return sp.csr_matrix((np.ones(len(user), bool), (user, movie)), self.shape)

    def _shares(self, sessions: np.ndarray, until_ms: int) -> np.ndarray:
        """Share of the movie watched in each session by a moment, if a running session had no pauses: float32."""
        minutes, movie = self.minutes[sessions], self.movie[sessions]
        watched = np.minimum(minutes, (until_ms - self.start[sessions]) // MINUTE_MS + 1)
        share = self.share[sessions] * watched / np.maximum(minutes, 1)
        if len(unknown := np.flatnonzero(np.isnan(share))):
            share[unknown] = (watched / _longest(movie, watched, self.shape[1])[movie])[unknown]
        return np.where(minutes > 0, np.maximum(share, _LEAST_SHARE), _UNSEEN_SHARE).astype(np.float32)

    def _liking(self, sessions: np.ndarray, until_ms: int) -> np.ndarray:
        """Factor of a share from its rating: 0.5 + rating if it was given by then, else 1: float32."""
        rated = ~np.isnan(self.rating[sessions]) & (self.rated[sessions] < until_ms)
        return np.where(rated, 0.5 + self.rating[sessions], 1).astype(np.float32)


@dataclass(frozen=True)
class Requests:
    """Lists that users were shown (answers with status 200), one per row."""

    user: np.ndarray
    """int32 [r]: index of the user."""
    time: np.ndarray
    """int64 [r]: ms UTC."""


def _longest(movie: np.ndarray, minutes: np.ndarray, movies: int) -> np.ndarray:
    """Minutes of the longest session of each movie, at least the typical runtime: float64 [movies]."""
    longest = np.full(movies, float(_TYPICAL_RUNTIME))
    np.maximum.at(longest, movie, minutes)
    return longest


def _firsts(latest: np.ndarray) -> np.ndarray:
    """Index at which each pair begins, from the flags of where each ends (bool)."""
    return np.concatenate([[0], np.flatnonzero(latest)[:-1] + 1])
