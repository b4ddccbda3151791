"""A release whose files are modified while it answers: no client is cut off, and the damage is found and counted."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from server.answers import SOURCES
from server.hidden import HIDDEN
from server.release import Release
from server.release_watcher import ReleaseWatcher
from tests.polling import until
from tests.server.sample_releases import names, point_current, seal, write_release
from tests.server.scraped_metrics import scraped
from tests.server.worker_processes import HOST, BackgroundLoad, Ended, Wire, detail_of, serving, started

POPULAR = names(*range(20))


@pytest.fixture(params=[False, True], ids=["compact", "rendered"])
def var(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Two good releases, `one` and `two`; the list of user 1 begins with movie 0 in one, 3 in the other."""
    var = tmp_path / "var"
    write_release(var / "releases", "one", text=request.param)
    write_release(var / "releases", "two", shift=3, text=request.param)
    return var


def taking(var: Path, *targets: str) -> ReleaseWatcher:
    current = ReleaseWatcher(var)
    for name in targets:
        point_current(var, name)
        current.check_now()
    return current


def overwrite(path: Path, data: bytes | None = None) -> None:
    """Modify a file in place, as nobody should; by default every byte gets its largest value."""
    with path.open("r+b") as file:
        file.seek(128 if path.suffix == ".npy" else 0)
        file.write(b"\xfe" * (path.stat().st_size - file.tell()) if data is None else data)


def damage(var: Path, name: str) -> None:
    for file in ("lists.npy", "answers.npy"):
        if (var / "releases" / name / file).exists():
            overwrite(var / "releases" / name / file)


def answer(current: ReleaseWatcher, user: int = 1) -> tuple[str, str]:
    assert current.ready is not None
    body, source = current.ready.find(user)
    return body.decode(), SOURCES[source]


@pytest.mark.parametrize("name", ["users.npy", "lists.npy", "segments.npy", "items.ann", "movies.txt", "manifest.json"])
def test_a_file_that_is_written_to_is_found_and_the_last_good_release_answers(var: Path, name: str) -> None:
    current = taking(var, "one", "two")
    overwrite(var / "releases" / "two" / name)
    current.check_now()
    status = current.status()
    assert (status.release, status.fallback, status.damaged) == ("one", True, None)
    assert answer(current) == (POPULAR, "personal")
    assert name in str(status.refused)
    assert current.searchable
    point_current(var, "one")
    current.check_now()
    assert current.status().detail() == "one answers"


def test_a_failed_look_up_is_answered_with_the_popular_list_and_counted(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if no time or size of a file showed the damage."""
    monkeypatch.setattr(Release, "changed_in_place", lambda self: None)
    current = taking(var, "one", "two")
    damage(var, "two")
    if current.answers is not None and current.answers.release.rendered is not None:
        current.answers.release.rendered.texts.close()  # type: ignore[union-attr]
        object.__setattr__(current.answers.release, "rendered", None)  # nobody frees the pages of what is closed
    assert [answer(current)[1] for _ in range(3)] == ["popular"] * 3
    assert current.status().damaged_answers == 3
    current.check_now()
    assert (current.status().release, current.status().fallback) == ("one", True)
    assert current.status().damaged_answers == 3
    assert answer(current) == (POPULAR, "personal")
    assert not (var / "releases" / ".verified" / "two.json").exists()


def test_the_only_release_answers_its_popular_list_until_it_is_mended(var: Path) -> None:
    current = taking(var, "two")
    whole = {path.name: path.read_bytes() for path in (var / "releases" / "two").iterdir()}
    damage(var, "two")
    for _ in range(3):
        current.check_now()
        assert answer(current) == (POPULAR, "popular")
    assert not current.searchable
    status = current.status()
    assert status.ready
    assert "its files are damaged, everyone is answered the popular list: " in status.detail()
    (var / HIDDEN).write_text("movie+0+2000")
    current.check_now()
    assert answer(current)[0].startswith(names(1, 2))
    for name in ("lists.npy", "answers.npy"):
        if name in whole:
            (var / "releases" / "two" / name).write_bytes(whole[name])
    current._again_at = 0.0  # as if seconds had passed
    current.check_now()
    assert current.status().detail() == "two answers"
    assert answer(current)[0].startswith(names(3, 4))


def test_a_last_good_release_that_is_damaged_gives_way_to_a_current_that_was_mended(var: Path) -> None:
    write_release(var / "releases", "broken", shift=5)
    whole = (var / "releases" / "broken" / "lists.npy").read_bytes()
    (var / "releases" / "broken" / "lists.npy").write_bytes(b"half")
    taking(var, "two")
    current = taking(var, "broken")
    assert current.status().fallback
    (var / "releases" / "broken" / "lists.npy").write_bytes(whole)
    damage(var, "two")
    current.check_now()
    assert current.status().detail() == "broken answers"


def test_a_movie_hidden_while_a_release_is_in_doubt_is_hidden_at_once(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = taking(var, "one", "two")
    damage(var, "two")
    monkeypatch.setattr(current, "_recheck_at", float("inf"))  # as if verifying it anew took long
    current.check_now()
    assert answer(current) == (POPULAR, "popular")
    (var / HIDDEN).write_text("movie+0+2000")
    current.check_now()
    assert answer(current)[1] == "popular"
    assert answer(current)[0].startswith(names(1, 2))
    monkeypatch.setattr(current, "_recheck_at", 0.0)
    current.check_now()
    assert current.status().fallback
    assert answer(current)[0].startswith(names(1, 2))


def touched(path: Path) -> None:
    os.utime(path)


def linked(path: Path) -> None:
    (path.parents[2] / "backup").hardlink_to(path)


def replaced(path: Path) -> None:
    (path.parent / "copy").write_bytes(path.read_bytes())
    (path.parent / "copy").replace(path)


@pytest.mark.parametrize("change", [touched, linked, replaced, Path.unlink])
def test_a_release_that_is_still_whole_goes_on_answering(var: Path, change: Callable[[Path], None]) -> None:
    current = taking(var, "one", "two")
    change(var / "releases" / "two" / "lists.npy")
    for step in current._steps():
        if change is not touched:  # after a write anything may be in the file until it is verified
            assert answer(current)[1] == "personal"
        step.apply(step.read(lambda: None))
    assert current.status().detail() == "two answers"
    assert answer(current)[0].startswith(names(3, 4))
    before = current.answers
    current.check_now()
    assert current.answers is before


def test_a_modified_release_cuts_off_no_client(var: Path) -> None:
    point_current(var, "one")
    with serving(var, swap_poll_s=0.3) as worker:
        assert worker.get("/recommend/1").status == 200
        until(lambda: (var / "releases" / "last-good.json").exists())
        point_current(var, "two")
        worker.until_detail(lambda detail: detail == "two answers")
        until(lambda: "two" in (var / "releases" / "last-good.json").read_text())
        with BackgroundLoad(worker.port, 8, ("/recommend/1", "/recommend/9", "/recommend/1?n=5")) as load:
            load.goes_on(200)
            damage(var, "two")
            worker.until_detail(lambda detail: detail.startswith("one answers; it is the last good one"))
            load.goes_on(200)
        assert not load.failed
        assert {status for status, _, _ in load.seen} == {200}
        assert worker.get("/recommend/1").body == POPULAR
        samples = scraped(worker)
        assert samples["marquee_last_good_workers", ""] == 1
        assert samples["marquee_damaged_workers", ""] == 0
        assert "release two is damaged" in worker.text()


def test_wild_numbers_in_a_mapped_list_are_answered_counted_and_found(tmp_path: Path) -> None:
    var = tmp_path / "var"
    write_release(var / "releases", "one")
    point_current(var, "one")
    # it checks too rarely to see the change before the request
    with serving(var, swap_poll_s=5) as worker, worker.wire() as wire:
        assert wire.get("/recommend/1").headers["x-marquee-source"] == "personal"
        overwrite(var / "releases" / "one" / "lists.npy", np.full((5, 20), 60_000, np.uint16).tobytes())
        for path in ("/recommend/1", "/recommend/1?n=20"):
            answer = wire.get(path)
            assert (answer.status, answer.headers["x-marquee-source"], answer.body) == (200, "popular", POPULAR)
        worker.until_detail(lambda detail: "its files are damaged" in detail)
        answer = worker.get("/similar/movie+3+2000")
        assert (answer.status, answer.body) == (503, "not searched just now")
        until(lambda: scraped(worker)["marquee_damaged_workers", ""] == 1)
        assert scraped(worker)["marquee_damaged_answers_total", ""] == 2


def test_a_worker_that_dies_of_a_file_cut_off_starts_again_from_the_last_good_release(
    tmp_path: Path, var: Path
) -> None:
    taking(var, "one", "two")
    with socket.create_server((HOST, 0), backlog=4096) as listener:
        worker = started(listener, var, tmp_path / "1.log", swap_poll_s=600)
        try:
            with Wire(worker.port) as wire:
                assert wire.get("/recommend/1").headers["x-marquee-release"] == "two"
                for name in ("lists.npy", "answers.bin", "answers.npy"):
                    if (path := var / "releases" / "two" / name).exists():
                        os.truncate(path, 0)
                with pytest.raises(Ended):
                    wire.get("/recommend/1")
            assert worker.ends() == -signal.SIGBUS
            worker = started(listener, var, tmp_path / "2.log")
            with Wire(worker.port) as wire:
                assert wire.get("/recommend/1").headers["x-marquee-release"] == "one"
                assert "it is the last good one" in detail_of(var, worker.process.pid)
        finally:
            worker.kill()


def test_a_release_sealed_anew_in_place_is_taken_as_it_is_now(var: Path) -> None:
    current = taking(var, "two")
    lists = np.load(var / "releases" / "two" / "lists.npy")
    if not (var / "releases" / "two" / "answers.npy").exists():
        lists[0] = np.arange(29, 9, -1)
        overwrite(var / "releases" / "two" / "lists.npy", lists.tobytes())
    seal(var / "releases" / "two")
    current.check_now()
    assert current.status().detail() == "two answers"
    assert answer(current)[1] == "personal"
