"""Repair of lines at fault, under one principle: the known fault of the stream is exactly one inserted character.

So a line is repaired where exactly one deletion makes it a valid line *in context* (schema, known movies and their
runtimes, near to Kafka's time); where different events come out, or none, nobody knows what was meant, and it is set
aside. Of the time alone more is known: where the rest of the line is beyond doubt and only the time cannot be read,
it is Kafka's time of the record. A wrong repair is worse than a quarantine.

`readings` are the well-formed events that a deletion makes of a line; those of many lines are held against the same
faults as all events, strictly, in columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import cache, partial
from itertools import islice
from operator import attrgetter
from typing import TypeVar

import numpy as np
import pyarrow as pa

from quality.catalog import KnownIds
from quality.lines.context_checks import JudgingContext, context_faults, resolve_repeated_hour
from stream.event import KINDS, Event
from stream.grammar import LineRefused, is_movie, parse_request, parse_time, parse_user
from stream.line_columns import events_of, table_of
from stream.zone import Zone

ONE_CHARACTER = "one_character"
"""Name of the rule for a deleted character, as it stands beside a repaired event."""
KAFKA_TIME = "kafka_time"
"""Name of the rule for a time that was taken from the Kafka record."""

Parsed = TypeVar("Parsed")
Repairs = dict[int, tuple[str, Event]]
"""By place of the line: the rule, and the event."""

_LONGEST = 2_000
"""Bytes of a line that deletions are tried on; only strange lines come near."""
_AT_ONCE = 1_000
"""Lines whose readings are judged together."""
_HOPELESS = ("empty", "too_long", "fields", "status_list", "user_unknown", "minute_runtime")
"""Reasons that no deletion mends with certainty.

A user or a minute out of range is a whole number like any other; that the API was slow, or has a runtime that is too
short, is at least as likely as a stray digit.
"""


def repair_lines(
    values: pa.Array, kafka_times: np.ndarray, faulty: Mapping[int, str], context: JudgingContext
) -> Repairs:
    """Of the lines at fault (place in `values` and reason), those of which it is certain what they meant."""
    found: Repairs = {}
    places = iter(sorted(faulty))
    while some := list(islice(places, _AT_ONCE)):
        lines = {row: values[row].as_py() for row in some}
        meanings = {row: readings(lines[row], faulty[row], context) for row in some}
        valid = _valid(meanings, kafka_times, context)
        found |= _certain(valid, kafka_times, context)
        if context.ahead_ms is not None:
            timeless = [row for row in some if faulty[row] == "time" and row not in valid]
            timed = {row: _taken_at(lines[row], int(kafka_times[row])) for row in timeless}
            found |= {row: (KAFKA_TIME, events.pop()) for row, events in _valid(timed, kafka_times, context).items()}
    return found


def repair_candidates(line: bytes, kafka_time: int, reason: str, context: JudgingContext) -> set[Event]:
    """All events that one line at fault could have meant: repaired is what could have meant only one."""
    return _valid({0: readings(line, reason, context)}, np.array([kafka_time]), context).get(0, set())


def readings(line: bytes, reason: str, context: JudgingContext) -> set[Event]:
    """The well-formed events that one deletion makes of a line, where it can mend a fault of that reason.

    Only deletions where the fault is are tried, and of the commas around: any other leaves the fault as it is.
    """
    if len(line) > _LONGEST or reason in _HOPELESS:
        return set()
    if reason == "rating_max" and line.endswith(b"=10"):
        return set()  # more likely a rating of the scale that goes to 10 than a 1 with a stray 0
    if reason == "not_utf8":
        lines = [text for at in _undecodable(line) if (text := _text(line[:at] + line[at + 1 :])) is not None]
        return _events([text.split(",", 2) for text in lines], context.zone)
    time, user, request = line.decode().split(",", 2)
    if reason.startswith("time"):
        tried = [[shorter, user, request] for shorter in _shorter(time)]
    elif reason.startswith("user"):
        tried = [[time, shorter, request] for shorter in _shorter(user)]
    else:
        tried = [[time, user, shorter] for shorter in _shorter(request, _span(request, reason, context.known))]
    tried += [f"{time}{user},{request}".split(",", 2), f"{time},{user}{request}".split(",", 2)]
    return _events(tried, context.zone)


def _span(request: str, reason: str, known: KnownIds) -> range:
    """Where in a request a character too many may stand: of a recommendation's list, in the one movie at fault."""
    result = request.find(", result: ")
    if not request.startswith("rec") or result < 0 or reason not in ("status", "latency", "movies", "movie_unknown"):
        return range(len(request))
    begins, ends = result + len(", result: "), request.rfind(", ")
    if reason == "status":
        return range(begins)
    if reason == "latency":
        return range(ends - 1, len(request))
    at, wrong = begins, []
    for movie in request[begins:ends].split(", "):
        if not is_movie(movie) or (reason == "movie_unknown" and movie not in known.runtimes):
            wrong.append(range(at, at + len(movie)))
        at += len(movie) + len(", ")
    return wrong[0] if len(wrong) == 1 else range(0)


def _events(lines: list[list[str]], zone: Zone) -> set[Event]:
    """The events of lines in parts, most of which they share; of those that are well-formed."""
    times, users = cache(partial(_or_none, parse_time, zone=zone)), cache(partial(_or_none, parse_user))
    requests = cache(partial(_or_none, parse_request, time=0, user=0))
    found = set()
    for line in lines:
        if len(line) < 3 or (time := times(line[0])) is None or (user := users(line[1])) is None:
            continue
        event = requests(line[2])
        if event is not None:
            found.add(replace(event, time=time, user=user))
    return found


def _or_none(parse: Callable[..., Parsed], text: str, **more: object) -> Parsed | None:
    try:
        return parse(text, **more)
    except LineRefused:
        return None


def _shorter(text: str, places: range | None = None) -> set[str]:
    """What is left without one of its ASCII characters; of a longer one, a single byte too many leaves no text."""
    places = range(len(text)) if places is None else places
    return {text[:at] + text[at + 1 :] for at in places if text[at].isascii()}


def _undecodable(line: bytes) -> range:
    """Where one byte too many can be that makes a line no text: where it is seen, or in the character before."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return range(max(0, error.start - 3), min(error.end + 1, len(line)))
    return range(0)


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _taken_at(line: bytes, kafka_time: int) -> set[Event]:
    """The event of a line whose time cannot be read, if the rest can."""
    _, user, request = line.decode().split(",", 2)
    who = _or_none(parse_user, user)
    event = None if who is None else _or_none(parse_request, request, time=kafka_time, user=who)
    return set() if event is None else {event}


def _valid(
    readings: Mapping[int, set[Event]], kafka_times: np.ndarray, context: JudgingContext
) -> dict[int, set[Event]]:
    """By place of the line: those of its readings that are beyond doubt; without the lines that have none."""
    found: dict[int, set[Event]] = {}
    for kind in KINDS:
        pairs = [(row, event) for row, events in readings.items() for event in events if event.kind == kind]
        if not pairs:
            continue
        rows = np.array([row for row, _ in pairs], np.int64)
        table = resolve_repeated_hour(table_of(kind, [event for _, event in pairs]), kafka_times[rows], context)
        fine = np.ones(len(rows), bool)
        for _, broken in context_faults(kind, table, kafka_times[rows], context, strict=True):
            fine &= ~broken
        for row, event in zip(rows[fine].tolist(), events_of(kind, table.filter(pa.array(fine))), strict=True):
            found.setdefault(row, set()).add(event)
    return found


def _certain(found: Mapping[int, set[Event]], kafka_times: np.ndarray, context: JudgingContext) -> Repairs:
    certain: Repairs = {}
    for row, events in found.items():
        first = next(iter(events))
        if len(events) == 1:
            certain[row] = ONE_CHARACTER, first
        elif context.ahead_ms is not None and len({_but_time(event) for event in events}) == 1:
            certain[row] = KAFKA_TIME, replace(first, time=int(kafka_times[row]))
    return certain


_but_time = attrgetter(*(field.name for field in fields(Event) if field.name != "time"))
