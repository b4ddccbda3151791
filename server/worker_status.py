"""Status of each worker over a Unix socket: for the operator's port and `python -m server restart`.

A thread of the worker answers on a Unix socket in Linux's abstract namespace, so that neither a crowd on the public
port nor a full disk keeps it from answering. The socket is gone with its process: those that are listed are alive.
Only processes of the same user (and root) are answered and believed.
"""

import hashlib
import logging
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal

import msgspec

from server.status import ReleaseStatus

log = logging.getLogger(__name__)

ASK_S = 0.8
"""How long a worker may take to say how it is: a probe is to be answered within a second."""
_SOCKETS = Path("/proc/net/unix")
_PEER = struct.Struct("3i")
"""Linux's `ucred`: process, user, group."""
_CLIENT_S = 1.0


State = Literal["starting", "serving", "draining"]


class WorkerStatus(ReleaseStatus, frozen=True, kw_only=True):
    """One worker at one moment."""

    pid: int
    turn_age_s: float
    """Since its event loop began a turn, seconds; large where the loop stands still."""
    state: State
    """Starting: opens its first release. Draining: was told to end, and accepts nobody any more."""


class StatusSocket:
    """Answers every connection with the JSON of `status()`, from a daemon thread, until closed."""

    def __init__(self, var: Path, status: Callable[[], WorkerStatus]) -> None:
        self._status, self._open = status, True
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"\0{_prefix(var)}{os.getpid()}-{secrets.token_hex(4)}")
        self._listener.listen(64)

    def start(self) -> None:
        """From now on answer."""
        threading.Thread(target=self._serve, name="status", daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._open = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if not self._open:
                    return
                log.warning("status: %s", error.strerror)  # out of descriptors, most likely
                time.sleep(_CLIENT_S)
                continue
            with client, suppress(OSError):  # a client that left, or that does not read
                if _peer(client)[1] in (os.getuid(), 0):
                    client.settimeout(_CLIENT_S)
                    client.sendall(msgspec.json.encode(self._status()))


def ask_workers(var: Path, timeout_s: float = ASK_S) -> dict[int, WorkerStatus | None]:
    """The workers of this host that answer from `var`, by process id; None for one that does not say in time."""
    deadline = time.monotonic() + timeout_s
    statuses: dict[int, WorkerStatus | None] = {}
    with ExitStack() as stack:
        clients = [stack.enter_context(client) for client in _connections(var)]
        for client in clients:
            pid, user, _ = _peer(client)
            if user == os.getuid():
                statuses[pid] = _read(client, deadline)
    return statuses


def _connections(var: Path) -> Iterator[socket.socket]:
    """A connection to each worker; the kernel makes it at once, or not at all."""
    prefix = f"@{_prefix(var)}"
    for line in _SOCKETS.read_text("utf-8", "replace").splitlines():
        name = line.rpartition(" ")[2]
        if not name.startswith(prefix):
            continue
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        try:
            client.connect(f"\0{name[1:]}")
        except OSError:  # ended since, or one of our own connections to it
            client.close()
        else:
            yield client


def _read(client: socket.socket, deadline: float) -> WorkerStatus | None:
    """What a worker says until it closes; what came is read even where the time is over."""
    received = b""
    try:
        while True:
            client.settimeout(max(0.001, deadline - time.monotonic()))
            if not (data := client.recv(1 << 16)):
                return msgspec.json.decode(received, type=WorkerStatus)
            received += data
    except (OSError, msgspec.MsgspecError):
        return None


def _peer(connection: socket.socket) -> tuple[int, int, int]:
    """Process, user and group at the other end."""
    pid, user, group = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, user, group


def _prefix(var: Path) -> str:
    """What the names of the sockets of all workers on one `var` begin with.

    Containers can share a network namespace, and with it these names, but not their host name.
    """
    owner = f"{os.uname().nodename}:{os.path.realpath(var)}"
    return f"marquee-{hashlib.sha256(owner.encode(errors='surrogateescape')).hexdigest()[:16]}-"
