"""A worker whose loop hangs is ended, whatever holds it up; one that was stopped or frozen is not."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server import watchdog_process
from server.watchdog import Watchdog
from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import names
from tests.server.worker_processes import HOST, ROOT, BackgroundLoad, Wire, WorkerProcess, serving

LIST = names(7, 0, 29)
STALL_S = 2.0


STALLED = """
import asyncio, ctypes, re, socket, sys, time
from pathlib import Path
from server.release_watcher import ReleaseWatcher
from server.settings import ServerSettings
from server.worker import Worker
def in_python():
    while True:
        pass
def asleep():
    time.sleep(1000)
def in_c_with_the_lock():
    while True:  # a signal wakes it up
        ctypes.PyDLL(None).sleep(1000)
def in_a_pattern():
    re.match("(a|a)*b", "a" * 60)
async def follow(self, poll_s):
    while not Path(sys.argv[1], "stall").exists():
        await asyncio.sleep(0.01)
    globals()[sys.argv[2]]()
ReleaseWatcher.follow = follow
Worker(Path(sys.argv[1]), ServerSettings(stall_s=float(sys.argv[3]))).run(socket.socket(fileno=0))
"""


@contextmanager
def stalling(var: Path, how: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A worker whose loop hangs once there is a file `stall`, and its port."""
    with socket.create_server((HOST, 0)) as listener, (var / "log").open("wb") as output:
        command = [sys.executable, "-c", STALLED, str(var), how, str(STALL_S)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=listener.fileno(), stderr=output)
        port = listener.getsockname()[1]
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", ["in_python", "asleep", "in_c_with_the_lock", "in_a_pattern"])
def test_a_worker_whose_loop_stands_still_says_where_and_dies(var: Path, how: str) -> None:
    with stalling(var, how) as (process, port):
        with Wire(port) as wire:
            began = time.monotonic()
            while time.monotonic() < began + STALL_S + 1:  # as long as it turns, it may take as long as it likes
                assert wire.get("/recommend/5").body == LIST
        (var / "stall").touch()
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
    log_text = (var / "log").read_text()
    assert f"Timeout (2 s)! The loop of worker {process.pid} stands still:" in log_text
    assert re.search(rf"in {how}\n", log_text)


def watchers(worker: WorkerProcess) -> list[int]:
    """The processes that watch a worker, without those that are only being started."""
    pid = worker.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"watchdog_process" in Path(f"/proc/{child}/cmdline").read_bytes()]


def watcher(worker: WorkerProcess) -> int:
    until(lambda: watchers(worker))
    return watchers(worker)[0]


def stands(pid: int, states: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in states
    except OSError:
        return "gone" in states


@pytest.mark.parametrize("frozen", ["the worker", "both, the worker goes on first", "both, the worker goes on last"])
def test_a_worker_that_was_stopped_for_long_goes_on_again_and_again(var: Path, frozen: str) -> None:
    with serving(var, stall_s=STALL_S) as worker, BackgroundLoad(worker.port, 8) as load:
        load.goes_on()
        pids = [worker.process.pid] if frozen == "the worker" else [worker.process.pid, watcher(worker)]
        for _ in range(2):
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            until(lambda: all(stands(pid, "T") for pid in pids))
            time.sleep(1.75 * STALL_S)  # it is to be stopped for longer than it may stand still
            for pid in pids if frozen.endswith("first") else reversed(pids):
                os.kill(pid, signal.SIGCONT)
            load.goes_on(1000)
            began = time.monotonic()
            until(lambda began=began: time.monotonic() > began + STALL_S)  # type: ignore[misc]
        assert worker.process.poll() is None
        assert not load.failed
    assert "Timeout" not in worker.text()


@pytest.mark.parametrize(
    ("steps_s", "ended"),
    [
        ([1.0] * 9, 0),
        ([1.0] * 10, 1),
        ([1.0] * 25, 2),
        ([100.0], 0),  # the machine was frozen
        ([100.0, 1.0, 1.0, 100.0, 1.0], 0),
        ([100.0] * 5, 1),  # again and again: sooner or later it is ended
        ([1.0] * 9 + [0.0] + [1.0] * 9, 0),  # 0: its loop has turned
    ],
)
def test_no_step_counts_for_much_more_than_it_was_to_take(
    monkeypatch: pytest.MonkeyPatch, steps_s: list[float], ended: int
) -> None:
    now, steps, ends = [0.0], iter([*steps_s, None]), list[int]()

    def turned(wait_s: float) -> bool | None:
        assert wait_s == 1.0
        step_s = next(steps)
        now[0] += step_s or 0.0
        return None if step_s is None else step_s == 0.0

    monkeypatch.setattr(watchdog_process, "_turned", turned)
    monkeypatch.setattr(watchdog_process, "_end", lambda worker, stall_s: ends.append(worker))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watchdog_process.watch(os.getpid(), 10.0)
    assert ends == [os.getpid()] * ended


def test_a_worker_that_was_stopped_and_then_stands_still_is_ended_all_the_same(var: Path) -> None:
    with stalling(var, "in_c_with_the_lock") as (process, port):
        with Wire(port) as wire:
            assert wire.get("/recommend/5").body == LIST
        process.send_signal(signal.SIGSTOP)
        (var / "stall").touch()
        time.sleep(1.5 * STALL_S)
        assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        assert process.wait(DEADLINE_S) == -signal.SIGKILL


def test_a_signal_makes_a_worker_write_its_stack(var: Path) -> None:
    with serving(var) as worker:
        watcher(worker)
        worker.process.send_signal(signal.SIGUSR1)
        until(lambda: re.search(r"\(most recent call first\)", worker.text()))
        assert worker.get("/recommend/5").body == LIST


@pytest.mark.parametrize("how", ["killed", "terminated"])
def test_the_process_that_watches_ends_with_the_worker_and_holds_no_socket(var: Path, how: str) -> None:
    with serving(var) as worker:
        pid = watcher(worker)
        files = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [file for file in files if file.startswith("socket:")]
        worker.kill() if how == "killed" else worker.terminate()
        worker.ends()
        until(lambda: stands(pid, "gone Z"))
        if how == "killed":  # which `serving` does not expect
            worker.process.returncode = 0


def test_a_process_that_watches_and_dies_is_replaced(var: Path) -> None:
    with serving(var) as worker:
        first = watcher(worker)
        for number in (signal.SIGTERM, signal.SIGINT):  # as sent to the whole group; they are the worker's affair
            os.kill(first, number)
        os.kill(first, signal.SIGKILL)
        until(lambda: watchers(worker) not in ([], [first]))
        assert worker.get("/recommend/5").body == LIST


def test_where_nothing_can_be_started_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    watchdog = Watchdog(10)
    for _ in range(3):
        watchdog.beat()
    watchdog.close()
    assert [record.getMessage() for record in caplog.records] == [
        "no watchdog: this worker will not be ended if its loop hangs: [Errno 11] Resource temporarily unavailable"
    ]
