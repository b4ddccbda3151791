"""Several workers on one socket, as under supervisord: no request is lost while they start, end, die or swap releases.

The clients here never retry, and a test shows that they would notice a single dropped request.
"""

import itertools
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from stream import durable
from tests.polling import until
from tests.server.sample_releases import names, write_release
from tests.server.worker_processes import HOST, BackgroundLoad, Ended, Wire, WorkerProcess, started

PATHS = ("/recommend/1", "/recommend/5", "/recommend/1?n=20", "/recommend/999")


class Crew:
    """Workers on one socket, which stays open."""

    def __init__(self, var: Path, listener: socket.socket) -> None:
        self._var, self._listener = var, listener
        self.port = int(listener.getsockname()[1])
        self.workers: list[WorkerProcess] = []

    def start(self, **settings: object) -> WorkerProcess:
        """Start one more; returns once it serves."""
        worker = started(self._listener, self._var, self._var.parent / f"worker-{len(self.workers)}.log", **settings)
        self.workers.append(worker)
        until(lambda: "worker serves" in worker.text())
        return worker


@pytest.fixture
def var(tmp_path: Path) -> Path:
    for shift in range(2):
        write_release(tmp_path / "var" / "releases", str(shift), shift=shift)
    durable.point(tmp_path / "var" / "releases" / "current", "0")
    return tmp_path / "var"


@pytest.fixture
def crew(var: Path) -> Iterator[Crew]:
    with socket.create_server((HOST, 0), backlog=4096) as listener:
        crew = Crew(var, listener)
        try:
            yield crew
        finally:
            for worker in crew.workers:
                worker.kill()
    assert not [worker.text() for worker in crew.workers if "Traceback" in worker.text()]


def right(load: BackgroundLoad) -> bool:
    """Whether all answers are complete and no request failed."""
    return not load.failed and {status for status, _, _ in load.seen} == {200}


def test_all_workers_can_be_restarted_one_after_the_other_and_no_request_is_lost(crew: Crew) -> None:
    old = [crew.start(), crew.start()]
    with BackgroundLoad(crew.port, 8) as load:
        load.goes_on()
        for worker in old:
            new = crew.start()
            load.goes_on()
            worker.terminate()
            assert worker.ends() == 0
            load.goes_on()
            assert new.process.poll() is None
    assert right(load), load.failed
    assert load.connections > 8


def test_workers_can_be_ended_before_others_are_started_and_no_request_is_lost(crew: Crew) -> None:
    one, two = crew.start(), crew.start()
    with BackgroundLoad(crew.port, 8, PATHS) as load:
        load.goes_on()
        one.terminate()
        assert one.ends() == 0
        load.goes_on()
        crew.start()
        two.terminate()
        assert two.ends() == 0
        load.goes_on()
    assert right(load), load.failed


def test_the_only_worker_can_be_restarted_while_new_clients_wait(crew: Crew) -> None:
    worker = crew.start()
    with BackgroundLoad(crew.port, 4, PATHS) as load:
        load.goes_on()
        for _ in range(2):
            worker.terminate()
            assert worker.ends() == 0
            worker = crew.start()
            load.goes_on()
    assert right(load), load.failed


def test_a_worker_that_is_killed_loses_no_more_than_it_held(crew: Crew) -> None:
    victims = [crew.start(), crew.start()]
    clients = 8
    with BackgroundLoad(crew.port, clients, PATHS) as load:
        load.goes_on()
        for killed, victim in enumerate(victims, 1):
            victim.kill()
            load.goes_on(200)
            # each client had at most one open request, and was accepted again at once
            assert len(load.failed) <= killed * clients
            assert not [fault for fault in load.failed if "Refused" in fault or "timed out" in fault]
            crew.start()
            load.goes_on(200)
    assert {status for status, _, _ in load.seen} == {200}


def test_clients_that_come_all_at_once_while_a_worker_is_busy_are_let_in(crew: Crew) -> None:
    """The queue of the shared socket has the length that was set when it was opened: 4096, as in supervisord.conf."""
    if int(Path("/proc/sys/net/core/somaxconn").read_text()) < 1000:
        pytest.skip("this machine has shorter queues")
    worker = crew.start()
    with ExitStack() as stack:
        worker.process.send_signal(signal.SIGSTOP)
        stack.callback(worker.process.send_signal, signal.SIGCONT)
        wires = [stack.enter_context(Wire(crew.port)) for _ in range(500)]
        worker.process.send_signal(signal.SIGCONT)
        assert {wire.get("/recommend/1").status for wire in wires} == {200}


class Dropping:
    """A server that answers like a worker, but silently drops one request in `every`."""

    def __init__(self, every: int) -> None:
        self.listener = socket.create_server((HOST, 0))
        self.port = int(self.listener.getsockname()[1])
        self.dropped = 0
        self._every, self._count = every, itertools.count(1)

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        while connection.recv(65_536):
            if self._every and next(self._count) % self._every == 0:
                self.dropped += 1
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\na")


@contextmanager
def dropping(every: int) -> Iterator[Dropping]:
    server = Dropping(every)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        thread.join()


@pytest.mark.parametrize("every", [0, 7, 100])
def test_the_clients_of_these_tests_notice_each_request_that_is_dropped(every: int) -> None:
    with dropping(every) as server:
        with BackgroundLoad(server.port, 1) as load:
            load.goes_on(500)
        assert len(load.failed) == server.dropped
        assert bool(load.failed) == bool(every)
        assert right(load) != bool(every)


def test_the_clients_of_these_tests_notice_a_closed_port() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with BackgroundLoad(port, 1) as load:
        load.goes_on(3)
    assert not right(load)
    assert "Refused" in load.failed[0]


class Footprint:
    """The resources that a process holds."""

    def __init__(self, pid: int) -> None:
        folder = Path(f"/proc/{pid}")
        self.descriptors = len(list((folder / "fd").iterdir()))
        self.maps = len((folder / "maps").read_text().splitlines())
        self.resident = int((folder / "statm").read_text().split()[1]) * 4096


def swapped(crew: Crew, var: Path, count: int) -> None:
    """Swap two releases back and forth, each time as soon as the worker answers from the other one."""
    with Wire(crew.port) as wire:
        for number in range(count):
            name = str((number + 1) % 2)
            durable.point(var / "releases" / "current", name)
            until(lambda name=name: wire.get("/recommend/1").headers["x-marquee-release"] == name)  # type: ignore[misc]


def test_a_hundred_swaps_lose_no_request_mix_no_answer_and_leave_nothing_behind(crew: Crew, var: Path) -> None:
    worker = crew.start()
    with BackgroundLoad(crew.port, 4, PATHS) as load:
        swapped(crew, var, 30)
        before = Footprint(worker.process.pid)
        swapped(crew, var, 100)
        after = Footprint(worker.process.pid)
    assert right(load), load.failed
    lists = {(release, body) for _, release, body in load.seen}
    assert {(release, body) for release, body in lists if body.startswith(("movie+0+", "movie+1+"))} == {
        ("0", names(*range(20))),
        ("1", names(*range(1, 21))),
        ("1", names(*range(20))),  # a user without a list
    }
    assert after.descriptors <= before.descriptors + 5  # a file may just be written
    assert after.maps <= before.maps + 5
    assert after.resident <= before.resident + 8_000_000
    assert "refused" not in worker.text()


def test_releases_of_many_users_are_swapped_under_load_and_the_old_one_is_let_go(crew: Crew, var: Path) -> None:
    users = 100_000
    for shift in range(2):
        write_release(
            var / "releases",
            f"large-{shift}",
            text=bool(shift),
            users=np.arange(1, users + 1, dtype=np.uint32),
            lists=np.tile(np.roll(np.arange(20, dtype=np.uint16), -shift), (users, 1)),
            segments=np.zeros(users, np.uint8),
        )
    worker = crew.start()
    with BackgroundLoad(crew.port, 2, ("/recommend/77",)) as load, Wire(crew.port) as wire:
        sizes = []
        for number in range(12):
            name = f"large-{number % 2}"
            durable.point(var / "releases" / "current", name)
            until(lambda name=name: wire.get("/recommend/1").headers["x-marquee-release"] == name)  # type: ignore[misc]
            sizes.append(Footprint(worker.process.pid))
        # lists and texts of a release are some 4 and 28 MB; the old ones may be held for a moment after a swap
        until(lambda: Footprint(worker.process.pid).resident <= sizes[3].resident + 8_000_000)
        until(lambda: Footprint(worker.process.pid).maps <= sizes[3].maps + 5)
        until(lambda: Footprint(worker.process.pid).descriptors <= sizes[3].descriptors)
    assert right(load), load.failed


def test_two_workers_take_the_same_release_and_hide_the_same(crew: Crew, var: Path) -> None:
    for _ in range(2):
        crew.start()
    durable.point(var / "releases" / "current", "1")
    (var / "hidden.txt").write_text("movie+3+2000\n")

    def one_answer() -> tuple[str, str]:
        with Wire(crew.port) as wire:
            answer = wire.get("/recommend/1")
            return answer.headers["x-marquee-release"], answer.body

    due = ("1", names(1, 2, *range(4, 22)))
    until(lambda: {one_answer() for _ in range(20)} == {due})


def test_a_connection_that_a_killed_worker_held_is_ended(crew: Crew) -> None:
    worker = crew.start()
    with Wire(crew.port) as wire:
        assert wire.get("/recommend/1").status == 200
        worker.kill()
        with pytest.raises(Ended):
            wire.answer()
