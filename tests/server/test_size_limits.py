"""Limits on sizes: heads and bodies that are too long are refused, and the connection is ended."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.polling import DEADLINE_S
from tests.server.worker_connections import CHUNKED, LIST, PLAIN, is_open
from tests.server.worker_processes import WorkerProcess, serving


@pytest.fixture(scope="module")
def tight(module_var: Path) -> Iterator[WorkerProcess]:
    """A worker that reads little."""
    with serving(module_var, max_header_bytes=2000, max_body_bytes=1000) as worker:
        yield worker


TOO_MUCH = {
    "path": b"GET /recommend/" + b"5" * 3000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    "query": b"GET /recommend/5?n=" + b"5" * 3000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    "header": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 3000 + b"\r\n\r\n",
    "headers": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 500 + b"\r\n",
    "a little": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 1980 + b"\r\n\r\n",
    "no end": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 30_000,
    "no line": b"y" * 30_000,
    "megabytes": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 1_000_000,
}


@pytest.mark.parametrize("data", TOO_MUCH.values(), ids=TOO_MUCH.keys())
@pytest.mark.parametrize("first", [b"", PLAIN], ids=["alone", "after another"])
def test_a_head_that_is_too_long_is_refused_and_the_connection_ended(
    tight: WorkerProcess, data: bytes, first: bytes
) -> None:
    with tight.wire() as wire:
        with suppress(ConnectionError):  # it need not read all of it
            wire.send(first + data)
        if first:
            assert wire.answer().body == LIST
        answer = wire.answer()
        assert answer.status in (413, 414, 431)
        assert answer.closes
        assert wire.to_the_end() == b""
    assert tight.get("/recommend/5").body == LIST


@pytest.mark.parametrize(
    "data",
    [
        b"content-length: 1001\r\n\r\n" + b"x" * 1001,
        b"transfer-encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n",
    ],
    ids=["length", "chunk"],
)
def test_a_body_that_is_too_long_ends_the_connection(tight: WorkerProcess, data: bytes) -> None:
    with tight.wire() as wire:
        wire.send(b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\n" + data)
        answer = wire.answer()
        assert (answer.status, answer.closes) == (413, True)
        assert wire.to_the_end() == b""


@pytest.mark.parametrize("coding", [b"content-length: 30000000", CHUNKED + b"\r\nx: y"], ids=["length", "chunk"])
def test_a_client_that_goes_on_sending_reads_why_it_was_refused_and_is_not_reset(
    tight: WorkerProcess, coding: bytes
) -> None:
    with tight.wire() as wire:
        wire.send(b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\n" + coding + b"\r\n\r\n")
        wire.send(b"1c9c380\r\n" if coding.startswith(CHUNKED) else b"")
        for _ in range(300):
            wire.send(b"x" * 100_000)
        assert wire.answer().status == 413
        assert wire.sock.recv(1) == b""  # no reset


def test_a_client_that_sends_without_end_after_a_refusal_is_cut_off(var: Path) -> None:
    with serving(var, request_s=0.5) as worker, worker.wire() as wire, worker.wire() as other:
        wire.send(b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n")
        assert wire.answer().status == 413
        deadline = time.monotonic() + DEADLINE_S
        with suppress(ConnectionError):
            while time.monotonic() < deadline:
                wire.send(b"x" * 1000)
                assert is_open(other)
            raise AssertionError("it was never cut off")


def test_a_body_that_is_as_long_as_may_be_does_no_harm(tight: WorkerProcess) -> None:
    with tight.wire() as wire:
        wire.send(b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000)
        assert wire.answer().status == 405
        assert is_open(wire)
