"""Connections to a worker of which some requests are known to be answered, for tests of its limits."""

import select
from contextlib import ExitStack

from tests.server.sample_releases import names
from tests.server.scraped_metrics import scraped
from tests.server.worker_processes import Ended, Wire, WorkerProcess

PLAIN = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"
"""A request that the fast lane answers."""
OTHER = b"GET /recommend/5?n=20 HTTP/1.1\r\nhost: a\r\n\r\n"
"""The same list, answered by Sanic."""
LIST = names(7, 0, 29)
"""The answer to both."""
CHUNKED = b"transfer-encoding: chunked"


def refused(worker: WorkerProcess, limit: str) -> int:
    """How many requests or connections a limit has refused."""
    return int(scraped(worker)["marquee_refused_total", limit])


def readable(wire: Wire, seconds: float) -> bool:
    """Whether data or the end of the connection arrives within some time; also a way to let time pass."""
    return bool(select.select([wire.sock], [], [], seconds)[0])


def is_open(wire: Wire) -> bool:
    """Whether a connection still answers."""
    try:
        return wire.get("/recommend/5").body == LIST
    except (Ended, OSError):
        return False


def connected(stack: ExitStack, worker: WorkerProcess, count: int) -> list[Wire]:
    """Connections that have each been answered, the one that was so longest ago first."""
    wires = [stack.enter_context(worker.wire()) for _ in range(count)]
    assert all(is_open(wire) for wire in wires)
    return wires
