"""Marquee under a real supervisord with our configuration: restarts lose no request, dead processes are restarted."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import pytest
from supervisor.xmlrpc import SupervisorTransport

from loadtest.demo.processes import ROOT, free_port
from server.worker_status import WorkerStatus, ask_workers
from stream import durable, kafka
from stream.settings import StreamSettings, load
from tests.polling import DEADLINE_S, until
from tests.process_is_gone import is_gone
from tests.server.sample_releases import write_release
from tests.server.worker_processes import BackgroundLoad, Wire


class Supervised:
    """A supervisord with a folder of its own, and its processes."""

    def __init__(self, folder: Path, run: Path, environ: dict[str, str]) -> None:
        self.var, self.run = folder / "var", run
        self.port = free_port()
        write_release(self.var / "releases", "one")
        durable.point(self.var / "releases" / "current", "one")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
        self.environ = {
            **kept,
            **environ,
            "MARQUEE_PYTHON": sys.executable,
            "MARQUEE_RUN": str(self.run),
            "MARQUEE_BIND": f"127.0.0.1:{self.port}",
            "MARQUEE_WORKERS": "2",
            "MARQUEE_SERVER_OPERATOR_PORT": str(free_port()),
            # no request may be shed on a busy machine
            "MARQUEE_SERVER_SHED_S": "60",
        }
        self.process: subprocess.Popen[bytes]

    def start(self, workers: int = 2) -> None:
        """Start supervisord; returns once all workers are ready."""
        self.environ["MARQUEE_WORKERS"] = str(workers)
        with (self.run / "out.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-c", str(ROOT / "supervisord.conf")],
                cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        until(lambda: (self.answers() and len(self.ready()) == workers) or self.process.poll() is not None)
        assert self.process.poll() is None, (self.run / "out.log").read_text()

    def answers(self) -> bool:
        """Whether supervisord can be asked: one that was killed leaves its socket, and for a moment its workers."""
        try:
            return bool(self.pids())
        except OSError:
            return False

    def ready(self) -> dict[int, WorkerStatus]:
        """The workers that are ready, by process id."""
        return {pid: status for pid, status in ask_workers(self.var).items() if status and status.ready}

    def restart(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """`python -m server restart`."""
        command = [sys.executable, "-m", "server", "restart", *arguments]
        environ = {**self.environ, **changed}
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    def pids(self) -> dict[str, int]:
        """Process ids by program; 0 for one that does not run just now."""
        url = f"unix://{self.run}/supervisor.sock"
        with ServerProxy("http://supervisord", SupervisorTransport(serverurl=url)) as supervisor:
            infos: Any = supervisor.supervisor.getAllProcessInfo()
        return {info["name"]: info["pid"] if info["statename"] in ("STARTING", "RUNNING") else 0 for info in infos}

    def stop(self) -> None:
        """End supervisord and all that it keeps."""
        pids = []
        if self.process.poll() is None:
            pids = list(self.pids().values())
            self.process.terminate()
            self.process.wait(DEADLINE_S)
        assert all(is_gone(pid) for pid in pids if pid)


@pytest.fixture
def supervised(tmp_path: Path, environ: dict[str, str]) -> Iterator[Supervised]:
    async def make_topic() -> None:
        async with kafka.writing(load("stream", StreamSettings, environ)):
            pass

    asyncio.run(make_topic())  # without the topic the collector and telemetry keep ending
    # the path of a Unix socket may have at most 107 characters
    with tempfile.TemporaryDirectory(prefix="marquee-") as run:
        running = Supervised(tmp_path, Path(run), environ)
        try:
            yield running
        finally:
            running.stop()


PATHS = ("/recommend/1", "/recommend/5", "/recommend/1?n=20", "/recommend/999")


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_are_restarted_one_by_one_and_no_request_is_lost(supervised: Supervised, workers: int) -> None:
    supervised.start(workers)
    before = supervised.ready().keys()
    with BackgroundLoad(supervised.port, 8, PATHS) as load:
        load.goes_on()
        for _ in range(3):
            done = supervised.restart()
            assert done.returncode == 0, done.stderr
            assert re.fullmatch(r"(server-\d is ready \(process \d+\)\n)+", done.stdout)
            load.goes_on()
    assert not load.failed
    assert {status for status, _, _ in load.seen} == {200}
    assert len(supervised.ready()) == workers
    assert supervised.ready().keys().isdisjoint(before)


def test_a_worker_that_does_not_become_ready_ends_the_restart_and_the_others_go_on(supervised: Supervised) -> None:
    supervised.start()
    (write_release(supervised.var / "releases", "bad") / "users.npy").write_bytes(b"x")
    before = supervised.ready().keys()
    (supervised.var / "releases" / "one").rename(supervised.var / "releases" / "gone")
    done = supervised.restart("--patience", "3")
    assert done.returncode != 0
    assert re.fullmatch(r"error: restart: server:server-0 is not ready after 3 s: .*\n", done.stderr)
    assert len(supervised.ready().keys() & before) == 1

    def status() -> int:
        with Wire(supervised.port) as wire:  # to any worker
            return wire.get("/recommend/1").status

    until(lambda: status() == 200)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"MARQUEE_RUN": ""}, "set MARQUEE_RUN"),
        ({"MARQUEE_RUN": "/nowhere"}, "no supervisord answers at unix:///nowhere/"),
    ],
)
def test_a_restart_without_a_supervisord_is_one_clear_error(changed: dict[str, str], said: str) -> None:
    command = [sys.executable, "-m", "server", "restart"]
    environ = {**os.environ, **changed}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert done.stderr.startswith(f"error: restart: {said}")
    assert len(done.stderr.splitlines()) == 1


def test_ended_processes_are_started_again(supervised: Supervised) -> None:
    """Also after a regular end, as by a plain `kill`: else all would look fine while nothing is collected."""
    supervised.start()
    programs = ("collect", "telemetry", "schedule", "operator", "server-0")
    until(lambda: all(supervised.pids().values()))
    before = supervised.pids()
    for program in programs:
        os.kill(before[program], signal.SIGTERM)
    for program in programs:
        until(lambda program=program: supervised.pids()[program] not in (0, before[program]))  # type: ignore[misc]


def test_after_a_supervisord_was_killed_a_new_one_starts(supervised: Supervised) -> None:
    supervised.start()
    until(lambda: all(supervised.pids().values()))  # some have just been started
    before = supervised.pids()
    with Wire(supervised.port) as wire:
        wire.send(b"GET /recomm")  # the worker waits for the rest
        supervised.process.kill()
        supervised.process.wait()
        until(lambda: not _is_taken(supervised.port))
        supervised.start()
    until(lambda: all(is_gone(pid) for pid in before.values()))
    until(lambda: all(supervised.pids().values()))
    with Wire(supervised.port) as wire:
        assert wire.get("/recommend/1").status == 200


def _is_taken(port: int) -> bool:
    """Whether a port is taken, so that supervisord could not listen on it."""
    try:
        with Wire(port):
            return True
    except ConnectionRefusedError:
        return False


def test_the_socket_can_be_held_and_released_again_and_again(supervised: Supervised) -> None:
    supervised.start(workers=1)
    url = f"unix://{supervised.run}/supervisor.sock"
    with ServerProxy("http://supervisord", SupervisorTransport(serverurl=url)) as server:
        marquee: Any = server.marquee
        assert [marquee.release_socket("server"), marquee.hold_socket("server"), marquee.hold_socket("server")] == [
            False,
            True,
            True,
        ]
        server.supervisor.stopProcessGroup("server")
        with Wire(supervised.port) as wire:
            wire.send(b"GET /recommend/1 HTTP/1.1\r\nhost: a\r\n\r\n")
            server.supervisor.startProcessGroup("server")
            assert wire.answer().status == 200
        assert marquee.release_socket("server")
        server.supervisor.stopProcessGroup("server")
        assert not _is_taken(supervised.port)
        with pytest.raises(Fault):
            marquee.hold_socket("nothing")
