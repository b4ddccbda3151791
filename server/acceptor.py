"""Takes connections off the listening socket that all workers share.

uvloop would accept one a turn of its loop. A turn is long where there is much to do, and then those who are connected
would be answered and nobody else let in. So it is done here: a few at a time, so that other workers get their share,
and more the longer the turn took. One that has reset its connection while it waited is dropped.

Where the kernel's queue has not been empty for a while, a client that has waited in it for longer than a request may
wait within the worker (`shed_s`) is refused at once, which costs a tenth of letting it in. A queue that formed while no
worker was ready is not overload: nobody is refused until the first queue has been worked off. Where the worker is
busy, probes are answered here, ahead of everybody (`probes.py`).
"""

import asyncio
import logging
import select
import socket
import struct
from collections.abc import Callable
from time import monotonic
from typing import Any

from server import refusals
from server.guard import BEAT_S, Guard, GuardedProtocol
from server.probes import Probes

log = logging.getLogger(__name__)

_FEW = 8
_SHARE_S = 0.0003
"""A turn that is longer by this is worth one connection more: about what it takes to let one in and answer it."""
_MOST_LET_IN = 64
"""Clients let in in one turn. Letting them in makes the next turn long, which would let in more, without end."""
_MOST = 256
"""Clients let in, refused or found gone in one turn."""
_PAUSE_S = 0.1
"""How long nothing is accepted when there are no descriptors left."""
_REQUEST_BYTES = 1 << 16
_BUSY_SHARE = 0.5
"""Of `shed_s`: a worker whose turn of the loop takes longer is busy."""
_SETTLE_S = 10.0
"""How long the queue that a worker finds at its start may take to be worked off before it counts as overload."""
_TCP_CLOSE = b"\x07"
"""Of Linux's `tcp_info`: the first byte, of a connection that is over in both directions, which a reset makes it."""
_LAST_DATA_MS = struct.Struct("=52xI")
"""Of Linux's `tcp_info`: ms since data came last, or else since the connection was made."""


class Acceptor:
    """Lets clients in; `connect` makes the protocol of one, `connections` holds those of all."""

    def __init__(
        self,
        sock: socket.socket,
        connect: Callable[[], GuardedProtocol],
        connections: set[Any],
        guard: Guard,
        probes: Probes,
    ) -> None:
        self._sock, self._connect, self._connections, self._guard = sock.dup(), connect, connections, guard
        self._probes = probes
        self._sock.setblocking(False)
        self._queue = select.poll()
        self._queue.register(self._sock, select.POLLIN)
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[Any]] = set()
        self._open = True
        self._full_since: float | None = None
        """Since when there was always somebody left who waited."""
        self._settles_at: float | None = None
        """Until when a queue may be that of the start; None before it, 0 once the queue has been empty."""

    def start(self) -> None:
        """From now on let clients in."""
        if self._settles_at is None:
            self._settles_at = monotonic() + _SETTLE_S
        if self._open:
            self._loop.add_reader(self._sock, self._accept)

    @property
    def arriving(self) -> bool:
        """Whether there are clients that were let in and are not among the connections yet."""
        return bool(self._arriving)

    def close(self) -> None:
        """Let nobody in any more."""
        self._open = False
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        now, guard = monotonic(), self._guard
        late_s = max(0.0, now - guard.turn_began - BEAT_S)
        room = min(_FEW + int(late_s / _SHARE_S), _MOST_LET_IN)
        overload = self._is_overloaded(now)
        for _ in range(_MOST):
            try:
                client, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                self._is_empty()
                return
            except ConnectionError:  # it gave up while it waited
                continue
            except OSError as error:
                self._pause(error)
                return
            if _is_gone(client):
                client.close()
                continue
            if (overload or late_s > _BUSY_SHARE * guard.settings.shed_s) and self._answered(client, overload):
                continue
            client.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._connect, client))
            self._arriving.add(task)
            task.add_done_callback(self._arrived)
            room -= 1
            if not room:
                break
        if not self._queue.poll(0):
            self._is_empty()
        elif self._full_since is None:
            self._full_since = now

    def _is_empty(self) -> None:
        """Note that nobody waits."""
        self._full_since, self._settles_at = None, 0.0

    def _is_overloaded(self, now: float) -> bool:
        """Whether more clients come than can be let in."""
        waits = self._full_since is not None and now - self._full_since > self._guard.settings.shed_s
        return waits and now > (self._settles_at or 0.0)

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._arriving.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.debug("a client was gone before it was let in: %r", error)

    def _answered(self, client: socket.socket, overload: bool) -> bool:
        """Answer a probe; in an overload refuse who has waited too long. Whether the client was answered, and closed.

        Only a client whose request is there.
        """
        client.setblocking(False)
        try:
            request = client.recv(_REQUEST_BYTES, socket.MSG_PEEK)
            answer = self._probes.answer(request)
            if answer is None:
                if not overload or _waited_s(client) <= self._guard.settings.shed_s:
                    return False
                self._guard.refused["overload"] += 1
                answer = refusals.overloaded(request, keep_alive=False)
            client.recv(_REQUEST_BYTES)  # what is not read lets the kernel reset the connection, and the answer is lost
            client.send(answer)
        except BlockingIOError:
            return False
        except OSError:
            log.debug("a client that was to be answered is gone")
        client.close()
        return True

    def _pause(self, error: OSError) -> None:
        """There is nothing to accept with, descriptors most likely."""
        log.warning("no client can be let in for the moment: %s", error.strerror)
        self._guard.make_room(self._connections)
        self._loop.remove_reader(self._sock)
        self._loop.call_later(_PAUSE_S, self.start)


def _is_gone(client: socket.socket) -> bool:
    """Whether a client has reset its connection: letting it in and answering it would cost fifty times as much."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _TCP_CLOSE


def _waited_s(client: socket.socket) -> float:
    """How long a connection has waited to be accepted, seconds; 0 where the system does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return 0.0
    told = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_MS.size)
    return float(_LAST_DATA_MS.unpack(told)[0]) / 1e3 if len(told) == _LAST_DATA_MS.size else 0.0
