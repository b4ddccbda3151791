"""The exact reader: what the service writes is read as it was meant, and nothing near it."""

import csv
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.event import KINDS, Event, Kind
from stream.grammar import MAX_LINE_BYTES, LineRefused, is_movie, parse, parse_time, parse_user, render, render_time
from stream.zone import Zone

REAL = Path(__file__).parents[3] / "shared" / "real"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"NO REAL LINES: {REAL} is missing")

WATCH = b"2022-03-18T06:12:47,326332,GET /data/m/ghostbusters+1984/54.mpg"
RATE = b"2022-03-18T05:55:11,118106,GET /rate/grumpier+old+men+1995=3"
ACCOUNT = b"2026-02-14T10:30:03,99999,GET /create_account"
ASKED = b"2022-02-08T18:06:56.145104,284507,recommendation request 17645-team17.isri.cmu.edu:8082, "
ANSWERED = ASKED + b"status 200, result: boxing+helena+1993, aliens+1986, home+alone+1990, 133 ms"
NOON_UTC = 1_647_619_200_000  # 2022-03-18T12:00 in New York


def reason_of(line: bytes, zone: Zone) -> str:
    with pytest.raises(LineRefused) as refusal:
        parse(line, zone)
    assert str(refusal.value).startswith(f"{refusal.value.reason}: ")
    assert "\n" not in str(refusal.value)
    return refusal.value.reason


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(["", "123", "000456"]))
def test_written_events_are_parsed_back(
    an_event: st.SearchStrategy[Event], new_york: Zone, data: st.DataObject, finer: str
) -> None:
    event = data.draw(an_event)
    assert parse(render(event, new_york, finer), new_york) == event


def test_the_documented_lines_are_read(new_york: Zone) -> None:
    assert parse(WATCH, new_york) == Event("watch", 1_647_598_367_000, 326332, "ghostbusters+1984", minute=54)
    assert parse(RATE, new_york) == Event("rate", 1_647_597_311_000, 118106, "grumpier+old+men+1995", rating=3)
    assert parse(ACCOUNT, new_york) == Event("account", 1_771_083_003_000, 99999)
    answered = parse(ANSWERED, new_york)
    assert answered.movies == ("boxing+helena+1993", "aliens+1986", "home+alone+1990")
    assert (answered.host, answered.status, answered.latency_ms, answered.error, answered.time) == (
        "17645-team17.isri.cmu.edu:8082", 200, 133, None, 1_644_361_616_145,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2022-03-18T12:00", 0),
        ("2022-03-18T12:00:07", 7_000),
        ("2022-03-18T12:00:00.123", 123),
        ("2022-03-18T12:00:00.123999", 123),
        ("2022-03-18T12:00:59.000999999", 59_000),
        ("2022-03-18T23:59:59", 43_199_000),
    ],
)
def test_every_form_of_a_time_is_read_to_the_millisecond(new_york: Zone, text: str, ms: int) -> None:
    assert parse_time(text, new_york) == NOON_UTC + ms


@pytest.mark.parametrize(
    ("ms", "finer", "text"),
    [
        (0, "", "2022-03-18T12:00"),
        (0, "000", "2022-03-18T12:00"),
        (7_000, "", "2022-03-18T12:00:07"),
        (120, "", "2022-03-18T12:00:00.120"),
        (0, "010", "2022-03-18T12:00:00.000010"),
        (5, "000001", "2022-03-18T12:00:00.005000001"),
    ],
)
def test_times_are_written_as_java_writes_them(new_york: Zone, ms: int, finer: str, text: str) -> None:
    assert render_time(NOON_UTC + ms, new_york, finer) == text


FORMS = {
    r"\d\d:\d\d": (0, ""),
    r"\d\d:\d\d:\d\d": (7_000, ""),
    r"\d\d:\d\d:\d\d\.\d{3}": (7_120, ""),
    r"\d\d:\d\d:\d\d\.\d{6}": (120, "456"),
    r"\d\d:\d\d:\d\d\.\d{9}": (59_000, "000001"),
}
"""By form of a time of day: milliseconds above the minute, and digits below the millisecond, that are written so."""
EVENTS: dict[Kind, Event] = {
    "watch": Event("watch", 0, 1, movie="m*a*s*h+1970", minute=54),
    "rate": Event("rate", 0, 1, movie="endeavour+", rating=3),
    "recommend": Event(
        "recommend", 0, 1, host="a.b-c:8082", status=200, movies=("a+1984", "++++++1959"), latency_ms=133
    ),
    "account": Event("account", 0, 1),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 700_000), st.integers(1, 2**32 - 1))
def test_every_kind_is_parsed_back_with_every_form_of_a_time(
    new_york: Zone, kind: Kind, form: str, minutes: int, user: int
) -> None:
    ms, finer = FORMS[form]
    local = new_york.to_local(NOON_UTC) + minutes * 60_000 + ms
    event = replace(EVENTS[kind], time=new_york.to_utc(local), user=user)
    line = render(event, new_york, finer)
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT{form},{user},.*", line.decode())
    assert parse(line, new_york) == event


@pytest.mark.parametrize(
    "text",
    [
        "", "2022-03-18", "2022-03-18T12", "2022-03-18T12:0", "2022-03-18 12:00", "2022-03-18t12:00",
        "2022-03-18T12:00Z", "2022-03-18T12:00+01:00", "2022-03-18T12:00\n", " 2022-03-18T12:00", "2022-03-18T12:00:",
        "2022-03-18T12:00:00.", "2022-03-18T12:00:00.1", "2022-03-18T12:00:00.12", "2022-03-18T12:00:00.1234",
        "2022-03-18T12:00:00.12345", "2022-03-18T12:00:00.1234567", "2022-03-18T12:00:00.12345678",
        "2022-03-18T12:00:00.1234567890", "2022-03-18T12:00.123", "2022-3-18T12:00", "22-03-18T12:00",
        "2022-00-18T12:00", "2022-13-18T12:00", "2022-02-29T12:00", "2022-03-32T12:00", "2022-03-00T12:00",
        "2022-03-18T24:00", "2022-03-18T12:60", "2022-03-18T12:00:60", "1999-12-31T12:00", "2100-01-01T00:00",
        "-2022-03-18T12:00", "٢٠٢٢-03-18T12:00", "2022-03-18T1\u0662:00",
    ],
)  # fmt: skip
def test_a_time_in_any_other_form_is_refused(new_york: Zone, text: str) -> None:
    with pytest.raises(LineRefused, match=r"^time: "):
        parse_time(text, new_york)


@pytest.mark.parametrize(
    "text",
    ["", "0", "01", "-1", "+1", "1.0", "1e3", "4294967296", "99999999999", " 1", "1 ", "1\n", "\u0661", "5\u0661", "²"],
)
def test_a_user_in_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(LineRefused, match=r"^user: "):
        parse_user(text)


HEAD = b"2022-03-18T06:12:47,5,"
REFUSED = [
    ("empty", b""),
    ("too_long", b"x" * (MAX_LINE_BYTES + 1)),
    ("not_utf8", b"\xff"),
    ("not_utf8", HEAD + b"GET /data/m/a+1984\xc3/5.mpg"),
    ("fields", b"2022-03-18T06:12:47"),
    ("fields", b"2022-03-18T06:12:47,5"),
    ("fields", b"\x00"),
    ("time", b",,"),
    ("time", b"\x00" + WATCH),
    ("time", b"\xef\xbb\xbf" + WATCH),
    ("user", b"2022-03-18T06:12:47,,GET /data/m/a+1984/5.mpg"),
    ("request", HEAD),
    ("request", HEAD + b"get /data/m/a+1984/5.mpg"),
    ("request", HEAD + b"GET /data/m"),
    ("request", HEAD + b"GET /create_account "),
    ("request", HEAD + b"GET /create_account\n"),
    ("request", HEAD + b"recommendation request , status 200, result: a+1984, 1 ms"),
    ("request", HEAD + b"recommendation request a b:8082, status 200, result: a+1984, 1 ms"),
    ("movie", HEAD + b"GET /data/m/54.mpg"),
    ("movie", HEAD + b"GET /data/m/a+1984\x00/54.mpg"),
    ("movie", HEAD + b"GET /data/m/a+1984/b/54.mpg"),
    ("movie", HEAD + b"GET /data/m/am\xc3\xa9lie+2001/54.mpg"),
    ("movie", HEAD + b"GET /data/m/a+198/54.mpg"),
    ("movie", HEAD + b"GET /data/m/a+\xd9\xa1\xd9\xa9\xd9\xa8\xd9\xa4/54.mpg"),
    ("movie", HEAD + b"GET /data/m/" + b"a" * 296 + b"+1984/54.mpg"),
    ("movie", HEAD + b"GET /rate/=3"),
    ("minute", HEAD + b"GET /data/m/a+1984/054.mpg"),
    ("minute", HEAD + b"GET /data/m/a+1984/.mpg"),
    ("minute", HEAD + b"GET /data/m/a+1984/100000.mpg"),
    ("minute", HEAD + b"GET /data/m/a+1984/5"),
    ("minute", HEAD + b"GET /data/m/a+1984/\xd9\xa1.mpg"),
    ("minute", HEAD + b"GET /data/m/a+1984/5\xd9\xa1.mpg"),
    ("rating", HEAD + b"GET /rate/a+1984=1\xd9\xa1"),
    ("status", ASKED + b"status 2\xd9\xa1\xd9\xa1, result: a+1984, 1 ms"),
    ("latency", ASKED + b"status 400, result: none, 1\xd9\xa1 ms"),
    ("request", HEAD + b"recommendation request \xd9\xa1:8082, status 200, result: a+1984, 1 ms"),
    ("minute", HEAD + b"GET /data/m/a+1984/5.mpg\n"),
    ("rating", HEAD + b"GET /rate/a+1984="),
    ("rating", HEAD + b"GET /rate/a+1984"),
    ("rating", HEAD + b"GET /rate/a+1984=3=3"),
    ("rating", HEAD + b"GET /rate/a+1984=03"),
    ("rating", HEAD + b"GET /rate/a+1984=100"),
    ("rating", HEAD + b"GET /rate/a+1984=3.5"),
    ("status", ASKED + b"status 20, result: a+1984, 1 ms"),
    ("status", ASKED + b"status 099, result: a+1984, 1 ms"),
    ("status", ASKED + b"status 200 result: a+1984, 1 ms"),
    ("status", ASKED + b"status -1, result: a+1984, 1 ms"),
    ("movies", ASKED + b"status 200, result: , 1 ms"),
    ("movies", ASKED + b"status 200, result: a+1984,b+1984, 1 ms"),
    ("movies", ASKED + b"status 200, result: " + b", ".join([b"a+1984"] * 21) + b", 1 ms"),
    ("movies", ASKED + b'status 200, result: ["a+1984"], 1 ms'),
    ("latency", ASKED + b"status 200, result: 1 ms"),
    ("latency", ASKED + b"status 400, result: movie 1 not found, 1  ms"),
    ("latency", ASKED + b"status 400, result: movie 1 not found, 01 ms"),
    ("latency", ASKED + b"status 400, result: movie 1 not found, -1 ms"),
    ("latency", ASKED + b"status 400, result: movie 1 not found, 1000000000 ms"),
    ("latency", ASKED + b"status 400, result: movie 1 not found, 1 ms\n"),
]


@pytest.mark.parametrize(("reason", "line"), REFUSED)
def test_the_reason_names_the_first_wrong_field(new_york: Zone, reason: str, line: bytes) -> None:
    assert reason_of(line, new_york) == reason


CORRUPTED = [
    ("time", b"2022-10-28T 04:23:23,5,GET /data/m/a+1984/5.mpg"),
    ("time", b"2022-1k0-28T04:23:23,5,GET /data/m/a+1984/5.mpg"),
    ("time", b"2024-170-14T15:34:12,5,GET /data/m/a+1984/5.mpg"),
    ("user", b"2022-10-28T04:23:23,-25611,GET /data/m/a+1984/5.mpg"),
    ("user", b"2022-10-28T04:23:23,24f162,GET /data/m/a+1984/5.mpg"),
    ("request", HEAD + b"GE T /data/m/a+1984/5.mpg"),
    ("minute", HEAD + b"GET /data/m/a+1984/e96.mpg"),
    ("minute", HEAD + b"GET /data/m/a+1984/ 155.mpg"),
    ("movie", HEAD + b"GET /data/m/city+of+ god+2002/5.mpg"),
    ("movie", HEAD + b"GET /data/m/tBoy+story+3+2010/5.mpg"),
    ("movie", HEAD + b"GET /rate/testament+t1983=3"),
]


@pytest.mark.parametrize(("reason", "line"), CORRUPTED)
def test_the_documented_corruptions_are_refused(new_york: Zone, reason: str, line: bytes) -> None:
    assert reason_of(line, new_york) == reason


def test_an_inserted_digit_can_stay_well_formed(new_york: Zone) -> None:
    assert parse(b"2022-10-28T04:23:23,5521777,GET /data/m/a+1984/5.mpg", new_york).user == 5521777
    assert parse(HEAD + b"GET /rate/das+boot+1981=15", new_york).rating == 15


@pytest.mark.parametrize(
    "text",
    [
        "",
        "movie 1 not found",
        'movie ["winter+in+wartime+2008" not found',
        "invalid recommendation format (empty)",
        "java.util.concurrent.TimeoutException: Request timeout to a.b.edu:8082 after 800 ms",
        "java.net.ConnectException: Connection refused: a/1.2.3.4:8082, 99 ms",
        "dispatch.StatusCode: Unexpected response status: 500",
        "x, status 200, result: a+1984, 5 ms",
        "aliens+1986",
        "glory+1989,pulp+fiction+1994",
        "glory+1989, pulp+fiction+1994",
        "héllo \U0001f600 \x00\n",
    ],
)
@pytest.mark.parametrize("status", [0, 400])
def test_error_texts_of_any_content_are_kept_whole(new_york: Zone, text: str, status: int) -> None:
    event = parse(ASKED + f"status {status}, result: {text}, 1369 ms".encode(), new_york)
    assert (event.status, event.error, event.movies, event.latency_ms) == (status, text, (), 1369)


def test_a_line_of_a_megabyte_is_refused_at_once(new_york: Zone) -> None:
    began = time.process_time()
    for filling in (b"a", b"+", b",", b"9", b"\xff", b"\x00"):
        assert reason_of(HEAD + b"GET /data/m/" + filling * 1_000_000, new_york) == "too_long"
    assert time.process_time() - began < 10  # a reader that tries every position of every part never ends


def test_a_line_of_the_longest_length_is_read(new_york: Zone) -> None:
    ends = ASKED + b"status 400, result: ", b", 1 ms"
    filling = b"x" * (MAX_LINE_BYTES - len(ends[0]) - len(ends[1]))
    assert parse(ends[0] + filling + ends[1], new_york).error == filling.decode()
    assert reason_of(ends[0] + filling + b"x" + ends[1], new_york) == "too_long"


@pytest.mark.parametrize("filling", ["a" * 30_000, "+" * 30_000, "1" * 30_000, "a+" * 15_000, ", " * 15_000])
def test_no_line_takes_long_to_refuse(new_york: Zone, filling: str) -> None:
    began = time.process_time()
    for head in ("GET /data/m/", "GET /rate/", "recommendation request ", ""):
        reason_of(HEAD + f"{head}{filling}!".encode(), new_york)
        reason_of(f"{filling}!,5,{head}".encode(), new_york)
    assert (
        time.process_time() - began < 1.5
    )  # takes hundredths of a second; trying every position of every part takes longer


@needs_real
def test_every_real_movie_id_has_the_form_of_one() -> None:
    with (REAL / "movies.csv").open(encoding="utf-8", newline="") as file:
        names = [row["id"] for row in csv.DictReader(file)]
    assert len(names) == 26_870
    assert [name for name in names if not is_movie(name)] == []
