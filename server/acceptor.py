"""Accepts connections from the listening socket that all workers share.

uvloop accepts one connection per turn of its loop. Under load turns are long, so connected clients would be answered
and new ones kept waiting. The acceptor takes a few connections per turn, which leaves other workers their share, and
more the longer the turn took. Connections that were reset while they waited are dropped.

If the kernel's queue has not been empty for `shed_s`, clients that have waited in it for longer than that are refused
at once, which costs a tenth of accepting them. A queue that formed while no worker was ready is not overload: no client
is refused until it has been emptied. A busy worker answers health probes here, ahead of all requests (`probes.py`).
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

_BASE_ACCEPTED = 8
"""Clients accepted in any turn, however short the last one was."""
_ACCEPT_S = 0.0003
"""Another connection is accepted for each such interval of the last turn: the time to accept and answer one."""
_MOST_ACCEPTED = 64
"""Clients accepted per turn at most: accepting many makes the next turn long, which would accept even more."""
_MOST_HANDLED = 256
"""Clients accepted, refused or dropped per turn at most."""
_PAUSE_S = 0.1
"""Pause in accepting when no file descriptors are left, seconds."""
_REQUEST_BYTES = 1 << 16
_BUSY_SHARE = 0.5
"""Share of `shed_s`: a worker whose turns take longer is busy."""
_SETTLE_S = 10.0
"""How long the queue found at the start may take to be worked off before it counts as overload, seconds."""
_TCP_CLOSE = b"\x07"
"""First byte of Linux's `tcp_info` for a connection that is closed in both directions, as after a reset."""
_LAST_DATA_MS = struct.Struct("=52xI")
"""Field of Linux's `tcp_info`: ms since the last data arrived, or since the connection was made."""


class Acceptor:
    """Accepts clients; `connect` makes the protocol of one, `connections` holds the protocols of all."""

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
        """Time since which the queue has never been seen empty."""
        self._settles_at: float | None = None
        """Time until which the queue may be the one found at the start; None before, 0 once it has been empty."""

    def start(self) -> None:
        """Start to accept clients."""
        if self._settles_at is None:
            self._settles_at = monotonic() + _SETTLE_S
        if self._open:
            self._loop.add_reader(self._sock, self._accept)

    @property
    def arriving(self) -> bool:
        """Whether some accepted clients are not among the connections yet."""
        return bool(self._arriving)

    def close(self) -> None:
        """Stop accepting, for good."""
        self._open = False
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        now, guard = monotonic(), self._guard
        late_s = max(0.0, now - guard.turn_began - BEAT_S)
        room = min(_BASE_ACCEPTED + int(late_s / _ACCEPT_S), _MOST_ACCEPTED)
        overload = self._is_overloaded(now)
        for _ in range(_MOST_HANDLED):
            try:
                client, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                self._note_empty_queue()
                return
            except ConnectionError:  # the client gave up while it waited
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
            self._note_empty_queue()
        elif self._full_since is None:
            self._full_since = now

    def _note_empty_queue(self) -> None:
        """Note that the queue is empty."""
        self._full_since, self._settles_at = None, 0.0

    def _is_overloaded(self, now: float) -> bool:
        """Whether more clients arrive than can be accepted."""
        waits = self._full_since is not None and now - self._full_since > self._guard.settings.shed_s
        return waits and now > (self._settles_at or 0.0)

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._arriving.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.debug("a client left before it was accepted: %r", error)

    def _answered(self, client: socket.socket, overload: bool) -> bool:
        """Answer a probe; under overload, refuse a client that waited too long. True if it was answered and closed.

        Clients whose request has not arrived yet are left alone.
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
            client.recv(_REQUEST_BYTES)  # unread bytes would make the kernel reset the connection and drop the answer
            client.send(answer)
        except BlockingIOError:
            return False
        except OSError:
            log.debug("a client left before it was answered")
        client.close()
        return True

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a moment: most likely no file descriptors are left."""
        log.warning("cannot accept clients at the moment: %s", error.strerror)
        self._guard.make_room(self._connections)
        self._loop.remove_reader(self._sock)
        self._loop.call_later(_PAUSE_S, self.start)


def _is_gone(client: socket.socket) -> bool:
    """Whether a client has reset its connection; accepting and answering it would cost fifty times as much."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _TCP_CLOSE


def _waited_s(client: socket.socket) -> float:
    """How long a connection has waited to be accepted, seconds; 0 if the system does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return 0.0
    tcp_info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_MS.size)
    return float(_LAST_DATA_MS.unpack(tcp_info)[0]) / 1e3 if len(tcp_info) == _LAST_DATA_MS.size else 0.0
