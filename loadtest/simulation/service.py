"""The live movie service: users come, see recommendations, react, watch and rate; each step is a line of the stream.

Event time is cut into slices of a minute. All requests of a slice are sent at once; users start the chosen movie a
little later, in a later slice, so causes come before effects at any pace. Event time advances by `pace`, which may be
changed while the service runs, and does not depend on how fast the lines are read.
"""

import asyncio
import string
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from loadtest.settings import WorldSettings
from loadtest.simulation.recommender_client import RecommenderAnswer, RecommenderClient
from loadtest.simulation.visits import Audience, Happenings, Visits
from stream.event import Event, Kind
from stream.grammar import render
from stream.kafka_writer import Writer
from stream.zone import Zone

SLICE_MS = 60_000
_DECIDES_MS = (SLICE_MS, 5 * SLICE_MS)
"""Range of the time from a look to the start of the chosen movie; never within the same slice."""
_STRAY = (string.ascii_letters + string.digits + " -").encode()
"""The characters that the stream's fault inserts."""


@dataclass
class ServiceCounts:
    """Counts of the service's actions, as in its own log."""

    lines: int = 0
    corrupted: int = 0
    repeated: int = 0
    """Lines that equal an earlier one of their slice."""
    statuses: Counter[int] = field(default_factory=Counter)
    sources: Counter[str | None] = field(default_factory=Counter)
    releases: Counter[str | None] = field(default_factory=Counter)
    taken: int = 0
    """Lists from which the user took a movie."""
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, answer: RecommenderAnswer) -> None:
        self.statuses[answer.status] += 1
        self.sources[answer.source] += 1
        self.releases[answer.release] += 1
        self.latencies_ms.append(answer.latency_ms)


class Service:
    """One service; `now_ms` is its clock, event time in ms UTC."""

    def __init__(
        self,
        audience: Audience,
        zone: Zone,
        caller: RecommenderClient,
        writer: Writer,
        settings: WorldSettings,
        now_ms: int,
        announce: Callable[[list[str]], object] = lambda movies: None,
    ) -> None:
        """`announce` gets the ids of movies as they are released, and of those released before."""
        self.now_ms = now_ms
        self.pace = settings.pace
        self.counts = ServiceCounts()
        self.latest_release: str | None = None
        """The release that gave the latest answer."""
        self._audience, self._zone, self._settings = audience, zone, settings
        self._caller, self._writer, self._announce = caller, writer, announce
        self._announced_ms = 0
        self._slices: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
        self._accounts: set[int] = set()
        self._noise = np.random.default_rng([settings.seed, 11])

    async def run(self, until: Callable[[], bool]) -> None:
        """Play slice by slice until `until()` is true."""
        while not until():
            began = time.monotonic()
            await self._slice()
            pause = SLICE_MS / 1000 / self.pace - (time.monotonic() - began)
            await asyncio.sleep(max(0.0, pause))

    async def _slice(self) -> None:
        if released := self._audience.releases(self._announced_ms, self.now_ms):
            self._announce(released)
        self._announced_ms = self.now_ms
        visits = self._audience.visits(self.now_ms, SLICE_MS)
        self._welcome(visits)
        asks = self._audience.rng.random(len(visits.users)) < self._settings.ask_share
        await self._look(visits.users[asks], visits.times[asks])
        users, times = visits.users[~asks], visits.times[~asks]
        if len(users):
            self._start(users, self._audience.world.choose(users, self._audience.seen, self._audience.rng), times)
        await self._write(self._slices.pop(self.now_ms // SLICE_MS, []))
        self.now_ms += SLICE_MS

    def _welcome(self, visits: Visits) -> None:
        """From 2026 on, a user creates an account on the first visit."""
        if self._settings.generation == "2026":
            new = self._audience.seen.recent[visits.users, 0] < 0
            for user, time_ms in zip(visits.users[new].tolist(), visits.times[new].tolist(), strict=True):
                if user not in self._accounts:
                    self._accounts.add(user)
                    self._log(Event("account", time_ms, user + 1))

    async def _look(self, users: np.ndarray, times: np.ndarray) -> None:
        answers = await asyncio.gather(*(self._caller.ask(user + 1) for user in users.tolist()))
        for user, time_ms, answer in zip(users.tolist(), times.tolist(), answers, strict=True):
            self.counts.add(answer)
            self.latest_release = answer.release or self.latest_release
            self._log(answer.event(user + 1, time_ms, self._caller.host))
            self._react(user, time_ms, answer)

    def _react(self, user: int, time_ms: int, answer: RecommenderAnswer) -> None:
        """Let a user take a movie of the list, or choose another one."""
        world, seen, rng = self._audience.world, self._audience.seen, self._audience.rng
        shown = np.array([world.catalogue.index[movie] for movie in answer.movies], np.int64)
        taken = world.react(user, shown, seen, rng) if len(shown) else None
        self.counts.taken += taken is not None
        users = np.array([user])
        movies = np.array([taken]) if taken is not None else world.choose(users, seen, rng)
        self._start(users, movies, np.array([time_ms + int(rng.integers(*_DECIDES_MS))]))

    def _start(self, users: np.ndarray, movies: np.ndarray, times: np.ndarray) -> None:
        happened = self._audience.watch(users, movies, times)
        ids = self._audience.world.catalogue.ids
        for user, movie, time_ms, minute, rating in _rows(happened):
            kind: Kind = "rate" if minute < 0 else "watch"
            self._log(Event(kind, time_ms, user + 1, ids[movie], minute=minute, rating=rating))

    def _log(self, event: Event) -> None:
        microseconds = f"{self._noise.integers(1000):03}" if event.kind == "recommend" else ""
        slot = max(event.time, self.now_ms) // SLICE_MS
        self._slices[slot].append((event.time, render(event, self._zone, microseconds)))

    async def _write(self, lines: list[tuple[int, bytes]]) -> None:
        lines.sort()
        noise = self._noise.random((2, len(lines)))
        for row in np.flatnonzero(noise[0] < self._settings.corrupted).tolist():
            lines[row] = (lines[row][0], self._with_stray(lines[row][1]))
            self.counts.corrupted += 1
        for row in np.flatnonzero(noise[1] < self._settings.repeated)[::-1].tolist():
            lines.insert(row, lines[row])
        # a user who opens a movie twice within a second also writes equal lines, which no reader can tell apart
        self.counts.repeated += len(lines) - len({value for _, value in lines})
        if lines:
            await self._writer.write([value for _, value in lines], [time_ms for time_ms, _ in lines])
        self.counts.lines += len(lines)

    def _with_stray(self, line: bytes) -> bytes:
        index, stray = int(self._noise.integers(len(line) + 1)), int(self._noise.integers(len(_STRAY)))
        return line[:index] + _STRAY[stray : stray + 1] + line[index:]


def _rows(happened: Happenings) -> "zip[tuple[int, int, int, int, int]]":
    columns = happened.users, happened.movies, happened.times, happened.minutes, happened.ratings
    return zip(*(column.tolist() for column in columns), strict=True)
