"""What the tests of the event log share: events, and the lines that the service makes of them, whole and damaged."""

import pytest
from hypothesis import strategies as st

from stream.event import Event
from stream.grammar import render
from stream.zone import DAY_MS, Zone, day_number, zone_named

NEW_YORK = zone_named("America/New_York")
local_seconds = st.one_of(
    st.integers(day_number("2000-01-01") * DAY_MS // 1000, day_number("2099-12-31") * DAY_MS // 1000),
    st.integers(0, 30 * 3600).map(lambda second: day_number("2022-11-06") * DAY_MS // 1000 + second),
    st.integers(0, 30 * 3600).map(lambda second: day_number("2022-03-13") * DAY_MS // 1000 + second),
)
"""Seconds of the wall clock: any, and around both changes of a year."""
seconds = st.one_of(local_seconds, local_seconds.map(lambda second: second // 60 * 60)).map(
    lambda second: NEW_YORK.to_utc(second * 1000)
)
moments = st.builds(lambda second, ms: int(second + ms), seconds, st.integers(0, 999))
users = st.one_of(st.integers(1, 1_000_000), st.integers(1, 2**32 - 1), st.sampled_from([1, 9, 2**32 - 1]))
titles = st.text("abcdefghijklmnopqrstuvwxyz0123456789+-._*", max_size=25)
movies = st.one_of(
    st.builds(lambda title, year: f"{title}+{year}", titles, st.integers(1880, 2030)),
    titles.map(lambda title: f"{title}+"),
    st.sampled_from(["++++++1959", "m*a*s*h+1970", "+nos+amours+1983", "endeavour+", "x" * 295 + "+1999"]),
)
fragments = st.one_of(
    st.sampled_from([", ", ",", ": ", "/", " ms", ", 12 ms", ", result: ", ", status 200", "\n", '["', "\x00", "é"]),
    st.text(max_size=8),
    st.sampled_from(["java.net.ConnectException: ", "Request timeout to http://a.b:8082/ after 800 ms"]),
)
errors = st.lists(fragments, max_size=6).map("".join)
hosts = st.sampled_from(["17645-team17.isri.cmu.edu:8082", "localhost:8082", "[::1]:8082", "10.0.0.7:80"])
events = st.one_of(
    st.builds(Event, st.just("watch"), seconds, users, movies, minute=st.integers(0, 99_999)),
    st.builds(Event, st.just("rate"), seconds, users, movies, rating=st.integers(0, 99)),
    st.builds(Event, st.just("account"), seconds, users),
    st.builds(
        Event,
        st.just("recommend"),
        moments,
        users,
        host=hosts,
        status=st.just(200),
        movies=st.lists(movies, min_size=1, max_size=20).map(tuple),
        latency_ms=st.integers(0, 999_999_999),
    ),
    st.builds(
        Event,
        st.just("recommend"),
        moments,
        users,
        host=hosts,
        status=st.sampled_from([0, 100, 201, 400, 999]),
        error=errors,
        latency_ms=st.integers(0, 2_000),
    ),
)
good_lines = st.builds(render, events, st.just(NEW_YORK), st.sampled_from(["", "123", "123456"]))
alphabet = st.one_of(st.sampled_from(list(b"0123456789 -:.,/=+Tztms\n\r\x00_*[A\xd9\xa1\xff")), st.integers(0, 255))
no_text = st.sampled_from([b"\xff", b"\x80", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
"""Bytes that are no UTF-8: stray ones, cut-off ones, too long forms, surrogates, beyond Unicode."""


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good line after one to three insertions, deletions and replacements anywhere."""
    line = bytearray(draw(good_lines))
    for _ in range(draw(st.integers(1, 3))):
        position, byte = draw(st.integers(0, len(line))), draw(alphabet)
        change = draw(st.sampled_from(["insert", "delete", "replace"]))
        line[position : position + (change != "insert")] = b"" if change == "delete" else bytes([byte])
    return bytes(line)


@st.composite
def not_utf8(draw: st.DrawFn) -> bytes:
    """A good line with bytes anywhere in it that are no UTF-8."""
    line = draw(good_lines)
    position = draw(st.integers(0, len(line)))
    return line[:position] + draw(no_text) + line[position:]


@pytest.fixture(scope="session")
def new_york() -> Zone:
    """The zone of the service's clock."""
    return NEW_YORK


@pytest.fixture(scope="session")
def an_event() -> st.SearchStrategy[Event]:
    """Any event that the service can write."""
    return events


@pytest.fixture(scope="session")
def a_line() -> st.SearchStrategy[bytes]:
    """Lines good, damaged, of no text and of no meaning at all."""
    return st.one_of(good_lines, damaged(), not_utf8(), st.binary(max_size=60))


@pytest.fixture(scope="session")
def a_good_line() -> st.SearchStrategy[bytes]:
    """Any line that the service can write."""
    return good_lines
