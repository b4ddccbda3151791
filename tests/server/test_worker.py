"""A worker over a real socket: what it answers and refuses, and that nothing is lost while releases are swapped."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from loadtest.stack import accepts, free_port
from server.app import RETRY_AFTER_S
from stream import durable

WriteRelease = Callable[..., Path]
ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
DEADLINE_S = 20.0


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: str


class Client:
    """A connection to a worker that neither retries nor reconnects."""

    def __init__(self, port: int, process: subprocess.Popen[bytes] | None = None) -> None:
        self.port, self.process = port, process
        self._connection = HTTPConnection(HOST, port, timeout=10)

    def get(self, path: str, method: str = "GET") -> Answer:
        self._connection.request(method, path)
        got = self._connection.getresponse()
        headers = {name.lower(): value for name, value in got.getheaders()}
        return Answer(got.status, headers, got.read().decode())

    def close(self) -> None:
        self._connection.close()

    def until(self, path: str, is_there: Callable[[Answer], bool]) -> Answer:
        deadline = time.monotonic() + DEADLINE_S
        while not is_there(answer := self.get(path)):
            assert time.monotonic() < deadline, answer
            time.sleep(0.005)
        return answer


def until_accepting(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not accepts(HOST, port):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)


@contextmanager
def worker(var: Path, drain_s: float = 5) -> Iterator[Client]:
    """A worker process and a connection to it; on leaving, SIGTERM must end it with status 0."""
    port = free_port()
    environ = {
        "MARQUEE_STREAM_VAR": str(var),
        "MARQUEE_SERVER_SWAP_POLL_S": "0.02",
        "MARQUEE_SERVER_DRAIN_S": str(drain_s),
    }
    command = [sys.executable, "-m", "server", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until_accepting(port, process)
        with closing(Client(port, process)) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def serving(write_release: WriteRelease, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A worker with a release that never changes."""
    var = tmp_path_factory.mktemp("var")
    write_release(var / "releases", "the-release")
    durable.point(var / "releases" / "current", "the-release")
    with worker(var) as client:
        yield client


def names(*numbers: int) -> str:
    return ",".join(f"movie+{number}+2000" for number in numbers)


@pytest.mark.parametrize(
    ("path", "body", "source"),
    [
        ("/recommend/1", names(*range(20)), "personal"),
        ("/recommend/5", names(7, 0, 29), "personal"),
        ("/recommend/9", names(25, 24, 23, 22), "segment"),
        ("/recommend/11", names(*range(20)), "popular"),
        ("/recommend/0", names(*range(20)), "popular"),
        ("/recommend/00000000000005", names(7, 0, 29), "personal"),
        ("/recommend/9999999999999999999", names(*range(20)), "popular"),
        ("/recommend/5?n=3&x=%D9%A1", names(7, 0, 29), "personal"),
    ],
)
def test_a_user_is_answered_with_one_line_of_movies(serving: Client, path: str, body: str, source: str) -> None:
    answer = serving.get(path)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-marquee-release"] == "the-release"
    assert answer.headers["x-marquee-source"] == source
    assert " " not in answer.body


BAD_USERS = [
    "", "abc", "5a", "-5", "+5", "5.0", "5e3", "0x10", "1" * 20, "1" * 3_000, "%D9%A1", "%31", "5%20", "%0A5", "5%00",
    "5,6", "%2F", "null", "%F0%9F%98%80", "5%0D%0Ax-a:b",
]  # fmt: skip


@pytest.mark.parametrize("user", BAD_USERS)
def test_what_is_no_user_id_is_refused_with_one_line(serving: Client, user: str) -> None:
    answer = serving.get(f"/recommend/{user}")
    assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert answer.body
    assert len(answer.body.splitlines()) == 1
    assert "x-a" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/recommend", "/recommends/5", "/recommend/5/6", "/favicon.ico", "/metrics/x"])
def test_other_paths_are_not_found(serving: Client, path: str) -> None:
    answer = serving.get(path)
    assert answer.status in ((404, 400) if path == "/recommend" else (404,))
    assert len(answer.body.splitlines()) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_not_allowed(serving: Client, method: str) -> None:
    answer = serving.get("/recommend/5", method)
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]
    assert len(answer.body.splitlines()) == 1


def test_health_and_readiness_say_what_answers(serving: Client) -> None:
    assert serving.get("/healthz").status == 200
    ready = serving.get("/readyz")
    assert (ready.status, ready.body) == (200, "the-release answers")


def raw(port: int, data: bytes) -> bytes:
    """What comes back for bytes on a connection that is then closed for writing."""
    with socket.create_connection((HOST, port), timeout=10) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while more := sock.recv(65_536):
            got += more
        return got


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /recommend/5\r\n\r\n",
        b"GET /recommend/\xd9\xa1 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /recommend/5 HTTP/1.1\r\n" + b"a: " + b"b" * 100_000 + b"\r\n\r\n",
        b"GET /recommend/5 HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"\r\n" * 20_000,
    ],
    ids=["tls", "no path", "no version", "raw bytes", "long header", "negative length", "blank lines"],
)
def test_what_is_no_good_http_gets_no_200_and_harms_nobody(serving: Client, data: bytes) -> None:
    try:
        answer = raw(serving.port, data)
    except ConnectionResetError:
        answer = b""
    assert b" 200 " not in answer.partition(b"\r\n")[0]
    with closing(Client(serving.port)) as client:
        assert client.get("/recommend/1").status == 200


def test_requests_in_one_chunk_are_answered_in_order(serving: Client) -> None:
    one = b"GET /recommend/%d HTTP/1.1\r\nhost: a\r\n\r\n"
    last = b"GET /recommend/11 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    answer = raw(serving.port, one % 5 + one % 9 + last).decode()
    bodies = [part.split("\r\n\r\n")[-1] for part in answer.split("HTTP/1.1 200 OK")[1:]]
    assert bodies == [names(7, 0, 29), names(25, 24, 23, 22), names(*range(20))]


def test_without_a_release_it_says_when_to_come_back_and_takes_the_first_one(
    write_release: WriteRelease, tmp_path: Path
) -> None:
    releases = tmp_path / "releases"
    with worker(tmp_path) as client:
        for path in ("/recommend/5", "/readyz"):
            answer = client.get(path)
            assert (answer.status, answer.headers["retry-after"]) == (503, str(RETRY_AFTER_S))
        assert client.get("/recommend/abc").status == 400
        assert client.get("/healthz").status == 200
        (write_release(releases, "broken") / "users.npy").write_bytes(b"x")
        durable.point(releases / "current", "broken")
        refused = client.until("/readyz", lambda answer: "users.npy" in answer.body)
        assert (refused.status, client.get("/recommend/5").status) == (503, 503)
        write_release(releases, "first")
        durable.point(releases / "current", "first")
        assert client.until("/readyz", lambda answer: answer.status == 200).body == "first answers"
        assert client.get("/recommend/5").body == names(7, 0, 29)


def test_releases_are_swapped_forward_and_back_and_a_bad_one_is_passed_over(
    write_release: WriteRelease, tmp_path: Path
) -> None:
    releases = tmp_path / "releases"
    for number, name in enumerate(("one", "two", "bad", "three")):
        write_release(releases, name, shift=number)
    (releases / "bad" / "items.ann").unlink()
    durable.point(releases / "current", "one")
    with worker(tmp_path) as client:
        for name, first in (("two", 1), ("one", 0), ("three", 3)):
            durable.point(releases / "current", name)
            client.until("/readyz", lambda answer, name=name: answer.body == f"{name} answers")  # type: ignore[misc]
            answer = client.get("/recommend/1")
            assert answer.headers["x-marquee-release"] == name
            assert answer.body.startswith(names(first))
        durable.point(releases / "current", "bad")
        told = client.until("/readyz", lambda answer: "refused" in answer.body)
        assert (told.status, client.get("/recommend/1").headers["x-marquee-release"]) == (200, "three")
        assert len(told.body.splitlines()) == 1


def test_no_request_is_lost_or_mixed_up_while_releases_are_swapped(write_release: WriteRelease, tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    for shift in range(3):
        write_release(releases, str(shift), shift=shift)
    durable.point(releases / "current", "0")
    with worker(tmp_path) as client:
        stop, seen = threading.Event(), Counter[tuple[int, bool, str]]()

        def ask() -> None:
            with closing(Client(client.port)) as own:
                while not stop.is_set():
                    answer = own.get("/recommend/1")
                    shift = answer.headers["x-marquee-release"]
                    seen[answer.status, answer.body.startswith(names(int(shift), int(shift) + 1)), shift] += 1

        asker = threading.Thread(target=ask)
        asker.start()
        for swap in range(1, 16):
            durable.point(releases / "current", str(swap % 3))
            client.until("/readyz", lambda answer, swap=swap: answer.body == f"{swap % 3} answers")  # type: ignore[misc]
        stop.set()
        asker.join()
    assert {key[:2] for key in seen} == {(200, True)}
    assert {key[2] for key in seen} == {"0", "1", "2"}


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        command = [sys.executable, "-m", "server", "--port", str(taken.getsockname()[1])]
        environ = {**os.environ, "MARQUEE_STREAM_VAR": str(tmp_path)}
        done = subprocess.run(
            command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.splitlines()[-1].startswith(b"error: server: cannot listen on")
    assert b"Traceback" not in done.stderr


def test_a_socket_that_is_handed_over_as_descriptor_0_is_served(write_release: WriteRelease, tmp_path: Path) -> None:
    write_release(tmp_path / "releases", "one")
    durable.point(tmp_path / "releases" / "current", "one")
    with socket.create_server((HOST, 0)) as listener:
        environ = {**os.environ, "MARQUEE_STREAM_VAR": str(tmp_path)}
        command = [sys.executable, "-m", "server", "--port", "1"]
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=listener.fileno(), stderr=subprocess.DEVNULL)
        try:
            # a connection waits in the queue of the socket until the worker takes it
            with closing(Client(listener.getsockname()[1])) as client:
                assert client.get("/recommend/5").status == 200
            process.terminate()
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
            process.wait()


def ended(client: Client) -> float:
    """Tell the worker to end; gives how many seconds it took."""
    assert client.process is not None
    began = time.monotonic()
    client.process.send_signal(signal.SIGTERM)
    assert client.process.wait(DEADLINE_S) == 0
    return time.monotonic() - began


def test_a_worker_that_is_told_to_end_does_not_wait_for_idle_connections(tmp_path: Path) -> None:
    with worker(tmp_path, drain_s=15) as client, socket.create_connection((HOST, client.port)):
        assert client.get("/healthz").status == 200  # from now on this connection is idle, the other never asked
        assert ended(client) < 10


def test_a_worker_that_is_told_to_end_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    with worker(tmp_path, drain_s=0.2) as client, socket.create_connection((HOST, client.port), timeout=10) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabc")
        assert client.get("/healthz").status == 200
        assert ended(client) < 10
        assert not accepts(HOST, client.port)


FAULTY = """
import sys
from pathlib import Path
from server import worker
from server.__main__ import listening
from server.app import make_app
from server.current import Current
from server.settings import ServerSettings
class Faulty:
    id = "faulty"
current = Current(Path(sys.argv[2]))
current.release = Faulty()
worker.run(make_app(current), current, listening("127.0.0.1", int(sys.argv[1])), ServerSettings())
"""


def test_a_fault_of_the_program_is_a_500_of_one_line_and_is_logged(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", FAULTY, str(port), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until_accepting(port, process)
        with closing(Client(port)) as client:
            answer = client.get("/recommend/5")
            assert (answer.status, answer.body) == (500, "internal error")
            assert client.get("/healthz").status == 200
        process.terminate()
        told = process.communicate(timeout=DEADLINE_S)[1]
    finally:
        process.kill()
        process.wait()
    assert b"/recommend/5" in told
    assert b"AttributeError" in told
