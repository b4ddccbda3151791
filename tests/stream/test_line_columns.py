"""The reader of a million lines against the reader of one: the same events, places and reasons, for any bytes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.event import KINDS, Event, Kind
from stream.grammar import LineRefused, parse, render
from stream.line_columns import LineColumns, events_of, read, table_of, times_of
from stream.tables import EVENT_SCHEMAS
from stream.zone import Zone

REAL = Path(__file__).parents[3] / "shared" / "real" / "lines-2022-10.txt"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"NO REAL LINES: {REAL} is missing")
HEAD = b"2022-03-18T06:12:47,"
Verdicts = tuple[dict[Kind, list[tuple[int, Event]]], list[tuple[int, str]]]
"""By kind, the place of each event and the event; the place of each refused line and the reason."""


def one_by_one(lines: list[bytes], zone: Zone) -> Verdicts:
    events: dict[Kind, list[tuple[int, Event]]] = {kind: [] for kind in KINDS}
    refused = []
    for row, line in enumerate(lines):
        try:
            event = parse(line, zone)
        except LineRefused as refusal:
            refused.append((row, str(refusal.reason)))
        else:
            events[event.kind].append((row, event))
    return events, refused


def in_columns(columns: LineColumns) -> Verdicts:
    events: dict[Kind, list[tuple[int, Event]]] = {}
    for kind in KINDS:
        table, rows = columns.events[kind], columns.rows[kind]
        assert table.schema.equals(EVENT_SCHEMAS[kind])
        assert rows.dtype == np.int64
        events[kind] = list(zip(rows.tolist(), events_of(kind, table), strict=True))
    assert columns.refused.dtype == np.int64
    return events, list(zip(columns.refused.tolist(), map(str, columns.reasons), strict=True))


def check(lines: list[bytes], zone: Zone) -> None:
    expected = one_by_one(lines, zone)
    assert in_columns(read(pa.array(lines, pa.binary()), zone)) == expected


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_lines_get_the_verdicts_of_the_exact_reader(
    a_line: st.SearchStrategy[bytes], new_york: Zone, data: st.DataObject
) -> None:
    check(data.draw(st.lists(a_line, max_size=12)), new_york)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_good_lines_are_all_read_as_by_the_exact_reader(
    a_good_line: st.SearchStrategy[bytes], new_york: Zone, data: st.DataObject
) -> None:
    lines = data.draw(st.lists(a_good_line, max_size=12))
    columns = read(pa.array(lines, pa.binary()), new_york)
    assert in_columns(columns) == one_by_one(lines, new_york)
    assert columns.reasons == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=200), max_size=30))
def test_any_bytes_get_the_verdicts_of_the_exact_reader(new_york: Zone, lines: list[bytes]) -> None:
    check(lines, new_york)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 3), st.integers(0, 5))
def test_a_slice_of_an_array_is_read_as_its_lines(
    a_line: st.SearchStrategy[bytes], new_york: Zone, data: st.DataObject, start: int, length: int
) -> None:
    lines = data.draw(st.lists(a_line, min_size=3, max_size=9))
    columns = read(pa.array(lines, pa.binary()).slice(start, length), new_york)
    assert in_columns(columns) == one_by_one(lines[start : start + length], new_york)


@settings(deadline=None)
@given(st.data())
def test_a_table_of_events_gives_back_the_events(an_event: st.SearchStrategy[Event], data: st.DataObject) -> None:
    events = data.draw(st.lists(an_event, max_size=6))
    for kind in KINDS:
        own = [event for event in events if event.kind == kind]
        table = table_of(kind, own)
        assert table.schema.equals(EVENT_SCHEMAS[kind])
        assert events_of(kind, table) == own


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_times_of_a_table_are_those_of_its_events(an_event: st.SearchStrategy[Event], data: st.DataObject) -> None:
    events = data.draw(st.lists(an_event, max_size=6))
    for kind in KINDS:
        own = [event for event in events if event.kind == kind]
        whole, pieces = table_of(kind, own), [table_of(kind, [event]) for event in own]
        for table in (whole, pa.concat_tables([whole.slice(0, 0), *pieces])):
            times = times_of(table)
            assert times.dtype == np.int64
            assert times.tolist() == [event.time for event in own]


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 3), st.integers(0, 5))
def test_selected_rows_of_a_table_give_their_events(
    an_event: st.SearchStrategy[Event], data: st.DataObject, start: int, length: int
) -> None:
    events = data.draw(st.lists(an_event, max_size=8))
    for kind in KINDS:
        own = [event for event in events if event.kind == kind]
        assert events_of(kind, table_of(kind, own).slice(start, length)) == own[start : start + length]


LONG, ASKED = b"a" * 70_000, HEAD + b"5,recommendation request "
LIMITS = [
    ASKED + LONG + b":1, status 200, result: a+1984, 1 ms",
    ASKED + b"a" * 60_000 + b":1, status 200, result: a+1984, 1 ms",
    ASKED + b"a:1, status 200, result: " + LONG + b"+1984, 1 ms",
    ASKED + b"a:1, status 200, result: a+1984" + b", b+" * 19 + b", 1 ms",
    ASKED + b"a:1, status 200, result: a+1984" + b", b+" * 20 + b", 1 ms",
    ASKED + b"a:1, status 200, result: " + b", " * 30_000 + b", 1 ms",
    ASKED + b"a:1, status 200, result: a+1984, 5 ms, 1 ms",
    ASKED + b"a:1, status 200, result: a+1984,b+1984, 1 ms",
    ASKED + b"a:1, status 200, result: a+1984,  b+1984, 1 ms",
    ASKED + b"a:1, status 200, result: a+1984, , 1 ms",
    ASKED + b"a:1, status 200, result: a+1984, 999999999 ms",
    ASKED + b"a:1, status 200, result: a+1984, 1000000000 ms",
    ASKED + b"a:1, status 200, result: a+1984, 1 ms\n",
    ASKED + b"\xd9\xa1:1, status 200, result: a+1984, 1 ms",
    ASKED + b"a:1, status 200, result: " + b"a" * 296 + b"+1984, 1 ms",
    ASKED + b"a:1, status 0, result: " + b"x" * 70_000 + b", 1 ms",
    ASKED + b"a:1, status 0, result: a+1984, 819 ms",
    ASKED + b"a:1, status 0, result: a+1984,b+1984, 819 ms",
    ASKED + b"a:1, status 0, result: a+1984, b+1984, 819 ms",
    HEAD + b"4294967295,GET /data/m/a+1984/0.mpg",
    HEAD + b"4294967296,GET /data/m/a+1984/0.mpg",
    HEAD + b"9999999999,GET /rate/a+1984=0",
    HEAD + b"10000000000,GET /rate/a+1984=99",
    HEAD + b"5,GET /rate/a+1984=100",
    HEAD + b"5,GET /data/m/a+1984/99999.mpg",
    HEAD + b"5,GET /data/m/a+1984/100000.mpg",
    HEAD + b"5,GET /data/m/" + b"a" * 295 + b"+1984/7.mpg",
    HEAD + b"5,GET /data/m/" + b"a" * 296 + b"+1984/7.mpg",
    HEAD + b"5,GET /data/m/" + b"a" * 70_000 + b"+1984/7.mpg",
    HEAD + b"5,GET /data/m/a+1984/7.mpg\n",
    HEAD + b"5,GET /data/m/a+1984/7.mpg\n" + HEAD + b"5,GET /data/m/a+1984/7.mpg",
    b"\n" + HEAD + b"5,GET /data/m/a+1984/7.mpg",
    HEAD + b"5,GET /rate/a+1984=3\x00",
    b"2022-02-30T06:12:47,5,GET /rate/a+1984=3",
    b"2022-03-18T06:12:47.1234,5,GET /rate/a+1984=3",
    b"2022-03-18T06:12:47.123456789,5,GET /rate/a+1984=3",
    b"1970-01-01T00:00,5,GET /rate/a+1984=3",
    b"2022-11-06T01:30,5,GET /rate/a+1984=3",
    b"2022-03-13T02:30,5,GET /rate/a+1984=3",
]


def test_lines_at_the_limits_get_the_verdicts_of_the_exact_reader(new_york: Zone) -> None:
    check(LIMITS, new_york)
    for line in LIMITS:
        check([line], new_york)


@pytest.mark.parametrize("filling", [b"a", b"+", b",", b"9", b" ", b"\xff", b"\x00", b"a+, "])
def test_lines_of_a_megabyte_are_too_long_and_affect_no_other_line(new_york: Zone, filling: bytes) -> None:
    heads = [b"", HEAD, HEAD + b"5,GET /data/m/", HEAD + b"5,GET /rate/", ASKED, ASKED + b"a:1, status 200, result: "]
    good, long = HEAD + b"5,GET /rate/a+1984=3", filling * (1_000_000 // len(filling))
    lines = [good] + [head + long + tail for head in heads for tail in (b"", b"+1984/5.mpg", b", 1 ms")] + [good]
    columns = read(pa.array(lines, pa.binary()), new_york)
    assert columns.reasons == ["too_long"] * (len(lines) - 2)
    assert columns.rows["rate"].tolist() == [0, len(lines) - 1]


def test_a_nul_or_a_line_end_anywhere_gets_the_verdict_of_the_exact_reader(new_york: Zone) -> None:
    for line in (HEAD + b"5,GET /rate/a+1984=3", HEAD + b"5,GET /data/m/a+1984/5.mpg", LIMITS[10]):
        check([line[:at] + byte + line[at:] for at in range(len(line) + 1) for byte in (b"\0", b"\n")], new_york)


def test_no_lines_give_no_events(new_york: Zone) -> None:
    columns = read(pa.array([], pa.binary()), new_york)
    assert in_columns(columns) == ({kind: [] for kind in KINDS}, [])


def test_alternating_kinds_keep_the_rows_of_their_lines(new_york: Zone) -> None:
    lines = [
        render(replace(event, time=1_647_619_200_000 + 1000 * number, user=number + 1), new_york)
        for number in range(40)
        for event in EVENTS.values()
    ]
    columns = read(pa.array(lines, pa.binary()), new_york)
    assert in_columns(columns) == one_by_one(lines, new_york)
    assert sorted(np.concatenate(list(columns.rows.values())).tolist()) == list(range(len(lines)))


EVENTS: dict[Kind, Event] = {
    "watch": Event("watch", 0, 1, movie="a+1984", minute=3),
    "rate": Event("rate", 0, 1, movie="b+1984", rating=3),
    "recommend": Event("recommend", 0, 1, host="a:1", status=0, error="none", latency_ms=1),
    "account": Event("account", 0, 1),
}


@needs_real
def test_the_real_lines_are_all_well_formed_and_read_alike(new_york: Zone) -> None:
    lines = REAL.read_bytes().split(b"\n")[:-1]
    columns = read(pa.array(lines, pa.binary()), new_york)
    counts = {kind: table.num_rows for kind, table in columns.events.items()}
    assert counts == {"watch": 36_730, "rate": 242, "recommend": 370, "account": 0}
    assert columns.reasons == []
    assert in_columns(columns) == one_by_one(lines, new_york)


@needs_real
def test_the_real_lines_are_written_again_as_they_were(new_york: Zone) -> None:
    lines = REAL.read_bytes().split(b"\n")[:-1]
    plain = [line for line in lines if b"recommendation" not in line]
    assert len(plain) == 36_972
    assert [render(parse(line, new_york), new_york) for line in plain] == plain
