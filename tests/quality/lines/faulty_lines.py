"""Lines with faults for the tests of repair: strategies, contexts to judge them in, and repair by brute force."""

from functools import partial
from typing import get_args

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from loadtest.simulation.catalogue import make_catalogue
from quality.catalog import KnownIds
from quality.lines.context_checks import JudgingContext, context_faults, resolve_repeated_hour
from quality.lines.repair import repair_lines
from quality.lines.schemas import event_schemas
from stream.event import KINDS, Event
from stream.grammar import LineRefused, parse, render
from stream.line_columns import events_of, read, table_of
from stream.settings import Generation, StreamSettings
from stream.zone import DAY_MS, HOUR_MS, zone_named

CLOCK = zone_named("America/New_York")
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
INSERTED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -"
"""What the service is known to insert."""
CATALOGUE = make_catalogue(20_000, 1, "2022")
MOVIES = CATALOGUE.ids
RUNTIMES: dict[str, int | None] = {name: CATALOGUE.record(row)["runtime"] for row, name in enumerate(MOVIES)}
KNOWN = KnownIds({name: runtime or None for name, runtime in RUNTIMES.items()})
GENERATIONS: tuple[Generation, ...] = get_args(Generation)
Repair = tuple[str, Event] | None


def context(generation: Generation = "2022", known: KnownIds = KNOWN, ahead_ms: int | None = HOUR_MS) -> JudgingContext:
    schemas = event_schemas(StreamSettings(generation=generation))
    return JudgingContext(CLOCK, schemas, 1_000_000, ahead_ms, DAY_MS, known)


def knowing(*names: str, runtime: int | None = None) -> JudgingContext:
    return context(known=KnownIds(dict.fromkeys(names, runtime)))


HELD, UNTOLD = context(), context(known=KnownIds())


def fault_of(line: bytes, held: JudgingContext, kafka_time: int) -> str | None:
    """The reason of a line's first fault; None where it has none."""
    try:
        event = parse(line, held.zone)
    except LineRefused as refusal:
        return refusal.reason
    table, moments = table_of(event.kind, [event]), np.array([kafka_time])
    return next(
        (
            reason
            for reason, _ in context_faults(event.kind, resolve_repeated_hour(table, moments, held), moments, held)
        ),
        None,
    )


def repair(line: str | bytes, held: JudgingContext = HELD, kafka_time: int = NOW) -> Repair:
    """What becomes of a line that has a fault: the rule that repairs it and the event, None where it is set aside."""
    raw = line.encode() if isinstance(line, str) else line
    reason = fault_of(raw, held, kafka_time)
    assert reason is not None, "there is nothing to repair"
    return repair_lines(pa.array([raw], pa.binary()), np.array([kafka_time]), {0: reason}, held).get(0)


def by_brute_force(line: bytes, held: JudgingContext, kafka_time: int) -> set[Event]:
    """The events beyond doubt that come of deleting any one byte of a line."""
    deleted = [line[:at] + line[at + 1 :] for at in range(len(line))]
    columns, readings = read(pa.array(deleted, pa.binary()), held.zone), set[Event]()
    for kind in KINDS:
        moments = np.full(len(columns.rows[kind]), kafka_time)
        table = resolve_repeated_hour(columns.events[kind], moments, held)
        fine = np.ones(len(moments), bool)
        for _, broken in context_faults(kind, table, moments, held, strict=True):
            fine &= ~broken
        readings |= set(events_of(kind, table.filter(pa.array(fine))))
    return readings


whole_seconds = st.integers(-30, 30).map(lambda off: NOW + off * 60_000) | st.integers(-1800, 1800).map(
    lambda off: NOW + off * 1_000
)
users = st.integers(1, 1_000_000) | st.integers(1, 99)
movies = st.sampled_from(MOVIES)
errors = st.sampled_from(
    ["movie 1 not found", "a, 9 ms", "né", "\u20ac", "\U0001f600", "", "status 200, result: a+1999", *MOVIES[:2]]
)
recommended = partial(
    st.builds,
    Event,
    st.just("recommend"),
    st.integers(NOW - 1_000_000, NOW),
    users,
    host=st.just("a.cmu.edu:8082"),
    latency_ms=st.integers(1, 999),
)
events = st.one_of(
    st.builds(Event, st.just("watch"), whole_seconds, users, movies, minute=st.integers(0, 9)),
    st.builds(Event, st.just("rate"), whole_seconds, users, movies, rating=st.integers(1, 5)),
    st.builds(Event, st.just("account"), whole_seconds, users),
    recommended(status=st.just(200), movies=st.lists(movies, min_size=1, max_size=3).map(tuple)),
    recommended(status=st.sampled_from([0, 400]), error=errors),
)
good_lines = st.builds(render, events, st.just(CLOCK), st.sampled_from(["", "123456"]))
characters = st.one_of(
    st.sampled_from([bytes([byte]) for byte in b"0123456789 ,-:.+=/abtxGETms\n\x00[_*"]),
    st.integers(0x80, 0xFF).map(lambda byte: bytes([byte])),
    st.integers(0, 255).map(lambda byte: bytes([byte])),
)


@st.composite
def with_one_inserted(draw: st.DrawFn) -> bytes:
    line = draw(good_lines)
    at = draw(st.integers(0, len(line)))
    return line[:at] + draw(characters) + line[at:]


@st.composite
def with_some_edits(draw: st.DrawFn) -> bytes:
    line = bytearray(draw(good_lines))
    for _ in range(draw(st.integers(1, 3))):
        at, taken = draw(st.integers(0, len(line))), draw(st.integers(0, 1))
        line[at : at + taken] = draw(characters | st.just(b""))
    return bytes(line)


APART = context(ahead_ms=None)
CONTEXTS = {"catalogue": HELD, "no catalogue": UNTOLD, "2026": context("2026"), "clocks apart": APART}
names = st.sampled_from(sorted(CONTEXTS))


NEVER = {"user_unknown", "minute_runtime", "status_list"}
"""Reasons that may be no fault of the line at all."""

HEAD = "2022-10-07T09:40,5,"
MOVIE = next(name for name in MOVIES if (RUNTIMES[name] or 0) > 60)


def with_inserted(line: bytes, at: int, letter: str) -> bytes:
    return line[:at] + letter.encode() + line[at:]


Sample = list[tuple[bytes, Event, int]]
"""Damaged lines, the events that they were, Kafka's times."""


def a_sample(count: int, rng: np.random.Generator) -> Sample:
    """Lines in the service's proportions, with one character inserted at random.

    One in fifty is of a movie that is too new for the catalogue, one in fifty comes two hours late to Kafka, and one in
    fifty is past the movie's end as the catalogue has it.
    """
    sample: Sample = []
    for _ in range(count):
        row, strange = int(rng.integers(len(MOVIES))), rng.random()
        user, movie = int(rng.integers(1, 1_000_001)), MOVIES[row] if strange > 0.02 else f"a+new+one+{row}+2022"
        time = NOW + int(rng.integers(-300, 300)) * 1000
        if rng.random() < 0.9:
            last = RUNTIMES.get(movie) or 90
            minute = int(rng.integers(last + 1)) if not 0.02 < strange < 0.04 else 2 * last + 10
            event = Event("watch", time, user, movie, minute=minute)
        else:
            event = Event("rate", time, user, movie, rating=int(rng.integers(1, 6)))
        line = render(event, CLOCK)
        damaged = with_inserted(line, int(rng.integers(len(line) + 1)), INSERTED[int(rng.integers(len(INSERTED)))])
        sample.append((damaged, event, time + (2 * HOUR_MS if 0.04 < strange < 0.06 else 700)))
    return sample
