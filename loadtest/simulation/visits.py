"""Visits: the times when users come, and the minutes and ratings of their sessions. Event time only.

The history (whole days at once) and the live service (slices of a minute) both draw from here, so they behave alike.
"""

from dataclasses import dataclass

import numpy as np

from loadtest.simulation.world import Ints, World
from stream.zone import DAY_MS, HOUR_MS, Zone

_STEP_MS, _STEP_SD_MS = 60_400, 10_000
"""Minutes of a session follow each other at 60.4 s on average, standard deviation 10 s; never less than 20 s."""
_SHORTEST_MS = 20_000
_RATING_AFTER_MS = 60_000


@dataclass(frozen=True)
class Visits:
    """Visits in time order; one per row."""

    users: np.ndarray
    """int64: row of the user in the population."""
    times: np.ndarray
    """int64 ms UTC."""


@dataclass(frozen=True)
class Happenings:
    """Minutes watched and ratings given, one a row, in no order; times are whole seconds in ms UTC (int64)."""

    users: np.ndarray
    movies: np.ndarray
    times: np.ndarray
    minutes: np.ndarray
    """int32; -1 for a rating."""
    ratings: np.ndarray
    """int8; 0 for a minute."""


class Audience:
    """The people of a world, what they have seen, and the random numbers of their visits."""

    def __init__(self, world: World, zone: Zone, seed: int, opens_ms: int = 0) -> None:
        """`opens_ms` is when the service opens, ms UTC; newcomers join, and new movies are released, from then on."""
        self.world = world
        self.seen = world.new_seen()
        self.rng = np.random.default_rng([seed, 7])
        self._zone = zone
        self._joins_ms = opens_ms + (world.activity.joining_day * DAY_MS).astype(np.int64)
        new, days = len(world.new_movies), world.settings.releasing_days
        self._released_ms = opens_ms + (days * DAY_MS * (np.arange(new) + 1) / max(new, 1)).astype(np.int64)

    def releases(self, since_ms: int, until_ms: int) -> list[str]:
        """The ids of the movies that are released in [since, until), in their order."""
        is_released = (self._released_ms >= since_ms) & (self._released_ms < until_ms)
        return [self.world.catalogue.ids[row] for row in self.world.new_movies[is_released].tolist()]

    def visits(self, since_ms: int, length_ms: int) -> Visits:
        """The visits in [since, since + length), which must lie within one hour of the service's clock.

        A user who joins in that time visits once, at that moment.
        """
        hour = int(self._zone.to_local(since_ms) // HOUR_MS % 24)
        expected = self.world.activity.visits_in_hour(hour) * (length_ms / HOUR_MS)
        expected[self._joins_ms >= since_ms] = 0.0
        users = np.repeat(np.arange(len(expected)), self.rng.poisson(expected))
        times = since_ms + self.rng.integers(0, length_ms, len(users))
        joining = np.flatnonzero((self._joins_ms >= since_ms) & (self._joins_ms < since_ms + length_ms))
        users, times = np.append(users, joining), np.append(times, self._joins_ms[joining])
        order = np.argsort(times, kind="stable")
        return Visits(users[order], times[order])

    def watch(self, users: Ints, movies: Ints, starts_ms: np.ndarray) -> Happenings:
        """Minutes and ratings of sessions that start at these times; marks the movies as seen by their users."""
        again = self.seen.contains(users, movies)
        plan = self.world.watch_plan(users, movies, self.rng)
        self.seen.add(users, movies)
        lengths = plan.last_minute.astype(np.int64) + 1
        session = np.repeat(np.arange(len(users)), lengths)
        first = np.cumsum(lengths) - lengths
        minutes = np.arange(len(session)) - first[session]
        steps = np.maximum(self.rng.normal(_STEP_MS, _STEP_SD_MS, len(session)), _SHORTEST_MS).astype(np.int64)
        steps[first] = 0
        run = np.cumsum(steps)
        times = starts_ms[session] + run - run[first][session]
        rated = np.flatnonzero((plan.ratings > 0) & ~again)
        ends = times[(first + lengths - 1)[rated]] + _RATING_AFTER_MS
        return Happenings(
            np.concatenate([users[session], users[rated]]),
            np.concatenate([movies[session], movies[rated]]),
            np.concatenate([times, ends]) // 1000 * 1000,
            np.concatenate([minutes, np.full(len(rated), -1)]).astype(np.int32),
            np.concatenate([np.zeros(len(session), np.int8), plan.ratings[rated]]),
        )
