"""The status of a worker reaches those who may ask for it, and nobody else, however busy the worker is."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from server.release_watcher import ReleaseWatcher
from server.worker_status import StatusSocket, WorkerStatus, ask_workers
from tests.polling import until
from tests.server.worker_processes import HOST, serving, started

RELEASE = ReleaseWatcher(Path("nowhere")).status()
STATUS = WorkerStatus(
    pid=os.getpid(),
    turn_age_s=0.5,
    state="serving",
    **{**msgspec.structs.asdict(RELEASE), "release": "one", "ready": True, "refused": "é" * 300_000},
)


def test_a_status_arrives_whole_however_long_it_is(tmp_path: Path) -> None:
    status = StatusSocket(tmp_path, lambda: STATUS)
    status.start()
    assert ask_workers(tmp_path, 60) == {os.getpid(): STATUS}
    status.close()
    until(lambda: ask_workers(tmp_path) == {})


def test_workers_of_another_folder_are_not_asked(tmp_path: Path) -> None:
    status = StatusSocket(tmp_path / "one", lambda: STATUS)
    status.start()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert ask_workers(tmp_path / "two") == {}
    assert list(ask_workers(tmp_path / "link", 60)) == [os.getpid()]
    status.close()


def test_a_name_that_no_worker_answers_for_is_silent(tmp_path: Path) -> None:
    silent = StatusSocket(tmp_path, lambda: STATUS)  # it listens, but was never started
    began = time.monotonic()
    assert ask_workers(tmp_path, 0.2) == {os.getpid(): None}
    assert time.monotonic() - began >= 0.2
    silent.close()


SQUATTER = """
import os, socket, sys
if os.getuid() == 0:
    os.setuid(65534)
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0" + sys.argv[1])
listener.listen()
print("listens", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
def test_the_status_of_a_process_of_another_user_is_ignored(tmp_path: Path) -> None:
    status = StatusSocket(tmp_path, lambda: STATUS)
    name = status._listener.getsockname()[1:].decode()
    status.close()
    squatter = subprocess.Popen(
        [sys.executable, "-c", SQUATTER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    assert squatter.stdout is not None
    assert squatter.stdout.readline() == b"listens\n"
    assert ask_workers(tmp_path, 0.2) == {}
    squatter.communicate()


def test_a_worker_tells_its_state_from_beginning_to_end(var: Path) -> None:
    with serving(var, drain_s=60) as worker, worker.wire() as wire:
        assert wire.get("/recommend/1").status == 200
        status = worker.status()
        assert (status.pid, status.state, status.ready, status.release) == (worker.process.pid, "serving", True, "one")
        wire.send(b"GET /recommend/1 HTTP/1.1\r\n")
        worker.terminate()
        worker.until_status(lambda status: status.state == "draining")
        wire.send(b"host: a\r\n\r\n")
        assert wire.answer().status == 200
        assert worker.ends() == 0
        assert ask_workers(var) == {}


def test_a_worker_that_is_stopped_is_silent_and_one_that_goes_on_is_not(var: Path) -> None:
    with serving(var, stall_s=600) as worker:
        assert worker.get("/healthz").status == 200
        worker.process.send_signal(signal.SIGSTOP)
        until(lambda: ask_workers(var, 0.2) == {worker.process.pid: None})
        worker.process.send_signal(signal.SIGCONT)
        assert worker.status().ready


def test_a_worker_that_drains_lets_go_of_the_port_at_once(var: Path, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0), backlog=64) as listener:
        worker = started(listener, var, tmp_path / "log", drain_s=600)
        port = worker.port
    try:
        with worker.wire() as wire:
            assert wire.get("/recommend/1").status == 200
            wire.send(b"GET /recomm")  # the worker waits for the rest
            worker.terminate()
            worker.until_status(lambda status: status.state == "draining")

            def may_be_taken() -> bool:
                with socket.socket() as other:
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        other.bind((HOST, port))
                        other.listen()
                    except OSError:
                        return False
                    return True

            until(may_be_taken)
            assert worker.process.poll() is None
    finally:
        worker.kill()
