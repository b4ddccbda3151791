"""Repair of faulty lines, on one principle: the stream's known fault is exactly one inserted character.

A line is repaired if deleting one character gives exactly one event that is valid *in context* (schema, known movies
and runtimes, near Kafka's time). If several different events are valid, or none, the meaning is uncertain and the line
is quarantined. Only a time has a second source: if only the time is unreadable, the record's Kafka timestamp replaces
it. A wrong repair is worse than a quarantine.

`readings` gives the well-formed events that result from deletions in one line; the readings of many lines are then
checked together, in columns, with the strict form of the checks for all events.
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
"""The rule that deletes a character; repaired events carry the name of their rule."""
KAFKA_TIME = "kafka_time"
"""The rule that takes the time from the Kafka record."""

Parsed = TypeVar("Parsed")
Repairs = dict[int, tuple[str, Event]]
"""By index of the line: the rule, and the event."""

_LONGEST = 2_000
"""Longer lines, in bytes, are not repaired; a normal line is much shorter."""
_CHUNK_LINES = 1_000
"""Lines whose readings are checked together."""
_ASKED_LINES = 200
"""Quarantined lines of a batch whose movies may be unconfirmed."""
_UNREPAIRABLE = ("clock_ahead", "empty", "too_long", "fields", "status_list", "user_unknown", "minute_runtime")
"""Reasons that no deletion repairs with certainty.

For a user or a minute out of range, a slow API or a runtime that is too short is as likely a cause as a stray digit.
"""


def repair_lines(
    values: pa.Array, kafka_times: np.ndarray, faulty: Mapping[int, str], context: JudgingContext
) -> Repairs:
    """Repair the faulty lines (index in `values`: reason) whose meaning is certain.

    `values` (binary) and `kafka_times` (int64 ms UTC) are those of the whole batch.
    """
    repairs: Repairs = {}
    faulty_rows = iter(sorted(faulty))
    while rows := list(islice(faulty_rows, _CHUNK_LINES)):
        lines = {row: values[row].as_py() for row in rows}
        candidates = {row: readings(lines[row], faulty[row], context) for row in rows}
        valid = _valid(candidates, kafka_times, context)
        repairs |= _certain(valid, kafka_times, context)
        if context.ahead_ms is not None:
            without_time = [row for row in rows if faulty[row] == "time" and row not in valid]
            retimed = {row: _with_kafka_time(lines[row], int(kafka_times[row])) for row in without_time}
            for row, events in _valid(retimed, kafka_times, context).items():
                repairs[row] = KAFKA_TIME, events.pop()
    return repairs


def repair_candidates(line: bytes, kafka_time: int, reason: str, context: JudgingContext) -> set[Event]:
    """All valid events that one faulty line could mean; a line with exactly one is repaired."""
    return _valid({0: readings(line, reason, context)}, np.array([kafka_time]), context).get(0, set())


def unconfirmed_movies(
    values: pa.Array, kafka_times: np.ndarray, quarantined: Mapping[int, str], context: JudgingContext
) -> list[frozenset[str]]:
    """For each quarantined line (index in `values`: reason) without a valid reading: the movies that the catalogue
    lacks, but that would make readings valid. Lines without such movies are left out.

    Such a line can be repaired once it is known of *all* its movies whether they exist; else the only one that is known
    might not be the only one that exists. Considers few lines of a batch: movies that nobody else named are rare.
    """
    rows = islice((row for row, reason in sorted(quarantined.items()) if reason not in _UNREPAIRABLE), _ASKED_LINES)
    candidates = {row: readings(values[row].as_py(), quarantined[row], context) for row in rows}
    ambiguous = _valid(candidates, kafka_times, context)
    unread = {row: events for row, events in candidates.items() if row not in ambiguous}
    any_movie = replace(context, known=replace(context.known, runtimes={}))
    groups = (
        frozenset(movie for event in events for movie in event.movies or (event.movie,) if movie is not None)
        for events in _valid(unread, kafka_times, any_movie).values()
    )
    return [lacking for group in groups if (lacking := group - context.known.runtimes.keys())]


def readings(line: bytes, reason: str, context: JudgingContext) -> set[Event]:
    """The well-formed events that result from one deletion in a line refused for that reason.

    Tries only deletions within the faulty part and of the commas around it: no other deletion removes the fault.
    """
    if len(line) > _LONGEST or reason in _UNREPAIRABLE:
        return set()
    if reason == "rating_max" and line.endswith(b"=10"):
        return set()  # more likely a rating on the scale to 10 than a 1 with a stray 0
    if reason == "not_utf8":
        shorter_lines = (line[:index] + line[index + 1 :] for index in _undecodable(line))
        lines = [text for shorter in shorter_lines if (text := _text(shorter)) is not None]
        return _events([text.split(",", 2) for text in lines], context.zone)
    time, user, request = line.decode().split(",", 2)
    if reason.startswith("time"):
        attempts = [[shorter, user, request] for shorter in _shorter(time)]
    elif reason.startswith("user"):
        attempts = [[time, shorter, request] for shorter in _shorter(user)]
    else:
        attempts = [
            [time, user, shorter] for shorter in _shorter(request, _faulty_span(request, reason, context.known))
        ]
    attempts += [f"{time}{user},{request}".split(",", 2), f"{time},{user}{request}".split(",", 2)]
    return _events(attempts, context.zone)


def _faulty_span(request: str, reason: str, known: KnownIds) -> range:
    """Possible positions of the inserted character in a request: in a list of movies, within the only faulty movie."""
    result = request.find(", result: ")
    if not request.startswith("rec") or result < 0 or reason not in ("status", "latency", "movies", "movie_unknown"):
        return range(len(request))
    begins, ends = result + len(", result: "), request.rfind(", ")
    if reason == "status":
        return range(begins)
    if reason == "latency":
        return range(ends - 1, len(request))
    start, at_fault = begins, []
    for movie in request[begins:ends].split(", "):
        if not is_movie(movie) or (reason == "movie_unknown" and movie not in known.runtimes):
            at_fault.append(range(start, start + len(movie)))
        start += len(movie) + len(", ")
    return at_fault[0] if len(at_fault) == 1 else range(0)


def _events(lines: list[list[str]], zone: Zone) -> set[Event]:
    """The events of those lines (split into their parts) that are well-formed. Most lines share their parts."""
    times, users = cache(partial(_or_none, parse_time, zone=zone)), cache(partial(_or_none, parse_user))
    requests = cache(partial(_or_none, parse_request, time=0, user=0))
    events = set()
    for line in lines:
        if len(line) < 3 or (time := times(line[0])) is None or (user := users(line[1])) is None:
            continue
        event = requests(line[2])
        if event is not None:
            events.add(replace(event, time=time, user=user))
    return events


def _or_none(parse: Callable[..., Parsed], text: str, **more: object) -> Parsed | None:
    try:
        return parse(text, **more)
    except LineRefused:
        return None


def _shorter(text: str, span: range | None = None) -> set[str]:
    """The texts without one ASCII character. One inserted byte never adds a whole longer character."""
    span = range(len(text)) if span is None else span
    return {text[:index] + text[index + 1 :] for index in span if text[index].isascii()}


def _undecodable(line: bytes) -> range:
    """Possible positions of an inserted byte that breaks UTF-8: where decoding fails, or in the character before."""
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


def _with_kafka_time(line: bytes, kafka_time: int) -> set[Event]:
    """The event of a line with an unreadable time, with Kafka's time; empty if the rest is unreadable, too."""
    _, user_text, request = line.decode().split(",", 2)
    user = _or_none(parse_user, user_text)
    event = None if user is None else _or_none(parse_request, request, time=kafka_time, user=user)
    return set() if event is None else {event}


def _valid(
    readings: Mapping[int, set[Event]], kafka_times: np.ndarray, context: JudgingContext
) -> dict[int, set[Event]]:
    """By index of the line: its valid readings; lines without any are left out.

    As if the stream's clock had come to the records: what a line means does not depend on it.
    """
    context = replace(context, clock=None)
    valid: dict[int, set[Event]] = {}
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
            valid.setdefault(row, set()).add(event)
    return valid


def _certain(valid: Mapping[int, set[Event]], kafka_times: np.ndarray, context: JudgingContext) -> Repairs:
    """The repairs of lines with one valid reading, or with several that differ in their time only."""
    certain: Repairs = {}
    for row, events in valid.items():
        first = next(iter(events))
        if len(events) == 1:
            certain[row] = ONE_CHARACTER, first
        elif context.ahead_ms is not None and len({_without_time(event) for event in events}) == 1:
            certain[row] = KAFKA_TIME, replace(first, time=int(kafka_times[row]))
    return certain


_without_time = attrgetter(*(field.name for field in fields(Event) if field.name != "time"))
