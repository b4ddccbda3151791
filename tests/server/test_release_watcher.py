"""Which release answers: the newest whole one that `current` has pointed at."""

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from server import release_watcher
from server.answers import SOURCES, Answers
from server.hidden import HIDDEN
from server.release_watcher import ReleaseWatcher
from stream import durable
from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import NO_MOVIE, names, seal, write_release
from tests.server.watched_releases import answer_to, move_current, release_in_use, write_releases
from tests.server.worker_processes import serving


@pytest.fixture
def var(tmp_path: Path) -> Path:
    write_releases(tmp_path)
    return tmp_path


def test_without_a_release_there_is_none_and_nothing_was_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        watcher = ReleaseWatcher(folder)
        watcher.check_now()
        assert release_in_use(watcher) == (None, False)


def test_the_release_follows_the_link_forward_and_back(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    assert [move_current(watcher, var, name) for name in ("one", "two", "one")] == [
        ("one", False), ("two", False), ("one", False),
    ]  # fmt: skip
    assert watcher.swaps == {"taken": 3, "refused": 0, "last_good": 0}


def test_a_bad_release_leaves_the_old_one_and_the_next_good_one_is_taken(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    assert move_current(watcher, var, "one") == ("one", False)
    assert move_current(watcher, var, "broken") == ("one", True)
    assert "lists.npy" in str(watcher.refused)
    assert move_current(watcher, var, "three") == ("three", False)
    assert watcher.swaps == {"taken": 2, "refused": 1, "last_good": 0}


def test_a_bad_first_release_is_refused_until_a_good_one_comes(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    assert move_current(watcher, var, "broken") == (None, True)
    assert move_current(watcher, var, "not there") == (None, True)
    assert move_current(watcher, var, "two") == ("two", False)


def test_going_back_from_a_bad_release_is_no_refusal_any_more(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    move_current(watcher, var, "broken")
    assert move_current(watcher, var, "one") == ("one", False)


def test_a_link_that_is_gone_leaves_the_release(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    (var / "releases" / "current").unlink()
    watcher.check_now()
    assert release_in_use(watcher) == ("one", True)
    assert "gone" in str(watcher.refused)
    assert move_current(watcher, var, "one") == ("one", False)


def test_a_link_that_is_a_folder_or_a_file_is_none(var: Path) -> None:
    watcher, link = ReleaseWatcher(var), var / "releases" / "current"
    move_current(watcher, var, "one")
    link.unlink()
    link.mkdir()
    watcher.check_now()
    assert release_in_use(watcher) == ("one", True)
    link.rmdir()
    link.write_text("two")
    watcher.check_now()
    assert release_in_use(watcher) == ("one", True)


def test_the_same_link_is_not_opened_again(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    before = watcher.answers
    watcher.check_now()
    assert watcher.answers is before


def test_a_release_whose_files_are_removed_still_answers(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    for path in (var / "releases" / "one").iterdir():
        path.unlink()
    watcher.check_now()
    assert answer_to(watcher) == names(*range(20))
    assert watcher.answers is not None
    assert watcher.answers.similar("movie+3+2000", 5)


def test_a_release_that_contradicts_itself_is_refused_whatever_the_contradiction(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    for number, change in enumerate(CONTRADICTIONS):
        folder = write_release(var / "releases", f"wrong-{number}")
        change(folder)
        seal(folder)
        assert move_current(watcher, var, folder.name) == ("one", True)


def gapped(folder: Path) -> None:
    lists = np.load(folder / "lists.npy")
    lists[:, 5] = NO_MOVIE
    np.save(folder / "lists.npy", lists)


def garbled(folder: Path) -> None:
    data = (folder / "users.npy").read_bytes()
    (folder / "users.npy").write_bytes(b"\n" + data[1:])


def headless(folder: Path) -> None:
    data = (folder / "users.npy").read_bytes()
    (folder / "users.npy").write_bytes(data[:10] + b"\n" + data[11:])


def repeated(folder: Path) -> None:
    lists = np.load(folder / "lists.npy")
    lists[0, 5] = lists[0, 4]
    np.save(folder / "lists.npy", lists)


CONTRADICTIONS = [gapped, garbled, headless, repeated]


def followed(var: Path, *steps: tuple[Callable[[], object], Callable[[ReleaseWatcher], bool]]) -> None:
    """Do each first thing and wait for what must follow, while `current` is followed."""

    async def follow() -> None:
        watcher = ReleaseWatcher(var)
        task = asyncio.create_task(watcher.follow(0.005))
        for do, holds in steps:
            do()
            async with asyncio.timeout(DEADLINE_S):
                while not holds(watcher):
                    if task.done():
                        await task  # it must not end, whatever happens
                    await asyncio.sleep(0.002)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(follow())


def test_it_follows_by_itself(var: Path) -> None:
    link = var / "releases" / "current"
    followed(
        var,
        (lambda: durable.point(link, "one"), lambda watcher: release_in_use(watcher) == ("one", False)),
        (lambda: durable.point(link, "broken"), lambda watcher: release_in_use(watcher) == ("one", True)),
        (lambda: (var / HIDDEN).write_text("movie+0+2000"), lambda watcher: answer_to(watcher).startswith(names(1))),
        (lambda: durable.point(link, "two"), lambda watcher: release_in_use(watcher) == ("two", False)),
        (lambda: (var / HIDDEN).unlink(), lambda watcher: answer_to(watcher).startswith(names(1, 2))),
        (link.unlink, lambda watcher: release_in_use(watcher) == ("two", True)),
        (lambda: durable.point(link, "three"), lambda watcher: answer_to(watcher).startswith(names(3))),
    )


@pytest.mark.parametrize("change", CONTRADICTIONS)
def test_it_goes_on_following_after_a_release_that_contradicts_itself(
    var: Path, change: Callable[[Path], None]
) -> None:
    link, folder = var / "releases" / "current", write_release(var / "releases", "wrong")
    change(folder)
    seal(folder)
    followed(
        var,
        (lambda: durable.point(link, "one"), lambda watcher: release_in_use(watcher) == ("one", False)),
        (lambda: durable.point(link, "wrong"), lambda watcher: release_in_use(watcher) == ("one", True)),
        (lambda: durable.point(link, "two"), lambda watcher: release_in_use(watcher) == ("two", False)),
    )


def test_a_worker_shows_swaps_refusals_and_what_is_hidden_to_who_asks(var: Path) -> None:
    link = var / "releases" / "current"
    durable.point(link, "one")
    with serving(var) as worker:
        worker.until_status(lambda status: status.release == "one")
        durable.point(link, "two")
        worker.until_status(lambda status: (status.release, status.refused) == ("two", None))
        assert worker.get("/recommend/1").headers["x-marquee-release"] == "two"
        durable.point(link, "broken")
        status = worker.until_status(lambda status: status.refused is not None)
        assert (status.ready, status.release) == (True, "two")
        assert "lists.npy" in str(status.refused)
        assert worker.get("/recommend/1").body.startswith(names(1, 2))
        durable.point(link, "one")
        worker.until_status(lambda status: (status.release, status.refused) == ("one", None))
        link.unlink()
        assert worker.until_status(lambda status: "gone" in str(status.refused)).ready
        assert worker.get("/recommend/1").body.startswith(names(0, 1))
        durable.point(link, "three")
        worker.until_status(lambda status: status.release == "three")
        (var / HIDDEN).write_text("movie+3+2000\n")
        worker.get_until("/recommend/1", lambda told: told.body.startswith(names(4, 5)))
        (var / HIDDEN).unlink()
        worker.get_until("/recommend/1", lambda told: told.body.startswith(names(3, 4)))


def test_an_old_release_is_let_go_beside_the_loop(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To unmap it takes milliseconds, in which the loop would answer nobody."""
    threads: list[threading.Thread] = []

    class Watched(Answers):
        def __del__(self) -> None:
            threads.append(threading.current_thread())

    monkeypatch.setattr(release_watcher, "Answers", Watched)
    gc.disable()
    try:
        watcher = ReleaseWatcher(var)
        move_current(watcher, var, "one")
        move_current(watcher, var, "two")
        until(lambda: threads)
    finally:
        gc.enable()
    assert threading.main_thread() not in threads


def test_the_source_of_an_answer_is_told(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    assert watcher.answers is not None
    told = {user: SOURCES[watcher.answers.find(user)[1]] for user in (1, 5, 9, 11, 12)}
    assert told == {1: "personal", 5: "personal", 9: "segment", 11: "popular", 12: "popular"}
