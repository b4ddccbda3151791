"""A chunked body is read to its end and no further, however it is cut; a malformed one is refused."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanic.exceptions import BadRequest, PayloadTooLarge, SanicException

from server.http_chunks import ChunkedBody

MAX_DATA, MAX_EXTRA = 500, 200
BEHIND = b"GET /recommend/5 HTTP/1.1\r\n"

extensions = st.sampled_from([b"", b";", b";a", b" \t;a=b;c", b';a="b c"'])
sizes = st.tuples(st.sampled_from([b"", b"0", b"000"]), st.booleans())
chunks = st.lists(st.tuples(st.binary(min_size=1, max_size=50), sizes, extensions), max_size=8)
trailers = st.lists(st.sampled_from([b"x: y", b"X-Empty:", b"content-length: 9", b"x: \xff\t"]), max_size=3)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body in the grammar of RFC 9112, 7.1."""
    body = b""
    for data, (zeros, upper), extension in draw(chunks):
        size = b"%X" % len(data) if upper else b"%x" % len(data)
        body += zeros + size + extension + b"\r\n" + data + b"\r\n"
    body += draw(st.sampled_from([b"0", b"000"])) + draw(extensions) + b"\r\n"
    return body + b"".join(line + b"\r\n" for line in draw(trailers)) + b"\r\n"


def taken(data: bytes, cuts: list[int]) -> tuple[int, str]:
    """How many bytes of some pieces were read, and the outcome: `whole`, `more`, or the name of an error."""
    body, buffer, removed = ChunkedBody(MAX_DATA, MAX_EXTRA), bytearray(), 0
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(marks):
        buffer += data[begin:end]
        held = len(buffer)
        try:
            is_whole = body.take(buffer)
        except SanicException as error:
            return removed, type(error).__name__
        removed += held - len(buffer)
        if is_whole:
            return removed, "whole"
    return removed, "more"


cuts = st.lists(st.integers(0, 2000), max_size=8) | st.just(list(range(2000)))


@given(bodies(), cuts)
def test_a_body_is_read_completely_and_the_bytes_behind_it_stay(body: bytes, cuts: list[int]) -> None:
    assert taken(body + BEHIND, cuts) == (len(body), "whole")


@given(bodies(), cuts)
def test_a_body_that_has_not_come_whole_is_waited_for(body: bytes, cuts: list[int]) -> None:
    assert taken(body[:-1], cuts)[1] == "more"


@given(bodies(), st.integers(0, 10**6), st.binary(max_size=3), st.integers(0, 2), cuts)
def test_a_damaged_body_means_the_same_however_it_is_cut(
    body: bytes, place: int, odd: bytes, gone: int, cuts: list[int]
) -> None:
    place %= len(body)
    damaged = body[:place] + odd + body[place + gone :] + BEHIND
    whole, cut = taken(damaged, []), taken(damaged, cuts)
    assert whole[1] == cut[1]
    assert whole[1] != "whole" or whole == cut


def reference(body: bytes) -> int:
    """Where a body within the limits ends, by a naive parser of the grammar; raises if it is malformed."""
    start = 0
    while True:
        line, _, _ = body[start:].partition(b"\r\n")
        size, _, _ = line.partition(b";")
        size = size.rstrip(b" \t") if b";" in line else size
        assert size
        assert set(size) <= set(b"0123456789abcdefABCDEF")
        start += len(line) + 2
        if not int(size, 16):
            break
        start += int(size, 16)
        assert body[start : start + 2] == b"\r\n"
        start += 2
    while not body.startswith(b"\r\n", start):
        start = body.index(b"\r\n", start) + 2
    return start + 2


@given(bodies(), st.integers(0, 10**6), st.binary(max_size=3), st.integers(0, 2))
def test_only_bodies_in_the_grammar_are_accepted(body: bytes, place: int, odd: bytes, gone: int) -> None:
    place %= len(body)
    damaged = body[:place] + odd + body[place + gone :] + BEHIND
    length, end = taken(damaged, [])
    if end == "whole":
        assert reference(damaged) == length


@given(st.integers(0, 5), st.integers(1, 120), cuts)
def test_no_more_data_are_taken_than_the_limit(count: int, size: int, cuts: list[int]) -> None:
    body = (b"%x\r\n%b\r\n" % (size, b"x" * size)) * count + b"0\r\n\r\n"
    expected = (len(body), "whole") if count * size <= MAX_DATA else PayloadTooLarge.__name__
    assert taken(body, cuts) == expected or taken(body, cuts)[1] == expected


@pytest.mark.parametrize("line", [b"5;" + b"a" * 300, b"0\r\nx: " + b"y" * 300, b"0\r\n" + b"x: y\r\n" * 60])
def test_no_more_extensions_and_trailer_fields_are_taken_than_the_limit(line: bytes) -> None:
    for data in (line, line + b"\r\n"):  # nor are they waited for
        with pytest.raises(PayloadTooLarge):
            ChunkedBody(MAX_DATA, MAX_EXTRA).take(bytearray(data))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_body_the_beginning_of_one_or_refused(data: bytes) -> None:
    with suppress(BadRequest, PayloadTooLarge):
        ChunkedBody(MAX_DATA, MAX_EXTRA).take(bytearray(data))
