"""Processes of the benchmark `serving`: started, measured through /proc, and ended by their ids.

Each process has a separate session, so Ctrl-C and SIGTERM reach only the benchmark, which then ends the processes in
order. Leaving the `ProcessGroup` leaves nothing behind: a process that ignores SIGTERM is killed, with its children.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError

HOST = "127.0.0.1"
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 60.0
_POLL_S = 0.002
"""Interval of polling, and so the resolution of what is timed by it."""


@dataclass(frozen=True)
class Reply:
    """One HTTP answer, byte for byte."""

    status: int
    head: bytes
    """From the status line to the empty line."""
    body: bytes


@dataclass(frozen=True)
class Memory:
    """Memory of processes, MB."""

    private: float
    """Anonymous memory, which each process has for itself."""
    mapped: float
    """Mapped files, libraries included: one copy for all processes that map them."""


class RunningProcess:
    """One process with its children, and the port that it answers on."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, began: float) -> None:
        self.process, self.port, self._log, self._began = process, port, log, began

    def first_answer_s(self) -> float:
        """Wait for the first 200; returns seconds since the start. Raises `LoadtestError` if none comes."""
        self.until(self._answers, "answer")
        return time.monotonic() - self._began

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds. Raises `LoadtestError` when the process ends first, or after a minute."""
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            if (code := self.process.poll()) is not None:
                raise LoadtestError(f"bench: {self._name} ended with code {code}: {self._last_line()}")
            if time.monotonic() > deadline:
                raise LoadtestError(f"bench: {self._name}: no {what} within {_PATIENCE_S:.0f} s: {self._last_line()}")
            time.sleep(_POLL_S)

    def ask(self, path: str = "/recommend/1") -> Reply:
        """Get one answer over a new connection. Raises `OSError` if there is none."""
        with socket.create_connection((HOST, self.port), timeout=_PATIENCE_S) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
            data = b""
            while (end := data.find(b"\r\n\r\n") + 4) < 4 or len(data) < end + _length(data[:end]):
                if not (more := sock.recv(1 << 16)):
                    raise ConnectionError("the connection ended within an answer")
                data += more
        return Reply(int(data.split(b" ", 2)[1]), data[:end], data[end:])

    def cpu_s(self) -> float:
        """CPU seconds so far, user and system, of the process and its children."""
        return sum(map(cpu_s, _with_children(self.process.pid)))

    def memory(self) -> Memory:
        """Private memory of the process and its children together, and mapped memory of the one that maps most."""
        memories = [memory(pid) for pid in _with_children(self.process.pid)]
        return Memory(sum(each.private for each in memories), max(each.mapped for each in memories))

    def end(self) -> None:
        """Send SIGTERM and wait; kill what is left, children by their group, before the process id is free again."""
        try:
            if self.process.poll() is None:
                self.process.terminate()
                deadline = time.monotonic() + _PATIENCE_S / 4
                while not _has_ended(self.process.pid) and time.monotonic() < deadline:
                    time.sleep(_POLL_S)
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
    """Processes that are ended together, the last one started first."""

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
        """Start a process that answers on a port, or on a listening socket that it gets as descriptor 0."""
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
        """Start a Marquee worker that answers from `var`; its other settings are the defaults."""
        command = [sys.executable, "-m", "server", "--host", HOST, "--port", str(port)]
        environ = {"MARQUEE_STREAM_VAR": str(var), "MARQUEE_SERVER_LANE": str(lane).lower()}
        return self.start(name, command, port, environ, listener)

    def end(self, running: RunningProcess) -> None:
        """End one process before the others."""
        running.end()
        self._running.remove(running)


def clean_environ() -> dict[str, str]:
    """The caller's environment without Marquee's settings, so that the defaults are measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return kept | {"MARQUEE_SETTINGS": os.devnull}


def cpu_s(pid: int) -> float:
    """CPU seconds that a process used so far, in steps of a clock tick; 0 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return 0.0
    # the name, in parentheses, may hold anything; utime and stime are the fields 14 and 15, the state behind it is 3
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> Memory:
    """Memory of one process.

    What /proc calls private is more: it includes pages of files that only one process maps at present, though they
    belong to the page cache and the next process shares them.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Memory(kib["Anonymous"] * 1024 / 1e6, (kib["Rss"] - kib["Anonymous"]) * 1024 / 1e6)


def _with_children(pid: int) -> list[int]:
    """Ids of a process and all its descendants."""
    pids = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text("ascii").split():
                pids += _with_children(int(child))
    return pids


def _has_ended(pid: int) -> bool:
    """Whether a child has ended, without reaping it: until then its id cannot be given to another process."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _length(head: bytes) -> int:
    value = head.lower().partition(b"\r\ncontent-length:")[2]
    return int(value.split(b"\r\n", 1)[0]) if value else 0
