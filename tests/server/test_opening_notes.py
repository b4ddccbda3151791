"""A release that kills the workers that open it does not stop them for long: the last good one answers."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.opening_notes import deaths, noted_opening
from server.release_watcher import ReleaseWatcher
from stream import durable
from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import write_release
from tests.server.worker_processes import HOST, ROOT, Wire, detail_of


@pytest.fixture
def var(tmp_path: Path) -> Path:
    var = tmp_path / "var"
    for number, name in enumerate(("one", "two")):
        write_release(var / "releases", name, shift=number)
    durable.point(var / "releases" / "current", "one")
    return var


OPENING = """
import os, signal, sys, time
from pathlib import Path
from server.opening_notes import noted_opening
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background
with noted_opening(Path(sys.argv[1]), "two"):
    print("opens", flush=True)
    if sys.argv[2] == "fails":
        raise ValueError
    time.sleep(1000) if sys.argv[2] == "is killed" else sys.exit()
"""


def opening(var: Path, how: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", OPENING, str(var / "releases"), how]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"opens\n"
    process.stdout.close()
    return process


def test_only_dead_workers_are_counted_and_only_for_an_hour(var: Path) -> None:
    for how in ("ends", "fails"):
        opening(var, how).wait(DEADLINE_S)
    assert deaths(var / "releases", "two") == 0
    for count in (1, 2):
        process = opening(var, "is killed")
        assert deaths(var / "releases", "two") == count - 1
        process.kill()
        process.wait()
        assert deaths(var / "releases", "two") == count
    assert deaths(var / "releases", "one") == 0
    for path in (var / "releases" / ".opening" / "two").iterdir():
        os.utime(path, (time.time() - 4000,) * 2)
    assert deaths(var / "releases", "two") == 0
    with noted_opening(var / "releases", "two"):
        assert len(list((var / "releases" / ".opening" / "two").iterdir())) == 1
    assert not (var / "releases" / ".opening" / "two").exists()


def test_a_folder_that_cannot_be_written_to_keeps_nothing_from_being_opened(
    var: Path, caplog: pytest.LogCaptureFixture
) -> None:
    current = ReleaseWatcher(var)
    current.check_now()
    (var / "releases" / ".opening").write_bytes(b"in the way")
    durable.point(var / "releases" / "current", "two")
    current.check_now()
    assert current.status().detail() == "two answers"
    assert "opened without a note" in caplog.text


def test_a_release_that_was_used_before_or_is_the_only_one_is_opened_despite_deaths(var: Path) -> None:
    for name in ("one", "two"):
        folder = var / "releases" / ".opening" / name
        folder.mkdir(parents=True)
        for number in range(5):
            (folder / str(number)).touch()
    current = ReleaseWatcher(var)
    current.check_now()
    assert current.status().detail() == "one answers"
    current = ReleaseWatcher(var)
    current.check_now()
    assert current.status().detail() == "one answers"
    durable.point(var / "releases" / "current", "two")
    current.check_now()
    assert "one answers; a newer one was refused: two: 5 workers died" in current.status().detail()


FATAL = """
import os, signal, socket, sys
from pathlib import Path
from server import release_watcher
from server.settings import ServerSettings
from server.worker import Worker
class Fatal(release_watcher.Answers):
    def self_test(self):
        if self.release.id == "two":
            os.kill(os.getpid(), signal.SIGKILL)
        super().self_test()
release_watcher.Answers = Fatal
Worker(Path(sys.argv[1]), ServerSettings(swap_poll_s=0.02)).run(socket.socket(fileno=0))
"""


def test_a_release_that_kills_two_workers_is_refused_by_the_third(var: Path) -> None:
    codes = []
    with socket.create_server((HOST, 0), backlog=4096) as listener:
        for number in range(3):
            command = [sys.executable, "-c", FATAL, str(var)]
            process = subprocess.Popen(command, cwd=ROOT, stdin=listener.fileno(), stderr=subprocess.DEVNULL)
            try:
                if number == 0:
                    until(lambda: (var / "releases" / "last-good.json").exists())
                    durable.point(var / "releases" / "current", "two")
                if number == 2:
                    with Wire(listener.getsockname()[1]) as wire:
                        assert wire.get("/readyz").status == 200
                    due = "one answers; it is the last good one, current was refused: two: 2 workers"
                    assert due in detail_of(var, process.pid)
                    process.terminate()
                codes.append(process.wait(DEADLINE_S))
            finally:
                process.kill()
                process.wait()
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]


def test_a_worker_that_is_told_to_end_while_it_opens_a_release_is_no_death(var: Path) -> None:
    process = opening(var, "is killed")
    process.send_signal(signal.SIGINT)
    process.wait(DEADLINE_S)
    assert deaths(var / "releases", "two") == 0
