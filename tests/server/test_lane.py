"""The fast lane never answers differently: workers with and without it give the same answers to the same bytes."""

import os
import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings

from stream import durable
from tests.polling import until
from tests.server.http_messages import POPULAR, Message, chunked, cut, dialogues, request, splits
from tests.server.lane_pair import LAST, Pair, compared, paired, said
from tests.server.odd_http_messages import streams
from tests.server.sample_releases import names, write_release
from tests.server.scraped_metrics import scraped
from tests.server.worker_processes import Ended, HttpAnswer, Wire, WorkerProcess, answers_in, serving

EXAMPLES = int(os.environ.get("MARQUEE_TEST_EXAMPLES", "150"))
"""Examples per property; set it to many thousands for a long search."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two workers with a rendered release, of which one movie is hidden."""
    var = tmp_path_factory.mktemp("lane") / "var"
    write_release(var / "releases", "the-release", text=True)
    durable.point(var / "releases" / "current", "the-release")
    (var / "hidden.txt").write_text("movie+12+2000\n")
    with paired(var) as running:
        yield running


without_shrinking_for_long = settings(
    deadline=None, max_examples=EXAMPLES, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
)


@without_shrinking_for_long
@given(messages=dialogues, split=splits())
def test_whole_requests_are_answered_the_same_and_as_they_must_be(
    pair: Pair, messages: list[Message], split: tuple[str, list[float]]
) -> None:
    closing = next((number for number, message in enumerate(messages) if message.closes), len(messages))
    due = messages[: closing + 1]
    got, closed = compared(pair, cut(b"".join(message.data for message in messages), split))
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
"""A request after which the lane recognises requests of the connection by their ends."""


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
def test_data_that_only_partly_matches_the_last_request_is_parsed(pair: Pair, data: bytes) -> None:
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
    # the body arrives in a piece of its own, so that it begins where a request would
    chunk_begins = [len(head), len(head) + body.index(smuggled)]
    for cuts in (chunk_begins, chunk_begins[1:], []):
        bounds = [0, *cuts, len(head + body)]
        got, closed = compared(pair, [(head + body)[start:end] for start, end in pairwise(bounds)])
        assert not closed
        assert names(7, 0, 29).encode() not in got
        assert len(answers_in(got)) == 2


def test_the_end_of_a_chunked_body_is_awaited_before_the_next_request(pair: Pair) -> None:
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
        for size in range(900, 1200, 3):  # below the limit of the lane in other workers
            line = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx: "
            compared(pair, [line + b"y" * (size - len(line) - 4) + b"\r\n\r\n"])


def _statuses(pair: Pair) -> set[int]:
    statuses = set[int]()
    for probe in PROBES:
        got, closed = compared(pair, [probe])
        assert not closed
        statuses |= {answer.status for answer in answers_in(got)}
        assert all((answer.body == "") <= (answer.status != 200) for answer in answers_in(got))
    return statuses


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
        assert scraped(worker)["marquee_handling_seconds_count", ""] == 30


def test_a_client_that_sends_new_headers_each_time_is_answered_and_makes_nothing_grow(tmp_path: Path) -> None:
    write_release(tmp_path / "releases", "one")
    durable.point(tmp_path / "releases" / "current", "one")

    def ask(wire: Wire, first: int) -> None:
        for number in range(first, first + 10_000, 100):
            heads = [
                f"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx-id: {number + offset:01900d}\r\n\r\n"
                for offset in range(100)
            ]
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


def test_the_comparison_finds_a_difference(pair: Pair) -> None:
    with pair.connected() as sides:
        sides[0].send(b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n")
        sides[1].send(b"GET /recommend/9 HTTP/1.1\r\nhost: a\r\n\r\n")
        for side in sides:  # a new connection takes some turns of the loop
            until(lambda side=side: side.settle() or side.data)  # type: ignore[misc]
        with pytest.raises(AssertionError):
            said(sides, [b""])
    with pair.connected() as sides:
        sides[1].send(b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        sides[0].send(b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n")
        for side in sides:  # a new connection takes some turns of the loop
            until(lambda side=side: side.settle() or side.data)  # type: ignore[misc]
        with pytest.raises(AssertionError):
            said(sides, [b""])


def test_a_wire_raises_if_an_answer_is_cut_off(pair: Pair) -> None:
    with pair.workers[0].wire() as wire:
        wire.send(b"GET\r\n\r\n")
        assert wire.answer().status == 400
        with pytest.raises(Ended):
            wire.answer()
