"""An open-loop client: it sends at a constant rate, however slow the answers are.

Each request is due at a time that was fixed before, and its latency runs from then until its answer is complete. A
stalled server delays all requests that fall due meanwhile, and all of them count; a closed loop would send none
meanwhile and see one slow answer per connection (coordinated omission). A request waits if no connection is free. No
request is retried: a request on a broken connection is an error, and a new connection is opened for later ones.

How late the client itself was, with a free connection, is reported separately: it is also part of each latency, and if
it is as large as the latencies, the figures describe the client or its machine.

Runs as a separate process (`python -m loadtest.bench.serving.openloop <plan>`), without garbage collection; prints
its result as the last line of stdout.
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
_CHECK_S = 0.05
"""Interval of checks for overdue answers, and the longest wait for anything."""
_RECONNECT_S = 0.02
"""Pause before a refused connection is tried again."""
_PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)


class LoadPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The load to send."""

    port: int
    rate: float
    """Requests per second."""
    seconds: float
    users: int
    """Requests are for random users from 1 to this."""
    connections: int = 64
    seed: int = 1
    patience_s: float = 5.0
    """An answer that takes longer is an error, and so is a request that waits longer to be sent."""


class LoadResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The result. Latencies are those of good answers, from when their request was due, in ms."""

    requests: int
    """Requests that were due."""
    errors: dict[str, int]
    """Requests without a good answer, by kind of error; besides these `unasked`: bytes after a complete answer."""
    latency_ms: dict[str, float]
    """By percentile; 100 is the largest."""
    late_ms: dict[str, float]
    """By percentile: how late the client sent requests for which it had a free connection."""
    waited: int
    """Requests that found no free connection when they were due."""
    connections_lost: int
    """Connections that the client did not end itself, whether or not a request was lost with them."""
    releases: dict[str, int]
    """Good answers by the release that they name."""

    @property
    def failed(self) -> int:
        """Number of all errors."""
        return sum(self.errors.values())


class _Wire:
    """One connection, with at most one request under way."""

    __slots__ = ("buffer", "busy", "connected", "due", "expected", "sent", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.connected = self.busy = False
        self.due = self.sent = 0.0
        self.buffer = b""
        self.expected = 0
        """Bytes of the whole answer; 0 until its head is complete."""


class _Head(msgspec.Struct, frozen=True):
    """The head of an answer."""

    fault: str
    """What is wrong with the answer; empty for a good one."""
    length: int
    """Bytes of the body; -1 where the head does not say."""
    closes: bool
    release: str


class Client:
    """The client; it needs a separate process."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan, self._total = plan, round(plan.rate * plan.seconds)
        draw = random.Random(plan.seed)
        self._users = [draw.randint(1, plan.users) for _ in range(self._total)]
        self._epoll = select.epoll()
        self._wires: dict[int, _Wire] = {}
        self._free: deque[_Wire] = deque()
        self._missing: list[float] = []
        """When to open each connection that is missing."""
        self._heads: dict[bytes, _Head] = {}
        self._errors, self._releases = Counter[str](), Counter[str]()
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._waited = self._lost = self._under_way = 0

    def run(self) -> LoadResult:
        """Open the connections, then send the load. Raises `LoadtestError` if they cannot be opened."""
        self._missing = [0.0] * self._plan.connections
        deadline = monotonic() + self._plan.patience_s
        while len(self._free) < self._plan.connections:
            if monotonic() > deadline:
                raise LoadtestError(
                    f"bench: port {self._plan.port} does not accept {self._plan.connections} connections"
                )
            self._tend_connections(monotonic())
            self._receive_answers(_RECONNECT_S)
        gc.collect()
        gc.freeze()
        gc.disable()
        self._send_all(monotonic() + _RECONNECT_S)
        return self._result()

    def _send_all(self, begin: float) -> None:
        """Send all requests and await their answers; request i is due at `begin + i / rate`."""
        step, total, next_check = 1 / self._plan.rate, self._total, 0.0
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
            if now > next_check:
                next_check = now + _CHECK_S
                self._tend_connections(now)
            self._receive_answers(_CHECK_S if behind or sent == total else max(begin + sent * step - now, 0.0))
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

    def _receive_answers(self, seconds: float) -> None:
        """Wait for answers, at most so long: `select` is precise to microseconds, `epoll` only to milliseconds."""
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
            # the end of an idle connection loses no answer; data without a request follow a good answer
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
        """Whether the head of the answer is complete and says how long the answer is."""
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
        """Count a complete answer."""
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
        head = self._heads.get(data)
        if head is None:
            head = self._heads[data] = _parse_head(data)
        return head

    def _drop(self, wire: _Wire, fault: str, now: float) -> None:
        """Give up a connection that ended, or that cannot be trusted any more."""
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

    def _tend_connections(self, now: float) -> None:
        """Give up overdue answers, and open the connections that are missing."""
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
            self._missing.append(monotonic() + _RECONNECT_S)
            return
        wire.connected = True
        self._epoll.modify(wire.sock.fileno(), select.EPOLLIN)
        self._free.append(wire)

    def _result(self) -> LoadResult:
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
    """Percentiles in ms, each a value that occurs (nearest-rank method); empty without values."""
    ordered = sorted(seconds)
    ranks = {f"{percent:g}": math.ceil(round(percent / 100 * len(ordered), 6)) - 1 for percent in _PERCENTILES}
    return {name: round(ordered[rank] * 1e3, 3) for name, rank in ranks.items() if ordered}


def measure(plan: LoadPlan) -> LoadResult:
    """Run the client in a separate process. Raises `LoadtestError` if it fails."""
    command = [sys.executable, "-m", "loadtest.bench.serving.openloop", msgspec.json.encode(plan).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            output, errors = process.communicate(timeout=plan.seconds + 2 * plan.patience_s + 60)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise LoadtestError(errors.decode("utf-8", "replace").strip().split("\n")[-1])
    return msgspec.json.decode(output.splitlines()[-1], type=LoadResult)


def _parse_head(head: bytes) -> _Head:
    """Read a head, and judge whether its answer can be good: status 200, with a length, not empty."""
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    digits = headers.get("content-length", "")
    length = int(digits) if digits.isascii() and digits.isdigit() else -1
    if not first.startswith("HTTP/1.1 200 "):
        fault = f"not 200: {first[:40]}"
    else:
        fault = {-1: "no length", 0: "empty"}.get(length, "")
    return _Head(fault, length, headers.get("connection") == "close", headers.get("x-marquee-release", ""))


def _main(plan: bytes) -> int:
    # the client plays another machine: it takes timers of 1 ns, not 50 µs, and a high priority, where it may
    with suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
        os.nice(-10)
    try:
        result = Client(msgspec.json.decode(plan, type=LoadPlan)).run()
    except LoadtestError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(msgspec.json.encode(result).decode())
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1].encode()))
