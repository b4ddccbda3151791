"""Accepting clients: a few at a time, more after a long turn, and none whose request has become too old."""

import asyncio
import math
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest
import uvloop

from server.acceptor import Acceptor
from server.guard import Guard
from server.probes import Probes
from server.release_watcher import ReleaseWatcher
from server.settings import ServerSettings
from server.worker_metrics import RequestMeter
from tests.polling import DEADLINE_S
from tests.server.worker_processes import HOST

PROBES = Probes(ReleaseWatcher(Path("nowhere")), RequestMeter())
REQUEST = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0), backlog=4096) as sock:
        yield sock


def clients(stack: ExitStack, listener: socket.socket, count: int, data: bytes) -> list[socket.socket]:
    """Clients that wait to be accepted and have sent some data."""
    connected = []
    for _ in range(count):
        client = stack.enter_context(socket.create_connection(listener.getsockname(), DEADLINE_S))
        client.sendall(data)
        connected.append(client)
    return connected


async def heard(client: socket.socket) -> bytes:
    return await asyncio.to_thread(client.recv, 1 << 16)


LONG_S = 600.0
"""So long that no client waits for it by accident."""


def accepted(
    listener: socket.socket,
    sent: list[bytes],
    wait_s: float,
    late_s: float,
    shed_s: float = 0.05,
    settling: bool = False,
) -> tuple[list[bytes], Guard]:
    """What clients that waited for `wait_s` receive; the turn began `late_s` ago.

    If `late_s` is above 0 the queue was never empty; while `settling`, not since the worker began.
    """

    async def let_in() -> list[bytes]:
        acceptor = Acceptor(listener, cast(Any, Echo), set(), guard, PROBES)
        with ExitStack() as stack:
            waiting = [clients(stack, listener, 1, data)[0] for data in sent]
            await asyncio.sleep(wait_s)
            guard.turn_began = asyncio.get_running_loop().time() - late_s
            acceptor._full_since = -math.inf if late_s > 0 else None
            acceptor._settles_at = math.inf if settling else 0.0
            acceptor.start()
            try:
                return list(await asyncio.gather(*map(heard, waiting)))
            finally:
                acceptor.close()

    guard = Guard(ServerSettings(shed_s=shed_s))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(let_in()), guard


def test_all_are_let_in(listener: socket.socket) -> None:
    answers, guard = accepted(listener, [REQUEST] * 50, wait_s=0, late_s=0, shed_s=LONG_S)
    assert answers == [REQUEST] * 50
    assert guard.refused["overload"] == 0


def test_clients_that_waited_are_accepted_while_turns_are_short(listener: socket.socket) -> None:
    answers, guard = accepted(listener, [REQUEST] * 5, wait_s=0.2, late_s=0)
    assert answers == [REQUEST] * 5
    assert guard.refused["overload"] == 0


def test_clients_that_waited_too_long_are_refused_while_turns_are_long(listener: socket.socket) -> None:
    answers, guard = accepted(listener, [REQUEST] * 40, wait_s=0.2, late_s=1)
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nconnection: close\r\n" in answer
        assert b"\r\nretry-after: " in answer
    assert guard.refused["overload"] == 40


def test_a_queue_that_formed_while_no_worker_was_ready_is_not_overload(listener: socket.socket) -> None:
    answers, guard = accepted(listener, [REQUEST] * 40, wait_s=0.2, late_s=1, settling=True)
    assert answers == [REQUEST] * 40
    assert guard.refused["overload"] == 0


def test_the_first_queue_has_settled_once_it_was_empty(listener: socket.socket) -> None:
    async def let_in() -> tuple[float | None, float | None]:
        acceptor = Acceptor(listener, cast(Any, Echo), set(), Guard(ServerSettings()), PROBES)
        with ExitStack() as stack:
            waiting = clients(stack, listener, 3, REQUEST)
            before = acceptor._settles_at
            acceptor.start()
            await asyncio.gather(*map(heard, waiting))
            acceptor.close()
            return before, acceptor._settles_at

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(let_in()) == (None, 0.0)


@pytest.mark.parametrize("headers", [b"host: a\r\n", b"host: a\r\nuser-agent: kube-probe/1.30\r\naccept: */*\r\n"])
@pytest.mark.parametrize("path", [b"/healthz", b"/readyz"])
def test_probes_among_clients_that_waited_too_long_are_answered(
    listener: socket.socket, path: bytes, headers: bytes
) -> None:
    probe = b"GET " + path + b" HTTP/1.1\r\n" + headers + b"\r\n"
    answers, guard = accepted(listener, [REQUEST, probe] * 20, wait_s=0.2, late_s=1)
    assert guard.refused["overload"] == 20
    for answer in answers[1::2]:
        assert (b"alive" if path == b"/healthz" else b"unready") in answer
        assert b"\r\nconnection: close\r\n" in answer


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\r\nhost: a\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n" * 2,
        b"GET /healthzz HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
)
def test_only_a_single_plain_probe_counts_as_a_probe(data: bytes) -> None:
    assert PROBES.answer(data) is None


@pytest.mark.parametrize("count", [8, 16])
def test_a_queue_that_was_emptied_exactly_is_not_full(listener: socket.socket, count: int) -> None:
    async def let_in() -> float | None:
        acceptor = Acceptor(listener, cast(Any, Echo), set(), guard, PROBES)
        with ExitStack() as stack:
            waiting = clients(stack, listener, count, REQUEST)
            guard.turn_began = asyncio.get_running_loop().time() + 60
            acceptor.start()
            await asyncio.gather(*map(heard, waiting))
            acceptor.close()
            return acceptor._full_since

    guard = Guard(ServerSettings(shed_s=LONG_S))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(let_in()) is None


def test_clients_that_just_came_are_accepted_while_turns_are_long(listener: socket.socket) -> None:
    answers, _ = accepted(listener, [REQUEST] * 5, wait_s=0, late_s=1, shed_s=LONG_S)
    assert answers == [REQUEST] * 5


RESET = struct.pack("ii", 1, 0)


def reset(client: socket.socket) -> None:
    """Close a connection with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def let_in_of(listener: socket.socket, resets: int, half_closed: int, stay: int, late_s: float) -> list[int]:
    """How many clients are accepted in each turn, when some reset, half-closed or kept their connections."""
    counts: list[int] = []

    class Counted(Echo):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            counts[-1] += 1

    async def let_in() -> None:
        acceptor = Acceptor(listener, cast(Any, Counted), set(), guard, PROBES)
        with ExitStack() as stack:
            for client in clients(stack, listener, resets, REQUEST):
                reset(client)
            halves = clients(stack, listener, half_closed, REQUEST)
            for client in halves:
                client.shutdown(socket.SHUT_WR)
            waiting = [*halves, *clients(stack, listener, stay, REQUEST)]
            while sum(counts) < len(waiting):
                counts.append(0)
                guard.turn_began = monotonic() - late_s
                acceptor._accept()
                while acceptor.arriving:
                    await asyncio.sleep(0)
            assert await asyncio.gather(*map(heard, waiting)) == [REQUEST] * len(waiting)
        acceptor.close()

    guard = Guard(ServerSettings(shed_s=LONG_S))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(let_in())
    return counts


def test_connections_that_were_reset_are_not_accepted_and_take_no_place(listener: socket.socket) -> None:
    assert let_in_of(listener, resets=100, half_closed=0, stay=8, late_s=0) == [8]


def test_half_closed_connections_are_accepted(listener: socket.socket) -> None:
    assert sum(let_in_of(listener, resets=3, half_closed=5, stay=1, late_s=0)) == 6


def test_however_long_a_turn_was_no_more_are_let_in_than_a_turn_bears(listener: socket.socket) -> None:
    assert max(let_in_of(listener, resets=0, half_closed=0, stay=150, late_s=60)) == 64


def test_without_descriptors_it_lets_clients_in_once_there_are_some(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError(24, "Too many open files")] * 2)
    accept = socket.socket.accept

    def failing(self: socket.socket) -> Any:
        for failure in failures:
            raise failure
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", failing)
    answers, _ = accepted(listener, [REQUEST] * 3, wait_s=0, late_s=-60, shed_s=LONG_S)
    assert answers == [REQUEST] * 3
