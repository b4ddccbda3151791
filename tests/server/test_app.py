"""What a worker answers over HTTP: routes, counts, headers, refusals, with the fast lane and without it."""

import re
from collections.abc import Iterator
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.answers import TEXT
from stream import durable
from tests.server.sample_releases import names, write_release
from tests.server.worker_processes import Ended, Wire, WorkerProcess, is_line, serving


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker with a release that never changes, of which movie 29 is hidden."""
    var = tmp_path_factory.mktemp("app") / "var"
    write_release(var / "releases", "the-release", trees=20)
    durable.point(var / "releases" / "current", "the-release")
    (var / "hidden.txt").write_text("movie+29+2000\n")
    with serving(var) as process:
        yield process


@pytest.fixture
def wire(worker: WorkerProcess) -> Iterator[Wire]:
    with worker.wire() as connected:
        yield connected
        # whatever the test sent, the next request on the same connection is answered
        assert connected.get("/recommend/11").body == names(*range(20))


SHORT = names(7, 0, *range(1, 7), *range(8, 20))
"""The list of user 5: 7, 0 and the hidden movie 29 in the release, filled up."""


@pytest.mark.parametrize(
    ("path", "body", "source"),
    [
        ("/recommend/1", names(*range(20)), "personal"),
        ("/recommend/5", SHORT, "personal"),
        ("/recommend/9", names(25, 24, 23, 22), "segment"),
        ("/recommend/11", names(*range(20)), "popular"),
        ("/recommend/0", names(*range(20)), "popular"),
        ("/recommend/00000000000009", names(25, 24, 23, 22), "segment"),
        ("/recommend/9999999999999999999", names(*range(20)), "popular"),
        ("/recommend/9?x=%D9%A1", names(25, 24, 23, 22), "segment"),
        ("/recommend/9?", names(25, 24, 23, 22), "segment"),
        ("/recommend/%39", names(25, 24, 23, 22), "segment"),
        ("/recommend/%30%30%39?n=%32%30", names(25, 24, 23, 22), "segment"),
        ("/recommend/9#n=1", names(25, 24, 23, 22), "segment"),
    ],
)
def test_a_user_is_answered_with_one_line_of_movies(wire: Wire, path: str, body: str, source: str) -> None:
    answer = wire.get(path)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers == {
        "x-marquee-release": "the-release",
        "x-marquee-source": source,
        "date": answer.headers["date"],
        "content-length": str(len(body)),
        "connection": "keep-alive",
        "content-type": TEXT,
    }


@pytest.mark.parametrize("count", range(1, 21))
def test_as_many_movies_come_as_are_asked_for(wire: Wire, count: int) -> None:
    assert wire.get(f"/recommend/1?n={count}").body == names(*range(count))
    assert wire.get(f"/recommend/9?n={count}").body == names(*[25, 24, 23, 22][:count])
    assert wire.get(f"/recommend/1?a=b&n={count:02d}&c").body == names(*range(count))


BAD_COUNTS = [
    "0", "00", "21", "99", "100", "020", "-1", "+1", "1.0", "1e0", "a", "", "%20", "1%20", "%201", "%D9%A1", "1,2",
    "0x1", "1_0", "%00", "%0a1", "1%0a", "99999999999999999999", "%EF%BC%95",
]  # fmt: skip


@pytest.mark.parametrize("path", ["/recommend/1", "/similar/movie+3+2000"])
@pytest.mark.parametrize("count", BAD_COUNTS)
def test_a_count_outside_1_to_20_is_refused(wire: Wire, path: str, count: str) -> None:
    assert is_line(wire.get(f"{path}?n={count}"), 400)


@pytest.mark.parametrize("query", ["n=1&n=1", "n=1&n=2", "n=&n=1", "n=1&n", "n"])
def test_a_count_that_is_said_twice_or_not_at_all_is_refused(wire: Wire, query: str) -> None:
    assert is_line(wire.get(f"/recommend/1?{query}"), 400)


@pytest.mark.parametrize("query", ["N=1", "nn=1", "n%20=1", "x=n=1"])
def test_other_parameters_mean_nothing(wire: Wire, query: str) -> None:
    assert wire.get(f"/recommend/1?{query}").body == names(*range(20))


BAD_USERS = [
    "", "abc", "5a", "-5", "+5", "5.0", "5e3", "0x10", "1" * 20, "1" * 3_000, "%D9%A1", "%2531", "%3",
    "%C3%28", "%80", "5%20", "%0A5", "5%00",
    "5,6", "%2F", "null", "%F0%9F%98%80", "5%0D%0Ax-a:b", "5;n=1", "5&n=1", "%EF%BC%95", "5%", "%zz", "5=",
]  # fmt: skip


@pytest.mark.parametrize("user", BAD_USERS)
def test_a_malformed_user_id_is_refused_with_one_line(wire: Wire, user: str) -> None:
    answer = wire.get(f"/recommend/{user}")
    assert is_line(answer, 400)
    assert "x-a" not in answer.headers
    assert is_line(wire.get(f"/recommend/{user}?n=3"), 400)


user_ids = st.one_of(
    st.integers(0, 10**21).map(str),
    st.from_regex(r"[0-9]{0,21}", fullmatch=True),
    st.text("0123456789+-._~,;:=@!$'()*aZ", max_size=21),
)


@given(user=user_ids, count=st.one_of(st.none(), st.integers(-1, 120)))
def test_1_to_19_digits_and_a_count_from_1_to_20_are_answered_and_all_else_is_refused(
    worker: WorkerProcess, user: str, count: int | None
) -> None:
    is_good = re.fullmatch("[0-9]{1,19}", user) is not None and count in (None, *range(1, 21))
    with worker.wire() as wire:
        answer = wire.get(f"/recommend/{user}" + ("" if count is None else f"?n={count}"))
        assert answer.status == (200 if is_good else 400)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/recommend",
        "/recommends/5",
        "/recommend/5/6",
        "/favicon.ico",
        "/metrics",
        "/release",
        "/docs",
        "/similar",
    ],
)
def test_other_paths_are_not_found(wire: Wire, path: str) -> None:
    answer = wire.get(path)
    assert is_line(answer, answer.status)
    assert answer.status in ((404, 400) if path == "/recommend" else (404,))


GOOD = [
    "/recommend/5", "/similar/movie+3+2000", "/docs/openapi.json", "/healthz", "/readyz",
]  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get"])
@pytest.mark.parametrize("path", GOOD)
def test_other_methods_are_not_allowed(wire: Wire, method: str, path: str) -> None:
    answer = wire.get(path, method)
    assert is_line(answer, 405)
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", [*GOOD, "/recommend/5?n=3", "/recommend/x", "/nothing", "/similar/x", "/similar/%zz"])
def test_head_is_answered_as_get_is_but_for_the_body(wire: Wire, path: str) -> None:
    answer, head = wire.get(path), wire.get(path, "HEAD")
    assert (head.status, head.headers.keys()) == (answer.status, answer.headers.keys())
    assert head.body == ""
    same = head.headers.keys() - {"date"}
    assert {name: head.headers[name] for name in same} == {name: answer.headers[name] for name in same}


def test_health_and_readiness_are_one_word(wire: Wire) -> None:
    assert is_line(wire.get("/healthz"), 200)
    ready = wire.get("/readyz")
    assert (ready.status, ready.body) == (200, "ready")


def test_a_movie_is_answered_with_those_nearest_to_it(wire: Wire) -> None:
    answer = wire.get("/similar/movie+3+2000?n=20")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    body = orjson.loads(answer.body)
    assert (body["movie"], body["release"], len(body["similar"])) == ("movie+3+2000", "the-release", 20)
    assert len(set(body["similar"])) == 20
    assert {"movie+3+2000", "movie+29+2000"}.isdisjoint(body["similar"])
    for count in range(1, 21):
        assert orjson.loads(wire.get(f"/similar/movie+3+2000?n={count}").body)["similar"] == body["similar"][:count]
    assert orjson.loads(wire.get("/similar/movie+3+2000").body)["similar"] == body["similar"][:10]


def test_movies_like_one_that_is_hidden_are_told(wire: Wire) -> None:
    body = orjson.loads(wire.get("/similar/movie+29+2000").body)
    assert len(body["similar"]) == 10
    assert "movie+29+2000" not in body["similar"]


@pytest.mark.parametrize("movie", ["movie+3+2000", "movie%2B3%2B2000", "%6dovie%2b3+2000"])
def test_a_movie_is_the_same_however_its_path_is_encoded(wire: Wire, movie: str) -> None:
    answer = wire.get(f"/similar/{movie}?n=3")
    assert orjson.loads(answer.body) == orjson.loads(wire.get("/similar/movie+3+2000?n=3").body)
    assert orjson.loads(answer.body)["movie"] == "movie+3+2000"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_percent_encoding_is_undone_exactly_once(worker: WorkerProcess, movie: str) -> None:
    with worker.wire() as wire:
        answer = wire.get(f"/similar/{quote(movie, safe='')}")
    assert is_line(answer, 404)


@pytest.mark.parametrize(
    "movie", ["%zz", "%", "%2", "a%", "%C3%28", "%FF", "%C0%AF", "%ED%A0%80", "movie%+3", "%u0041"]
)
def test_a_movie_that_is_encoded_wrongly_is_refused(wire: Wire, movie: str) -> None:
    assert is_line(wire.get(f"/similar/{movie}"), 400)


@pytest.mark.parametrize(
    "movie",
    [
        "movie%252B3%252B2000",
        "a%2Fb",
        "%2F",
        "movie%203%202000",
        "never+heard+of+1999",
        "movie+3",
        "Movie+3+2000",
        "%00",
        "..",
        "3",
        "%F0%9F%98%80",
        "%20",
    ],
)
def test_a_movie_that_the_release_does_not_know_is_not_found(wire: Wire, movie: str) -> None:
    assert is_line(wire.get(f"/similar/{movie}"), 404)


def test_no_movie_at_all_is_not_found(wire: Wire) -> None:
    assert is_line(wire.get("/similar/"), 404)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /recommend/5\r\n\r\n",
        b"GET /recommend/\xd9\xa1 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n" + b"a: " + b"b" * 100_000 + b"\r\n\r\n",
        b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"\r\n" * 20_000,
        b"GET /recommend/5 HTTP/2.0\r\n\r\n",
    ],
    ids=["tls", "no path", "no version", "raw bytes", "long header", "negative length", "blank lines", "version"],
)
def test_malformed_http_is_refused_and_harms_no_other_client(worker: WorkerProcess, data: bytes) -> None:
    with worker.wire() as wire:
        wire.send(data)
        answer = wire.answer()
        assert 400 <= answer.status < 500
        assert answer.closes
        assert is_line(answer, answer.status)
        with pytest.raises(Ended, match="b''"):
            wire.answer()
    assert worker.get("/recommend/1").status == 200


@pytest.mark.parametrize("target", ["\x00", "/recommend/\x005", "/recommend/\t5", "/recommend/\x7f", "a:b:c"])
def test_a_target_that_is_no_url_is_refused(worker: WorkerProcess, target: str) -> None:
    with worker.wire() as wire:
        wire.send(f"GET {target} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        answer = wire.answer()
        assert is_line(answer, 400)
    assert "Traceback" not in worker.text()


def test_a_method_that_is_no_text_is_not_allowed(worker: WorkerProcess) -> None:
    with worker.wire() as wire:
        wire.send(b"G\xa4T /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = wire.answer()
        assert answer.status in (400, 405)
        assert is_line(answer, answer.status)
    assert "Traceback" not in worker.text()


def test_requests_in_one_chunk_are_answered_in_order(worker: WorkerProcess) -> None:
    get_line = b"GET /recommend/%d HTTP/1.1\r\nhost: a\r\n\r\n"
    last = b"GET /recommend/11 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    with worker.wire() as wire:
        wire.send(get_line % 1 + get_line % 9 + last)
        assert [wire.answer().body for _ in range(3)] == [names(*range(20)), names(25, 24, 23, 22), names(*range(20))]
        assert wire.to_the_end() == b""
