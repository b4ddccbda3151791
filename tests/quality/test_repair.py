"""Repair: a line with one inserted character is restored or set aside, and never made into something else."""

from collections import Counter
from functools import partial
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.catalogue import make_catalogue
from quality.repair import Context, repaired
from quality.schemas import event_breach, event_schemas
from stream.event import Event
from stream.grammar import Refused, parse, render
from stream.settings import Generation, StreamSettings
from stream.zone import zone

CLOCK = zone("America/New_York")
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
INSERTED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -"
MOVIES = make_catalogue(2_000, 1, "2022").ids
KNOWN = frozenset(MOVIES)
GENERATIONS: tuple[Generation, ...] = get_args(Generation)


def context(
    generation: Generation = "2022", known: frozenset[str] | None = KNOWN, window_ms: int = 3_600_000
) -> Context:
    schemas = event_schemas(StreamSettings(generation=generation))
    return Context(CLOCK, schemas, window_ms, lambda movie: known is None or movie in known)


def repair(line: str | bytes, held: Context | None = None, kafka_time: int = NOW) -> Event | None:
    return repaired(line.encode() if isinstance(line, str) else line, kafka_time, held or context())


whole_seconds = st.integers(-30, 30).map(lambda off: NOW + off * 60_000) | st.integers(-1800, 1800).map(
    lambda off: NOW + off * 1_000
)
users = st.integers(1, 1_000_000)
movies = st.sampled_from(MOVIES)
recommended = partial(
    st.builds, Event, st.just("recommend"), st.integers(NOW - 1_000_000, NOW), users, host=st.just("a.cmu.edu:8082")
)
events = st.one_of(
    st.builds(Event, st.just("watch"), whole_seconds, users, movies, minute=st.integers(0, 300)),
    st.builds(Event, st.just("rate"), whole_seconds, users, movies, rating=st.integers(1, 5)),
    st.builds(Event, st.just("account"), whole_seconds, users),
    recommended(
        status=st.just(200),
        movies=st.lists(movies, min_size=1, max_size=4).map(tuple),
        latency_ms=st.integers(1, 999),
    ),
    recommended(status=st.sampled_from([0, 400]), error=st.just("movie 1 not found"), latency_ms=st.integers(1, 999)),
)


def with_inserted(line: bytes, at: int, letter: str) -> bytes:
    return line[:at] + letter.encode() + line[at:]


def is_fine(line: bytes, held: Context, kafka_time: int) -> bool:
    """Whether a line cannot be told from a good one: nobody looks closer at it."""
    try:
        return event_breach((event := parse(line, CLOCK)).kind, event, held.schemas) is None
    except Refused:
        return False


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("known", [KNOWN, None], ids=["catalogue", "no catalogue"])
@settings(deadline=None, max_examples=150)
@given(
    events, st.floats(0, 1), st.sampled_from(INSERTED), st.integers(-60_000, 60_000), st.sampled_from(["", "123456"])
)
def test_one_inserted_character_is_never_repaired_to_something_else(
    generation: Generation, known: frozenset[str] | None, event: Event, where: float, letter: str, late: int, finer: str
) -> None:
    line, held = render(event, CLOCK, finer), context(generation, known)
    damaged, kafka_time = with_inserted(line, round(where * len(line)), letter), event.time + late
    if not is_fine(damaged, held, kafka_time):
        assert repair(damaged, held, kafka_time) in (None, event)


def lines_of_the_service(count: int, rng: np.random.Generator) -> list[tuple[bytes, Event]]:
    """Watch and rate lines with one character inserted at random, those that a reader can tell from good ones."""
    held = context()
    found: list[tuple[bytes, Event]] = []
    while len(found) < count:
        user, movie = int(rng.integers(1, 1_000_001)), MOVIES[int(rng.integers(len(MOVIES)))]
        time = NOW + int(rng.integers(-300, 300)) * 1000
        if rng.random() < 0.9:
            event = Event("watch", time, user, movie, minute=int(rng.integers(130)))
        else:
            event = Event("rate", time, user, movie, rating=int(rng.integers(1, 6)))
        line = render(event, CLOCK)
        damaged = with_inserted(line, int(rng.integers(len(line) + 1)), INSERTED[int(rng.integers(len(INSERTED)))])
        if not is_fine(damaged, held, NOW):
            found.append((damaged, event))
    return found


def test_most_of_what_can_be_told_is_restored_and_hardly_anything_wrongly() -> None:
    held, fates = context(), Counter[str]()
    for line, event in lines_of_the_service(1_000, np.random.default_rng(11)):
        got = repaired(line, event.time + 700, held)
        fates["set aside" if got is None else "right" if got == event else "wrong"] += 1
    assert fates["right"] / (fates["right"] + fates["wrong"]) >= 0.995
    assert fates["right"] / fates.total() > 0.9


HEAD = "2022-10-07T09:40,5,"
MOVIE = MOVIES[0]


@pytest.mark.parametrize(
    "line",
    [
        "2022-10-07T 09:40,5,GET /data/m/M/5.mpg", "2022-1k0-07T09:40,5,GET /data/m/M/5.mpg",
        "2022-100-07T09:40,5,GET /data/m/M/5.mpg", "2022-10-07T09:40,-5,GET /data/m/M/5.mpg",
        "2022-10-07T09:40,5f,GET /data/m/M/5.mpg", HEAD + "GE T /data/m/M/5.mpg", HEAD + "GET /data/m/M/e5.mpg",
        HEAD + "GET /data/m/M/ 5.mpg", HEAD + "GET /data/m/M /5.mpg", HEAD + "GET /data/m/M/5.mpgg",
        "x" + HEAD + "GET /data/m/M/5.mpg", HEAD + "GET /data/m/M/5.mpg-", "92022-10-07T09:40,5,GET /data/m/M/5.mpg",
    ],
)  # fmt: skip
def test_the_documented_corruptions_are_restored(line: str) -> None:
    event = repair(line.replace("M", MOVIE))
    assert event == Event("watch", NOW, 5, MOVIE, minute=5)


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("city+of+ god+2002", "city+of+god+2002"),
        ("tBoy+story+3+2010", "toy+story+3+2010"),
        ("testament+t1983", "testament+1983"),
        ("das+boot+19831", "das+boot+1981"),
    ],
)
def test_the_documented_faults_of_movies_are_restored(line: str, known: str) -> None:
    event = repair(f"{HEAD}GET /rate/{line}=3", context(known=frozenset({known, "other+1999"})))
    assert event == Event("rate", NOW, 5, known, rating=3)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (HEAD + "GET /data/m/M/05.mpg", "minute 5, or 0"),
        (HEAD + "GET /rate/M=15", "rating 1 or 5"),
        (HEAD + "GET /rate/M=45", "rating 4 or 5"),
        ("2022-10-07T09:40,5521777,GET /data/m/M/5.mpg", "which digit of the user"),
        ("2022-10-07T09:410,5,GET /data/m/M/5.mpg", "minute 41, 40 or 10"),
        (HEAD + "recommendation request a:1, status 2010, result: M, 5 ms", "status 200, 201, 210"),
        (HEAD + "GET /rate/M=3x7", "two characters too many"),
        ("", "nothing"),
        ("\x00\xff", "nothing"),
        (HEAD + "GET /favicon.ico", "no line of the service"),
    ],
)
def test_what_could_mean_several_things_or_none_is_set_aside(line: str, why: str) -> None:
    assert repair(line.replace("M", MOVIE)) is None, why


def test_a_line_that_is_fine_but_for_its_bytes_after_deletion_counts_once() -> None:
    # either of two equal neighbours may be the inserted one: it is the same line
    assert repair(f"{HEAD}GET  /data/m/{MOVIE}/5.mpg") == Event("watch", NOW, 5, MOVIE, minute=5)
    assert repair(f"{HEAD}GET /data/m/{MOVIE}/00.mpg") == Event("watch", NOW, 5, MOVIE, minute=0)


def test_the_catalogue_decides_between_several_movies() -> None:
    line = f"{HEAD}GET /rate/das+boot+19811=3"
    assert repair(line, context(known=None)) is None
    assert repair(line, context(known=frozenset({"das+boot+1981"}))) == Event("rate", NOW, 5, "das+boot+1981", rating=3)
    assert repair(line, context(known=frozenset({"das+boot+1981", "das+boot+1911"}))) is None


def test_every_movie_of_a_list_must_be_known() -> None:
    line = f"{HEAD}recommendation request a:1, status 200, result: {MOVIES[1]}, {MOVIES[2]}, 5 ms-"
    assert repair(line) is not None
    assert repair(line, context(known=KNOWN - {MOVIES[2]})) is None


@pytest.mark.parametrize(("off_ms", "is_repaired"), [(0, True), (3_600_000, True), (3_600_001, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_time_far_from_kafkas_is_no_repair(off_ms: int, is_repaired: bool, sign: int) -> None:
    line = f"{HEAD}GET /data/m/{MOVIE}/5.mpg-"
    assert (repair(line, kafka_time=NOW + sign * off_ms) is not None) is is_repaired


def test_kafkas_time_decides_between_two_hours() -> None:
    line = f"2022-10-07T091:40,5,GET /data/m/{MOVIE}/5.mpg"
    for hour in (1, 9):
        event = repair(line, kafka_time=NOW + (hour - 9) * 3_600_000)
        assert event is not None
        assert event.time == NOW + (hour - 9) * 3_600_000


def test_a_line_too_long_to_try_is_set_aside() -> None:
    head, tail = f"{HEAD}recommendation request a:1, status 400, result: ", ", 5 ms"
    fits = "x" * (2_000 - len(head) - len(tail) - 1)
    assert repair(head + fits + tail + " ") is not None
    assert repair(head + fits + "x" + tail + " ") is None
    assert repair(b"\xff" * 5_000_000) is None
