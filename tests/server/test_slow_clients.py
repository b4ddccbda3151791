"""Limits on time: clients that send or read too slowly are cut off."""

import resource
import select
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import names
from tests.server.worker_connections import CHUNKED, LIST, PLAIN, connected, is_open, readable, refused
from tests.server.worker_processes import Wire, WorkerProcess, answers_in, serving, undated


def drip(wires: list[Wire]) -> None:
    """Send byte by byte on all connections until the worker answers on each, or ends it."""
    deadline = time.monotonic() + DEADLINE_S / 2
    while wires:
        assert time.monotonic() < deadline, f"{len(wires)} connections are neither answered nor ended"
        for wire in wires:
            with suppress(ConnectionError):
                wire.send(b"x")
        wires = [wire for wire in wires if not readable(wire, 0.01)]


BEGINNINGS = [
    b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n",
    b"GET /recommend/",
    b"\r\n",
    PLAIN[:-2],
    PLAIN + PLAIN[:-2],
    b"x",
]


def test_a_request_that_drips_in_is_given_up_though_bytes_keep_coming(var: Path) -> None:
    with serving(var, request_s=0.5) as worker, ExitStack() as stack:
        wires = connected(stack, worker, len(BEGINNINGS))
        for wire, beginning in zip(wires, BEGINNINGS, strict=True):
            wire.send(beginning)
            for _ in range(beginning.count(b"\r\n\r\n")):
                assert wire.answer().body == LIST
        drip(wires[:-1])  # the last sends nothing more
        for wire in wires:
            answer = wire.answer()
            assert (answer.status, answer.closes) == (408, True)
            assert len(answer.body.splitlines()) == 1
        # the one that sends nothing more may be ended by Sanic
        assert refused(worker, "slow_request") in (len(wires) - 1, len(wires))


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_body_that_drips_in_is_given_up_though_bytes_keep_coming(var: Path, method: bytes) -> None:
    with serving(var, request_s=0.5) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 3)
        for wire, coding in zip(wires, (b"content-length: 60000", b"content-length: 9", CHUNKED), strict=True):
            wire.send(method + b" /recommend/5 HTTP/1.1\r\nhost: a\r\n" + coding + b"\r\n\r\n")
            wire.send(b"xxxx" if coding != CHUNKED else b"ea60\r\n")
        drip([wires[0], wires[2]])
        for wire in wires:  # number 1 sends nothing more
            assert wire.answer().status == 408
            assert wire.to_the_end() == b""


def test_a_client_that_never_rests_is_not_taken_for_a_slow_one(var: Path) -> None:
    """Its requests are sent at once, but the beginning of the next one is always there."""
    request_s, deadline = 1, time.monotonic() + DEADLINE_S
    with serving(var, request_s=request_s) as worker:
        while (waited := kept_on(worker, request_s + 2.5)) is not None:  # the guard looks once a second
            assert waited > request_s, "it was never slow, and was taken for it"
            assert time.monotonic() < deadline, "this machine lets no client be quick"


def kept_on(worker: WorkerProcess, seconds: float) -> float | None:
    """Send requests, always with the beginning of the next; if one is refused, the longest wait so far, else None."""
    longest, now = 0.0, time.monotonic()
    end = now + seconds
    with worker.wire() as wire:
        wire.send(PLAIN[:9])
        while True:
            last = now > end
            wire.send(PLAIN[9:] if last else PLAIN[9:] + PLAIN[:9])
            body, began, now = wire.answer().body, now, time.monotonic()
            longest = max(longest, now - began)
            if body != LIST:
                return longest
            if last:
                return None


def test_a_connection_without_a_request_is_ended_and_one_in_use_is_not(var: Path) -> None:
    """Nor is one whose client does not read for a moment. On a busy machine the moment may exceed the limit: then the
    test tries once more, with longer limits."""
    assert any(one_in_use_stays(var, idle_s) for idle_s in (4, 40))


def one_in_use_stays(var: Path, idle_s: int) -> bool:
    """Whether a connection in use stays open while one without a request is ended."""
    with serving(var, idle_s=idle_s, write_s=1.5 * idle_s) as worker, worker.wire() as idle:
        with worker.wire(receive_buffer=4096) as used:
            assert is_open(idle)
            long_idle = time.monotonic() + 1.9 * idle_s
            used.send(request := b"GET /recommend/1 HTTP/1.1\r\nhost: a\r\n\r\n")
            answer, got = used.sock.recv(4096), bytearray()
            used.send(request * 12_000)  # the answers are more than Linux holds
            with worker.wire() as other:
                for _ in range(20):  # meanwhile they are all written
                    assert is_open(other)
            while len(got) < 12_000 * len(answer) and (data := received(used)):
                got += data
            stays = len(got) == 12_000 * len(answer)
            assert not stays or undated(bytes(got)) == undated(answer) * 12_000
            while stays and time.monotonic() < long_idle:
                stays = is_open(used)
                readable(used, 0.05)
        assert idle.to_the_end() == b""
        return stays and refused(worker, "slow_reader") == 0


def received(wire: Wire) -> bytes:
    """The bytes that have arrived; none if the connection was ended."""
    try:
        return wire.sock.recv(1 << 20)
    except ConnectionError:
        return b""


def resident(worker: WorkerProcess) -> int:
    pages = int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("path", ["/recommend/1", "/recommend/1?n=20"], ids=["lane", "sanic"])
def test_a_client_that_asks_on_and_on_and_never_reads_is_cut_off(var: Path, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
    with serving(var, write_s=0.5) as worker, worker.wire(receive_buffer=4096) as greedy, worker.wire() as wire:
        assert is_open(wire)
        before, most, sent = resident(worker), 0, 0
        greedy.sock.setblocking(False)
        batch, deadline = request * 2000, time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                sent += greedy.sock.send(batch)
            except BlockingIOError:
                select.select([], [greedy.sock], [], 0.02)
            except ConnectionError:
                break
            most = max(most, resident(worker))
            assert wire.get("/recommend/5").body == LIST
        else:
            raise AssertionError("it was never cut off")
        assert sent > 1000 * len(request)
        assert most < before + 8_000_000
        until(lambda: refused(worker, "slow_reader") == 1)
        assert is_open(wire)


def test_a_client_that_reads_late_gets_all_in_order(var: Path) -> None:
    users = [1, 5, 9, 11] * 2500
    data = "".join(
        f"GET /recommend/{user}{'?n=20' if position % 7 == 0 else ''} HTTP/1.1\r\nhost: a\r\n\r\n"
        for position, user in enumerate(users)
    ).encode()
    lists = {1: names(*range(20)), 5: LIST, 9: names(25, 24, 23, 22), 11: names(*range(20))}
    with serving(var) as worker, worker.wire() as wire:
        wire.sock.setblocking(False)
        got = b""
        while data:
            try:
                data = data[wire.sock.send(data) :]
            except BlockingIOError:
                select.select([wire.sock], [wire.sock], [])
                if not select.select([], [wire.sock], [], 0)[1]:
                    got += wire.read()
        wire.sock.settimeout(DEADLINE_S)
        while got.count(b"HTTP/1.1 200 OK") < len(users) or not got.endswith(lists[11].encode()):
            got += wire.read()
        assert [answer.body for answer in answers_in(got)] == [lists[user] for user in users]
        assert is_open(wire)
