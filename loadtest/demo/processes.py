"""The processes of a demo or a test: started, monitored and stopped by their ids.

    broker      python -m stream broker      replaces Kafka
    api         python -m loadtest api       replaces the service's APIs
    supervisor  supervisord                  Marquee itself: workers, collector, telemetry, schedule

Each has a separate session, so Ctrl-C reaches only the process that started them, which then stops them in order.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

import orjson
import urllib3

from loadtest.errors import DemoError
from stream import broker, durable
from stream.errors import BrokerError

_SOURCE = Path(__file__).parents[2]
ROOT = _SOURCE if (_SOURCE / "pyproject.toml").exists() else Path.cwd()
"""The folder of `var/`: the checkout, or the working folder where Marquee is installed as a package."""
_SUPERVISORD_CONF = resources.files("loadtest") / "supervisord.conf"
_STOP_SECONDS = 90.0
_SOCKET_PATH = 107
"""Most bytes in the path of a Unix socket on Linux."""
_LONGEST_NAME = "supervisor.sock.4194304"
"""In the folder of logs and ids; supervisord adds its process id, of which this is the largest."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free at present."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free(host: str, port: int) -> None:
    """Raise `DemoError` if a port is taken."""
    try:
        broker.require_free(host, port)
    except BrokerError as error:
        raise DemoError(
            f"port {port} on {host} is in use; end a demo that is still running with `make stop`, or choose another"
            " port: make demo PORT=..."
        ) from error


def _may_pass(name: str) -> bool:
    """Whether a variable of the caller is passed on: no settings, except for those of the simulated world."""
    return not name.startswith("MARQUEE_") or name.startswith("MARQUEE_LOADTEST_")


class DemoProcesses:
    """Processes with a common environment, and a folder `run` for their logs and ids."""

    def __init__(self, run: Path, environ: Mapping[str, str]) -> None:
        self.run = run
        kept = {name: value for name, value in os.environ.items() if _may_pass(name)}
        self.environ = {**kept, **environ, "MARQUEE_PYTHON": sys.executable, "MARQUEE_RUN": str(run)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        if (over := len(os.fsencode(f"{run}/{_LONGEST_NAME}")) - _SOCKET_PATH) > 0:
            raise DemoError(f"demo: {run} is {over} bytes too long for the path of a socket: give a shorter --folder")
        run.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: list[str]) -> None:
        """Start a process; its output goes to `run/<name>.log`."""
        with (self.run / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        ids = {name: process.pid for name, process in self._processes.items()}
        durable.write_json(self.run / "processes.json", ids)

    def start_room(self, name: str, *arguments: str) -> None:
        """Start `python -m <arguments>`."""
        self.start(name, [sys.executable, "-m", *arguments])

    def start_supervisor(self) -> None:
        """Start Marquee with supervisord.conf."""
        self.start("supervisor", [sys.executable, "-m", "supervisor.supervisord", "-c", str(_SUPERVISORD_CONF)])

    def until(self, what: str, is_there: Callable[[], bool], seconds: float) -> None:
        """Wait for something. Raises `DemoError` when it takes longer, or a process ends meanwhile."""
        deadline = time.monotonic() + seconds
        while not is_there():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{what} did not come within {seconds:.0f} s; see the logs in {self.run}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise `DemoError` if a process has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise DemoError(f"{name} ended with code {process.returncode}: {_last_line(self.run / f'{name}.log')}")

    def stop(self) -> None:
        """End all processes, the last started first, and wait for them."""
        for process in reversed(self._processes.values()):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._processes.clear()
        (self.run / "processes.json").unlink(missing_ok=True)


def stop_kept(run: Path) -> list[str]:
    """End the processes that an earlier demo left running; returns their names."""
    path = run / "processes.json"
    if not path.exists():
        return []
    ids: dict[str, int] = orjson.loads(path.read_bytes())
    stopped = []
    for name, pid in reversed(ids.items()):
        if _is_ours(pid):
            os.kill(pid, signal.SIGTERM)
            _await_end(pid)
            stopped.append(name)
    path.unlink()
    return stopped


def answers(url: str) -> bool:
    """Whether a URL answers 200."""
    try:
        return urllib3.request("GET", url, timeout=1.0, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def accepts(host: str, port: int) -> bool:
    """Whether something listens on a port."""
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def _is_ours(pid: int) -> bool:
    """Whether a process id still belongs to a process of this checkout: ids are reused."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(sys.executable) in command


def _await_end(pid: int) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while _is_ours(pid):
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.05)


def _last_line(path: Path) -> str:
    lines = path.read_text("utf-8", "replace").split("\n") if path.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "no output")
