"""The fast lane is never different: the same bytes to a worker with it and to one without come back the same.

Nothing here waits for a time: what a worker has to say to some bytes is there when it has answered, on another
connection, what it was asked after them.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from stream import durable
from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import names, write_release
from tests.server.worker_processes import Ended, HttpAnswer, Wire, WorkerProcess, answers_in, serving, undated

EXAMPLES = int(os.environ.get("MARQUEE_TEST_EXAMPLES", "150"))
"""Set it to many thousands to look for longer."""
GRACE_S, GRACE_ROUNDS = 0.3, 200
"""How long a difference must last, and for how many looks, each after two answers of either worker, which take longer
on a busy machine: Sanic ends a connection a moment after its last answer."""
LAST = b"GET /recommend/11 HTTP/1.1\r\nhost: last\r\n\r\n"


@dataclass
class Side:
    """A connection to one of the two workers, and what has come back."""

    worker: WorkerProcess
    control: Wire
    """Another connection to the same worker."""
    wire: Wire = field(init=False)
    data: bytes = b""
    closed: bool = False

    def __post_init__(self) -> None:
        self.wire = self.worker.wire()

    def send(self, chunk: bytes) -> None:
        try:
            self.wire.sock.settimeout(DEADLINE_S)
            self.wire.sock.sendall(chunk)
        except ConnectionError:
            pass  # that it was closed is seen where it is read

    def settle(self) -> None:
        """Take what has come, after the worker has done all that there was to do."""
        for _ in range(2):
            assert self.control.get("/healthz").status == 200
        self.wire.sock.setblocking(False)
        while not self.closed:
            try:
                more = self.wire.sock.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionError:
                more = b""
            self.data += more
            self.closed = not more


@dataclass
class Pair:
    """A worker with the lane and one without, with the same release."""

    workers: tuple[WorkerProcess, WorkerProcess]
    controls: tuple[Wire, Wire]

    @contextmanager
    def connected(self) -> Iterator[tuple[Side, Side]]:
        sides = tuple(Side(worker, control) for worker, control in zip(self.workers, self.controls, strict=True))
        logged = [side.worker.log.stat().st_size for side in sides]
        try:
            yield sides[0], sides[1]
        finally:
            for side in sides:
                side.wire.close()
        for side, size in zip(sides, logged, strict=True):
            if side.worker.log.stat().st_size > size:
                assert "Traceback" not in side.worker.text()[size:]

    def get_until(self, path: str, status: int) -> None:
        for worker in self.workers:
            worker.get_until(path, lambda answer: answer.status == status)


def said(sides: tuple[Side, Side], chunks: list[bytes]) -> None:
    """Send the chunks, one after the other, and hold what comes back against each other."""
    for number, chunk in enumerate(chunks):
        for side in sides:
            side.send(chunk)
        if number + 1 < len(chunks):
            for side in sides:
                side.control.get("/healthz")
    began = time.monotonic()
    for rounds in count(1):
        for side in sides:
            side.settle()
        lane, plain = sides
        if (undated(lane.data), lane.closed) == (undated(plain.data), plain.closed):
            return
        if time.monotonic() - began > GRACE_S and rounds > GRACE_ROUNDS:
            assert undated(lane.data) == undated(plain.data)
            assert lane.closed == plain.closed


def compared(pair: Pair, chunks: list[bytes], last: bytes = LAST) -> tuple[bytes, bool]:
    """What both workers say to the chunks and then to one more request; and whether they closed the connection."""
    with pair.connected() as sides:
        said(sides, chunks)
        if not sides[0].closed:
            said(sides, [last])
        return sides[0].data, sides[0].closed


@contextmanager
def paired(var: Path, **given_settings: object) -> Iterator[Pair]:
    patient = {"request_s": 600, "idle_s": 600, "shed_s": 600, "stall_s": 600, **given_settings}
    with ExitStack() as stack:
        lane, plain = (stack.enter_context(serving(var, lane=lane, **patient)) for lane in ("true", "false"))
        controls = stack.enter_context(lane.wire()), stack.enter_context(plain.wire())
        yield Pair((lane, plain), controls)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A rendered release, of which one movie is hidden."""
    var = tmp_path_factory.mktemp("lane") / "var"
    write_release(var / "releases", "the-release", text=True)
    durable.point(var / "releases" / "current", "the-release")
    (var / "hidden.txt").write_text("movie+12+2000\n")
    with paired(var) as made:
        yield made


POPULAR = names(*range(12), *range(13, 20))
LISTS = {
    1: names(*range(12), *range(13, 21)),
    5: names(7, 0, 29),
    9: names(25, 24, 23, 22),
    2**32 - 1: names(*range(29, 12, -1), 11, 10),
}
"""What is answered to whom: user 1's list is filled up from their segment's."""


# What is well-formed: what must come back is known.


@dataclass(frozen=True)
class Message:
    """A whole request, and what it must be answered with."""

    data: bytes
    status: int
    body: str | None = None
    """None for any line."""
    closes: bool = False
    continues: bool = False
    """Whether 100 comes first."""
    head_only: bool = False


def listed(user: str) -> str:
    return LISTS.get(int(user), POPULAR)


digits = st.one_of(
    st.sampled_from(["1", "5", "9", "11", "0", "4294967295", "4294967296", "9999999999999999999"]),
    st.integers(0, 10**19 - 1).map(str),
    st.integers(0, 20).map(lambda number: f"{number:019d}"),
)
hosts = st.sampled_from(
    [
        "host: a", "Host: example.com:8082", "HOST:127.0.0.1", "host:\t[::1]:80 ", "host: A-b_c.d~e", "hOsT: a%20b:",
        "host: !$&'()*+;=",
    ]
)  # fmt: skip
meaningless_headers = st.lists(
    st.sampled_from(
        [
            "user-agent: test", "accept: */*", "connection: keep-alive",
            "Connection: Keep-Alive", "CONNECTION:keep-alive", "x-empty:", "x-tab:\ta\tb ", "cookie: a=b; c=d",
            "accept-encoding: gzip, deflate", "keep-alive: timeout=5", "x-long: " + "y" * 300, "x-colon: a:b:c",
            "referer: http://a/recommend/5", "x-request: GET /recommend/5 HTTP/1.1", "content-type: text/plain",
        ]
    ),
    max_size=4,
)  # fmt: skip


@st.composite
def plain_headers_(draw: st.DrawFn) -> list[str]:
    """Header lines that mean nothing but a host, anywhere among the others."""
    headers = draw(meaningless_headers)
    headers.insert(draw(st.integers(0, len(headers))), draw(hosts))
    return headers


plain_headers = plain_headers_()


def request(line: str, headers: list[str], body: bytes = b"") -> bytes:
    return "".join(f"{one}\r\n" for one in [line, *headers, ""]).encode() + body


@st.composite
def plain_messages(draw: st.DrawFn) -> Message:
    user = draw(digits)
    return Message(request(f"GET /recommend/{user} HTTP/1.1", draw(plain_headers)), 200, listed(user))


BODIES = [
    b"", b"x", b"hello", b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", LAST, b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n" * 3, b"HTTP/1.1 200 OK\r\n\r\n", bytes(range(256)) * 20,
]  # fmt: skip
"""Some look like requests."""


def chunked(body: bytes, size: int, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return chunks + b"00%b\r\n%b\r\n" % (extension, trailer)


extensions = st.sampled_from([b"", b"", b";a", b";a=b", b' ; a="b c"', b";"])
trailers = st.sampled_from([b"", b"", b"x: y\r\n", b"x: y\r\ncontent-length: 5\r\n", b"Expires:\r\n"])


@st.composite
def messages_with_bodies(draw: st.DrawFn) -> Message:
    user, body, headers = draw(digits), draw(st.sampled_from(BODIES)), draw(plain_headers)
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]))
    has_body = bool(body)
    if draw(st.booleans()):
        headers.append(f"content-length: {len(body)}")
    else:
        has_body = True
        headers.append(draw(st.sampled_from(["Transfer-Encoding: chunked", "transfer-encoding:\tChunked "])))
        body = chunked(body, draw(st.integers(1, 40)), draw(extensions), draw(trailers))
    expects = draw(st.booleans())
    if expects:
        headers.insert(0, "expect: 100-continue")
    path = f"/recommend/{user}"
    data = request(f"{method} {path} HTTP/1.1", headers, body)
    continues = expects and has_body
    if method in ("GET", "HEAD"):
        return Message(data, 200, listed(user), continues=continues, head_only=method == "HEAD")
    return Message(data, 405, continues=continues)


GOING_ON = ["TE", "keep-alive, TE", "x", "closed", "te,trailers", ""]
ENDING = ["close", "Close", "TE,close", "keep-alive, CLOSE", ",close,"]
OLD_AND_GOING_ON = [["connection: Keep-Alive"], ["connection: x,keep-alive", "host: a"]]


@st.composite
def other_messages(draw: st.DrawFn) -> Message:
    user, headers = draw(digits), draw(plain_headers)
    path, movies = f"/recommend/{user}", listed(user)
    get, encoded = f"GET {path} HTTP/1.1", "".join(f"%{ord(digit):02x}" for digit in user)
    going_on, ending = f"connection: {draw(st.sampled_from(GOING_ON))}", f"connection:{draw(st.sampled_from(ENDING))}"
    old = draw(st.sampled_from(OLD_AND_GOING_ON))
    return draw(
        st.sampled_from(
            [
                Message(request(get, [*headers, ending]), 200, movies, True),
                Message(request(get, [ending, *headers]), 200, movies, True),
                Message(request(get, [*headers, going_on]), 200, movies),
                Message(request(f"GET {path} HTTP/1.0", []), 200, movies, True),
                Message(request(f"GET {path} HTTP/1.0", old), 200, movies),
                Message(b"\r\n" + request(get, headers), 200, movies),
                Message(request(f"GET /recommend/{encoded} HTTP/1.1", headers), 200, movies),
                Message(request(f"GET {path}?n=2 HTTP/1.1", headers), 200, ",".join(movies.split(",")[:2])),
                Message(request(f"GET {path}1x HTTP/1.1", headers), 400),
                Message(request(f"GET {path}/x HTTP/1.1", headers), 404),
                Message(request("GET /healthz HTTP/1.1", headers), 200, "alive"),
                Message(request(f"GET /recommend/{'1' * 20} HTTP/1.1", headers), 400),
                Message(request(f"HEAD {path} HTTP/1.1", headers), 200, movies, head_only=True),
                Message(request(get, [*headers, "upgrade: h2c"]), 200, movies),
                Message(request(f"POST {path} HTTP/1.1", headers), 405),
            ]
        )
    )


dialogues = st.one_of(
    st.lists(st.one_of(plain_messages(), messages_with_bodies(), other_messages()), min_size=1, max_size=8),
    st.lists(plain_messages(), min_size=2, max_size=50),
    st.tuples(st.lists(plain_messages(), min_size=1, max_size=20), messages_with_bodies(), plain_messages()).map(
        lambda parts: [*parts[0], *parts[1:]]
    ),
)


@st.composite
def splits(draw: st.DrawFn) -> tuple[str, list[float]]:
    """How bytes are cut into chunks: not at all, at every byte, at ends of lines or anywhere."""
    kind = draw(st.sampled_from(["whole", "bytes", "lines", "some lines", "anywhere"]))
    return kind, draw(st.lists(st.floats(0, 1), max_size=6))


def cut(data: bytes, split: tuple[str, list[float]]) -> list[bytes]:
    kind, shares = split
    ends = [found.end() for found in re.finditer(rb"\n", data)]
    if kind == "whole" or (kind == "lines" and len(ends) > 60):
        places = set[int]()
    elif kind == "bytes":
        # the first and the last bytes one by one
        places = set(range(min(100, len(data)))) | set(range(max(0, len(data) - 100), len(data)))
    elif kind == "lines":
        places = set(ends)
    elif kind == "some lines" and ends:
        places = {ends[round(share * (len(ends) - 1))] for share in shares}
    else:
        places = {round(share * len(data)) for share in shares}
    marks = sorted({0, len(data), *places})
    return [data[one:two] for one, two in pairwise(marks)]


without_shrinking_for_long = settings(
    deadline=None, max_examples=EXAMPLES, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
)


@without_shrinking_for_long
@given(messages=dialogues, split=splits())
def test_whole_requests_are_answered_the_same_and_as_they_must_be(
    pair: Pair, messages: list[Message], split: tuple[str, list[float]]
) -> None:
    closing = next((number for number, one in enumerate(messages) if one.closes), len(messages))
    due = messages[: closing + 1]
    got, closed = compared(pair, cut(b"".join(one.data for one in messages), split))
    assert closed == (len(due) == closing + 1)
    for message in due:
        if message.continues:
            assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
            got = got.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        end = got.index(b"\r\n\r\n") + 4
        length = re.search(rb"\r\ncontent-length: ([0-9]+)\r\n", got[:end])
        assert length
        end += 0 if message.head_only else int(length[1])
        [answer] = answers_in(got[:end]) if not message.head_only else [HttpAnswer(int(got[9:12]), {}, "")]
        assert answer.status == message.status
        assert message.head_only or answer.closes == message.closes
        assert message.body is None or int(length[1]) == len(message.body)
        assert message.body is None or message.head_only or answer.body == message.body
        got = got[end:]
    if closed:
        assert got == b""
    else:
        assert [(last.status, last.body, last.closes) for last in answers_in(got)] == [(200, POPULAR, False)]


# What is not: only that both say the same.

METHODS = ["GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "get", "GE", "GETT", "", "CONNECT", "TRACE", "PRI", "G\tET"]
USERS = [
    "1", "5", "0", "05", "00000000000000000005", "0000000000000000005", "4294967295", "18446744073709551616",
    "-5", "+5",
    "5.0", "5e1", "0x5", "", " 5", "5 ", "\t5", "5\t", "5\x00", "\x005", "%35", "5%20", "%2e", "٥", "５", "²", "5a",
    "a", "5/", "/5", "5/6", "5//", "../5", "5?n=1", "5?n=0", "5?n=21", "5?n=", "5?n=1&n=2", "5?", "5#x", "5;a=b",
    "5,6", "5&",
    "1" * 18, "1" * 19, "1" * 20, "1" * 25, "9" * 19, "5\r\n", "5\n", "5\r", "5_0", "５5",
]  # fmt: skip
TARGETS = [
    "/recommend/", "/recommend/", "/recommend/", "/recommend/", "//recommend/", "/recommend//", "/Recommend/",
    "/recommend", "http://a/recommend/", "https://a:1/recommend/", "a/recommend/", "*", "/", "", "/%72ecommend/",
    "/recommend%2F", "/recommend/../recommend/", "/./recommend/", "/healthz", "/similar/", "a:80", "?", "/recommend/?",
]  # fmt: skip
VERSIONS = [
    " HTTP/1.1", " HTTP/1.1", " HTTP/1.1", " HTTP/1.1", " HTTP/1.0", " HTTP/2.0", " HTTP/2", " HTTP/0.9", " HTTP/1.2",
    " http/1.1", " HTTP/1.1 ", "  HTTP/1.1", "\tHTTP/1.1", " HTTP/1.1\t", " HTTP/11", " HTTP/", "", " ", " XTTP/1.1",
    " HTTP/1.1 HTTP/1.1", " HTTP/1.1\x00", " HTTP/01.1", " HTTP/1.1x", "\x0bHTTP/1.1", "\xa0HTTP/1.1",
]  # fmt: skip
LINE_ENDS = ["\r\n"] * 12 + ["\n", "\r", "\r\r\n", "\n\r", "\r\n ", "\r\n\t", "\x00\r\n", "\x0b", "\x85", "\u2028", ""]
HEADERS = [
    "host: a", "host: b", "host:", "host: ", "host: a b", "host: a,b", "host: a/b", "host: a:b", "host: u@a",
    "host: a:1:2",
    "host: [::1", "host: []", "host: %zz", "host: \xe4", "host: a\x0b", "x-host: a", "host2: a", "host_: a", "host:a",
    "Host : a", " host: a", "host", ":", ": a", "", " ", "\t", "x:", "x: \x00", "x: \x7f", "x: ä",
    "ä: x", "x\x00: a", "x y: a", "x: a\rb", "x: a\nb", "x: a\r b", "\x00", "x(: a", "x: \x1f", "x: \x80\xff",
    "x: a\x0b",
    "connection: close", "Connection: Close", "connection:close", "connection:  close", "connection: close ",
    "connection:\tclose", "connection : close", "connection: keep-alive", "connection:  keep-alive",
    "connection: keep-alive ", "connection:\tkeep-alive", "connection: Keep-Alive", "connection: keep-alive, close",
    "connection: close, keep-alive", "connection: keep-alive, upgrade", "connection: upgrade", "connection:",
    "connection: ", "connection: x", "connection", "connection: TE", "connection: te, trailers",
    "Connection: keep-alive, TE",
    "connection: x, Close", "connection: ,close,", "connection: closed", "proxy-connection: close",
    "x-connection: close",
    "connections: close",
    "xconnection: close", "CONNECTION: CLOSE", "connection: keep-alive\t", "connection: keep-alivex",
    "content-length: 0", "Content-Length: 0", "content-length:0", "content-length : 4", "content-length: 4",
    "content-length: 04", "content-length: +4", "content-length: -4", "content-length: 4, 4", "content-length: 4 ",
    "content-length: 4_0", "content-length: x", "content-length:", "content-length: 0x4", "content-length: 1e1",
    "content-length: 99999999999999999999", "content-length: 65536", "content-length: 65537", "content-length: 31",
    "content-length: ４", "x-content-length: 4", "content-length2: 4", "content_length: 4",
    "transfer-encoding: chunked", "Transfer-Encoding: Chunked", "transfer-encoding:chunked", "transfer-encoding: gzip",
    "transfer-encoding: gzip, chunked", "transfer-encoding: chunked, chunked", "transfer-encoding : chunked",
    "transfer-encoding: identity", "transfer-encoding: \x0bchunked", "transfer-encoding: chunked\xa0",
    "TRANSFER-ENCODING: CHUNKED",
    "transfer-encoding: xchunked", "transfer-encoding: chunked ", "transfer-encoding:",
    "transfer_encoding: chunked", "te: trailers", "trailer: x", "expect: 100-continue", "Expect: 100-Continue",
    "expect: x", "expect:", "expect: 100-continue, x", "upgrade: websocket", "upgrade: h2c", "Upgrade: WebSocket",
    "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version: 13", "cookie: a=b", "cookie: \x01", "authorization: Basic !", "range: bytes=0-1",
    "if-none-match: *", "accept: application/json", "accept: ;q=x", "accept-encoding: gzip;q=0", "x-forwarded-for: 1",
    "forwarded: for=1", "x-http-method-override: POST", "content-type: multipart/form-data", "content-encoding: gzip",
    "x: " + "y" * 1900, "x: " + "y" * 2100, "x: " + "y" * 8100, "x: " + "y" * 20_000, "y" * 3000, "y" * 9000 + ": x",
]  # fmt: skip
ENDS = ["\r\n\r\n"] * 12 + ["\r\n", "\n\n", "\r\n\n", "\n\r\n", "\r\r\n\n", "\r\n \r\n", "", "\r\n\r\n\r\n", "\r\n\r"]
AFTER = [
    b"", b"", b"", b"", b"x", b"abcd", b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"0\r\n", b"4\r\nabcd\r\n0\r\n\r\n",
    b"4\r\nabcd\r\n0\r\nx: y\r\n\r\n", b"4;a=b\r\nabcd\r\n0;c\r\n\r\n", b"-1\r\n\r\n", b"g\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5\r\nabcd\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"00000\r\n\r\n", b"0x4\r\nabcd\r\n0\r\n\r\n",
    b"4\nabcd\n0\n\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 10,
    b"\r" * 5, b"\n" * 5,
    b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n", b"GET /recommend/",
    b"1f\r\n" + LAST[:31],
    b"0x4\r\nabcd\r\n0\r\n\r\n", b" 4\r\nabcd\r\n0\r\n\r\n", b"+4\r\nabcd\r\n0\r\n\r\n", b"4_0\r\nabcd\r\n0\r\n\r\n",
    b"4\r\nabcd0\r\n\r\n", b"4\r\nabcd\n0\r\n\r\n", b"4 \r\nabcd\r\n0\r\n\r\n", b"4\r\nabcd\r\n0\r\nx y\r\n\r\n",
    b"\xff\xfe", b"A" * 70, b"A" * 9000, b" " * 3, b"\r\n" * 100,
]  # fmt: skip


@st.composite
def odd_messages(draw: st.DrawFn) -> bytes:
    """A request of odd parts."""
    line = draw(st.sampled_from(METHODS)) + draw(st.sampled_from([" "] * 8 + ["  ", "\t", "", "\x00"]))
    line += draw(st.sampled_from(TARGETS)) + draw(st.sampled_from(USERS)) + draw(st.sampled_from(VERSIONS))
    line += "/x" * draw(st.sampled_from([0] * 20 + [500, 4000, 10_000]))
    count = draw(st.sampled_from([0, 0, 1, 1, 1, 2, 2, 3, 4, 8]))
    headers = [draw(st.sampled_from(HEADERS)) for _ in range(count)]
    headers += draw(st.sampled_from([["host: a"]] * 5 + [[]]))  # without one nothing but that would be judged
    headers += ["x: y"] * draw(st.sampled_from([0] * 20 + [100, 330, 340, 1500, 3000]))
    text = line + "".join(draw(st.sampled_from(LINE_ENDS)) + header for header in headers)
    text += draw(st.sampled_from(ENDS))
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-16-le"]))) + draw(st.sampled_from(AFTER))


@st.composite
def nearly_plain_messages(draw: st.DrawFn) -> bytes:
    """A plain request with a header or two that may make it not plain, and perhaps something after it."""
    headers = [*draw(plain_headers), *draw(st.lists(st.sampled_from(HEADERS), max_size=2))]
    headers = draw(st.permutations(headers))
    user, version = draw(st.sampled_from(USERS)), draw(st.sampled_from([" HTTP/1.1"] * 6 + VERSIONS))
    return request(f"GET /recommend/{user}{version}", headers) + draw(st.sampled_from(AFTER))


@st.composite
def garbled_messages(draw: st.DrawFn) -> bytes:
    """A good request in which some bytes were changed, put in or left out."""
    message = draw(st.one_of(plain_messages(), messages_with_bodies(), other_messages()))
    data = bytearray(message.data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        odd = draw(
            st.one_of(
                st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b"\x80"]), st.binary(max_size=3)
            )
        )
        data[place : place + draw(st.integers(0, 2))] = odd
    return bytes(data)


well_formed = st.one_of(plain_messages(), messages_with_bodies(), other_messages()).map(lambda one: one.data)
streams = st.lists(
    st.one_of(odd_messages(), nearly_plain_messages(), garbled_messages(), st.binary(max_size=40), well_formed),
    min_size=1,
    max_size=5,
).map(b"".join)
TRAILER = b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


@without_shrinking_for_long
@given(data=streams, split=splits())
@example(data=b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" + LAST, split=("whole", []))
@example(data=TRAILER + b"0\r\n\r\n" + LAST, split=("lines", []))
@example(data=TRAILER + b"0\r\n" + LAST, split=("anywhere", [(len(TRAILER) + 3) / len(TRAILER + b"0\r\n" + LAST)]))
@example(data=b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 330 + b"\r\n", split=("whole", []))
@example(data=b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 3000 + b"\r\n", split=("whole", []))
@example(data=b"GET /recommend/" + b"5" * 100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", split=("anywhere", [0.1, 0.2]))
def test_any_bytes_are_answered_the_same_and_the_connection_is_ended_alike(
    pair: Pair, data: bytes, split: tuple[str, list[float]]
) -> None:
    got, _ = compared(pair, cut(data, split))
    assert all(int(status) < 500 or int(status) == 501 for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", got))


KNOWN = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"
"""A request after which the connection knows requests by their ends."""


@pytest.mark.parametrize(
    "data",
    [
        b"5",
        b"GET /recommend/5",
        b"5 HTTP/1.1\r\nhost: a\r\n\r\n",
        b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /recommend/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /recommend/GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n5 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /recommend/12345678901234567890 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        b"GET /recommend/9 HTTP/1.1\r\nhost: b\r\n\r\n" + KNOWN,
    ],
)
def test_what_only_half_looks_like_the_last_request_is_judged_anew(pair: Pair, data: bytes) -> None:
    compared(pair, [KNOWN, KNOWN, data])
    compared(pair, [KNOWN, KNOWN, data, KNOWN])


@pytest.mark.parametrize(
    "smuggled", [b"GET /recommend/5 HTTP/1.1\r\n\r\n", b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"]
)
@pytest.mark.parametrize("line", ["GET /recommend/1 HTTP/1.1", "POST /healthz HTTP/1.1"])
@pytest.mark.parametrize("coding", ["content-length", "chunked"])
def test_a_body_that_looks_like_a_request_is_never_answered(
    pair: Pair, line: str, smuggled: bytes, coding: str
) -> None:
    if coding == "chunked":
        head, body = request(line, ["host: a", "transfer-encoding: chunked"]), chunked(smuggled, len(smuggled))
    else:
        head, body = request(line, ["host: a", f"content-length: {len(smuggled)}"]), smuggled
    # the body comes in a chunk of its own, so that it begins where a request would
    chunk_begins = [len(head), len(head) + body.index(smuggled)]
    for places in (chunk_begins, chunk_begins[1:], []):
        marks = [0, *places, len(head + body)]
        got, closed = compared(pair, [(head + body)[one:two] for one, two in pairwise(marks)])
        assert not closed
        assert names(7, 0, 29).encode() not in got
        assert len(answers_in(got)) == 2


def test_what_ends_a_chunked_body_is_awaited_before_the_next_request(pair: Pair) -> None:
    for rest in ([b"\r\n", LAST], [b"\r", b"\n", LAST], [b"\r\n" + LAST], [LAST], [b"x: y\r\n\r\n", LAST]):
        compared(pair, [TRAILER, b"0\r\n", *rest])


def test_headers_up_to_the_limit_are_read_and_no_further(pair: Pair) -> None:
    for size in [*range(2000, 2100, 7), *range(8150, 8210)]:
        line = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx: "
        compared(pair, [line + b"y" * (size - len(line) - 4) + b"\r\n\r\n"])


PROBES = [
    b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n" * 3,
    b"GET /recommend/77 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /recommend/abc HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /recommend/5?n=2 HTTP/1.1\r\nhost: a\r\n\r\n" + LAST,
]


def test_both_say_the_same_without_a_release_with_one_and_where_all_or_some_is_hidden(tmp_path: Path) -> None:
    var = tmp_path / "var"
    with paired(var, max_header_bytes=1024) as pair:
        compare = partial(_statuses, pair)
        assert compare() == {503, 400}
        write_release(var / "releases", "one")
        durable.point(var / "releases" / "current", "one")
        pair.get_until("/readyz", 200)
        assert compare() == {200, 400}
        (var / "hidden.txt").write_text("".join(f"movie+{number}+2000\n" for number in range(30)))
        pair.get_until("/recommend/5?n=20", 503)
        assert compare() == {503, 400}
        (var / "hidden.txt").write_text("movie+7+2000\n")
        pair.get_until("/recommend/5?n=20", 200)
        assert compare() == {200, 400}
        for size in range(900, 1200, 3):  # shorter than what the lane reads elsewhere
            line = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx: "
            compared(pair, [line + b"y" * (size - len(line) - 4) + b"\r\n\r\n"])


def _statuses(pair: Pair) -> set[int]:
    found = set[int]()
    for probe in PROBES:
        got, closed = compared(pair, [probe])
        assert not closed
        found |= {answer.status for answer in answers_in(got)}
        assert all((answer.body == "") <= (answer.status != 200) for answer in answers_in(got))
    return found


def handled(worker: WorkerProcess) -> int:
    """How many requests took the lane."""
    for family in text_string_to_metric_families(worker.metrics()):
        for sample in family.samples:
            if sample.name == "marquee_handling_seconds_count":
                return int(sample.value)
    raise AssertionError


def test_plain_requests_do_take_the_lane(tmp_path: Path) -> None:
    write_release(tmp_path / "releases", "one")
    durable.point(tmp_path / "releases" / "current", "one")
    plain = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nuser-agent: b\r\n\r\n"
    with serving(tmp_path) as worker:
        with worker.wire() as wire:
            for _ in range(10):
                wire.send(plain)
                assert wire.answer().status == 200
            wire.send(plain * 20)
            assert [wire.answer().body for _ in range(20)] == [names(7, 0, 29)] * 20
        assert handled(worker) == 30


def test_a_client_that_sends_new_headers_each_time_is_answered_and_makes_nothing_grow(tmp_path: Path) -> None:
    write_release(tmp_path / "releases", "one")
    durable.point(tmp_path / "releases" / "current", "one")

    def ask(wire: Wire, first: int) -> None:
        for at in range(first, first + 10_000, 100):
            heads = [f"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx-id: {at + by:01900d}\r\n\r\n" for by in range(100)]
            wire.send("".join(heads).encode())
            for _ in range(100):
                assert wire.answer().body == names(7, 0, 29)

    with serving(tmp_path) as worker, worker.wire() as wire:
        ask(wire, 0)
        before = _resident(worker)
        ask(wire, 10_000)
        ask(wire, 20_000)
        assert _resident(worker) < before + 8_000_000


def _resident(worker: WorkerProcess) -> int:
    status = Path(f"/proc/{worker.process.pid}/statm").read_text().split()
    return int(status[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_connection_that_ends_within_a_request_is_forgotten(pair: Pair) -> None:
    for data in (
        b"",
        b"G",
        b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n",
        b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab",
    ):
        for worker in pair.workers:
            with worker.wire() as wire:
                wire.send(data)
            assert worker.get("/recommend/5").status == 200


def test_the_two_workers_that_are_compared_would_be_told_apart(pair: Pair) -> None:
    with pair.connected() as sides:
        sides[0].send(b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n")
        sides[1].send(b"GET /recommend/9 HTTP/1.1\r\nhost: a\r\n\r\n")
        for side in sides:  # a connection that is new takes some turns of the loop
            until(lambda side=side: side.settle() or side.data)  # type: ignore[misc]
        with pytest.raises(AssertionError):
            said(sides, [b""])
    with pair.connected() as sides:
        sides[1].send(b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        sides[0].send(b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n")
        for side in sides:  # a connection that is new takes some turns of the loop
            until(lambda side=side: side.settle() or side.data)  # type: ignore[misc]
        with pytest.raises(AssertionError):
            said(sides, [b""])


def test_a_wire_tells_when_an_answer_is_cut_off(pair: Pair) -> None:
    with pair.workers[0].wire() as wire:
        wire.send(b"GET\r\n\r\n")
        assert wire.answer().status == 400
        with pytest.raises(Ended):
            wire.answer()
