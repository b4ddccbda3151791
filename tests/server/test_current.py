"""Which release answers: the new one when it is whole, the old one for as long as it is not."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from server.current import Current
from stream import durable

WriteRelease = Callable[..., Path]


@pytest.fixture
def releases(write_release: WriteRelease, tmp_path: Path) -> Path:
    for number, name in enumerate(("one", "two", "broken", "three")):
        write_release(tmp_path, name, shift=number)
    (tmp_path / "broken" / "lists.npy").write_bytes(b"half")
    return tmp_path


def turned(current: Current, releases: Path, name: str) -> tuple[str | None, bool]:
    """The release that answers after `current` was moved, and whether one was refused."""
    durable.point(releases / "current", name)
    current.look()
    return current.release.id if current.release else None, current.refused is not None


def test_without_a_release_there_is_none_and_nothing_was_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        current = Current(folder)
        current.look()
        assert (current.release, current.refused) == (None, None)


def test_the_release_follows_the_link_forward_and_back(releases: Path) -> None:
    current = Current(releases)
    assert [turned(current, releases, name) for name in ("one", "two", "one")] == [
        ("one", False), ("two", False), ("one", False),
    ]  # fmt: skip


def test_a_bad_release_leaves_the_old_one_and_the_next_good_one_is_taken(releases: Path) -> None:
    current = Current(releases)
    assert turned(current, releases, "one") == ("one", False)
    assert turned(current, releases, "broken") == ("one", True)
    assert "lists.npy" in str(current.refused)
    assert turned(current, releases, "three") == ("three", False)


def test_a_bad_first_release_is_refused_until_a_good_one_comes(releases: Path) -> None:
    current = Current(releases)
    assert turned(current, releases, "broken") == (None, True)
    assert turned(current, releases, "not there") == (None, True)
    assert turned(current, releases, "two") == ("two", False)


def test_going_back_from_a_bad_release_is_no_refusal_any_more(releases: Path) -> None:
    current = Current(releases)
    turned(current, releases, "one")
    turned(current, releases, "broken")
    assert turned(current, releases, "one") == ("one", False)


def test_a_link_that_is_gone_leaves_the_release(releases: Path) -> None:
    current = Current(releases)
    turned(current, releases, "one")
    (releases / "current").unlink()
    current.look()
    assert current.release is not None
    assert "gone" in str(current.refused)
    assert turned(current, releases, "one") == ("one", False)


def test_the_same_link_is_not_opened_again(releases: Path) -> None:
    current = Current(releases)
    turned(current, releases, "one")
    before = current.release
    current.look()
    assert current.release is before


def test_a_release_whose_files_are_removed_still_answers(releases: Path) -> None:
    current = Current(releases)
    turned(current, releases, "one")
    for path in (releases / "one").iterdir():
        path.unlink()
    assert current.release is not None
    assert current.release.answer(1)[1] == "personal"


def test_it_follows_by_itself(releases: Path) -> None:
    async def follow() -> None:
        current = Current(releases)
        task = asyncio.create_task(current.follow(0.005))
        for name in ("one", "broken", "two"):
            durable.point(releases / "current", name)
            async with asyncio.timeout(10):
                while (current.release and current.release.id) != name and not (name == "broken" and current.refused):
                    await asyncio.sleep(0.005)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(follow())
