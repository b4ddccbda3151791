"""Repair: a line with one inserted character is restored or set aside, and never made into something else."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quality.catalog import KnownIds
from quality.lines.repair import KAFKA_TIME, ONE_CHARACTER, readings, repair_candidates, repair_lines
from stream.event import Event
from stream.grammar import render
from stream.line_columns import events_of, read
from tests.quality.lines.faulty_lines import (
    CLOCK,
    CONTEXTS,
    HEAD,
    HELD,
    INSERTED,
    KNOWN,
    MOVIE,
    NEVER,
    NOW,
    a_sample,
    by_brute_force,
    context,
    events,
    fault_of,
    knowing,
    names,
    repair,
    with_inserted,
    with_one_inserted,
    with_some_edits,
)


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
def test_selected_deletions_find_the_same_readings_as_all_deletions(line: bytes, name: str, late: int) -> None:
    held, kafka_time = CONTEXTS[name], NOW + late
    reason = fault_of(line, held, kafka_time)
    if reason in NEVER or (reason == "rating_max" and line.endswith(b"=10")):
        assert repair_candidates(line, kafka_time, reason, held) == set()
    elif reason is not None:
        assert repair_candidates(line, kafka_time, reason, held) == by_brute_force(line, held, kafka_time)


@settings(deadline=None, max_examples=60)
@given(with_one_inserted() | with_some_edits(), names)
def test_every_reading_differs_from_the_line_by_one_byte(line: bytes, name: str) -> None:
    reason = fault_of(line, CONTEXTS[name], NOW)
    if reason is not None:
        deleted = pa.array([line[:at] + line[at + 1 :] for at in range(len(line))], pa.binary())
        possible = {event for kind, table in read(deleted, CLOCK).events.items() for event in events_of(kind, table)}
        assert readings(line, reason, CONTEXTS[name]) <= possible


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


def test_most_repairable_lines_are_restored_and_hardly_any_wrongly() -> None:
    sample = a_sample(2_000, np.random.default_rng(11))
    faulty = {row: reason for row, (line, _, time_ms) in enumerate(sample) if (reason := fault_of(line, HELD, time_ms))}
    values = pa.array([line for line, _, _ in sample], pa.binary())
    repairs = repair_lines(values, np.array([time_ms for _, _, time_ms in sample]), faulty, HELD)
    counts = Counter[tuple[str, bool]]()
    for row, (rule, event) in repairs.items():
        _, before, kafka_time = sample[row]
        counts[rule, event == (replace(before, time=kafka_time) if rule == KAFKA_TIME else before)] += 1
    right, wrong = counts[ONE_CHARACTER, True], counts[ONE_CHARACTER, False]
    assert right / (right + wrong) >= 0.995
    assert right / len(faulty) > 0.87
    assert counts[KAFKA_TIME, False] / counts.total() <= 0.005
    assert counts.total() / len(faulty) > 0.9


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
def test_lines_with_several_readings_or_none_are_quarantined(line: str, why: str) -> None:
    assert repair(line.replace("M", MOVIE)) is None, why


def test_equal_readings_of_different_deletions_count_once() -> None:
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
def test_an_inserted_comma_is_repaired_though_it_shifts_the_fields(line: str, user: int, minute: int) -> None:
    event = Event("watch", NOW, user, MOVIE, minute=minute)
    assert repair(line.replace("M", MOVIE)) == (ONE_CHARACTER, event)


def test_a_comma_in_the_seconds_that_leaves_a_time_is_repaired() -> None:
    event = Event("watch", NOW + 7_000, 12, MOVIE, minute=5)
    assert repair(f"2022-10-07T09:40,:07,12,GET /data/m/{MOVIE}/5.mpg") == (ONE_CHARACTER, event)


@pytest.mark.parametrize("known", [KNOWN, KnownIds()], ids=["catalogue", "no catalogue"])
def test_on_the_scale_to_five_a_ten_is_not_repaired_to_a_one(known: KnownIds) -> None:
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
