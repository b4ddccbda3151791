"""Letting clients in: a few at a time, more where a turn was long, and nobody whose request is too old by then."""

import asyncio
import math
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from server.acceptor import Acceptor
from server.current import Current
from server.guard import Guard
from server.metrics import Meter
from server.probes import Probes
from server.settings import ServerSettings
from tests.server.processes import DEADLINE_S, HOST

PROBES = Probes(Current(Path("nowhere")), Meter())
REQUEST = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"


class Echo(asyncio.Protocol):
    """Says back what it hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0), backlog=4096) as made:
        yield made


def clients(stack: ExitStack, listener: socket.socket, count: int, data: bytes) -> list[socket.socket]:
    """Clients that wait to be let in, and have sent something."""
    found = []
    for _ in range(count):
        client = stack.enter_context(socket.create_connection(listener.getsockname(), DEADLINE_S))
        client.sendall(data)
        found.append(client)
    return found


async def heard(client: socket.socket) -> bytes:
    return await asyncio.to_thread(client.recv, 1 << 16)


LONG_S = 600.0
"""Longer than any machine lets a client wait that shall not wait."""


def accepted(
    listener: socket.socket,
    sent: list[bytes],
    wait_s: float,
    late_s: float,
    shed_s: float = 0.05,
    settling: bool = False,
) -> tuple[list[bytes], Guard]:
    """What each client hears that waited for `wait_s`. The turn began `late_s` ago, and where that is long there was
    always somebody left who waited; while `settling`, since the worker began."""

    async def let_in() -> list[bytes]:
        acceptor = Acceptor(listener, cast(Any, Echo), set(), guard, PROBES)
        with ExitStack() as stack:
            waiting = [one for data in sent for one in clients(stack, listener, 1, data)]
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


def test_who_has_waited_is_let_in_where_there_is_not_much_to_do(listener: socket.socket) -> None:
    answers, guard = accepted(listener, [REQUEST] * 5, wait_s=0.2, late_s=0)
    assert answers == [REQUEST] * 5
    assert guard.refused["overload"] == 0


def test_who_has_waited_too_long_is_refused_where_turns_are_long(listener: socket.socket) -> None:
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


def test_the_first_queue_has_settled_once_nobody_waits(listener: socket.socket) -> None:
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
def test_probes_among_who_waited_too_long_are_answered(listener: socket.socket, path: bytes, headers: bytes) -> None:
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
def test_what_is_not_one_plain_probe_is_no_probe(data: bytes) -> None:
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


def test_who_has_not_waited_is_let_in_where_turns_are_long(listener: socket.socket) -> None:
    answers, _ = accepted(listener, [REQUEST] * 5, wait_s=0, late_s=1, shed_s=LONG_S)
    assert answers == [REQUEST] * 5


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
