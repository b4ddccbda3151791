"""Two workers with the same release, one with the fast lane and one without, and what both answer to the same bytes.

Nothing here waits for a time: a worker's answer to some bytes is there once it has answered, on another connection, a
request that was sent after them.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.polling import DEADLINE_S
from tests.server.worker_processes import Wire, WorkerProcess, serving, undated

GRACE_S, GRACE_ROUNDS = 0.3, 200
"""How long a difference must last, and for how many looks, each after two answers of either worker, which take longer
on a busy machine: Sanic ends a connection a moment after its last answer."""
LAST = b"GET /recommend/11 HTTP/1.1\r\nhost: last\r\n\r\n"


@dataclass
class Side:
    """A connection to one of the two workers, and what has come back."""

    worker: WorkerProcess
    control: Wire
    """Another connection to the same worker."""
    wire: Wire = field(init=False)
    data: bytes = b""
    closed: bool = False

    def __post_init__(self) -> None:
        self.wire = self.worker.wire()

    def send(self, chunk: bytes) -> None:
        try:
            self.wire.sock.settimeout(DEADLINE_S)
            self.wire.sock.sendall(chunk)
        except ConnectionError:
            pass  # that it was closed is seen where it is read

    def settle(self) -> None:
        """Take what has come, after the worker has done all that there was to do."""
        for _ in range(2):
            assert self.control.get("/healthz").status == 200
        self.wire.sock.setblocking(False)
        while not self.closed:
            try:
                more = self.wire.sock.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionError:
                more = b""
            self.data += more
            self.closed = not more


@dataclass
class Pair:
    """A worker with the lane and one without, with the same release."""

    workers: tuple[WorkerProcess, WorkerProcess]
    controls: tuple[Wire, Wire]

    @contextmanager
    def connected(self) -> Iterator[tuple[Side, Side]]:
        sides = tuple(Side(worker, control) for worker, control in zip(self.workers, self.controls, strict=True))
        logged = [side.worker.log.stat().st_size for side in sides]
        try:
            yield sides[0], sides[1]
        finally:
            for side in sides:
                side.wire.close()
        for side, size in zip(sides, logged, strict=True):
            if side.worker.log.stat().st_size > size:
                assert "Traceback" not in side.worker.text()[size:]

    def get_until(self, path: str, status: int) -> None:
        for worker in self.workers:
            worker.get_until(path, lambda answer: answer.status == status)


def said(sides: tuple[Side, Side], chunks: list[bytes]) -> None:
    """Send the chunks, one after the other, and hold what comes back against each other."""
    for number, chunk in enumerate(chunks):
        for side in sides:
            side.send(chunk)
        if number + 1 < len(chunks):
            for side in sides:
                side.control.get("/healthz")
    began = time.monotonic()
    for rounds in count(1):
        for side in sides:
            side.settle()
        lane, plain = sides
        if (undated(lane.data), lane.closed) == (undated(plain.data), plain.closed):
            return
        if time.monotonic() - began > GRACE_S and rounds > GRACE_ROUNDS:
            assert undated(lane.data) == undated(plain.data)
            assert lane.closed == plain.closed


def compared(pair: Pair, chunks: list[bytes], last: bytes = LAST) -> tuple[bytes, bool]:
    """What both workers say to the chunks and then to one more request; and whether they closed the connection."""
    with pair.connected() as sides:
        said(sides, chunks)
        if not sides[0].closed:
            said(sides, [last])
        return sides[0].data, sides[0].closed


@contextmanager
def paired(var: Path, **given_settings: object) -> Iterator[Pair]:
    patient = {"request_s": 600, "idle_s": 600, "shed_s": 600, "stall_s": 600, **given_settings}
    with ExitStack() as stack:
        lane, plain = (stack.enter_context(serving(var, lane=lane, **patient)) for lane in ("true", "false"))
        controls = stack.enter_context(lane.wire()), stack.enter_context(plain.wire())
        yield Pair((lane, plain), controls)
