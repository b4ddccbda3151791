"""Repair: a line with one inserted character is restored or set aside, and never made into something else."""

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadtest.simulation.catalogue import make_catalogue
from quality.catalog import KnownIds
from quality.lines.context_checks import JudgingContext, context_faults, resolve_repeated_hour
from quality.lines.repair import KAFKA_TIME, ONE_CHARACTER, readings, repair_candidates, repair_lines
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
    columns, found = read(pa.array(deleted, pa.binary()), held.zone), set[Event]()
    for kind in KINDS:
        moments = np.full(len(columns.rows[kind]), kafka_time)
        table = resolve_repeated_hour(columns.events[kind], moments, held)
        fine = np.ones(len(moments), bool)
        for _, broken in context_faults(kind, table, moments, held, strict=True):
            fine &= ~broken
        found |= set(events_of(kind, table.filter(pa.array(fine))))
    return found


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


@settings(deadline=None, max_examples=200)
@given(with_one_inserted() | with_some_edits(), names, st.sampled_from([0, 700, 50 * 60_000, -50 * 60_000]))
@example(b"2022-10-07T09:40,5,recommendation request a:1, status 400, result: n\xc3\xa9\x82, 5 ms", "catalogue", 0)
@example(b"2022-10-07T09:40,5,recommendation request a:1, status 400, result: \xe2\x82\xac\x82, 5 ms", "catalogue", 0)
@example(
    b"2022-10-07T09:40,5,recommendation request a:1, status 400, result: \xf0\x9f\x98\x80\x81, 5 ms", "catalogue", 0
)
@example(b"2022-10-07T09:40,5,recommendation request a:1, status 400, result: \xe2\x82-\xac, 5 ms", "catalogue", 0)
@example(b"2022-10-07T09:40,12,345,GET /create_account", "catalogue", 0)
@example(b"2022-10-07T09:40:00.123,456,7,GET /create_account", "catalogue", 0)
def test_deletions_where_they_can_help_find_what_all_deletions_find(line: bytes, name: str, late: int) -> None:
    held, kafka_time = CONTEXTS[name], NOW + late
    reason = fault_of(line, held, kafka_time)
    if reason in NEVER or (reason == "rating_max" and line.endswith(b"=10")):
        assert repair_candidates(line, kafka_time, reason, held) == set()
    elif reason is not None:
        assert repair_candidates(line, kafka_time, reason, held) == by_brute_force(line, held, kafka_time)


@settings(deadline=None, max_examples=60)
@given(with_one_inserted() | with_some_edits(), names)
def test_every_reading_is_of_the_line_but_for_one_byte(line: bytes, name: str) -> None:
    reason = fault_of(line, CONTEXTS[name], NOW)
    if reason is not None:
        deleted = pa.array([line[:at] + line[at + 1 :] for at in range(len(line))], pa.binary())
        possible = {event for kind, table in read(deleted, CLOCK).events.items() for event in events_of(kind, table)}
        assert readings(line, reason, CONTEXTS[name]) <= possible


def with_inserted(line: bytes, at: int, letter: str) -> bytes:
    return line[:at] + letter.encode() + line[at:]


@pytest.mark.parametrize("name", sorted(CONTEXTS))
@settings(deadline=None, max_examples=60)
@given(
    events, st.floats(0, 1), st.sampled_from(INSERTED), st.integers(-60_000, 60_000), st.sampled_from(["", "123456"])
)
def test_one_inserted_character_is_never_repaired_to_something_else(
    name: str, event: Event, where: float, letter: str, late: int, finer: str
) -> None:
    line, kafka_time, held = render(event, CLOCK, finer), event.time + late, CONTEXTS[name]
    damaged = with_inserted(line, round(where * len(line)), letter)
    if fault_of(damaged, held, kafka_time) is not None and fault_of(line, held, kafka_time) is None:
        repairs = {None, (ONE_CHARACTER, event), (KAFKA_TIME, replace(event, time=kafka_time))}
        assert repair(damaged, held, kafka_time) in repairs


Sample = list[tuple[bytes, Event, int]]
"""Damaged lines, the events that they were, Kafka's times."""


def a_sample(count: int, rng: np.random.Generator) -> Sample:
    """Lines in the service's proportions, with one character inserted at random.

    One in fifty is of a movie that is too new for the catalogue, one in fifty comes two hours late to Kafka, and one in
    fifty is past the movie's end as the catalogue has it.
    """
    found: Sample = []
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
        found.append((damaged, event, time + (2 * HOUR_MS if 0.04 < strange < 0.06 else 700)))
    return found


def test_most_of_what_can_be_told_is_restored_and_hardly_anything_wrongly() -> None:
    sample = a_sample(2_000, np.random.default_rng(11))
    faulty = {row: reason for row, (line, _, at) in enumerate(sample) if (reason := fault_of(line, HELD, at))}
    values = pa.array([line for line, _, _ in sample], pa.binary())
    found = repair_lines(values, np.array([at for _, _, at in sample]), faulty, HELD)
    told = Counter[tuple[str, bool]]()
    for row, (rule, event) in found.items():
        _, before, kafka_time = sample[row]
        told[rule, event == (replace(before, time=kafka_time) if rule == KAFKA_TIME else before)] += 1
    right, wrong = told[ONE_CHARACTER, True], told[ONE_CHARACTER, False]
    assert right / (right + wrong) >= 0.995
    assert right / len(faulty) > 0.87
    assert told[KAFKA_TIME, False] / told.total() <= 0.005
    assert told.total() / len(faulty) > 0.9


HEAD = "2022-10-07T09:40,5,"
MOVIE = next(name for name in MOVIES if (RUNTIMES[name] or 0) > 60)


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
    event = Event("watch", NOW, 5, MOVIE, minute=5)
    assert repair(line.replace("M", MOVIE)) == (ONE_CHARACTER, event)


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
    held = knowing(known, "other+1999")
    assert repair(f"{HEAD}GET /rate/{line}=3", held) == (ONE_CHARACTER, Event("rate", NOW, 5, known, rating=3))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (HEAD + "GET /data/m/M/05.mpg", "minute 5, or 0"),
        (HEAD + "GET /rate/M=15", "rating 1 or 5"),
        (HEAD + "GET /rate/M=45", "rating 4 or 5"),
        ("2022-10-07T09:40,5521777,GET /data/m/M/5.mpg", "which digit of the user"),
        ("2022-10-07T09:40,4294967296,GET /data/m/M/5.mpg", "which digit of the user, and none would do"),
        (HEAD + "recommendation request a:1, status 4100, result: movie 1 not found, 5 ms", "status 100, 400 or 410"),
        (HEAD + "GET /rate/M=3x7", "two characters too many"),
        ("", "nothing"),
        ("\x00", "nothing"),
        ("2022-10-07T09:40,5", "no request"),
        (HEAD + "GET /favicon.ico", "no line of the service"),
        ("2022-10-07T09:40,,GET /data/m/M/5.mpg", "no user"),
    ],
)
def test_what_could_mean_several_things_or_none_is_set_aside(line: str, why: str) -> None:
    assert repair(line.replace("M", MOVIE)) is None, why


def test_a_line_that_is_fine_but_for_its_bytes_after_deletion_counts_once() -> None:
    # either of two equal neighbours may be the inserted one: it is the same line
    event = Event("watch", NOW, 5, MOVIE, minute=5)
    assert repair(f"{HEAD}GET  /data/m/{MOVIE}/5.mpg") == (ONE_CHARACTER, event)
    assert repair(f"{HEAD}GET /data/m/{MOVIE}/00.mpg") == (ONE_CHARACTER, replace(event, minute=0))


@pytest.mark.parametrize(
    ("line", "user", "minute"),
    [
        ("2022-10-07T09:40,1,2,GET /data/m/M/5.mpg", 12, 5),
        ("2022-10-07T09:40,,12,GET /data/m/M/5.mpg", 12, 5),
        ("2022-10-07T09:40,12,,GET /data/m/M/5.mpg", 12, 5),
        ("2022-10-07T,09:40,12,GET /data/m/M/5.mpg", 12, 5),
        (",2022-10-07T09:40,12,GET /data/m/M/5.mpg", 12, 5),
        ("2022-10-07T09:40,12,GET /data/m/M/1,5.mpg", 12, 15),
        ("2022-10-07T09:40,12,GET, /data/m/M/5.mpg", 12, 5),
    ],
)
def test_an_inserted_comma_is_found_though_it_moves_the_parts(line: str, user: int, minute: int) -> None:
    event = Event("watch", NOW, user, MOVIE, minute=minute)
    assert repair(line.replace("M", MOVIE)) == (ONE_CHARACTER, event)


def test_a_comma_in_the_seconds_that_leaves_a_time_is_found() -> None:
    event = Event("watch", NOW + 7_000, 12, MOVIE, minute=5)
    assert repair(f"2022-10-07T09:40,:07,12,GET /data/m/{MOVIE}/5.mpg") == (ONE_CHARACTER, event)


# what is known of movies ----------------------------------------------------------------------------------------


def test_the_catalogue_decides_between_several_movies() -> None:
    line = f"{HEAD}GET /rate/das+boot+19811=3"
    event = Event("rate", NOW, 5, "das+boot+1981", rating=3)
    assert repair(line, UNTOLD) is None
    assert repair(line, knowing("das+boot+1981")) == (ONE_CHARACTER, event)
    assert repair(line, knowing("das+boot+1981", "das+boot+1911")) is None


def test_a_movie_that_is_not_in_the_catalogue_is_no_repair() -> None:
    line = f"{HEAD}GET /rate/so+new+2022=3-"
    assert repair(line, knowing("other+1999")) is None
    assert repair(line, UNTOLD) == (ONE_CHARACTER, Event("rate", NOW, 5, "so+new+2022", rating=3))


def test_a_movie_that_there_is_not_is_no_repair_though_nothing_else_is_known() -> None:
    line, missing = f"{HEAD}GET /rate/so+new+2022=3-", context(known=KnownIds({}, frozenset({"so+new+2022"})))
    assert repair(line, missing) is None


def test_a_movie_that_there_is_not_is_restored_to_one_that_there_is() -> None:
    line = f"{HEAD}GET /rate/so+neww+2022=3"
    held = context(known=KnownIds({"so+new+2022": None}, frozenset({"so+neww+2022"})))
    assert repair(line, held) == (ONE_CHARACTER, Event("rate", NOW, 5, "so+new+2022", rating=3))


@pytest.mark.parametrize(("minute", "is_repaired"), [(26, True), (27, False)])
def test_a_minute_past_the_end_is_no_repair(minute: int, is_repaired: bool) -> None:
    held = knowing("short+1999", runtime=20)
    assert (repair(f"{HEAD}GET /data/m/short+1999/{minute}.mpg-", held) is not None) is is_repaired


@pytest.mark.parametrize("minute", [1000, 1234])
def test_a_minute_past_the_end_is_set_aside_though_one_digit_fewer_would_do(minute: int) -> None:
    held = knowing("long+1999", runtime=100)
    assert repair(f"{HEAD}GET /data/m/long+1999/{minute}.mpg", held) is None


@pytest.mark.parametrize("user", [1_111_111, 10_000_000, 5_521_777])
def test_a_user_above_the_largest_is_set_aside_though_one_digit_fewer_would_do(user: int) -> None:
    assert repair(f"2022-10-07T09:40,{user},GET /data/m/{MOVIE}/5.mpg") is None


def test_a_damaged_user_is_not_restored_to_one_above_the_largest() -> None:
    assert repair(f"2022-10-07T09:40,12345678x,GET /data/m/{MOVIE}/5.mpg") is None


def test_every_movie_of_a_list_must_be_known() -> None:
    line = f"{HEAD}recommendation request a:1, status 200, result: {MOVIES[1]}, {MOVIES[2]}, 5 ms-"
    assert repair(line) is not None
    assert repair(line, knowing(*MOVIES[:2])) is None
    assert repair(line, context(known=KnownIds({}, frozenset({MOVIES[2]})))) is None


@pytest.mark.parametrize(
    "damaged",
    [
        "m+1999,  n+1999, o+1999", "m+1999,, n+1999, o+1999", "m+1999, n+1999, o+19999", "m+1999, n+ 1999, o+1999",
        "[m+1999, n+1999, o+1999", "m+1999 , n+1999, o+1999", "m+1999, n+1999, xo+1999",
    ],
)  # fmt: skip
def test_a_list_is_restored_where_its_movies_say_which(damaged: str) -> None:
    names = ("m+1999", "n+1999", "o+1999")
    held = context(known=KnownIds(dict.fromkeys(names), frozenset({"xo+1999"})))
    line = f"2022-10-07T09:40:00.123,5,recommendation request a:1, status 200, result: {damaged}, 5 ms"
    event = Event("recommend", NOW + 123, 5, host="a:1", status=200, movies=names, latency_ms=5)
    assert repair(line, held) == (ONE_CHARACTER, event)


LISTED = "recommendation request a.b:1, status 200, result: M, N, O, 5 ms"


@pytest.mark.parametrize("letter", ["x", " ", ",", "0", "+", ":"])
def test_a_character_anywhere_in_a_recommendation_is_found_if_it_can_be(letter: str) -> None:
    names = {"M": MOVIES[1], "N": MOVIES[2], "O": MOVIES[3]}
    for at in range(len(LISTED) + 1):
        line = (HEAD + "".join(names.get(one, one) for one in LISTED[:at] + letter + LISTED[at:])).encode()
        reason = fault_of(line, HELD, NOW)
        if reason is not None and reason not in NEVER:
            assert repair_candidates(line, NOW, reason, HELD) == by_brute_force(line, HELD, NOW)


@pytest.mark.parametrize("status", ["2010", "2100", "2001", "1200", "20x0"])
def test_an_answer_of_known_movies_says_that_the_status_was_200(status: str) -> None:
    line = f"{HEAD}recommendation request a:1, status {status}, result: {MOVIES[1]}, {MOVIES[2]}, 5 ms"
    event = Event("recommend", NOW, 5, host="a:1", status=200, movies=tuple(MOVIES[1:3]), latency_ms=5)
    assert repair(line) == (ONE_CHARACTER, event)
    assert status == "20x0" or repair(line, UNTOLD) is None


@pytest.mark.parametrize("result", [MOVIE, ", ".join(MOVIES[:3]), "++"])
def test_a_list_beside_a_status_that_says_there_was_none_is_set_aside(result: str) -> None:
    line, held = (
        f"{HEAD}recommendation request a:1, status 400, result: {result}, 5 ms",
        knowing("++", MOVIE, *MOVIES[:3]),
    )
    assert fault_of(line.encode(), held, NOW) == "status_list"
    assert repair(line, held) is None


# ratings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [KNOWN, KnownIds()], ids=["catalogue", "no catalogue"])
def test_a_ten_is_not_made_a_one_on_the_scale_to_five(known: KnownIds) -> None:
    line = f"{HEAD}GET /rate/{MOVIE}=10"
    assert repair(line, context("2022", known)) is None
    assert fault_of(line.encode(), context("2026", known), NOW) is None


@pytest.mark.parametrize(("shown", "rating"), [("50", 5), ("33", 3), ("60", None), ("3 ", 3), ("-3", 3), ("100", None)])
def test_other_ratings_are_restored_where_one_digit_is_a_rating(shown: str, rating: int | None) -> None:
    found = repair(f"{HEAD}GET /rate/{MOVIE}={shown}")
    assert found == (None if rating is None else (ONE_CHARACTER, Event("rate", NOW, 5, MOVIE, rating=rating)))


def test_a_damaged_ten_is_restored_on_the_scale_to_ten_only() -> None:
    line, event = f"{HEAD}GET /rate/{MOVIE}=1x0", Event("rate", NOW, 5, MOVIE, rating=10)
    assert repair(line, context("2022")) is None
    assert repair(line, context("2026")) == (ONE_CHARACTER, event)


# times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("off_ms", "is_repaired"), [(0, True), (HOUR_MS, True), (HOUR_MS + 1, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_time_far_from_kafkas_is_no_repair(off_ms: int, is_repaired: bool, sign: int) -> None:
    line = f"{HEAD}GET /data/m/{MOVIE}/5.mpg-"
    assert (repair(line, kafka_time=NOW + sign * off_ms) is not None) is is_repaired


def test_kafkas_time_decides_between_two_hours() -> None:
    line = f"2022-10-07T091:40,5,GET /data/m/{MOVIE}/5.mpg"
    for hour in (1, 9):
        time = NOW + (hour - 9) * HOUR_MS
        assert repair(line, kafka_time=time) == (ONE_CHARACTER, Event("watch", time, 5, MOVIE, minute=5))


@pytest.mark.parametrize("time", ["", "x", "yesterday", "2022-13-07T09:40", "2022-10-07 at 09:40", "1999-10-07T09:40"])
def test_a_time_that_cannot_be_read_is_kafkas_where_all_else_is_good(time: str) -> None:
    line, kafka_time = f"{time},5,GET /data/m/{MOVIE}/5.mpg", NOW + 12_345
    assert repair(line, kafka_time=kafka_time) == (KAFKA_TIME, Event("watch", kafka_time, 5, MOVIE, minute=5))


def test_a_time_that_could_be_read_in_several_ways_is_kafkas() -> None:
    # 41, 40 or 10 minutes past nine
    line, kafka_time = f"2022-10-07T09:410,5,GET /data/m/{MOVIE}/5.mpg", NOW + 12_345
    assert len(repair_candidates(line.encode(), kafka_time, "time", HELD)) == 3
    assert repair(line, kafka_time=kafka_time) == (KAFKA_TIME, Event("watch", kafka_time, 5, MOVIE, minute=5))


def test_a_time_that_could_be_read_in_one_way_but_not_near_kafkas_is_kafkas() -> None:
    line, kafka_time = f"2022-10-07T0x9:40,5,GET /data/m/{MOVIE}/5.mpg", NOW + 2 * HOUR_MS
    assert repair(line, kafka_time=kafka_time) == (KAFKA_TIME, Event("watch", kafka_time, 5, MOVIE, minute=5))


@pytest.mark.parametrize(
    "rest",
    [
        "x5,GET /data/m/M/5.mpg", "5,GET /data/m/M/05.mpg", "5,GET /data/m/Mx/5.mpg", "1000001,GET /data/m/M/5.mpg",
        "5,GET /data/m/M/20001.mpg", "5,GET /rate/M=9", "5,GET /rate/M=10", "5", "",
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_read_beside_another_fault_is_set_aside(rest: str) -> None:
    assert repair(f"yesterday,{rest.replace('M', MOVIE)}") is None


@settings(deadline=None, max_examples=60)
@given(events, st.integers(NOW, NOW + 10**9), st.sampled_from(["", "yesterday", "2022-10-07T25:40"]))
def test_with_kafkas_time_all_else_is_as_the_line_says(event: Event, kafka_time: int, time: str) -> None:
    line = time.encode() + render(event, CLOCK)[len(render(event, CLOCK).partition(b",")[0]) :]
    expected = None if fault_of(render(replace(event, time=kafka_time), CLOCK), HELD, kafka_time) else event
    assert repair(line, kafka_time=kafka_time) == (
        (KAFKA_TIME, replace(event, time=kafka_time)) if expected is not None else None
    )


@pytest.mark.parametrize("late", [0, HOUR_MS])
def test_kafkas_time_is_kept_in_the_hour_that_the_clock_shows_twice(late: int) -> None:
    kafka_time = 1_667_712_600_000 + late  # 2022-11-06T01:30 in New York, for the first or for the second time
    found = repair(f"yesterday,5,GET /data/m/{MOVIE}/5.mpg", kafka_time=kafka_time)
    assert found == (KAFKA_TIME, Event("watch", kafka_time, 5, MOVIE, minute=5))


@pytest.mark.parametrize("late", [0, HOUR_MS])
def test_a_line_is_restored_to_its_own_of_two_hours_that_the_clock_shows_alike(late: int) -> None:
    time = 1_667_712_600_000 + late
    found = repair(f"2022-11-06T01:30,5,GET /data/m/{MOVIE}/5.mpg-", kafka_time=time + 700)
    assert found == (ONE_CHARACTER, Event("watch", time, 5, MOVIE, minute=5))


@pytest.mark.parametrize("time", ["yesterday", "2022-10-07T09:410"])
def test_where_the_clocks_disagree_kafkas_time_is_not_taken(time: str) -> None:
    assert repair(f"{time},5,GET /data/m/{MOVIE}/5.mpg", APART) is None


def test_where_the_clocks_disagree_no_time_is_too_far_from_kafkas() -> None:
    event = Event("watch", NOW, 5, MOVIE, minute=5)
    assert repair(f"{HEAD}GET /data/m/{MOVIE}/5.mpg-", APART, kafka_time=0) == (ONE_CHARACTER, event)


def test_a_kafka_record_without_a_time_lends_none() -> None:
    assert repair(f"yesterday,5,GET /data/m/{MOVIE}/5.mpg", kafka_time=-1) is None


# bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byte", [b"\x80", b"\xc3", b"\xff"])
@pytest.mark.parametrize("at", [0, 7, 17, 18, 19, 30, -1])
def test_a_byte_that_is_no_text_is_taken_out(byte: bytes, at: int) -> None:
    event = Event("watch", NOW, 5, MOVIE, minute=5)
    line = render(event, CLOCK)
    assert repair(line[:at] + byte + line[at:]) == (ONE_CHARACTER, event)


def test_two_bytes_that_are_no_text_are_set_aside() -> None:
    assert repair(f"{HEAD}GET /data/m/{MOVIE}/5.mpg".encode() + b"\xff\xff") is None
    assert repair(b"\xff" + f"{HEAD}GET /data/m/{MOVIE}/5.mpg".encode() + b"\xff") is None


def test_a_letter_of_two_bytes_where_either_could_go_is_set_aside() -> None:
    head, tail = HEAD.encode() + b"recommendation request a:1, status 400, result: ", b", 5 ms"
    # without its last byte it is an e with an accent, without the one before it a control character
    assert repair(head + b"\xc3\xa9\x82" + tail) is None


def test_a_line_too_long_to_try_is_set_aside() -> None:
    head, tail = f"{HEAD}recommendation request a:1, status 400, result: ", ", 5 ms"
    fits = "x" * (2_000 - len(head) - len(tail) - 1)
    assert repair(head + fits + tail + " ") is not None
    assert repair(head + fits + "x" + tail + " ") is None
    assert repair(b"\xff" * 5_000_000) is None


def test_many_lines_are_repaired_as_each_alone() -> None:
    sample = a_sample(150, np.random.default_rng(5)) * 45  # more than are judged together
    faulty = {row: reason for row, (line, _, at) in enumerate(sample[:150]) if (reason := fault_of(line, HELD, at))}
    everywhere = {row + 150 * again: reason for row, reason in faulty.items() for again in range(45)}
    assert len(everywhere) > 5_000
    values = pa.array([line for line, _, _ in sample], pa.binary())
    found = repair_lines(values, np.array([at for _, _, at in sample]), everywhere, HELD)
    for row in faulty:
        line, _, at = sample[row]
        alone = repair(line, HELD, at)
        assert {found.get(row + 150 * again) for again in range(45)} == {alone}
