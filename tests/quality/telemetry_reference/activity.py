"""What the users of a small world do: they ask, watch and rate, mostly at the edges of the definitions."""

from collections.abc import Iterator
from random import Random

from stream.event import Event
from stream.zone import DAY_MS, HOUR_MS, Zone
from tests.quality.telemetry_reference.worlds import ReadingSettings

MINUTE_MS = 60_000
MOVIES = [f"movie+{year}" for year in range(1980, 1998)]
ERRORS = ("timed out", "movie 1 not found", "movie+1980,movie+1981", "a, b: 5 ms")


class UserActivity:
    """The events of a few users over some days that begin at `first_ms`."""

    def __init__(self, random: Random, settings: ReadingSettings, zone: Zone, first_ms: int, days: int) -> None:
        self._random, self._zone, self._first_ms, self._days = random, zone, first_ms, days
        self._window_ms, self._gap_ms = settings.quality().window_ms, settings.quality().gap_ms

    def events(self) -> list[Event]:
        """All events, in no order."""
        random = self._random
        events = list(self._others())
        for user in range(1, random.randint(3, 14)):
            movies = random.sample(MOVIES, random.randint(2, len(MOVIES)))
            for _ in range(random.randint(1, 4)):
                events += self._visit(user, movies)
        return events

    def _others(self) -> Iterator[Event]:
        """Users who watch now and then, so that the stream's clock goes on."""
        step_ms = self._random.choice([HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS])
        for number in range(self._days * DAY_MS // step_ms):
            time = self._first_ms + number * step_ms + self._random.randrange(step_ms)
            yield Event("watch", time, 100 + number % 40, self._random.choice(MOVIES), number)

    def _moment(self) -> int:
        """A time in the days: any, near midnight, or about the hour in which clocks are changed."""
        random = self._random
        day_ms = self._zone.bounds(self._day(random.randrange(self._days)))[0]
        return day_ms + random.choice(
            [
                random.randrange(DAY_MS),
                random.randrange(DAY_MS),
                random.choice([-1000, -1, 0, 1, 1000]),
                random.randint(-HOUR_MS, HOUR_MS),
                random.randint(0, 4 * HOUR_MS),
                random.randrange(24) * HOUR_MS,
            ]
        )

    def _day(self, number: int) -> str:
        return self._zone.day(self._first_ms + number * DAY_MS + DAY_MS // 2)

    def _visit(self, user: int, movies: list[str]) -> Iterator[Event]:
        """A user asks, once or several times, and watches, or not."""
        random, time = self._random, self._moment()
        listed = random.sample(movies, random.randint(1, len(movies)))
        yield self._answer(user, time, listed)
        while random.random() < 0.3:
            after_ms = random.choice([0, 0, 1, random.randint(1, HOUR_MS), random.randint(1, self._window_ms)])
            yield self._answer(user, time + after_ms, random.sample(movies, random.randint(1, len(movies))))
        for _ in range(random.choice([0, 1, 1, 2, 3])):
            movie = random.choice(listed if random.random() < 0.75 else MOVIES)
            start = time + self._delay_ms()
            yield from self._session(user, start, movie)
            if random.random() < 0.2:  # another movie at the same time
                yield Event("watch", start, user, random.choice(listed), 0)
            if random.random() < 0.2:
                yield Event("rate", start + random.randint(1, HOUR_MS), user, movie, rating=random.randint(1, 5))
        if random.random() < 0.05:
            yield Event("account", time - 1000, user)

    def _delay_ms(self) -> int:
        """How long after an answer a start is."""
        random, window_ms = self._random, self._window_ms
        return random.choice(
            [
                random.choice([-1, 0, 1]),
                window_ms + random.choice([-1, 0, 1]),
                random.randint(1, window_ms),
                random.randint(1, window_ms),
                random.randint(1, 20) * MINUTE_MS,
                window_ms + random.randint(1, 2 * HOUR_MS),
                -random.randint(1, self._gap_ms),
            ]
        )

    def _session(self, user: int, start: int, movie: str) -> Iterator[Event]:
        """Minutes of a movie; some before the start and some after a pause, as long as a session may have or not."""
        random, minute = self._random, 0
        if random.random() < 0.25:
            yield Event("watch", start - self._gap_ms - random.choice([-1, 0, 1]), user, movie, minute)
        for minute in range(random.randint(1, 4)):
            yield Event("watch", start + minute * MINUTE_MS, user, movie, minute)
        if random.random() < 0.25:
            resumed = start + minute * MINUTE_MS + self._gap_ms + random.choice([-1, 0, 1])
            yield Event("watch", resumed, user, movie, minute + 1)

    def _answer(self, user: int, time: int, movies: list[str]) -> Event:
        random = self._random
        host, latency_ms = f"team{random.randint(1, 2)}:8082", random.randint(1, 3)
        status = random.choice([200, 200, 200, 200, 200, 0, 400])
        if status == 200:
            return Event("recommend", time, user, host=host, status=200, movies=tuple(movies), latency_ms=latency_ms)
        error = random.choice(ERRORS)
        return Event("recommend", time, user, host=host, status=status, latency_ms=latency_ms, error=error)
