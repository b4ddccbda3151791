"""The status of each worker over a Unix socket, for the operator's port and `python -m server restart`.

A thread of the worker answers on a Unix socket in the abstract namespace of Linux, so that neither overload of the
public port nor a full disk stops it. The socket ends with its process: every listed worker is alive. Only processes of
the same user (and root) get answers and are trusted.
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
"""How long a worker may take to send its status, seconds: a probe should be answered within a second."""
_SOCKETS = Path("/proc/net/unix")
_PEER = struct.Struct("3i")
"""`ucred` of Linux: process, user, group."""
_CLIENT_S = 1.0


State = Literal["starting", "serving", "draining"]


class WorkerStatus(ReleaseStatus, frozen=True, kw_only=True):
    """The state of a worker at one moment."""

    pid: int
    turn_age_s: float
    """Time since its event loop began a turn, seconds; large if the loop hangs."""
    state: State
    """Starting: it opens its first release. Draining: it is to end, and accepts no more clients."""


class StatusSocket:
    """Answers every connection with the JSON of `status()`, in a daemon thread, until it is closed."""

    def __init__(self, var: Path, status: Callable[[], WorkerStatus]) -> None:
        self._status, self._open = status, True
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"\0{_prefix(var)}{os.getpid()}-{secrets.token_hex(4)}")
        self._listener.listen(64)

    def start(self) -> None:
        """Start to answer."""
        threading.Thread(target=self._serve, name="status", daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
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
                log.warning("status: %s", error.strerror)  # most likely no file descriptors are left
                time.sleep(_CLIENT_S)
                continue
            with client, suppress(OSError):  # the client left, or does not read
                if _peer(client)[1] in (os.getuid(), 0):
                    client.settimeout(_CLIENT_S)
                    client.sendall(msgspec.json.encode(self._status()))


def ask_workers(var: Path, timeout_s: float = ASK_S) -> dict[int, WorkerStatus | None]:
    """The status of this host's workers on `var`, by process id; None for one that does not answer in time."""
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
    """A connection to each worker; the kernel makes it at once or not at all."""
    prefix = f"@{_prefix(var)}"
    for line in _SOCKETS.read_text("utf-8", "replace").splitlines():
        name = line.rpartition(" ")[2]
        if not name.startswith(prefix):
            continue
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        try:
            client.connect(f"\0{name[1:]}")
        except OSError:  # the worker has ended, or the socket is one of our own connections to it
            client.close()
        else:
            yield client


def _read(client: socket.socket, deadline: float) -> WorkerStatus | None:
    """The status that a worker sends before it closes; what has arrived is read even after the deadline."""
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
    """Process, user and group of the other end."""
    pid, user, group = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, user, group


def _prefix(var: Path) -> str:
    """The prefix of the socket names of all workers on one `var`.

    It contains the host name, since containers may share a network namespace and with it these names.
    """
    owner = f"{os.uname().nodename}:{os.path.realpath(var)}"
    return f"marquee-{hashlib.sha256(owner.encode(errors='surrogateescape')).hexdigest()[:16]}-"
