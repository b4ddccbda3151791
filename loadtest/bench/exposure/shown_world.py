"""A simulated service in memory: users visit, are shown lists, take from them or choose for themselves.

It plays what `loadtest.simulation.service` plays, with the same people (`World`, `Audience`), but an hour at a time
and without a broker, workers and lines: a month of a few thousand users takes seconds. Who visits when, and who asks
for a list, is drawn apart from what they then do: two worlds of one seed, shown different lists, have the same visits.
"""

import numpy as np

from batch.history.interactions import Requests, TrainingHistory
from loadtest.bench.ranking.sequences import history_of_sessions
from loadtest.settings import WorldSettings
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from stream.settings import StreamSettings
from stream.zone import HOUR_MS, zone_named

_BEGINS = "2022-01-10"
_ASKS = 5
"""Stream of random numbers: who asks for a list."""


class ShownWorld:
    """One service, from its opening on."""

    def __init__(self, settings: WorldSettings, seed: int) -> None:
        """A service that opens; `seed` draws the visits, `settings.seed` the movies and the people."""
        zone = zone_named(StreamSettings().timezone)
        opens = zone.bounds(_BEGINS)[0]
        self.world = World(settings)
        self._calendar = Audience(self.world, zone, seed, opens)  # its people never watch
        self.people = Audience(self.world, zone, seed, opens)
        self._asks = np.random.default_rng([seed, _ASKS])
        self.now_ms = opens
        """How far it has come, ms UTC."""
        self._sessions: list[np.ndarray] = []
        self._requests: list[np.ndarray] = []
        self.taken = 0
        """Lists from which the user took a movie."""

    @property
    def asked(self) -> int:
        """Lists that were shown."""
        return sum(piece.shape[1] for piece in self._requests)

    def play(self, hours: int, lists: np.ndarray | None = None) -> None:
        """Play some hours. `lists` are the movies that each user is shown, best first, -1 for none: int32 [users, 20];
        without it no list is shown."""
        until = self.now_ms + hours * HOUR_MS
        for hour in range(self.now_ms, until, HOUR_MS):
            visits = self._calendar.visits(hour, HOUR_MS)
            asks = self._asks.random(len(visits.users)) < self.world.settings.ask_share
            if lists is None:
                asks[:] = False
            self._requests.append(np.stack([visits.users[asks], visits.times[asks]]))
            taken = np.full(len(visits.users), -1)
            if lists is not None and asks.any():
                shown_to = visits.users[asks]
                taken[asks] = self.world.react_all(shown_to, lists[shown_to], self.people.seen, self.people.rng)
            movies = self.world.choose(visits.users, self.people.seen, self.people.rng)
            self.taken += int((taken >= 0).sum())
            # a minute after the look, as the service has it: no start is before the list that suggested it
            self._watch(visits.users, np.where(taken >= 0, taken, movies), visits.times + np.where(asks, 60_000, 0))
        self.now_ms = until

    def history(self) -> TrainingHistory:
        """All sessions until now."""
        user, movie, start, minutes, stars = np.concatenate(self._sessions, axis=1)
        people, settings = self.world.people, self.world.settings
        return history_of_sessions(
            user=user,
            movie=movie,
            start=start,
            minutes=minutes,
            share=np.minimum(minutes / (self.world.catalogue.length_min[movie] + 1), 1),
            stars=stars,
            movies=settings.movies,
            segments=1 + np.digitize(people.ages, (18, 25, 35, 45, 55)) * 2 + ~people.women,
        )

    def requests(self) -> Requests:
        """All lists that were shown until now."""
        user, time = np.concatenate(self._requests, axis=1) if self._requests else np.zeros((2, 0), np.int64)
        return Requests(user.astype(np.int32), time)

    def _watch(self, users: np.ndarray, movies: np.ndarray, times: np.ndarray) -> None:
        again = self.people.seen.contains(users, movies)
        plan = self.world.watch_plan(users, movies, self.people.rng)
        self.people.seen.add(users, movies)
        rows = users, movies, times, plan.last_minute + 1, np.where(again, 0, plan.ratings)
        self._sessions.append(np.stack(rows).astype(np.int64))
