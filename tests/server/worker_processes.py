"""Worker processes for tests, and raw connections to them that neither retry nor reconnect."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from server.answers import TEXT
from server.exposition import Exposition
from server.worker_status import WorkerStatus, ask_workers
from tests.polling import DEADLINE_S, until

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class HttpAnswer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: str

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


def is_line(answer: HttpAnswer, status: int) -> bool:
    """Whether an answer has a status and, as its body, one line of plain text."""
    one_line = bool(answer.body) and len(answer.body.splitlines()) == 1
    return one_line and answer.status == status and answer.headers["content-type"] == TEXT


class Ended(Exception):
    """The connection ended before the answer was complete."""


class Wire:
    """A raw connection to a worker."""

    def __init__(self, port: int, timeout_s: float = DEADLINE_S, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout_s)
        try:
            self.sock.connect((HOST, port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, path: str, method: str = "GET", headers: str = "") -> HttpAnswer:
        self.send(f"{method} {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n".encode())
        return self.answer(no_body=method == "HEAD")

    def answer(self, no_body: bool = False) -> HttpAnswer:
        """The next answer; bytes behind it are kept. Raises `Ended` if the connection ends before it is complete."""
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        status, headers = parsed_head(head)
        length = 0 if no_body or status == 100 else int(headers["content-length"])
        while len(self._rest) < length:
            self._receive()
        body, self._rest = self._rest[:length], self._rest[length:]
        return HttpAnswer(status, headers, body.decode())

    def read(self) -> bytes:
        """The bytes that have arrived, or else the next ones. Raises `Ended` if the connection has ended."""
        if not self._rest:
            self._receive()
        data, self._rest = self._rest, b""
        return data

    def _receive(self) -> None:
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            raise Ended(repr(self._rest))
        self._rest += data

    def to_the_end(self) -> bytes:
        """All bytes until the other side ends the connection."""
        while True:
            try:
                self._receive()
            except Ended:
                data, self._rest = self._rest, b""
                return data


def parsed_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of a head. Fails if it is malformed or a header comes twice."""
    first, *lines = head.decode("ascii").split("\r\n")
    matched = re.fullmatch(r"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]+", first)
    assert matched, head
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(": ")
        assert colon, head
        assert name.lower() not in headers, head
        headers[name.lower()] = value
    return int(matched[1]), headers


def answers_in(data: bytes) -> list[HttpAnswer]:
    """The answers, with bodies, in a stream of bytes. Fails if bytes are left over."""
    answers, start = list[HttpAnswer](), 0
    while start < len(data):
        end = data.index(b"\r\n\r\n", start)
        status, headers = parsed_head(data[start:end])
        start = end + 4
        body = data[start : start + (0 if status == 100 else int(headers["content-length"]))]
        start += len(body)
        assert status == 100 or len(body) == int(headers["content-length"])
        answers.append(HttpAnswer(status, headers, body.decode()))
    return answers


_DATE = re.compile(
    rb"(?<=\r\ndate: )[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT(?=\r\n)"
)


def undated(data: bytes) -> bytes:
    """Answers with their dates replaced, so that they can be compared. A malformed date stays."""
    return _DATE.sub(b"now", data)


def detail_of(var: Path, pid: int) -> str:
    """The detail of a worker's status; empty while the worker does not answer."""
    status = ask_workers(var).get(pid)
    return status.detail() if status else ""


@dataclass
class WorkerProcess:
    """A worker process, on a socket of its own or a shared one."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    var: Path

    def wire(self, timeout_s: float = DEADLINE_S, receive_buffer: int | None = None) -> Wire:
        return Wire(self.port, timeout_s, receive_buffer)

    def get(self, path: str, method: str = "GET", headers: str = "") -> HttpAnswer:
        """The answer to a request over a new connection."""
        with self.wire() as wire:
            return wire.get(path, method, headers)

    def get_until(self, path: str, holds: Callable[[HttpAnswer], bool]) -> HttpAnswer:
        """Repeat a request until a condition holds for the answer, and return that answer."""
        with self.wire() as wire:
            deadline = time.monotonic() + DEADLINE_S
            while not holds(answer := wire.get(path)):
                assert time.monotonic() < deadline, answer
            return answer

    def status(self) -> WorkerStatus:
        """The status of the worker, once it answers."""
        return self.until_status(lambda status: True)

    def until_status(self, holds: Callable[[WorkerStatus], bool]) -> WorkerStatus:
        """Ask for the status until a condition holds for it, and return it."""
        deadline = time.monotonic() + DEADLINE_S
        while (status := ask_workers(self.var).get(self.process.pid)) is None or not holds(status):
            assert time.monotonic() < deadline, status
            time.sleep(0.005)
        return status

    def until_detail(self, holds: Callable[[str], bool]) -> None:
        """Ask for the status until a condition holds for its detail."""
        self.until_status(lambda status: holds(status.detail()))

    def metrics(self) -> str:
        """The metrics of all workers on its `var`, including all that this worker has counted until now."""
        file = self.var / "metrics" / f"server-{socket.gethostname()}-{self.process.pid}.json"
        for _ in range(2):  # counts that are just being written may be older
            last = _changed(file)
            until(lambda last=last: _changed(file) != last)  # type: ignore[misc]
        exposition = Exposition(self.var / "metrics")
        exposition._shared_counts._lock.timeout = DEADLINE_S
        return exposition.text().decode()

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it and wait until it has ended."""
        self.process.kill()
        self.process.wait()

    def ends(self) -> int:
        return self.process.wait(DEADLINE_S)


def started(listener: socket.socket, var: Path, log: Path, **settings: object) -> WorkerProcess:
    """Start a worker that inherits a listening socket; connections wait there until it accepts them."""
    given = {f"MARQUEE_SERVER_{name.upper()}": str(value) for name, value in settings.items()}
    # limits so high that none is met on a busy machine unless a test sets it
    patient = {f"MARQUEE_SERVER_{limit}_S": "600" for limit in ("SHED", "STALL", "REQUEST", "IDLE", "WRITE")}
    usual = {"MARQUEE_SERVER_SWAP_POLL_S": "0.02", "MARQUEE_STREAM_VAR": str(var)}
    environ = {**os.environ, **patient, **usual, **given}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "server"],
            cwd=ROOT,
            env=environ,
            stdin=listener.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=output,
        )
    return WorkerProcess(process, listener.getsockname()[1], log, var)


@contextmanager
def serving(var: Path, **settings: object) -> Iterator[WorkerProcess]:
    """A worker. On leaving, SIGTERM must end it with status 0, and its log must hold no traceback."""
    var.mkdir(parents=True, exist_ok=True)
    log = var.parent / f"{var.name}-{time.monotonic_ns()}.log"
    with socket.create_server((HOST, 0), backlog=4096) as listener:
        worker = started(listener, var, log, **settings)
    try:
        yield worker
        worker.terminate()
        assert worker.ends() == 0
        assert "Traceback" not in worker.text(), worker.text()
    finally:
        worker.kill()


def _changed(path: Path) -> int:
    """When a file was last written, ns; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class BackgroundLoad:
    """Clients that send requests all the time, each over one connection, and never retry.

    After an answer with `connection: close` a client opens a new connection. A connection that ends in any other way is
    a failure.
    """

    def __init__(self, port: int, clients: int, paths: Sequence[str] = ("/recommend/1",)) -> None:
        self._port, self._paths, self._stop = port, paths, threading.Event()
        self.failed: list[str] = []
        """Failed requests, one line each."""
        self.seen: Counter[tuple[int, str, str]] = Counter()
        """Answers by status, release and body."""
        self.connections = 0
        self._lock = threading.Lock()
        self._clients = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for client in self._clients:
            client.join()

    @property
    def asked(self) -> int:
        return self.seen.total() + len(self.failed)

    def goes_on(self, requests: int = 50) -> None:
        """Wait for so many more requests."""
        due = self.asked + requests
        until(lambda: self.asked >= due)

    def _ask(self, number: int) -> None:
        wire: Wire | None = None
        turn = number
        while not self._stop.is_set():
            turn += 1
            try:
                if wire is None:
                    wire = Wire(self._port)
                    self.connections += 1
                answer = wire.get(self._paths[turn % len(self._paths)])
            except (OSError, Ended) as fault:
                with self._lock:
                    self.failed.append(repr(fault))
                if wire is not None:
                    wire.close()
                wire = None
                continue
            with self._lock:
                self.seen[answer.status, answer.headers.get("x-marquee-release", ""), answer.body] += 1
            if answer.closes:
                wire.close()
                wire = None
        if wire is not None:
            wire.close()
