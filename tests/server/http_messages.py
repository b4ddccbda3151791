"""Well-formed HTTP requests, made at random, each with the answer that it must get; and ways to cut bytes in chunks."""

import re
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

from tests.server.lane_pair import LAST
from tests.server.sample_releases import names

POPULAR = names(*range(12), *range(13, 20))
LISTS = {
    1: names(*range(12), *range(13, 21)),
    5: names(7, 0, 29),
    9: names(25, 24, 23, 22),
    2**32 - 1: names(*range(29, 12, -1), 11, 10),
}
"""What is answered to whom: user 1's list is filled up from their segment's."""


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
    return "".join(f"{text_line}\r\n" for text_line in [line, *headers, ""]).encode() + body


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
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
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
    ends = [line_end.end() for line_end in re.finditer(rb"\n", data)]
    if kind == "whole" or (kind == "lines" and len(ends) > 60):
        cuts = set[int]()
    elif kind == "bytes":
        # the first and the last bytes one by one
        cuts = set(range(min(100, len(data)))) | set(range(max(0, len(data) - 100), len(data)))
    elif kind == "lines":
        cuts = set(ends)
    elif kind == "some lines" and ends:
        cuts = {ends[round(share * (len(ends) - 1))] for share in shares}
    else:
        cuts = {round(share * len(data)) for share in shares}
    bounds = sorted({0, len(data), *cuts})
    return [data[start:end] for start, end in pairwise(bounds)]
