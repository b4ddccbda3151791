"""An open-loop client: it sends at a constant rate, however slow the answers are.

Each request is due at a time that was fixed before, and its latency runs from then until its answer is whole. A server
that stands still delays all that falls due meanwhile, and all of it counts; a closed loop would not ask meanwhile and
see one slow answer a connection (coordinated omission). A request waits where no connection is free. None is made a
second time: what a broken connection owed is an error, and another connection is opened for what comes later.

How late the client itself was, with a connection free, is told apart: it is part of each latency as well, and where it
is as large as they are, it is the client or its machine that is measured.

A process of its own (`python -m loadtest.bench.serving.openloop <plan>`), without a garbage collector; prints its
findings as the last line of stdout.
"""

import gc
import math
import os
import random
import select
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

import msgspec

from loadtest.errors import LoadtestError

_HOST = "127.0.0.1"
_LOOK_S = 0.05
"""How often it is looked for answers that are overdue, and the longest wait for anything."""
_AGAIN_S = 0.02
"""Until a connection that was refused is tried again."""
_PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)


class LoadPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is asked."""

    port: int
    rate: float
    """Requests a second."""
    seconds: float
    users: int
    """Users 1 to this are asked for, at random."""
    connections: int = 64
    seed: int = 1
    patience_s: float = 5.0
    """An answer that takes longer is an error, and so is a request that cannot be sent for so long."""


class LoadResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What came of it. Latencies are those of good answers, from the time that they were due, in ms."""

    requests: int
    """That were due."""
    errors: dict[str, int]
    """Requests without a good answer, by what went wrong. `unasked` is beyond those: bytes behind a whole answer."""
    latency_ms: dict[str, float]
    """By percentile; 100 is the largest."""
    late_ms: dict[str, float]
    """By percentile: how late the client sent what it had a connection for."""
    waited: int
    """Requests that found no connection free when they were due."""
    connections_lost: int
    """Connections that ended other than by this client's will, whether or not a request was lost with them."""
    releases: dict[str, int]
    """Good answers by the release that they name."""

    @property
    def failed(self) -> int:
        """All errors together."""
        return sum(self.errors.values())


class _Wire:
    """One connection; at most one request is under way on it."""

    __slots__ = ("buffer", "busy", "connected", "due", "expected", "sent", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.connected = self.busy = False
        self.due = self.sent = 0.0
        self.buffer = b""
        self.expected = 0
        """Bytes of the whole answer; 0 until its head is there."""


class _Head(msgspec.Struct, frozen=True):
    """What the head of an answer says."""

    fault: str
    """Why the answer is no good, empty where it is."""
    length: int
    """Bytes of the body; -1 where it is not said."""
    closes: bool
    release: str


class Client:
    """The client, in the process that it has for itself."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan, self._total = plan, round(plan.rate * plan.seconds)
        draw = random.Random(plan.seed)
        self._users = [draw.randint(1, plan.users) for _ in range(self._total)]
        self._epoll = select.epoll()
        self._wires: dict[int, _Wire] = {}
        self._free: deque[_Wire] = deque()
        self._missing: list[float] = []
        """When to open another connection, for each that is missing."""
        self._heads: dict[bytes, _Head] = {}
        self._errors, self._releases = Counter[str](), Counter[str]()
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._waited = self._lost = self._under_way = 0

    def run(self) -> LoadResult:
        """Open the connections, then ask. Raises `LoadtestError` where they cannot be opened."""
        self._missing = [0.0] * self._plan.connections
        deadline = monotonic() + self._plan.patience_s
        while len(self._free) < self._plan.connections:
            if monotonic() > deadline:
                raise LoadtestError(f"bench: nobody accepts {self._plan.connections} connections on {self._plan.port}")
            self._look_after(monotonic())
            self._take_in(_AGAIN_S)
        gc.collect()
        gc.freeze()
        gc.disable()
        self._ask_all(monotonic() + _AGAIN_S)
        return self._findings()

    def _ask_all(self, begin: float) -> None:
        """Request i is due at `begin + i / rate`."""
        step, total, look = 1 / self._plan.rate, self._total, 0.0
        end = begin + total * step + self._plan.patience_s
        sent, behind = 0, False
        while (sent < total or self._under_way) and (now := monotonic()) < end:
            while sent < total and (due := begin + sent * step) <= now:
                if not self._free:
                    behind = True
                    break
                if behind:
                    self._waited += 1
                else:
                    self._late.append(now - due)
                self._send(self._users[sent], due, now)
                sent, now = sent + 1, monotonic()
            else:
                behind = False
            if now > look:
                look = now + _LOOK_S
                self._look_after(now)
            self._take_in(_LOOK_S if behind or sent == total else max(begin + sent * step - now, 0.0))
        self._errors["unsent"] += total - sent
        self._errors["unanswered"] += self._under_way

    def _send(self, user: int, due: float, now: float) -> None:
        wire = self._free.popleft()
        wire.busy, wire.due, wire.sent = True, due, now
        self._under_way += 1
        try:
            wire.sock.send(b"GET /recommend/%d HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % user)
        except OSError:
            self._drop(wire, "dropped", now)

    def _take_in(self, seconds: float) -> None:
        """Wait for answers, but no longer than told: `select` heeds microseconds, `epoll` only milliseconds."""
        if seconds > 0 and not select.select([self._epoll], [], [], seconds)[0]:
            return
        for number, _ in self._epoll.poll(0):
            wire = self._wires[number]
            if wire.connected:
                self._receive(wire)
            else:
                self._finish_connecting(wire)

    def _receive(self, wire: _Wire) -> None:
        try:
            data = wire.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = monotonic()
        if not data or not wire.busy:
            # the end of a connection at rest costs nobody an answer; data that nobody asked for follow a good one
            self._drop(wire, "unasked" if data else "dropped", now)
            return
        wire.buffer = data = wire.buffer + data if wire.buffer else data
        if not wire.expected and not self._expect(wire, now):
            return
        if len(data) == wire.expected:
            self._finish(wire, now)
        elif len(data) > wire.expected:
            self._drop(wire, "longer than it says", now)

    def _expect(self, wire: _Wire, now: float) -> bool:
        """Whether the head of the answer is there and says how long the answer is."""
        end = wire.buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        head = self._head(wire.buffer[:end])
        if head.length < 0:
            self._drop(wire, head.fault, now)
            return False
        wire.expected = end + head.length
        return True

    def _finish(self, wire: _Wire, now: float) -> None:
        """An answer is whole."""
        head = self._head(wire.buffer[: wire.buffer.find(b"\r\n\r\n") + 4])
        if head.fault:
            self._errors[head.fault] += 1
        else:
            self._latencies.append(now - wire.due)
            self._releases[head.release] += 1
        self._under_way -= 1
        wire.busy, wire.buffer, wire.expected = False, b"", 0
        if head.closes:
            self._close(wire)
        else:
            self._free.append(wire)

    def _head(self, data: bytes) -> _Head:
        found = self._heads.get(data)
        if found is None:
            found = self._heads[data] = _judged(data)
        return found

    def _drop(self, wire: _Wire, fault: str, now: float) -> None:
        """A connection that ended, or that cannot be trusted any more."""
        self._lost += 1
        if wire.busy or fault == "unasked":
            self._errors[fault] += 1
        self._under_way -= wire.busy
        self._close(wire)

    def _close(self, wire: _Wire) -> None:
        del self._wires[wire.sock.fileno()]
        wire.sock.close()
        with suppress(ValueError):
            self._free.remove(wire)
        self._connect()

    def _look_after(self, now: float) -> None:
        """Give up answers that are overdue, and open the connections that are missing."""
        overdue = now - self._plan.patience_s
        for wire in [wire for wire in self._wires.values() if wire.busy and wire.sent < overdue]:
            self._drop(wire, "unanswered", now)
        due = sum(when <= now for when in self._missing)
        self._missing = [when for when in self._missing if when > now]
        for _ in range(due):
            self._connect()

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex((_HOST, self._plan.port))
        self._wires[sock.fileno()] = _Wire(sock)
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def _finish_connecting(self, wire: _Wire) -> None:
        if wire.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            del self._wires[wire.sock.fileno()]
            wire.sock.close()
            self._missing.append(monotonic() + _AGAIN_S)
            return
        wire.connected = True
        self._epoll.modify(wire.sock.fileno(), select.EPOLLIN)
        self._free.append(wire)

    def _findings(self) -> LoadResult:
        return LoadResult(
            requests=self._total,
            errors={name: count for name, count in self._errors.items() if count},
            latency_ms=percentiles_ms(self._latencies),
            late_ms=percentiles_ms(self._late),
            waited=self._waited,
            connections_lost=self._lost,
            releases=dict(self._releases),
        )


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in ms: each is the least value that so many of the hundred do not exceed; empty without any."""
    ordered = sorted(seconds)
    places = {f"{share:g}": math.ceil(round(share / 100 * len(ordered), 6)) - 1 for share in _PERCENTILES}
    return {name: round(ordered[place] * 1e3, 3) for name, place in places.items() if ordered}


def measure(plan: LoadPlan) -> LoadResult:
    """Let the client run in a process of its own. Raises `LoadtestError` where it cannot."""
    command = [sys.executable, "-m", "loadtest.bench.serving.openloop", msgspec.json.encode(plan).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            told, errors = process.communicate(timeout=plan.seconds + 2 * plan.patience_s + 60)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise LoadtestError(errors.decode("utf-8", "replace").strip().split("\n")[-1])
    return msgspec.json.decode(told.splitlines()[-1], type=LoadResult)


def _judged(head: bytes) -> _Head:
    """What a head says, and whether an answer with it can be good: 200, not empty, and as long as it says."""
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    named = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    said = named.get("content-length", "")
    length = int(said) if said.isascii() and said.isdigit() else -1
    if not first.startswith("HTTP/1.1 200 "):
        fault = f"not 200: {first[:40]}"
    else:
        fault = {-1: "no length", 0: "empty"}.get(length, "")
    return _Head(fault, length, named.get("connection") == "close", named.get("x-marquee-release", ""))


def _main(plan: bytes) -> int:
    # the client stands for another machine: timers of 1 ns, not 50 µs, and the right of way; without leave, without
    with suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
        os.nice(-10)
    try:
        findings = Client(msgspec.json.decode(plan, type=LoadPlan)).run()
    except LoadtestError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(msgspec.json.encode(findings).decode())
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1].encode()))
