"""Requests made at random of odd parts, or garbled, of which it is not said how they must be answered."""

from hypothesis import strategies as st

from tests.server.http_messages import messages_with_bodies, other_messages, plain_headers, plain_messages, request
from tests.server.lane_pair import LAST

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
        index = draw(st.integers(0, len(data)))
        odd = draw(
            st.one_of(
                st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b"\x80"]), st.binary(max_size=3)
            )
        )
        data[index : index + draw(st.integers(0, 2))] = odd
    return bytes(data)


well_formed = st.one_of(plain_messages(), messages_with_bodies(), other_messages()).map(lambda one: one.data)
streams = st.lists(
    st.one_of(odd_messages(), nearly_plain_messages(), garbled_messages(), st.binary(max_size=40), well_formed),
    min_size=1,
    max_size=5,
).map(b"".join)
