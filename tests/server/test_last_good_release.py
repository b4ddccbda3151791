"""A worker that starts while `current` is bad answers from the last good release."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from server.good_releases import LAST_GOOD, good_releases, note_good
from server.release_watcher import ReleaseWatcher
from tests.polling import until
from tests.server.sample_releases import names, point_current, seal, write_release
from tests.server.scraped_metrics import scraped
from tests.server.worker_processes import HOST, BackgroundLoad, serving, started


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """Three good releases and a broken one; the list of user 1 begins with movie 0, 1 and 3."""
    var = tmp_path / "var"
    for number, name in enumerate(("one", "two", "broken", "three")):
        write_release(var / "releases", name, shift=number)
    (var / "releases" / "broken" / "lists.npy").write_bytes(b"half")
    return var


def worked(var: Path, *targets: str) -> None:
    """Let a worker use releases one after the other."""
    current = ReleaseWatcher(var)
    for name in targets:
        point_current(var, name)
        current.check_now()


def answering(current: ReleaseWatcher) -> tuple[str | None, bool, bool]:
    """The release in use, whether it is the last good one in place of another, and whether one was refused."""
    status = current.status()
    return status.release, status.fallback, status.refused is not None


# Notes


@pytest.mark.parametrize(
    ("taken", "noted"),
    [
        (["one"], ["one"]),
        (["one", "two"], ["two", "one"]),
        (["one", "two", "three"], ["three", "two"]),
        (["one", "two", "broken"], ["two", "one"]),
        (["one", "two", "one"], ["one"]),
        (["one", "two", "two"], ["two", "one"]),
        (["broken"], []),
        (["broken", "three"], ["three"]),
    ],
)
def test_used_releases_are_noted_but_not_those_that_were_rolled_back(
    var: Path, taken: list[str], noted: list[str]
) -> None:
    worked(var, *taken)
    assert good_releases(var / "releases") == noted


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"releases": "one"}', b'{"releases": [7]}', b"\xff", None])
def test_a_note_that_is_garbled_is_none_and_is_written_anew(var: Path, garbage: bytes | None) -> None:
    path = var / "releases" / LAST_GOOD
    if garbage is None:
        os.mkfifo(path)
    else:
        path.write_bytes(garbage)
    assert good_releases(var / "releases") == []
    worked(var, "two")
    assert good_releases(var / "releases") == ["two"]


# Starting


def removed(var: Path) -> None:
    (var / "releases" / "current").unlink()


def to_broken(var: Path) -> None:
    point_current(var, "broken")


def to_nothing(var: Path) -> None:
    point_current(var, "not+there")


def to_pipe(var: Path) -> None:
    (var / "releases" / "new").mkdir()
    os.mkfifo(var / "releases" / "new" / "manifest.json")
    point_current(var, "new")


BAD = [removed, to_broken, to_nothing, to_pipe]


@pytest.mark.parametrize("spoil", BAD)
def test_a_worker_starts_from_the_last_good_release_and_says_so(var: Path, spoil: Callable[[Path], None]) -> None:
    worked(var, "one", "two")
    spoil(var)
    current = ReleaseWatcher(var)
    current.check_now()
    assert answering(current) == ("two", True, True)
    assert current.swaps == {"taken": 0, "refused": 1, "last_good": 1}
    assert "two answers; it is the last good one, current was refused: " in current.status().detail()
    assert good_releases(var / "releases") == ["two", "one"]
    point_current(var, "three")
    current.check_now()
    assert answering(current) == ("three", False, False)
    assert current.status().detail() == "three answers"
    assert good_releases(var / "releases") == ["three", "two"]


def test_the_one_before_is_tried_where_the_last_good_one_is_damaged_as_well(var: Path) -> None:
    worked(var, "one", "two")
    (var / "releases" / "two" / "users.npy").write_bytes(b"half")
    point_current(var, "broken")
    current = ReleaseWatcher(var)
    current.check_now()
    assert answering(current) == ("one", True, True)


def test_where_no_good_one_is_left_nothing_answers_until_one_is(var: Path) -> None:
    worked(var, "one")
    for name in ("one", "broken"):
        (var / "releases" / name / "users.npy").write_bytes(b"half")
    point_current(var, "broken")
    current = ReleaseWatcher(var)
    current.check_now()
    assert answering(current) == (None, False, True)
    point_current(var, "three")
    current.check_now()
    assert answering(current) == ("three", False, False)


def test_a_release_that_is_mended_is_taken_in_place_of_the_last_good_one(var: Path) -> None:
    worked(var, "one")
    point_current(var, "broken")
    current = ReleaseWatcher(var)
    current.check_now()
    write_release(var / "made", "broken", shift=2)
    (var / "made" / "broken" / "lists.npy").replace(var / "releases" / "broken" / "lists.npy")
    seal(var / "releases" / "broken")
    current._again_at = 0.0  # as if seconds had passed
    current.check_now()
    assert answering(current) == ("broken", False, False)


def test_a_worker_that_keeps_its_release_does_not_call_it_the_last_good_one(var: Path) -> None:
    current = ReleaseWatcher(var)
    for name in ("one", "broken"):
        point_current(var, name)
        current.check_now()
    assert answering(current) == ("one", False, True)
    assert current.status().detail().startswith("one answers; a newer one was refused: ")


def test_noting_the_same_again_writes_nothing(var: Path) -> None:
    note_good(var / "releases", "one")
    before = (var / "releases" / LAST_GOOD).stat().st_ino
    note_good(var / "releases", "one")
    assert (var / "releases" / LAST_GOOD).stat().st_ino == before


def test_no_request_fails_while_a_worker_starts_beside_another_and_current_is_bad(tmp_path: Path, var: Path) -> None:
    """Two workers on one socket; one is killed, and its successor starts while `current` is bad."""
    point_current(var, "one")
    with socket.create_server((HOST, 0), backlog=4096) as listener:
        workers = [started(listener, var, tmp_path / f"{number}.log") for number in range(2)]
        try:
            for worker in workers:
                until(lambda worker=worker: "serves" in worker.text())  # type: ignore[misc]
            point_current(var, "broken")
            until(lambda: all("release refused" in worker.text() for worker in workers))
            workers[0].process.send_signal(signal.SIGTERM)
            workers[0].ends()
            workers.append(started(listener, var, tmp_path / "2.log"))
            until(lambda: "serves" in workers[2].text())
            assert "is the last good release, current was refused" in workers[2].text()
            with BackgroundLoad(listener.getsockname()[1], 20) as load:
                load.goes_on(2000)
            assert not load.failed
            assert set(load.seen) == {(200, "one", names(*range(20)))}
            until(lambda: scraped(workers[2])["marquee_last_good_workers", ""] == 1)
            assert scraped(workers[2])["marquee_swaps_total", "last_good"] == 1
        finally:
            for worker in workers:
                worker.kill()


def test_a_worker_tells_of_the_last_good_release_in_readiness(var: Path) -> None:
    worked(var, "one")
    point_current(var, "broken")
    with serving(var) as worker:
        assert worker.get("/readyz").status == 200
        worker.until_detail(lambda detail: detail.startswith("one answers; it is the last good one"))
        assert worker.get("/recommend/1").headers["x-marquee-release"] == "one"
