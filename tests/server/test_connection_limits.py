"""Limits on connections: one too many ends an idle one, and never one that is in use."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.polling import until
from tests.server.worker_connections import LIST, OTHER, PLAIN, connected, is_open, refused
from tests.server.worker_processes import WorkerProcess, serving


@pytest.mark.parametrize("lane", ["true", "false"])
def test_one_connection_too_many_ends_the_one_that_was_idle_longest(var: Path, lane: str) -> None:
    with serving(var, max_connections=10, lane=lane) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 10)
        assert is_open(wires[0])
        wires[1].send(PLAIN * 2)
        wires[2].send(OTHER)
        assert [wires[number].answer().body for number in (1, 1, 2)] == [LIST] * 3
        new = stack.enter_context(worker.wire())  # number 3 is idle longest now
        assert is_open(new)
        assert wires[3].to_the_end() == b""
        assert all(is_open(wire) for wire in [new, *wires[:3], *wires[4:]])
        assert is_open(stack.enter_context(worker.wire()))
        assert sum(is_open(wire) for wire in [new, *wires]) == 9


def test_connections_that_never_asked_make_room_as_well(var: Path) -> None:
    with serving(var, max_connections=5) as worker, ExitStack() as stack:
        silent = [stack.enter_context(worker.wire()) for _ in range(5)]
        for _ in range(20):
            with worker.wire() as wire:
                assert is_open(wire)
        assert silent[0].to_the_end() == b""


HALVES = [
    (b"GET /recommend/5 HT", b"TP/1.1\r\nhost: a\r\n\r\n", 200),
    (b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab", b"cd", 200),
    (b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab", b"cd", 405),
    (b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"\r\n", 405),
]
"""The first part of a request, its rest, and the status of the answer."""


@pytest.mark.parametrize(
    ("half", "rest", "status"),
    HALVES,
    ids=["head", "body", "refused body", "end of refused body"],
)
def test_connections_that_are_in_use_are_never_ended_for_a_new_one(
    var: Path, half: bytes, rest: bytes, status: int
) -> None:
    with serving(var, max_connections=6) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 6)
        for wire in wires:
            wire.send(PLAIN + half)  # in one piece: once PLAIN is answered, the half was read too
            assert wire.answer().body == LIST
        for _ in range(3):
            with worker.wire() as new:
                answer = new.answer()
                assert (answer.status, answer.closes, answer.body) == (503, True, "too many connections")
                assert int(answer.headers["retry-after"]) >= 1
                assert new.to_the_end() == b""
        for wire in wires:
            wire.send(rest)
            assert wire.answer().status == status
            assert is_open(wire)
        assert is_open(stack.enter_context(worker.wire()))
        assert refused(worker, "connections") == 3


def test_room_is_made_only_where_there_is_something_idle(var: Path) -> None:
    with serving(var, max_connections=4) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 4)
        for wire in wires[:3]:
            wire.send(PLAIN + b"GET /rec")
            assert wire.answer().body == LIST
        new = stack.enter_context(worker.wire())
        assert is_open(new)
        assert wires[3].to_the_end() == b""
        for wire in wires[:3]:
            wire.send(b"ommend/5 HTTP/1.1\r\nhost: a\r\n\r\n")
            assert wire.answer().body == LIST


@contextmanager
def many_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"this machine lets a process open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_thousand_idle_connections_block_no_client(var: Path) -> None:
    with many_files(4096), serving(var) as worker, ExitStack() as stack:
        silent = [stack.enter_context(worker.wire()) for _ in range(1000)]
        asked = connected(stack, worker, 1000)
        with worker.wire() as wire:
            for _ in range(100):
                assert wire.get("/recommend/5").body == LIST
                assert wire.get("/recommend/5?n=20").body == LIST
        assert all(is_open(wire) for wire in [*silent, *asked])


def test_a_client_that_is_one_too_many_reads_so_though_it_was_sending(var: Path) -> None:
    with serving(var, max_connections=2) as worker, ExitStack() as stack:
        for wire in connected(stack, worker, 2):
            wire.send(PLAIN[:-2] + PLAIN[:9])
        until(lambda: is_one_too_many(worker))


def is_one_too_many(worker: WorkerProcess) -> bool:
    with worker.wire() as wire:
        wire.send(PLAIN * 1000)
        answer = wire.answer()
        assert answer.status == 200 or answer.body == "too many connections"
        assert answer.status == 200 or wire.sock.recv(1) == b""  # no reset
        return answer.status == 503
