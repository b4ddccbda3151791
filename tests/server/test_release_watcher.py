"""Which release answers, and without which movies: the new one when it is whole, until then the old one."""

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from server import release_watcher as current_module
from server.answers import SOURCES, Answers
from server.hidden import HIDDEN
from server.release_watcher import ReleaseWatcher
from stream import durable
from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import MOVIES, names, seal, write_release
from tests.server.worker_processes import serving


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """Three whole releases and a broken one; user 1's list begins with movie 0, 1 and 3."""
    for number, name in enumerate(("one", "two", "broken", "three")):
        write_release(tmp_path / "releases", name, shift=number)
    (tmp_path / "releases" / "broken" / "lists.npy").write_bytes(b"half")
    return tmp_path


def used(current: ReleaseWatcher) -> tuple[str | None, bool]:
    """The release that answers, and whether one was refused."""
    return current.answers.release.id if current.answers else None, current.refused is not None


def turned(current: ReleaseWatcher, var: Path, name: str) -> tuple[str | None, bool]:
    """The same after `current` was moved."""
    durable.point(var / "releases" / "current", name)
    current.check_now()
    return used(current)


def answer(current: ReleaseWatcher, user: int = 1) -> str:
    assert current.answers is not None
    return current.answers.find(user)[0].decode()


def test_without_a_release_there_is_none_and_nothing_was_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        current = ReleaseWatcher(folder)
        current.check_now()
        assert used(current) == (None, False)


def test_the_release_follows_the_link_forward_and_back(var: Path) -> None:
    current = ReleaseWatcher(var)
    assert [turned(current, var, name) for name in ("one", "two", "one")] == [
        ("one", False), ("two", False), ("one", False),
    ]  # fmt: skip
    assert current.swaps == {"taken": 3, "refused": 0, "last_good": 0}


def test_a_bad_release_leaves_the_old_one_and_the_next_good_one_is_taken(var: Path) -> None:
    current = ReleaseWatcher(var)
    assert turned(current, var, "one") == ("one", False)
    assert turned(current, var, "broken") == ("one", True)
    assert "lists.npy" in str(current.refused)
    assert turned(current, var, "three") == ("three", False)
    assert current.swaps == {"taken": 2, "refused": 1, "last_good": 0}


def test_a_bad_first_release_is_refused_until_a_good_one_comes(var: Path) -> None:
    current = ReleaseWatcher(var)
    assert turned(current, var, "broken") == (None, True)
    assert turned(current, var, "not there") == (None, True)
    assert turned(current, var, "two") == ("two", False)


def test_going_back_from_a_bad_release_is_no_refusal_any_more(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    turned(current, var, "broken")
    assert turned(current, var, "one") == ("one", False)


def test_a_link_that_is_gone_leaves_the_release(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    (var / "releases" / "current").unlink()
    current.check_now()
    assert used(current) == ("one", True)
    assert "gone" in str(current.refused)
    assert turned(current, var, "one") == ("one", False)


def test_a_link_that_is_a_folder_or_a_file_is_none(var: Path) -> None:
    current, link = ReleaseWatcher(var), var / "releases" / "current"
    turned(current, var, "one")
    link.unlink()
    link.mkdir()
    current.check_now()
    assert used(current) == ("one", True)
    link.rmdir()
    link.write_text("two")
    current.check_now()
    assert used(current) == ("one", True)


def test_the_same_link_is_not_opened_again(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    before = current.answers
    current.check_now()
    assert current.answers is before


def test_a_release_whose_files_are_removed_still_answers(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    for path in (var / "releases" / "one").iterdir():
        path.unlink()
    current.check_now()
    assert answer(current) == names(*range(20))
    assert current.answers is not None
    assert current.answers.similar("movie+3+2000", 5)


def test_a_release_that_contradicts_itself_is_refused_whatever_the_contradiction(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    for number, change in enumerate(CONTRADICTIONS):
        folder = write_release(var / "releases", f"wrong-{number}")
        change(folder)
        seal(folder)
        assert turned(current, var, folder.name) == ("one", True)


def gapped(folder: Path) -> None:
    lists = np.load(folder / "lists.npy")
    lists[:, 5] = 65_535
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


@contextmanager
def hiding(var: Path, text: str | bytes) -> Iterator[None]:
    path = var / HIDDEN
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    yield
    path.unlink()


def test_what_is_hidden_is_in_no_answer_until_it_is_not_hidden_any_more(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    with hiding(var, "movie+0+2000\nmovie+1+2000\n"):
        current.check_now()
        # user 1 is of segment 1, whose list goes from 5 to 24
        assert answer(current) == names(*range(2, 20), 20, 21)
    current.check_now()
    assert answer(current) == names(*range(20))


def test_what_is_hidden_stays_so_in_the_next_release(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    with hiding(var, "movie+1+2000\n"):
        turned(current, var, "two")
        assert answer(current).startswith(names(2, 3))
        turned(current, var, "one")
        assert answer(current).startswith(names(0, 2))


def test_what_is_hidden_before_the_first_release_is_hidden_in_it(var: Path) -> None:
    current = ReleaseWatcher(var)
    with hiding(var, "movie+0+2000"):
        current.check_now()
        turned(current, var, "one")
        assert answer(current).startswith(names(1, 2))


def test_hiding_something_opens_no_release_anew(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    assert current.answers is not None
    release = current.answers.release
    with hiding(var, "movie+1+2000"):
        current.check_now()
        assert current.answers.release is release
    assert current.swaps == {"taken": 1, "refused": 0, "last_good": 0}


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("", set()),
        ("\n\n \n", set()),
        ("# movie+0+2000\n", set()),
        ("movie+0+2000 # gone by Friday\n", {"movie+0+2000"}),
        ("  movie+0+2000\t\r\nmovie+1+2000\r\n", {"movie+0+2000", "movie+1+2000"}),
        ("movie+0+2000\nmovie+0+2000", {"movie+0+2000"}),
        (b"\xef\xbb\xbfmovie+0+2000\n", {"movie+0+2000"}),
        ("ä+1999\nnever+heard+of+2001\nmovie+0+2000", {"ä+1999", "never+heard+of+2001", "movie+0+2000"}),
        (b"\xff\xfe\x00\nmovie+0+2000\n", {"��", "movie+0+2000"}),
        (bytes(range(256)) * 3, None),
        ("\n".join(f"other+{number}+1999" for number in range(100_000)) + "\nmovie+0+2000", None),
        ("x" * 3_000_000, None),
    ],
    ids=[
        "empty", "blank", "remark", "remark behind", "blanks", "twice", "byte order mark", "unknown", "not text",
        "binary", "many lines", "one long line",
    ],
)  # fmt: skip
def test_a_movie_a_line_is_hidden_and_nothing_else_does_harm(
    var: Path, text: str | bytes, hidden: set[str] | None
) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    with hiding(var, text):
        current.check_now()
        assert current.answers is not None
        if hidden is not None:
            assert current.answers.hidden == hidden
            assert hidden.isdisjoint(answer(current).split(","))
        assert used(current) == ("one", False)
    current.check_now()
    assert current.answers.hidden == frozenset()


def test_where_what_is_hidden_cannot_be_read_it_stays_as_it_was(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    with hiding(var, "movie+1+2000"):
        current.check_now()
    (var / HIDDEN).mkdir()
    current.check_now()
    assert answer(current).startswith(names(0, 2))
    turned(current, var, "two")
    assert answer(current).startswith(names(2, 3))
    (var / HIDDEN).rmdir()
    current.check_now()
    assert answer(current).startswith(names(1, 2))


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_read_again(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    path = var / HIDDEN
    path.write_text("movie+0+2000")
    os.utime(path, ns=(1, 1))
    current.check_now()
    (var / "other").write_text("movie+1+2000")
    os.utime(var / "other", ns=(1, 1))
    (var / "other").replace(path)
    current.check_now()
    assert answer(current).startswith(names(0, 2))


def test_where_everything_is_hidden_nothing_answers_until_something_is_not(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    with hiding(var, "\n".join(MOVIES)):
        current.check_now()
        assert current.answers is None or current.answers.empty
    current.check_now()
    assert answer(current) == names(*range(20))


def test_a_release_that_came_while_everything_was_hidden_answers_once_something_is_not(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    with hiding(var, "\n".join(MOVIES)):
        turned(current, var, "two")
    current.check_now()
    assert used(current) == ("two", False)
    assert answer(current).startswith(names(1, 2))


def test_a_worker_that_starts_while_everything_is_hidden_answers_once_something_is_not(var: Path) -> None:
    current = ReleaseWatcher(var)
    with hiding(var, "\n".join(MOVIES)):
        turned(current, var, "one")
    current.check_now()
    assert used(current) == ("one", False)


def followed(var: Path, *steps: tuple[Callable[[], object], Callable[[ReleaseWatcher], bool]]) -> None:
    """Do each first thing and wait for what must follow, while `current` is followed."""

    async def follow() -> None:
        current = ReleaseWatcher(var)
        task = asyncio.create_task(current.follow(0.005))
        for do, holds in steps:
            do()
            async with asyncio.timeout(DEADLINE_S):
                while not holds(current):
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
        (lambda: durable.point(link, "one"), lambda current: used(current) == ("one", False)),
        (lambda: durable.point(link, "broken"), lambda current: used(current) == ("one", True)),
        (lambda: (var / HIDDEN).write_text("movie+0+2000"), lambda current: answer(current).startswith(names(1))),
        (lambda: durable.point(link, "two"), lambda current: used(current) == ("two", False)),
        (lambda: (var / HIDDEN).unlink(), lambda current: answer(current).startswith(names(1, 2))),
        (link.unlink, lambda current: used(current) == ("two", True)),
        (lambda: durable.point(link, "three"), lambda current: answer(current).startswith(names(3))),
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
        (lambda: durable.point(link, "one"), lambda current: used(current) == ("one", False)),
        (lambda: durable.point(link, "wrong"), lambda current: used(current) == ("one", True)),
        (lambda: durable.point(link, "two"), lambda current: used(current) == ("two", False)),
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

    monkeypatch.setattr(current_module, "Answers", Watched)
    gc.disable()
    try:
        current = ReleaseWatcher(var)
        turned(current, var, "one")
        turned(current, var, "two")
        until(lambda: threads)
    finally:
        gc.enable()
    assert threading.main_thread() not in threads


def test_the_source_of_an_answer_is_told(var: Path) -> None:
    current = ReleaseWatcher(var)
    turned(current, var, "one")
    assert current.answers is not None
    told = {user: SOURCES[current.answers.find(user)[1]] for user in (1, 5, 9, 11, 12)}
    assert told == {1: "personal", 5: "personal", 9: "segment", 11: "popular", 12: "popular"}
