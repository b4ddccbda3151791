"""Repair of times, with Kafka's time of the record as the second source; and of bytes that are no text."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.lines.repair import KAFKA_TIME, ONE_CHARACTER, repair_candidates, repair_lines
from stream.event import Event
from stream.grammar import render
from stream.zone import HOUR_MS
from tests.quality.lines.faulty_lines import APART, CLOCK, HEAD, HELD, MOVIE, NOW, a_sample, events, fault_of, repair


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
def test_an_unreadable_time_becomes_kafkas_if_all_else_is_good(time: str) -> None:
    line, kafka_time = f"{time},5,GET /data/m/{MOVIE}/5.mpg", NOW + 12_345
    assert repair(line, kafka_time=kafka_time) == (KAFKA_TIME, Event("watch", kafka_time, 5, MOVIE, minute=5))


def test_an_ambiguous_time_becomes_kafkas() -> None:
    # 41, 40 or 10 minutes past nine
    line, kafka_time = f"2022-10-07T09:410,5,GET /data/m/{MOVIE}/5.mpg", NOW + 12_345
    assert len(repair_candidates(line.encode(), kafka_time, "time", HELD)) == 3
    assert repair(line, kafka_time=kafka_time) == (KAFKA_TIME, Event("watch", kafka_time, 5, MOVIE, minute=5))


def test_a_time_whose_only_reading_is_far_from_kafkas_becomes_kafkas() -> None:
    line, kafka_time = f"2022-10-07T0x9:40,5,GET /data/m/{MOVIE}/5.mpg", NOW + 2 * HOUR_MS
    assert repair(line, kafka_time=kafka_time) == (KAFKA_TIME, Event("watch", kafka_time, 5, MOVIE, minute=5))


@pytest.mark.parametrize(
    "rest",
    [
        "x5,GET /data/m/M/5.mpg", "5,GET /data/m/M/05.mpg", "5,GET /data/m/Mx/5.mpg", "1000001,GET /data/m/M/5.mpg",
        "5,GET /data/m/M/20001.mpg", "5,GET /rate/M=9", "5,GET /rate/M=10", "5", "",
    ],
)  # fmt: skip
def test_an_unreadable_time_beside_another_fault_is_quarantined(rest: str) -> None:
    assert repair(f"yesterday,{rest.replace('M', MOVIE)}") is None


@settings(deadline=None, max_examples=60)
@given(events, st.integers(NOW, NOW + 10**9), st.sampled_from(["", "yesterday", "2022-10-07T25:40"]))
def test_taking_kafkas_time_changes_no_other_field(event: Event, kafka_time: int, time: str) -> None:
    line = time.encode() + render(event, CLOCK)[len(render(event, CLOCK).partition(b",")[0]) :]
    expected = None if fault_of(render(replace(event, time=kafka_time), CLOCK), HELD, kafka_time) else event
    assert repair(line, kafka_time=kafka_time) == (
        (KAFKA_TIME, replace(event, time=kafka_time)) if expected is not None else None
    )


@pytest.mark.parametrize("late", [0, HOUR_MS])
def test_kafkas_time_is_kept_in_the_repeated_hour(late: int) -> None:
    kafka_time = 1_667_712_600_000 + late  # 2022-11-06T01:30 in New York, for the first or for the second time
    found = repair(f"yesterday,5,GET /data/m/{MOVIE}/5.mpg", kafka_time=kafka_time)
    assert found == (KAFKA_TIME, Event("watch", kafka_time, 5, MOVIE, minute=5))


@pytest.mark.parametrize("late", [0, HOUR_MS])
def test_a_restored_line_is_in_the_right_one_of_the_repeated_hours(late: int) -> None:
    time = 1_667_712_600_000 + late
    found = repair(f"2022-11-06T01:30,5,GET /data/m/{MOVIE}/5.mpg-", kafka_time=time + 700)
    assert found == (ONE_CHARACTER, Event("watch", time, 5, MOVIE, minute=5))


@pytest.mark.parametrize("time", ["yesterday", "2022-10-07T09:410"])
def test_where_the_clocks_disagree_kafkas_time_is_not_used(time: str) -> None:
    assert repair(f"{time},5,GET /data/m/{MOVIE}/5.mpg", APART) is None


def test_where_the_clocks_disagree_no_time_is_too_far_from_kafkas() -> None:
    event = Event("watch", NOW, 5, MOVIE, minute=5)
    assert repair(f"{HEAD}GET /data/m/{MOVIE}/5.mpg-", APART, kafka_time=0) == (ONE_CHARACTER, event)


def test_a_kafka_record_without_a_time_repairs_no_time() -> None:
    assert repair(f"yesterday,5,GET /data/m/{MOVIE}/5.mpg", kafka_time=-1) is None


@pytest.mark.parametrize("byte", [b"\x80", b"\xc3", b"\xff"])
@pytest.mark.parametrize("at", [0, 7, 17, 18, 19, 30, -1])
def test_a_byte_that_is_not_utf8_is_removed(byte: bytes, at: int) -> None:
    event = Event("watch", NOW, 5, MOVIE, minute=5)
    line = render(event, CLOCK)
    assert repair(line[:at] + byte + line[at:]) == (ONE_CHARACTER, event)


def test_a_line_with_two_bytes_that_are_not_utf8_is_quarantined() -> None:
    assert repair(f"{HEAD}GET /data/m/{MOVIE}/5.mpg".encode() + b"\xff\xff") is None
    assert repair(b"\xff" + f"{HEAD}GET /data/m/{MOVIE}/5.mpg".encode() + b"\xff") is None


def test_a_two_byte_letter_with_two_readings_is_quarantined() -> None:
    head, tail = HEAD.encode() + b"recommendation request a:1, status 400, result: ", b", 5 ms"
    # without its last byte it is an e with an accent, without the one before it a control character
    assert repair(head + b"\xc3\xa9\x82" + tail) is None


def test_a_line_too_long_to_repair_is_quarantined() -> None:
    head, tail = f"{HEAD}recommendation request a:1, status 400, result: ", ", 5 ms"
    fits = "x" * (2_000 - len(head) - len(tail) - 1)
    assert repair(head + fits + tail + " ") is not None
    assert repair(head + fits + "x" + tail + " ") is None
    assert repair(b"\xff" * 5_000_000) is None


def test_repairing_many_lines_equals_repairing_each() -> None:
    sample = a_sample(150, np.random.default_rng(5)) * 45  # more than are judged together
    faulty = {
        row: reason for row, (line, _, time_ms) in enumerate(sample[:150]) if (reason := fault_of(line, HELD, time_ms))
    }
    everywhere = {row + 150 * again: reason for row, reason in faulty.items() for again in range(45)}
    assert len(everywhere) > 5_000
    values = pa.array([line for line, _, _ in sample], pa.binary())
    repairs = repair_lines(values, np.array([time_ms for _, _, time_ms in sample]), everywhere, HELD)
    for row in faulty:
        line, _, time_ms = sample[row]
        alone = repair(line, HELD, time_ms)
        assert {repairs.get(row + 150 * again) for again in range(45)} == {alone}
