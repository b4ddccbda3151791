"""Repair of a refused line, under one principle: the known fault of the stream is exactly one inserted character.

So a line is repaired where exactly one deletion makes it a valid line *in context* (schema, known movies, near to
Kafka's time); where several different lines come out, or none, nobody knows what was meant, and it is set aside. A
wrong repair is worse than a quarantine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from quality.schemas import Schema, event_breach
from stream.event import Event, Kind
from stream.grammar import Refused, parse
from stream.zone import Zone

ONE_CHARACTER = "one_character"
"""Name of the rule, as it stands beside a repaired event."""

_LONGEST = 2_000
"""Bytes of a line that deletions are tried on: as many tries, and only strange lines come near."""


@dataclass(frozen=True)
class Context:
    """What an event is held against."""

    zone: Zone
    schemas: Mapping[Kind, Schema]
    window_ms: int
    """How far a repaired line's time may lie from Kafka's time, ms."""
    knows_movie: Callable[[str], bool] = field(default=lambda movie: True)
    """Whether a movie is in the catalogue, as far as that is known."""

    def fits(self, event: Event, kafka_time: int) -> bool:
        """Whether an event breaks no rule, names known movies only, and happened about when Kafka got it."""
        movies = (event.movie,) if event.movie is not None else event.movies
        return (
            event_breach(event.kind, event, self.schemas) is None
            and abs(event.time - kafka_time) <= self.window_ms
            and all(map(self.knows_movie, movies))
        )


def repaired(line: bytes, kafka_time: int, context: Context) -> Event | None:
    """The event that the line meant, or None where that is not certain."""
    if len(line) > _LONGEST:
        return None
    found = None
    for candidate in {line[:at] + line[at + 1 :] for at in range(len(line))}:
        try:
            event = parse(candidate, context.zone)
        except Refused:
            continue
        if context.fits(event, kafka_time):
            if found is not None:
                return None
            found = event
    return found
