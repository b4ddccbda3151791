"""A release watcher on a few small releases: what it answers from, and moves of `current` that it follows."""

from pathlib import Path

from server.release_watcher import ReleaseWatcher
from tests.server.sample_releases import point_current, write_release


def write_releases(var: Path) -> None:
    """Three whole releases and a broken one; user 1's list begins with movie 0, 1 and 3."""
    for number, name in enumerate(("one", "two", "broken", "three")):
        write_release(var / "releases", name, shift=number)
    (var / "releases" / "broken" / "lists.npy").write_bytes(b"half")


def release_in_use(watcher: ReleaseWatcher) -> tuple[str | None, bool]:
    """The release that answers, and whether one was refused."""
    return watcher.answers.release.id if watcher.answers else None, watcher.refused is not None


def move_current(watcher: ReleaseWatcher, var: Path, name: str) -> tuple[str | None, bool]:
    """The same after `current` was moved to a release."""
    point_current(var, name)
    watcher.check_now()
    return release_in_use(watcher)


def answer_to(watcher: ReleaseWatcher, user: int = 1) -> str:
    """The movies that a user is answered, as they are sent."""
    assert watcher.answers is not None
    return watcher.answers.find(user)[0].decode()
