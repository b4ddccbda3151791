"""A read that never ends blocks nothing: it is abandoned, tried again ever less often, and its late result dropped."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from server import limited
from server.hidden import HIDDEN
from server.limited import Hung, Limited
from server.release import Release
from server.release_files import Progress, no_progress
from server.release_watcher import ReleaseWatcher
from stream import durable
from tests.polling import DEADLINE_S, until, until_in_loop
from tests.server.sample_releases import names, write_release
from tests.server.worker_processes import HOST, ROOT, Wire, detail_of

LIMIT_S = 0.2


@pytest.fixture
def wall() -> Iterator[threading.Event]:
    """Hanging threads wait for it; it is set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def ran(work: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await work

    asyncio.run(within())


def test_the_result_or_error_of_work_is_passed_on() -> None:
    async def run() -> None:
        assert await Limited(LIMIT_S).run("a", lambda progress: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await Limited(LIMIT_S).run("a", lambda progress: 1 // 0)

    ran(run())


def test_slow_work_that_shows_progress_is_waited_for() -> None:
    def slow(progress: Progress) -> str:
        began = time.monotonic()
        while time.monotonic() < began + 5 * LIMIT_S:
            progress()
            time.sleep(0.01)
        return "done"

    async def run() -> None:
        assert await Limited(LIMIT_S).run("a", slow) == "done"

    ran(run())


def test_hanging_work_is_abandoned_a_few_times_and_other_work_runs(
    wall: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def hang(name: str) -> Callable[[Progress], bool]:
        def work(progress: Progress) -> bool:
            begun.append(name)
            return wall.wait()

        return work

    async def run() -> None:
        works = Limited(0.02)
        for name in [*"aaaaaaaaabbbbbbbbbbbccccccccccddddddddddeeeeeee"]:
            with pytest.raises(Hung, match=r"no progress|threads hang"):
                await works.run(name, hang(name))
            await asyncio.sleep(0.02)
        assert [begun.count(name) for name in "abcde"] == [3, 3, 3, 3, 0]
        wall.set()
        await until_in_loop(lambda: not works._hanging)
        assert await works.run("a", lambda progress: "back") == "back"

    monkeypatch.setattr(limited, "_LONGEST_PAUSE_S", 0.02)
    ran(run())


def test_a_late_error_is_dropped(wall: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    def work(progress: Progress) -> None:
        wall.wait()
        raise OSError("late")

    async def run() -> None:
        works = Limited(0.02)
        with pytest.raises(Hung):
            await works.run("a", work)
        wall.set()
        await until_in_loop(lambda: not works._hanging)

    ran(run())
    assert not caplog.records


# The release watcher


@pytest.fixture
def var(tmp_path: Path) -> Path:
    var = tmp_path / "var"
    for number, name in enumerate(("one", "two", "three")):
        write_release(var / "releases", name, shift=number)
    return var


def test_a_release_that_hangs_holds_up_no_other_and_is_not_taken_late(
    var: Path, wall: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, hanging = Release.open, [threading.Event()]

    def slow(folder: Path, progress: Progress = no_progress, trust: bool = True) -> Release:
        if folder.name == "two" and not wall.is_set():
            hanging[0].set()
            wall.wait()
        return real(folder, progress, trust)

    monkeypatch.setattr(Release, "open", slow)
    link = var / "releases" / "current"

    async def run() -> None:
        current = ReleaseWatcher(var, LIMIT_S)
        durable.point(link, "one")
        await current.check()
        task = asyncio.create_task(current.follow(0.005))
        durable.point(link, "two")
        await until_in_loop(lambda: current.refused)
        assert current.refused == "releases/two: reading it makes no progress; does its disk hang?"
        assert current.status().last_look_age_s < DEADLINE_S
        (var / HIDDEN).write_text("movie+0+2000")
        await until_in_loop(lambda: current.ready and current.ready.find(1)[0].decode().startswith(names(1, 2)))
        durable.point(link, "three")
        await until_in_loop(lambda: current.status().release == "three")
        wall.set()
        await until_in_loop(lambda: not current._limited._hanging)
        for _ in range(3):
            await current.check()
        assert current.status().detail() == "three answers"
        assert current.swaps == {"taken": 2, "refused": 1, "last_good": 0}
        durable.point(link, "two")
        await until_in_loop(lambda: current.status().release == "two")
        task.cancel()

    ran(run())


def test_a_worker_whose_first_release_hangs_starts_from_the_last_good_one(
    var: Path, wall: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = var / "releases" / "current"
    durable.point(link, "one")
    ReleaseWatcher(var).check_now()
    durable.point(link, "two")
    real = Release.open

    def slow(folder: Path, progress: Progress = no_progress, trust: bool = True) -> Release:
        return real(folder, progress, trust) if folder.name != "two" or wall.wait() else real(folder)

    monkeypatch.setattr(Release, "open", slow)

    async def run() -> None:
        current = ReleaseWatcher(var, LIMIT_S)
        await current.check()
        assert (current.status().release, current.status().fallback) == ("one", True)

    ran(run())


def test_the_age_of_the_last_look_grows_while_looks_hang(
    var: Path, wall: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.point(var / "releases" / "current", "one")

    async def run() -> None:
        current = ReleaseWatcher(var, 0.05)
        await current.check()
        assert current.status().detail() == "one answers"
        monkeypatch.setattr("server.hidden.read_hidden_state", lambda var, before: wall.wait())
        current._checked_at -= 100  # as if the last check was long ago
        for _ in range(5):
            await current.check()
        status = current.status()
        assert status.last_look_age_s >= 100
        assert "hidden.txt: reading it makes no progress" in status.detail()
        assert "current was looked at 10" in status.detail()
        assert current.ready is not None
        durable.point(var / "releases" / "current", "two")
        await current.check()
        assert current.status().release == "two"
        monkeypatch.undo()
        wall.set()
        await until_in_loop(lambda: not current._limited._hanging)
        await current.check()
        assert current.status().detail() == "two answers"

    ran(run())


HANGING = """
import os, socket, sys, time
from pathlib import Path
from server import regular_file
from server.settings import ServerSettings
from server.worker import Worker
real = os.open
def hanging(path, flags, *args, **kwargs):
    while str(path).endswith("two/lists.npy") and Path(sys.argv[1], "hangs").exists():
        time.sleep(0.01)
    return real(path, flags, *args, **kwargs)
os.open = hanging
Worker(Path(sys.argv[1]), ServerSettings(hung_s=0.3, swap_poll_s=0.02)).run(socket.socket(fileno=0))
"""


@pytest.mark.parametrize("ends", ["while it hangs", "after it hung"])
def test_a_worker_goes_on_following_while_a_disk_hangs_and_ends_when_it_is_told(var: Path, ends: str) -> None:
    link = var / "releases" / "current"
    durable.point(link, "one")
    (var / "hangs").touch()
    with socket.create_server((HOST, 0)) as listener, (var / "log").open("wb") as output:
        command = [sys.executable, "-c", HANGING, str(var)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=listener.fileno(), stderr=output)
        try:
            with Wire(listener.getsockname()[1]) as wire:

                def ready(holds: Callable[[str], bool]) -> None:
                    until(lambda: holds(detail_of(var, process.pid)))

                ready(lambda detail: detail == "one answers")
                durable.point(link, "two")
                ready(lambda detail: "one answers; a newer one was refused: releases/two: reading it" in detail)
                (var / HIDDEN).write_text("movie+0+2000")
                until(lambda: wire.get("/recommend/1").body.startswith(names(1, 2)))
                durable.point(link, "three")
                ready(lambda detail: detail == "three answers")
                durable.point(link, "two")
                ready(lambda detail: "releases/two" in detail)
                if ends == "after it hung":
                    (var / "hangs").unlink()
                    ready(lambda detail: detail == "two answers")
            process.terminate()
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    "name", ["releases/two/manifest.json", "releases/two/lists.npy", "releases/.verified/two.json"]
)
def test_a_pipe_among_the_files_stops_no_later_swap(var: Path, name: str) -> None:
    link = var / "releases" / "current"
    durable.point(link, "one")
    current = ReleaseWatcher(var)
    current.check_now()
    (var / name).unlink(missing_ok=True)
    os.mkfifo(var / name)
    for target in ("two", "three"):
        durable.point(link, target)
        current.check_now()
    assert current.status().detail() == "three answers"
