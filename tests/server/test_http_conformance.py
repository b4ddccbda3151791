"""What a worker says to bytes on the wire, by RFC 9112 and RFC 9110: a row a rule, over raw sockets.

Each row is sent to a worker with the fast lane and to one without, whole and byte by byte, and must get the same
status, keep or end the connection alike, and never be read as more requests than it is.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.polling import DEADLINE_S
from tests.server.sample_releases import names
from tests.server.worker_processes import Ended, WorkerProcess, serving

LIST = names(7, 0, 29)
NEXT = b"GET /recommend/9 HTTP/1.1\r\nhost: a\r\n\r\n"
NEXT_BODY = names(25, 24, 23, 22)
GET = b"GET /recommend/5 HTTP/1.1\r\n"
OLD = b"GET /recommend/5 HTTP/1.0\r\n"
HOST = b"host: a\r\n"
CHUNKED = b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Row:
    data: bytes
    status: int
    goes_on: bool
    """Whether the connection takes another request."""


def ok(data: bytes) -> Row:
    return Row(data, 200, goes_on=True)


def last(data: bytes) -> Row:
    """Answered, after which the connection ends as requested."""
    return Row(data, 200, goes_on=False)


def posted(data: bytes) -> Row:
    """Read to its end and refused only for its method."""
    return Row(data, 405, goes_on=True)


def bad(data: bytes, status: int = 400) -> Row:
    return Row(data, status, goes_on=False)


HOSTS = {
    "one": ok(GET + b"Host: example.com\r\n\r\n"),
    "with a port": ok(GET + b"host:a:8082\r\n\r\n"),
    "with an empty port": ok(GET + b"host: a:\r\n\r\n"),
    "blanks around it": ok(GET + b"host: \t a\t \r\n\r\n"),
    "an IPv6 address": ok(GET + b"host: [::ffff:10.0.0.1]:80\r\n\r\n"),
    "escaped": ok(GET + b"host: a%2Db\r\n\r\n"),
    "none": bad(GET + b"\r\n"),
    "none but other headers": bad(GET + b"x-host: a\r\naccept: */*\r\n\r\n"),
    "two": bad(GET + b"host: a\r\nhost: b\r\n\r\n"),
    "two alike": bad(GET + b"host: a\r\nx: y\r\nHost: a\r\n\r\n"),
    "empty": bad(GET + b"host:\r\n\r\n"),
    "blank": bad(GET + b"host: \t\r\n\r\n"),
    "two in a line": bad(GET + b"host: a, b\r\n\r\n"),
    "two without a blank": bad(GET + b"host: a,b\r\n\r\n"),
    "a path": bad(GET + b"host: a/b\r\n\r\n"),
    "a user": bad(GET + b"host: u@a\r\n\r\n"),
    "no port": bad(GET + b"host: a:x\r\n\r\n"),
    "two ports": bad(GET + b"host: a:1:2\r\n\r\n"),
    "half an address": bad(GET + b"host: [::1\r\n\r\n"),
    "half an escape": bad(GET + b"host: a%2\r\n\r\n"),
    "no ASCII": bad(GET + b"host: \xc3\xa4\r\n\r\n"),
    "absolute target": ok(b"GET http://b/recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"),
    "absolute target without a host": bad(b"GET http://b/recommend/5 HTTP/1.1\r\n\r\n"),
    "HTTP/1.0 with two": bad(OLD + b"host: a\r\nhost: a\r\n\r\n"),
    "HTTP/1.0 with a bad one": bad(OLD + b"host: a b\r\n\r\n"),
}
PERSISTENCE = {
    "HTTP/1.1": ok(GET + HOST + b"\r\n"),
    "close": last(GET + HOST + b"connection: close\r\n\r\n"),
    "Close": last(GET + HOST + b"Connection:CLOSE\r\n\r\n"),
    "close last in a list": last(GET + HOST + b"connection: keep-alive, TE , close\r\n\r\n"),
    "close first in a list": last(GET + HOST + b"connection: close,keep-alive\r\n\r\n"),
    "close in another line": last(GET + HOST + b"connection: keep-alive\r\nconnection: close\r\n\r\n"),
    "keep-alive": ok(GET + HOST + b"connection: keep-alive\r\n\r\n"),
    "TE": ok(GET + b"connection: TE\r\nte: trailers\r\n" + HOST + b"\r\n"),
    "keep-alive, TE": ok(GET + HOST + b"connection: keep-alive, TE\r\n\r\n"),
    "upgrade": ok(GET + HOST + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"),
    "closed": ok(GET + HOST + b"connection: closed, x-close\r\n\r\n"),
    "nothing": ok(GET + HOST + b"connection:\r\n\r\n"),
    "HTTP/1.0": last(OLD + b"\r\n"),
    "HTTP/1.0 with a host": last(OLD + HOST + b"\r\n"),
    "HTTP/1.0 keep-alive": ok(OLD + b"connection: Keep-Alive\r\n\r\n"),
    "HTTP/1.0 keep-alive in a list": ok(OLD + b"connection: TE, keep-alive\r\n\r\n"),
    "HTTP/1.0 TE": last(OLD + b"connection: TE\r\n\r\n"),
    "HTTP/1.0 keep-alive, close": last(OLD + b"connection: keep-alive, close\r\n\r\n"),
}
REQUEST_LINES = {
    "an empty line before": ok(b"\r\n" + GET + HOST + b"\r\n"),
    "two empty lines before": bad(b"\r\n\r\n" + GET + HOST + b"\r\n"),
    "a bare line feed before": bad(b"\n" + GET + HOST + b"\r\n"),
    "no version": bad(b"GET /recommend/5\r\nhost: a\r\n\r\n"),
    "HTTP/2.0": bad(b"GET /recommend/5 HTTP/2.0\r\nhost: a\r\n\r\n"),
    "lower case": bad(b"GET /recommend/5 http/1.1\r\nhost: a\r\n\r\n"),
    "two blanks": bad(b"GET  /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"),
    "a tab": bad(b"GET\t/recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"),
    "a blank behind": bad(b"GET /recommend/5 HTTP/1.1 \r\nhost: a\r\n\r\n"),
    "no ASCII": bad(b"GET /recommend/\xd9\xa5 HTTP/1.1\r\nhost: a\r\n\r\n"),
    "no token": bad(b"G@T /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"),
    "unknown method": posted(b"BREW /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"),
    "asterisk": Row(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", 404, goes_on=True),
    "authority": bad(b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n"),
    "too long": bad(b"GET /recommend/" + b"5" * 20_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
}
HEADERS = {
    "a blank before the colon": bad(GET + HOST + b"x : y\r\n\r\n"),
    "a folded line": bad(GET + HOST + b"x: y\r\n z\r\n\r\n"),
    "no colon": bad(GET + HOST + b"x\r\n\r\n"),
    "no name": bad(GET + HOST + b": y\r\n\r\n"),
    "a control character": bad(GET + HOST + b"x: a\x0bb\r\n\r\n"),
    "NUL": bad(GET + HOST + b"x: a\x00b\r\n\r\n"),
    "a bare carriage return": bad(GET + HOST + b"x: a\rb\r\n\r\n"),
    "a bare line feed": bad(GET + HOST + b"x: a\nb: c\r\n\r\n"),
    "obs-text": ok(GET + HOST + b"x: \xff\xfe\r\n\r\n"),
    "empty value": ok(GET + HOST + b"x:\r\n\r\n"),
    "too long": bad(GET + HOST + b"x: " + b"y" * 20_000 + b"\r\n\r\n", 431),
    "too many": bad(GET + HOST + b"x: y\r\n" * 4_000 + b"\r\n", 431),
    "an unknown expectation": bad(GET + HOST + b"expect: x\r\n\r\n", 417),
    "an expectation of HTTP/1.0": last(OLD + b"expect: x\r\n\r\n"),
}


def post(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /recommend/5 HTTP/" + version + b"\r\nhost: a\r\n" + fields + b"\r\n" + body


CODING = b"transfer-encoding: chunked\r\n"
EMPTY = b"0\r\n\r\n"
FRAMING = {
    "a length": posted(post(b"content-length: 4\r\n", b"\r\n\r\n")),
    "no length": posted(post(b"content-length: 0\r\n")),
    "leading zeros": posted(post(b"content-length: 0004\r\n", b"abcd")),
    "a body of GET": ok(GET + HOST + b"content-length: 4\r\n\r\nabcd"),
    "an empty line behind a body": posted(post(b"content-length: 4\r\n", b"abcd\r\n")),
    "two lengths": bad(post(b"content-length: 4\r\ncontent-length: 4\r\n", b"abcd")),
    "two lengths in a line": bad(post(b"content-length: 4, 4\r\n", b"abcd")),
    "a signed length": bad(post(b"content-length: +4\r\n", b"abcd")),
    "a negative length": bad(post(b"content-length: -4\r\n", b"abcd")),
    "a length in hexadecimal": bad(post(b"content-length: 0x4\r\n", b"abcd")),
    "a length with an underscore": bad(post(b"content-length: 1_0\r\n", b"0123456789")),
    "a length of other digits": bad(post("content-length: ٤\r\n".encode(), b"abcd")),
    "an empty length": bad(post(b"content-length:\r\n", b"abcd")),
    "a length too long": bad(post(b"content-length: 65537\r\n", b"x" * 65_537), 413),
    "a length of many digits": bad(post(b"content-length: " + b"9" * 5_000 + b"\r\n"), 413),
    "a length and a coding": bad(post(b"content-length: 5\r\n" + CODING, EMPTY)),
    "a coding and a length": bad(post(CODING + b"content-length: 5\r\n", EMPTY)),
    "a coding in HTTP/1.0": bad(post(CODING, EMPTY, b"1.0")),
    "a coding in HTTP/1.0, kept alive": bad(post(b"connection: keep-alive\r\n" + CODING, EMPTY, b"1.0")),
    "two codings": bad(post(CODING * 2, EMPTY)),
    "Chunked": posted(post(b"Transfer-Encoding: \tChunked \r\n", EMPTY)),
    "another coding": bad(post(b"transfer-encoding: gzip\r\n", EMPTY), 501),
    "another coding before": bad(post(b"transfer-encoding: gzip, chunked\r\n", EMPTY), 501),
    "chunked twice": bad(post(b"transfer-encoding: chunked, chunked\r\n", EMPTY), 501),
    "identity": bad(post(b"transfer-encoding: identity\r\n", EMPTY), 501),
    "no coding": bad(post(b"transfer-encoding:\r\n", EMPTY)),
    "a vertical tab before a coding": bad(post(b"transfer-encoding: \x0bchunked\r\n", EMPTY)),
    "a vertical tab behind a coding": bad(post(b"transfer-encoding: chunked\x0b\r\n", EMPTY)),
    "a hard blank before a coding": bad(post(b"transfer-encoding: \xa0chunked\r\n", EMPTY)),
    "a hard blank behind a coding": bad(post(b"transfer-encoding: chunked\xa0\r\n", EMPTY)),
    "a quoted coding": bad(post(b'transfer-encoding: "chunked"\r\n', EMPTY)),
}
CHUNKS = {
    "none": posted(CHUNKED + EMPTY),
    "one": posted(CHUNKED + b"5\r\nhello\r\n" + EMPTY),
    "that look like their ends": posted(CHUNKED + b"4\r\n\r\n\r\n\r\n5\r\n0\r\n\r\n\r\n" + EMPTY),
    "upper case": posted(CHUNKED + b"A\r\n0123456789\r\n" + EMPTY),
    "leading zeros": posted(CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n"),
    "an extension": posted(CHUNKED + b'5;a=b;c\r\nhello\r\n0 ; x="y z"\r\n\r\n'),
    "trailer fields": posted(CHUNKED + b"5\r\nhello\r\n0\r\nx: y\r\nExpires: \xff\r\n\r\n"),
    "a trailer field that is a length": posted(CHUNKED + b"0\r\ncontent-length: 50\r\n\r\n"),
    "in a GET": ok(GET + HOST + CODING + b"\r\n5\r\nhello\r\n" + EMPTY),
    "0x": bad(CHUNKED + b"0x5\r\nhello\r\n" + EMPTY),
    "a blank before": bad(CHUNKED + b" 5\r\nhello\r\n" + EMPTY),
    "a blank behind": bad(CHUNKED + b"5 \r\nhello\r\n" + EMPTY),
    "a plus": bad(CHUNKED + b"+5\r\nhello\r\n" + EMPTY),
    "a minus": bad(CHUNKED + b"-5\r\nhello\r\n" + EMPTY),
    "an underscore": bad(CHUNKED + b"0_5\r\nhello\r\n" + EMPTY),
    "other digits": bad(CHUNKED + "٥\r\nhello\r\n".encode() + EMPTY),
    "no size": bad(CHUNKED + b"\r\nhello\r\n" + EMPTY),
    "no size but an extension": bad(CHUNKED + b";a\r\nhello\r\n" + EMPTY),
    "a size of many digits": bad(CHUNKED + b"0" * 30 + b"5\r\nhello\r\n" + EMPTY),
    "a size that is enormous": bad(CHUNKED + b"ffffffffffffffff\r\nhello\r\n" + EMPTY, 413),
    "a bare line feed behind the size": bad(CHUNKED + b"5\nhello\r\n" + EMPTY),
    "a bare line feed in an extension": bad(CHUNKED + b"5;a\nb\r\nhello\r\n" + EMPTY),
    "a bare carriage return in an extension": bad(CHUNKED + b"5;a\rb\r\nhello\r\n" + EMPTY),
    "no end of the data": bad(CHUNKED + b"5\r\nhello0\r\n\r\n"),
    "a bare line feed behind the data": bad(CHUNKED + b"5\r\nhello\n" + EMPTY),
    "data too long": bad(CHUNKED + b"4\r\nhello\r\n" + EMPTY),
    "data too short": bad(CHUNKED + b"6\r\nhello\r\n" + EMPTY),
    "no trailer field": bad(CHUNKED + b"0\r\nx y\r\n\r\n"),
    "a folded trailer field": bad(CHUNKED + b"0\r\nx: y\r\n z\r\n\r\n"),
    "a request in the place of a trailer": bad(CHUNKED + b"0\r\n" + NEXT),
    "more than the limit": bad(CHUNKED + b"8000\r\n" + b"x" * 0x8000 + b"\r\n8001\r\n", 413),
    "as much as the limit": posted(CHUNKED + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 2 + EMPTY),
    "extensions too long": bad(CHUNKED + b"1;" + b"a" * 9_000 + b"\r\nx\r\n" + EMPTY, 413),
    "many extensions too long": bad(CHUNKED + (b"1;" + b"a" * 900 + b"\r\nx\r\n") * 10 + EMPTY, 413),
    "trailer too long": bad(CHUNKED + b"0\r\n" + b"x: y\r\n" * 3_000 + b"\r\n", 413),
}
TABLES = {
    "host": HOSTS, "persistence": PERSISTENCE, "request line": REQUEST_LINES, "headers": HEADERS,
    "framing": FRAMING, "chunks": CHUNKS,
}  # fmt: skip
ROWS = [pytest.param(row, id=f"{table}: {name}") for table, rows in TABLES.items() for name, row in rows.items()]


@pytest.fixture(scope="module", params=["true", "false"], ids=["lane", "sanic"])
def worker(request: pytest.FixtureRequest, module_var: Path) -> Iterator[WorkerProcess]:
    with serving(module_var, lane=request.param) as process:
        yield process


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("piece", [None, 1], ids=["whole", "byte by byte"])
def test_a_request_is_answered_by_the_book(worker: WorkerProcess, row: Row, piece: int | None) -> None:
    # in a long request not every cut matters
    size = len(row.data) if piece is None or len(row.data) > 500 else piece
    with worker.wire() as wire:
        for start in range(0, len(row.data), size):
            try:
                wire.send(row.data[start : start + size])
            except ConnectionError:
                assert not row.goes_on
                break
        answer = wire.answer()
        assert (answer.status, answer.closes) == (row.status, not row.goes_on)
        assert answer.status != 200 or answer.body == LIST
        if row.goes_on:
            assert wire.get("/recommend/9").body == NEXT_BODY
        else:
            with pytest.raises(Ended, match="b''"):
                wire.answer()


@pytest.mark.parametrize("row", ROWS)
def test_the_next_request_begins_where_the_last_one_ended_and_none_follows_a_refusal(
    worker: WorkerProcess, row: Row
) -> None:
    with worker.wire() as wire:
        wire.send(row.data + NEXT)
        assert wire.answer().status == row.status
        if row.goes_on:
            assert wire.answer().body == NEXT_BODY
        else:
            with pytest.raises(Ended, match="b''"):
                wire.answer()


@pytest.mark.parametrize("coding", [b"content-length: 3\r\n", CODING], ids=["length", "chunks"])
@pytest.mark.parametrize(("method", "status"), [(b"GET", 200), (b"POST", 405)])
def test_a_client_that_expects_100_continue_gets_it(
    worker: WorkerProcess, coding: bytes, method: bytes, status: int
) -> None:
    with worker.wire() as wire:
        wire.send(method + b" /recommend/5 HTTP/1.1\r\nhost: a\r\nExpect: 100-Continue\r\n" + coding + b"\r\n")
        assert wire.answer().status == 100
        wire.send(b"abc" if coding != CODING else b"3\r\nabc\r\n0\r\n\r\n")
        assert wire.answer().status == status
        assert wire.get("/recommend/9").body == NEXT_BODY


def test_a_client_that_announces_too_long_a_body_is_refused_at_once(worker: WorkerProcess) -> None:
    with worker.wire() as wire:
        wire.send(post(b"expect: 100-continue\r\ncontent-length: 70000\r\n"))
        assert wire.answer().status == 413
        assert wire.to_the_end() == b""


def test_without_a_body_there_is_no_100_continue(worker: WorkerProcess) -> None:
    with worker.wire() as wire:
        for fields in (b"", b"content-length: 0\r\n"):
            wire.send(post(b"expect: 100-continue\r\n" + fields))
            assert wire.answer().status == 405


@pytest.mark.parametrize(
    "data",
    [
        GET + HOST + b"\r\n",
        b"GET /recommend/5?n=2 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"HEAD /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n",
        post(b""),
        GET + b"\r\n",
        b"\r\n\r\n",
        post(b"content-length: 70000\r\n"),
    ],
    ids=["lane", "sanic", "head", "404", "405", "400", "nothing", "413"],
)
def test_every_answer_tells_its_time(worker: WorkerProcess, data: bytes) -> None:
    before = time.time()
    with worker.wire() as wire:
        wire.send(data)
        date = parsedate_to_datetime(wire.answer(no_body=data.startswith(b"HEAD")).headers["date"])
    assert before - 2 <= date.timestamp() <= time.time()


def test_the_time_goes_on(worker: WorkerProcess) -> None:
    dates = {worker.get("/recommend/5").headers["date"]}
    deadline = time.monotonic() + DEADLINE_S
    while len(dates) < 3:
        assert time.monotonic() < deadline
        dates.add(worker.get("/recommend/5").headers["date"])
        time.sleep(0.05)
