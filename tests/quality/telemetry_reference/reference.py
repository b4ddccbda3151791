"""What a final report must say, computed from all lines at once with sets, dicts and loops.

Written from the definitions and not from telemetry, so that a misreading of one of them shows as a difference.

- A *line* is what it says: copies are one line, which came when the first of them came. Of a watch line the user, the
  movie and the time count, since the minutes of a user and a movie are a set of times.
- Day D *closes* at C(D): the end of D in the service's zone, plus the window, plus the grace. Its report is made of
  the lines that came before C(D), whatever their own time, and of no other.
- A line that came at or after the closing of its own day is *late*, and counted on the day on which it came.
- A *session* is a run of minutes of one user and movie with gaps of at most `gap_ms`; its first minute is a *start*.
- A start is *credited* to the user's latest answer with status 200 before it, if that is at most the window before it.
  Which one that is of answers at the same time, the definitions leave open.
- An answer is a *hit* if a start of a movie that it lists is credited to it. The first such start gives the rank; of
  two at the same time, the better place.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import product
from zoneinfo import ZoneInfo

from stream.event import Event


@dataclass(frozen=True)
class Line:
    """A line that the archive counts, accepted or repaired."""

    event: Event
    kafka_time: int
    """ms UTC."""


@dataclass(frozen=True)
class Rules:
    """The settings that figures depend on."""

    zone: str
    window_ms: int
    grace_ms: int
    gap_ms: int

    def day_of(self, time_ms: int) -> str:
        """The day of a time (ms UTC) in the service's zone."""
        return _day_of(time_ms, self.zone)

    def closing(self, day: str) -> int:
        """When a day closes, ms UTC."""
        return _end_of(day, self.zone) + self.window_ms + self.grace_ms

    def is_late(self, line: Line) -> bool:
        """Whether a line came too late for the report of its own day."""
        return line.kafka_time >= self.closing(self.day_of(line.event.time))


@dataclass(frozen=True)
class Figures:
    """What the final report of a day must say."""

    requests: dict[int, int]
    """Requests by status."""
    closed: int
    """Answers, that is requests with status 200, of which all have had their whole window."""
    possible_hits: list[dict[int, int]]
    """Hits by place of the movie in the list, the first place being 1, without places that have none. There are several
    possibilities where a user got several answers at the same time."""
    late: dict[str, int]
    """By kind: late lines that came on this day."""

    @property
    def hits_by_rank(self) -> dict[int, int]:
        """The hits, where there is one possibility."""
        (hits,) = self.possible_hits
        return hits

    @property
    def hits(self) -> int:
        return sum(self.hits_by_rank.values())


def hit_rate(hits_by_rank: Mapping[int, int], closed: int) -> float | None:
    """Hits by closed answers; None without answers."""
    return sum(hits_by_rank.values()) / closed if closed else None


def mean_reciprocal_rank(hits_by_rank: Mapping[int, int], closed: int) -> float | None:
    """The mean over closed answers, of which those that are no hits give 0; None without answers."""
    return sum(hits / rank for rank, hits in hits_by_rank.items()) / closed if closed else None


def figures_by_day(lines: Iterable[Line], rules: Rules) -> dict[str, Figures]:
    """The figures of every day that a line is of or came on."""
    lines = without_copies(lines)
    days = {rules.day_of(line.event.time) for line in lines} | {rules.day_of(line.kafka_time) for line in lines}
    return {day: figures_of(day, lines, rules) for day in sorted(days)}


def figures_of(day: str, lines: list[Line], rules: Rules) -> Figures:
    """The figures of one day; `lines` are without copies."""
    in_time = [line.event for line in lines if line.kafka_time < rules.closing(day)]
    requests = [event for event in in_time if event.kind == "recommend"]
    answers = [event for event in requests if event.status == 200]
    answers_of_day = [event for event in answers if rules.day_of(event.time) == day]
    late = [line for line in lines if rules.is_late(line) and rules.day_of(line.kafka_time) == day]
    return Figures(
        requests=dict(Counter(event.status or 0 for event in requests if rules.day_of(event.time) == day)),
        closed=len(answers_of_day),
        possible_hits=_possible_hits(answers_of_day, _credited(_starts(in_time, rules.gap_ms), answers, rules)),
        late=dict(Counter(line.event.kind for line in late)),
    )


def without_copies(lines: Iterable[Line]) -> list[Line]:
    """Each line once, with the Kafka time of the copy that came first."""
    first: dict[object, Line] = {}
    for line in lines:
        event = line.event
        same: object = (event.user, event.movie, event.time) if event.kind == "watch" else event
        if same not in first or line.kafka_time < first[same].kafka_time:
            first[same] = line
    return list(first.values())


def _starts(events: Iterable[Event], gap_ms: int) -> list[tuple[int, int, str]]:
    """Time, user and movie of the start of each session."""
    minutes: defaultdict[tuple[int, str], set[int]] = defaultdict(set)
    for event in events:
        if event.kind == "watch" and event.movie is not None:
            minutes[event.user, event.movie].add(event.time)
    starts = []
    for (user, movie), times in minutes.items():
        before = None
        for time in sorted(times):
            if before is None or time - before > gap_ms:
                starts.append((time, user, movie))
            before = time
    return starts


def _credited(
    starts: Iterable[tuple[int, int, str]], answers: list[Event], rules: Rules
) -> dict[tuple[int, int], list[tuple[int, str]]]:
    """By user and time of an answer: time and movie of the starts that are credited to it."""
    credited: defaultdict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    for time, user, movie in starts:
        before = [answer.time for answer in answers if answer.user == user and answer.time < time]
        if before and time <= max(before) + rules.window_ms:
            credited[user, max(before)].append((time, movie))
    return credited


def _possible_hits(
    answers: list[Event], credited: Mapping[tuple[int, int], list[tuple[int, str]]]
) -> list[dict[int, int]]:
    """The hits by rank of some answers, whichever one it is that gets the starts of answers at the same time."""
    ranks: defaultdict[tuple[int, int], set[int | None]] = defaultdict(set)
    for answer in answers:
        key = answer.user, answer.time
        listed = [(time, answer.movies.index(movie)) for time, movie in credited.get(key, []) if movie in answer.movies]
        ranks[key].add(1 + min(listed)[1] if listed else None)
    chosen = [Counter(rank for rank in choice if rank is not None) for choice in product(*ranks.values())]
    return [dict(hits) for number, hits in enumerate(chosen) if hits not in chosen[:number]]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=10_000)
def _day_of(time_ms: int, zone: str) -> str:
    return (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(ZoneInfo(zone)).date().isoformat()


@lru_cache(maxsize=1_000)
def _end_of(day: str, zone: str) -> int:
    next_day = date.fromisoformat(day) + timedelta(days=1)
    midnight = datetime(next_day.year, next_day.month, next_day.day, tzinfo=ZoneInfo(zone))
    return (midnight - _EPOCH) // timedelta(milliseconds=1)
