"""Interactions: the sessions and ratings of a stretch of time, in the form that models learn from.

`TrainingHistory` is all that a night knows, one row a session; `TrainingHistory.before` cuts it at a moment, and
nothing that became known later is in what is left: no session that began later, no rating that was given afterwards,
and of a session that was still running no more minutes than had passed since it began (when it paused is not kept).
`Interactions` is what models see: indices and times, nothing of names, days or files.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from stream.zone import DAY_MS

MINUTE_MS = 60_000
_LEAST_SHARE = 0.05
"""Of a movie, for whoever began it: less is no more than a click, but it is one."""
_UNSEEN_SHARE = 0.5
"""Of a movie that was rated by somebody who was not seen to watch it."""
_TYPICAL_RUNTIME = 100
"""Minutes, for a movie of unknown length; one that was watched for longer is so long."""


@dataclass(frozen=True)
class Interactions:
    """What n users did with m movies before some moment; e events, by user, and in order of time within each.

    A user and a movie meet once: at the latest start, with what all their sessions together come to.
    """

    indptr: np.ndarray
    """int64 [n + 1]: the events of user u are `indptr[u] : indptr[u + 1]`."""
    movies: np.ndarray
    """int32 [e]: movie indices."""
    starts: np.ndarray
    """int64 [e]: ms UTC, ascending within a user; starts at the same moment by movie index."""
    weights: np.ndarray
    """float32 [e]: share of the movie that was watched, weighed by the rating where there is one; > 0."""
    popularity: np.ndarray
    """float64 [m]: starts, every session counted, each halved for every half-life that it lies back."""
    segments: np.ndarray
    """uint8 [n]: index into `segments.NAMES`, 0 for none; small segments are 0 already."""
    until: int
    """The moment, ms UTC: all events began before it."""

    @property
    def shape(self) -> tuple[int, int]:
        """Users, movies."""
        return len(self.indptr) - 1, len(self.popularity)

    def events_of(self, users: np.ndarray) -> np.ndarray:
        """The events of some users (int64 [k]), one user after the other, in order of time within each: int64."""
        ends = np.cumsum(self.indptr[users + 1] - self.indptr[users])
        first = self.indptr[users + 1] - ends
        return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first, np.diff(ends, prepend=0))

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """float32 [n, m]: the weights, each pair once."""
        # copies: scipy sorts a row's columns in place when it likes to, and these here are in order of time
        return sp.csr_matrix((self.weights, self.movies, self.indptr), self.shape, copy=True)


@dataclass(frozen=True)
class TrainingHistory:
    """All sessions, one a row, ascending by user, start and movie. s sessions, n users, m movies."""

    user: np.ndarray
    """int32 [s]: index of the user."""
    movie: np.ndarray
    """int32 [s]: index of the movie."""
    start: np.ndarray
    """int64 [s]: ms UTC."""
    minutes: np.ndarray
    """int32 [s]: different minutes watched; 0 where a movie was rated that nobody had seen the user watch."""
    share: np.ndarray
    """float32 [s]: of the movie that was watched, 0..1; NaN where the movie's runtime is not known."""
    rating: np.ndarray
    """float32 [s]: the user's latest rating of the movie as a share of the best, 0..1; NaN for none."""
    rated: np.ndarray
    """int64 [s]: when that was given, ms UTC; 0 for none."""
    users: np.ndarray
    """uint32 [n]: user ids, ascending."""
    movies: list[str]
    """[m] movie ids, ascending."""
    segments: np.ndarray
    """uint8 [n]: segment of each user, 0 for none; small segments are 0."""

    @property
    def shape(self) -> tuple[int, int]:
        """Users, movies."""
        return len(self.users), len(self.movies)

    @property
    def until(self) -> int:
        """The moment after the last start, ms UTC."""
        return int(self.start.max()) + 1

    def before(self, until_ms: int, half_life_days: float) -> Interactions:
        """What had been done before a moment."""
        return self.part(self.start < until_ms, until_ms, half_life_days)

    def part(self, rows: np.ndarray, until_ms: int, half_life_days: float) -> Interactions:
        """What had been done by a moment in some sessions (bool [s]) that began before it."""
        at = np.flatnonzero(rows)
        user, movie, start = self.user[at], self.movie[at], self.start[at]
        popularity = np.bincount(movie, 0.5 ** ((until_ms - start) / DAY_MS / half_life_days), self.shape[1])
        key = user.astype(np.int64) * self.shape[1] + movie
        order = np.argsort(key, kind="stable")  # sessions of a pair side by side, the latest last
        latest = np.append(np.diff(key[order]) != 0, True) if len(at) else np.zeros(0, bool)
        watched = np.add.reduceat(self._shares(at, until_ms)[order], _firsts(latest)) if len(at) else np.zeros(0)
        weights = np.zeros(len(at), np.float32)
        last = order[latest]
        weights[last] = np.clip(watched, 0, 1) * self._liking(at[last], until_ms)
        kept = np.flatnonzero(weights)  # back in order of time
        indptr = np.searchsorted(user[kept], np.arange(self.shape[0] + 1))
        return Interactions(indptr, movie[kept], start[kept], weights[kept], popularity, self.segments, until_ms)

    def touched(self, rows: np.ndarray) -> sp.csr_matrix:
        """bool [n, m]: who started what in some sessions (bool [s])."""
        at = np.flatnonzero(rows)
        return sp.csr_matrix((np.ones(len(at), bool), (self.user[at], self.movie[at])), self.shape)

    def _shares(self, at: np.ndarray, until_ms: int) -> np.ndarray:
        """Share of each session, of one that was still running as if it had not paused before: float32."""
        minutes, movie = self.minutes[at], self.movie[at]
        had = np.minimum(minutes, (until_ms - self.start[at]) // MINUTE_MS + 1)
        share = self.share[at] * had / np.maximum(minutes, 1)
        if len(blank := np.flatnonzero(np.isnan(share))):
            share[blank] = (had / _longest(movie, had, self.shape[1])[movie])[blank]
        return np.where(minutes > 0, np.maximum(share, _LEAST_SHARE), _UNSEEN_SHARE).astype(np.float32)

    def _liking(self, at: np.ndarray, until_ms: int) -> np.ndarray:
        """What a rating makes of a share: 0.5 + rating where it was rated by then, 1 elsewhere: float32."""
        rated = ~np.isnan(self.rating[at]) & (self.rated[at] < until_ms)
        return np.where(rated, 0.5 + self.rating[at], 1).astype(np.float32)


@dataclass(frozen=True)
class Requests:
    """When users were shown lists (answers with status 200), one a row."""

    user: np.ndarray
    """int32 [r]: index of the user."""
    time: np.ndarray
    """int64 [r]: ms UTC."""

    def within(self, since_ms: int, until_ms: int, users: int) -> np.ndarray:
        """Who was shown a list in a stretch of time: bool [users]."""
        found = np.zeros(users, bool)
        found[self.user[(self.time >= since_ms) & (self.time < until_ms)]] = True
        return found


def _longest(movie: np.ndarray, minutes: np.ndarray, movies: int) -> np.ndarray:
    """Minutes of each movie as far as sessions show it: float64 [movies]."""
    longest = np.full(movies, float(_TYPICAL_RUNTIME))
    np.maximum.at(longest, movie, minutes)
    return longest


def _firsts(latest: np.ndarray) -> np.ndarray:
    """Where each pair begins, of where each ends."""
    return np.concatenate([[0], np.flatnonzero(latest)[:-1] + 1])
