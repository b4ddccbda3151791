"""Processes of the benchmark `serving`: started, measured through /proc, and ended by their ids.

Each process has a session of its own: Ctrl-C and SIGTERM reach the benchmark alone, which then ends them in order.
Leaving the `ProcessGroup` leaves nothing behind: a process that does not end when told to is killed, with all that it
started.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError

HOST = "127.0.0.1"
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 60.0
_LOOK_S = 0.002
"""How often it is looked whether something is there: what is timed so is right to this much."""


@dataclass(frozen=True)
class Reply:
    """One HTTP answer, byte for byte."""

    status: int
    head: bytes
    """From the status line to the empty line."""
    body: bytes


@dataclass(frozen=True)
class Memory:
    """What processes hold, MB."""

    private: float
    """Their own, anonymous memory: held once by each process."""
    mapped: float
    """Files that are mapped, libraries among them: one copy for all processes that map them."""


class RunningProcess:
    """One process with what it started itself, and the port that it answers on."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, began: float) -> None:
        self.process, self.port, self._log, self._began = process, port, log, began

    def first_answer_s(self) -> float:
        """Wait for the first 200; seconds since the process was started. Raises `LoadtestError` if none comes."""
        self.until(self._answers, "an answer")
        return time.monotonic() - self._began

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something. Raises `LoadtestError` when the process ends first, or it does not come."""
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            if (code := self.process.poll()) is not None:
                raise LoadtestError(f"bench: {self._name} ended with code {code}: {self._last_line()}")
            if time.monotonic() > deadline:
                raise LoadtestError(f"bench: {self._name}: not {what} within {_PATIENCE_S:.0f} s: {self._last_line()}")
            time.sleep(_LOOK_S)

    def ask(self, path: str = "/recommend/1") -> Reply:
        """One answer over a connection of its own. Raises `OSError` where there is none."""
        with socket.create_connection((HOST, self.port), timeout=_PATIENCE_S) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
            data = b""
            while (end := data.find(b"\r\n\r\n") + 4) < 4 or len(data) < end + _length(data[:end]):
                if not (more := sock.recv(1 << 16)):
                    raise ConnectionError("ended within an answer")
                data += more
        return Reply(int(data.split(b" ", 2)[1]), data[:end], data[end:])

    def cpu_s(self) -> float:
        """Seconds of the processor so far, user and system, of the process and all that it started."""
        return sum(map(cpu_s, _with_children(self.process.pid)))

    def memory(self) -> Memory:
        """Private memory of all, and the mapped one of whichever maps most."""
        found = [memory(pid) for pid in _with_children(self.process.pid)]
        return Memory(sum(one.private for one in found), max(one.mapped for one in found))

    def end(self) -> None:
        """Tell it to end, wait, and kill what is left of it; its children by their group, before its id is free."""
        try:
            if self.process.poll() is None:
                self.process.terminate()
                deadline = time.monotonic() + _PATIENCE_S / 4
                while not _has_ended(self.process.pid) and time.monotonic() < deadline:
                    time.sleep(_LOOK_S)
        finally:
            if self.process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    @property
    def _name(self) -> str:
        return self._log.stem

    def _answers(self) -> bool:
        try:
            return self.ask().status == 200
        except OSError:
            return False

    def _last_line(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().split("\n")
        return lines[-1] or "no output"


class ProcessGroup:
    """Processes that are ended together, the last started first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[RunningProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._running:
            self._running.pop().end()

    def start(
        self,
        name: str,
        command: list[str],
        port: int,
        environ: Mapping[str, str] | None = None,
        listener: socket.socket | None = None,
    ) -> RunningProcess:
        """Start a process that will answer on a port, or on a listening socket that it gets as descriptor 0."""
        log = self._folder / f"{name}.log"
        with log.open("ab") as output:
            began = time.monotonic()
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=clean_environ() | dict(environ or {}),
                stdin=subprocess.DEVNULL if listener is None else listener.fileno(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running.append(RunningProcess(process, port, log, began))
        return self._running[-1]

    def start_worker(
        self, name: str, var: Path, port: int, listener: socket.socket | None = None, lane: bool = True
    ) -> RunningProcess:
        """Start a worker of ours that answers from `var`; all its other settings are the defaults."""
        command = [sys.executable, "-m", "server", "--host", HOST, "--port", str(port)]
        environ = {"MARQUEE_STREAM_VAR": str(var), "MARQUEE_SERVER_LANE": str(lane).lower()}
        return self.start(name, command, port, environ, listener)

    def end(self, running: RunningProcess) -> None:
        """End one of them before the others."""
        running.end()
        self._running.remove(running)


def clean_environ() -> dict[str, str]:
    """The caller's environment, without settings of Marquee: the defaults are measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return kept | {"MARQUEE_SETTINGS": os.devnull}


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that what was started is ended."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cpu_s(pid: int) -> float:
    """Seconds of the processor that a process took so far, in steps of a clock tick; 0 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return 0.0
    # the name, in parentheses, may hold anything; utime and stime are the fields 14 and 15, the state behind it is 3
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> Memory:
    """Memory of one process.

    What /proc calls private is more: the pages of a file that just one process happens to map as well, though they are
    the page cache's and the next process shares them.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Memory(kib["Anonymous"] * 1024 / 1e6, (kib["Rss"] - kib["Anonymous"]) * 1024 / 1e6)


def _with_children(pid: int) -> list[int]:
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text("ascii").split():
                found += _with_children(int(child))
    return found


def _has_ended(pid: int) -> bool:
    """Whether a child has ended, without taking note of it: until that is done nobody else can get its id."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _length(head: bytes) -> int:
    found = head.lower().partition(b"\r\ncontent-length:")[2]
    return int(found.split(b"\r\n", 1)[0]) if found else 0
