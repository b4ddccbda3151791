"""The live movie service: users come, see recommendations, react, watch and rate; each step is a line of the stream.

Time is cut into slices of a minute of event time. Within a slice all who look at the recommendations are answered at
once; they start what they chose a little later, in a following slice, so causes come before effects at any pace.
Event time advances by `pace`, which may be changed while the service runs, and never depends on how fast the lines
are taken.
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
from stream.event import Event
from stream.grammar import render
from stream.kafka import Writer
from stream.zone import Zone

SLICE_MS = 60_000
_DECIDES_MS = (SLICE_MS, 5 * SLICE_MS)
"""A user starts the chosen movie so long after looking: never within the slice of the look."""
_STRAY = (string.ascii_letters + string.digits + " -").encode()
"""What the stream's fault inserts."""


@dataclass
class ServiceCounts:
    """What the service did; all of it is what its own log would show."""

    lines: int = 0
    corrupted: int = 0
    repeated: int = 0
    """Lines that equal an earlier one."""
    statuses: Counter[int] = field(default_factory=Counter)
    sources: Counter[str | None] = field(default_factory=Counter)
    releases: Counter[str | None] = field(default_factory=Counter)
    taken: int = 0
    """Lists of which the user took something."""
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
    ) -> None:
        self.now_ms = now_ms
        self.pace = settings.pace
        self.tally = ServiceCounts()
        self.latest_release: str | None = None
        """The release that gave the latest answer."""
        self._audience, self._zone, self._caller, self._writer, self._settings = (
            audience,
            zone,
            caller,
            writer,
            settings,
        )
        self._slices: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
        self._accounts: set[int] = set()
        self._noise = np.random.default_rng([settings.seed, 11])

    async def run(self, until: Callable[[], bool]) -> None:
        """Go on, slice by slice, until `until` says so."""
        while not until():
            began = time.monotonic()
            await self._slice()
            pause = SLICE_MS / 1000 / self.pace - (time.monotonic() - began)
            await asyncio.sleep(max(0.0, pause))

    async def _slice(self) -> None:
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
        """From 2026 on, whoever comes for the first time makes an account."""
        if self._settings.generation == "2026":
            new = self._audience.seen.recent[visits.users, 0] < 0
            for user, at in zip(visits.users[new].tolist(), visits.times[new].tolist(), strict=True):
                if user not in self._accounts:
                    self._accounts.add(user)
                    self._log(Event("account", at, user + 1))

    async def _look(self, users: np.ndarray, times: np.ndarray) -> None:
        answers = await asyncio.gather(*(self._caller.ask(user + 1) for user in users.tolist()))
        for user, at, answer in zip(users.tolist(), times.tolist(), answers, strict=True):
            self.tally.add(answer)
            self.latest_release = answer.release or self.latest_release
            self._log(answer.event(user + 1, at, self._caller.host))
            self._react(user, at, answer)

    def _react(self, user: int, at: int, answer: RecommenderAnswer) -> None:
        world, seen, rng = self._audience.world, self._audience.seen, self._audience.rng
        shown = np.array([world.catalogue.index[movie] for movie in answer.movies], np.int64)
        taken = world.react(user, shown, seen, rng) if len(shown) else None
        self.tally.taken += taken is not None
        who = np.array([user])
        what = np.array([taken]) if taken is not None else world.choose(who, seen, rng)
        self._start(who, what, np.array([at + int(rng.integers(*_DECIDES_MS))]))

    def _start(self, users: np.ndarray, movies: np.ndarray, times: np.ndarray) -> None:
        happened = self._audience.watch(users, movies, times)
        ids = self._audience.world.catalogue.ids
        for user, movie, at, minute, rating in _rows(happened):
            kind = "rate" if minute < 0 else "watch"
            self._log(Event(kind, at, user + 1, ids[movie], minute=minute, rating=rating))  # type: ignore[arg-type]

    def _log(self, event: Event) -> None:
        finer = f"{self._noise.integers(1000):03}" if event.kind == "recommend" else ""
        slot = max(event.time, self.now_ms) // SLICE_MS
        self._slices[slot].append((event.time, render(event, self._zone, finer)))

    async def _write(self, lines: list[tuple[int, bytes]]) -> None:
        lines.sort()
        noise = self._noise.random((2, len(lines)))
        for at in np.flatnonzero(noise[0] < self._settings.corrupted).tolist():
            lines[at] = (lines[at][0], self._with_stray(lines[at][1]))
            self.tally.corrupted += 1
        for at in np.flatnonzero(noise[1] < self._settings.repeated)[::-1].tolist():
            lines.insert(at, lines[at])
        # a user who opens a movie twice within a second gives equal lines as well, which no reader can tell apart
        self.tally.repeated += len(lines) - len({value for _, value in lines})
        if lines:
            await self._writer.write([value for _, value in lines], [at for at, _ in lines])
        self.tally.lines += len(lines)

    def _with_stray(self, line: bytes) -> bytes:
        place, stray = int(self._noise.integers(len(line) + 1)), int(self._noise.integers(len(_STRAY)))
        return line[:place] + _STRAY[stray : stray + 1] + line[place:]


def _rows(happened: Happenings) -> "zip[tuple[int, int, int, int, int]]":
    columns = happened.users, happened.movies, happened.times, happened.minutes, happened.ratings
    return zip(*(column.tolist() for column in columns), strict=True)
