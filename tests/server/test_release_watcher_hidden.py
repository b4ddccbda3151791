"""Which movies a worker hides: changes of `hidden.txt` apply to the release in use and to the next ones."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.hidden import HIDDEN
from server.release_watcher import ReleaseWatcher
from tests.server.sample_releases import MOVIES, names
from tests.server.watched_releases import answer_to, move_current, release_in_use, write_releases


@pytest.fixture
def var(tmp_path: Path) -> Path:
    write_releases(tmp_path)
    return tmp_path


@contextmanager
def hiding(var: Path, text: str | bytes) -> Iterator[None]:
    path = var / HIDDEN
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    yield
    path.unlink()


def test_what_is_hidden_is_in_no_answer_until_it_is_not_hidden_any_more(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    with hiding(var, "movie+0+2000\nmovie+1+2000\n"):
        watcher.check_now()
        # user 1 is of segment 1, whose list goes from 5 to 24
        assert answer_to(watcher) == names(*range(2, 20), 20, 21)
    watcher.check_now()
    assert answer_to(watcher) == names(*range(20))


def test_what_is_hidden_stays_so_in_the_next_release(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    with hiding(var, "movie+1+2000\n"):
        move_current(watcher, var, "two")
        assert answer_to(watcher).startswith(names(2, 3))
        move_current(watcher, var, "one")
        assert answer_to(watcher).startswith(names(0, 2))


def test_what_is_hidden_before_the_first_release_is_hidden_in_it(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    with hiding(var, "movie+0+2000"):
        watcher.check_now()
        move_current(watcher, var, "one")
        assert answer_to(watcher).startswith(names(1, 2))


def test_hiding_something_opens_no_release_anew(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    assert watcher.answers is not None
    release = watcher.answers.release
    with hiding(var, "movie+1+2000"):
        watcher.check_now()
        assert watcher.answers.release is release
    assert watcher.swaps == {"taken": 1, "refused": 0, "last_good": 0}


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
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    with hiding(var, text):
        watcher.check_now()
        assert watcher.answers is not None
        if hidden is not None:
            assert watcher.answers.hidden == hidden
            assert hidden.isdisjoint(answer_to(watcher).split(","))
        assert release_in_use(watcher) == ("one", False)
    watcher.check_now()
    assert watcher.answers.hidden == frozenset()


def test_where_what_is_hidden_cannot_be_read_it_stays_as_it_was(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    with hiding(var, "movie+1+2000"):
        watcher.check_now()
    (var / HIDDEN).mkdir()
    watcher.check_now()
    assert answer_to(watcher).startswith(names(0, 2))
    move_current(watcher, var, "two")
    assert answer_to(watcher).startswith(names(2, 3))
    (var / HIDDEN).rmdir()
    watcher.check_now()
    assert answer_to(watcher).startswith(names(1, 2))


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_read_again(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    path = var / HIDDEN
    path.write_text("movie+0+2000")
    os.utime(path, ns=(1, 1))
    watcher.check_now()
    (var / "other").write_text("movie+1+2000")
    os.utime(var / "other", ns=(1, 1))
    (var / "other").replace(path)
    watcher.check_now()
    assert answer_to(watcher).startswith(names(0, 2))


def test_where_everything_is_hidden_nothing_answers_until_something_is_not(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    with hiding(var, "\n".join(MOVIES)):
        watcher.check_now()
        assert watcher.answers is None or watcher.answers.empty
    watcher.check_now()
    assert answer_to(watcher) == names(*range(20))


def test_a_release_that_came_while_everything_was_hidden_answers_once_something_is_not(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    move_current(watcher, var, "one")
    with hiding(var, "\n".join(MOVIES)):
        move_current(watcher, var, "two")
    watcher.check_now()
    assert release_in_use(watcher) == ("two", False)
    assert answer_to(watcher).startswith(names(1, 2))


def test_a_worker_that_starts_while_everything_is_hidden_answers_once_something_is_not(var: Path) -> None:
    watcher = ReleaseWatcher(var)
    with hiding(var, "\n".join(MOVIES)):
        move_current(watcher, var, "one")
    watcher.check_now()
    assert release_in_use(watcher) == ("one", False)
