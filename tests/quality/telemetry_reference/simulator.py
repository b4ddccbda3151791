"""Small worlds from a seed: a few users over a few days, at all the edges of the definitions, and a stream with faults.

`make_world` makes a world in four steps: settings, what users do (`UserActivity`), how lines are sent (`_Sender`:
delays, copies, wrong clocks, stray characters), and how they lie in partitions (`_placed`). At the end comes a tail of
lines several days later in every partition, so that all days before it are final.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

from stream.event import Event
from stream.grammar import MAX_LINE_BYTES, render
from stream.kafka import RetentionGap
from stream.zone import DAY_MS, HOUR_MS, Zone, zone_named
from tests.quality.telemetry_reference.activity import UserActivity
from tests.quality.telemetry_reference.worlds import ReadingSettings, Record, RecordedWorld

MINUTE_MS = 60_000
_STRAY = "abkzABZ0159 -"
_ZONES = ("America/New_York", "America/New_York", "America/New_York", "UTC", "Asia/Kolkata", "America/Havana")
"""In Havana the clock is changed at midnight."""
_FIRST_DAYS = ("2022-02-09", "2022-03-11", "2022-03-12", "2022-03-13", "2022-11-04", "2022-11-05", "2022-11-06")
"""Most begin shortly before the clock is changed in America: on 13 March and on 6 November."""


@dataclass(frozen=True)
class Sent:
    """A line on its way."""

    value: bytes
    kafka_time: int
    """ms UTC."""
    arrives: int
    """When the record gets its offset, ms UTC: Kafka times may be in another order."""


def make_world(seed: int) -> RecordedWorld:
    """The world of a seed."""
    random = Random(seed)
    settings = _settings(random)
    zone = zone_named(settings.timezone)
    first_ms = zone.bounds(random.choice(_FIRST_DAYS))[0]
    days = random.choice([1, 1, 1, 2, 2, 3])
    events = UserActivity(random, settings, zone, first_ms, days).events()
    sent = _Sender(random, settings, zone).send(events)
    partitions = _placed(random, sent, random.choice([1, 1, 2, 2, 3, 4]))
    closing_ms = first_ms + days * DAY_MS + settings.quality().window_ms + settings.quality().grace_ms
    latest = max(line.kafka_time for line in sent if line.kafka_time < closing_ms + 30 * DAY_MS)
    tail_ms = max(closing_ms, latest) + random.randint(2, 4) * DAY_MS
    records, gaps = [], []
    for number, lines in enumerate(partitions):
        kept, gap = _with_offsets(random, number, lines, _tail(settings, zone, tail_ms, number))
        records += kept
        gaps += gap
    return RecordedWorld(settings, tuple(records), tuple(gaps))


def _settings(random: Random) -> ReadingSettings:
    window_hours = random.choice([24.0, 24.0, 24.0, 6.0, 2.0, 30.0, 0.5])
    grace_minutes = random.choice([10.0, 10.0, 0.0, 60.0, 240.0])
    usual = random.random() < 0.2
    return ReadingSettings(
        timezone=random.choice(_ZONES),
        window_hours=window_hours,
        grace_minutes=grace_minutes,
        late_hours=24.0 if random.random() < 0.3 else window_hours + grace_minutes / 60 + random.choice([1, 25, 60]),
        clock_lines=20 if usual else random.randint(2, 6),
        clock_users=10 if usual else random.randint(1, 4),
    )


class _Sender:
    """Turns events into lines as they come to Kafka."""

    def __init__(self, random: Random, settings: ReadingSettings, zone: Zone) -> None:
        self._random, self._zone, self._rules = random, zone, settings.rules()
        self._late_ms, self._grace_ms = settings.quality().late_ms, settings.quality().grace_ms
        self._disorder = random.choice([0.0, 0.2, 0.5])
        self._lateness = random.choice([0.0, 0.1, 0.25])

    def send(self, events: Iterable[Event]) -> list[Sent]:
        """All lines, by arrival."""
        sent = sorted((self._first(event) for event in events), key=_arrival)
        sent += self._copies(sent) + self._copied_range(sent) + self._odd_lines(sent)
        return sorted((self._damaged(line) for line in sent), key=_arrival)

    def _first(self, event: Event) -> Sent:
        kafka_time = self._kafka_time(event)
        if self._random.random() < 0.02:  # a clock that is minutes ahead: the line's time and Kafka's
            event = replace(event, time=event.time + self._random.randint(1, 50) * MINUTE_MS)
            return Sent(self._value(event), event.time, kafka_time)
        return Sent(self._value(event), kafka_time, self._arrives(kafka_time))

    def _value(self, event: Event) -> bytes:
        """The line, with more digits than needed now and then, or in an hour that the clock jumps over."""
        finer = self._random.choice(["", "", "000", "123", "000000"]) if event.time % 1000 else ""
        value = render(event, self._zone, finer)
        jumped = self._zone.to_local(event.time) - self._zone.to_local(event.time - HOUR_MS) == 2 * HOUR_MS
        if jumped and self._random.random() < 0.5:
            value = value[:11] + b"%02d" % (int(value[11:13]) - 1) + value[13:]
        return value

    def _kafka_time(self, event: Event) -> int:
        random, time = self._random, event.time
        if random.random() < self._lateness:
            closing = self._rules.closing(self._rules.day_of(time))
            before = self._rules.closing(self._rules.day_of(time - DAY_MS))
            return random.choice(
                [
                    closing + random.choice([-1, 0, 1]),
                    max(time, before + random.choice([-1, 0, 1])),
                    closing - random.randint(0, max(1, self._grace_ms)),
                    closing + random.randint(0, 6 * HOUR_MS),
                    time + random.randint(0, self._late_ms),
                    time + self._late_ms + random.choice([0, 1]),
                ]
            )
        if random.random() < 0.05:
            return time - random.choice([1, HOUR_MS, HOUR_MS + 1, random.randint(0, HOUR_MS)])
        if random.random() < self._disorder:
            return time + random.randint(0, self._grace_ms)
        return time + random.choice([0, random.randint(0, 3000)])

    def _arrives(self, kafka_time: int) -> int:
        late = self._random.random() < self._disorder
        return kafka_time + (self._random.randint(0, self._grace_ms) if late else 0)

    def _copies(self, sent: list[Sent]) -> list[Sent]:
        """Copies of single lines, soon after them or much later."""
        again = self._random.sample(sent, len(sent) // self._random.choice([5, 10, 40, 1000]))
        return [self._copy(line, self._random.choice([0, 2000, MINUTE_MS, HOUR_MS, 20 * HOUR_MS])) for line in again]

    def _copied_range(self, sent: list[Sent]) -> list[Sent]:
        """Copies of a whole range of lines, as a sender that lost an answer sends them."""
        if self._random.random() < 0.6:
            return []
        first = self._random.randrange(len(sent))
        last = sent[first : first + self._random.randint(2, 15)]
        return [self._copy(line, MINUTE_MS) for line in last]

    def _copy(self, line: Sent, after_ms: int) -> Sent:
        kafka_time = line.kafka_time + self._random.randint(0, after_ms)
        if self._random.random() < 0.1:  # the copy overtakes the line
            kafka_time = line.kafka_time
        return Sent(line.value, kafka_time, self._arrives(max(kafka_time, line.arrives)))

    def _odd_lines(self, sent: list[Sent]) -> list[Sent]:
        """Lines that are none, and a record of which the clock is years ahead, after the stream has begun."""
        random = self._random
        values = [b"", b"\xff\x00", b"1,2", b"2022-02-09T10:00,7,GET /data/m/" + b"a" * MAX_LINE_BYTES + b"+2000/1.mpg"]
        odd = []
        for value in values:
            if random.random() < 0.1:
                line = random.choice(sent)
                odd.append(replace(line, value=value))
        if random.random() < 0.3:
            line = sent[random.randrange(len(sent) * 3 // 4, len(sent))]
            ahead_ms = random.randint(1, 12) * 365 * DAY_MS
            value = line.value
            if random.random() < 0.5:
                value = b"%d" % (int(value[:4]) + ahead_ms // (365 * DAY_MS)) + value[4:]
            odd.append(Sent(value, line.kafka_time + ahead_ms, line.arrives))
        return odd

    def _damaged(self, line: Sent) -> Sent:
        """The line, rarely with one character inserted."""
        if not line.value or self._random.random() > 0.01:
            return line
        at = self._random.randrange(len(line.value) + 1)
        return replace(line, value=line.value[:at] + self._random.choice(_STRAY).encode() + line.value[at:])


def _arrival(line: Sent) -> int:
    return line.arrives


def _placed(random: Random, sent: list[Sent], count: int) -> list[list[Sent]]:
    """The lines of each partition, in order: any line in any of them, or the lines of a time in one of them."""
    partitions: list[list[Sent]] = [[] for _ in range(count)]
    together = random.choice([1, 1, 8])
    for first in range(0, len(sent), together):
        random.choice(partitions).extend(sent[first : first + together])
    return partitions


def _tail(settings: ReadingSettings, zone: Zone, tail_ms: int, partition: int) -> list[Sent]:
    """Lines of so many users that the clock of a partition follows them: two quorums and more."""
    count = 3 * settings.clock_lines + 2 * settings.clock_users
    times = [tail_ms + number * 20_000 + partition for number in range(count)]
    events = [Event("watch", time, 5000 + number, "tail+2000", 0) for number, time in enumerate(times)]
    return [Sent(render(event, zone), event.time, event.time) for event in events]


def _with_offsets(
    random: Random, partition: int, lines: list[Sent], tail: list[Sent]
) -> tuple[list[Record], list[RetentionGap]]:
    """The records of a partition: offsets have holes, and Kafka may have dropped some before they were read."""
    records, offset = [], random.choice([0, 0, 1000])
    for line in lines + tail:
        records.append(Record(partition, offset, line.kafka_time, line.value))
        offset += random.choice([1, 1, 1, 1, 1, 2, 3])
    if random.random() > 0.15 or len(lines) < 20:
        return records, []
    first = random.randrange(1, len(lines) - 9)
    last = first + random.randint(1, 8)
    gap = RetentionGap(partition, records[first - 1].offset + 1, records[last + 1].offset - 1)
    return records[:first] + records[last + 1 :], [gap]
