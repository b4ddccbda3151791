"""Publishing: a release is whole and immutable, `current` moves in one step, and what is current is never removed."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch import publish, rendered
from server.release import FILES, RENDERED, Release

WriteCandidate = Callable[..., Path]


@pytest.fixture
def candidate(write_candidate: WriteCandidate, tmp_path: Path) -> Path:
    return write_candidate(tmp_path / "night")


def release_names(var: Path) -> list[str]:
    """Folders of releases; what was verified is noted in a hidden one."""
    folders = [path for path in (var / "releases").iterdir() if path.is_dir() and not path.is_symlink()]
    return sorted(path.name for path in folders if path.name != ".verified")


def test_a_release_is_what_the_server_opens(tmp_path: Path, candidate: Path) -> None:
    name = publish.publish(tmp_path, candidate, {"model": {"lists": "als"}}, 123)
    release = Release.open(tmp_path / "releases" / name)
    assert release.id == name
    assert release.manifest["stream_time"] == 123
    assert release.manifest["model"] == {"lists": "als"}
    assert set(release.manifest["versions"]) >= {"commit", "numpy", "implicit", "annoy", "sanic"}
    assert {path.name for path in (tmp_path / "releases" / name).iterdir()} == {*FILES, "manifest.json"}
    assert (tmp_path / "releases" / name / "lists.npy").read_bytes() == (candidate / "lists.npy").read_bytes()


def test_a_release_with_its_answers_as_text_is_what_the_server_opens(tmp_path: Path, candidate: Path) -> None:
    lists, movies = np.load(candidate / "lists.npy"), (candidate / "movies.txt").read_text().splitlines()
    rendered.write(candidate, lists, movies, 65_535)
    name = publish.publish(tmp_path, candidate, {}, 1)
    assert {path.name for path in (tmp_path / "releases" / name).iterdir()} == {*FILES, *RENDERED, "manifest.json"}
    release = Release.open(tmp_path / "releases" / name)
    assert set(release.manifest["files"]) == {*FILES, *RENDERED}
    assert release.rendered is not None


def test_a_release_with_texts_has_another_name_than_one_without(tmp_path: Path, candidate: Path) -> None:
    without = publish.publish(tmp_path, candidate, {}, 1)
    rendered.write(candidate, np.load(candidate / "lists.npy"), ["a+2000"] * 60, 65_535)
    assert publish.publish(tmp_path, candidate, {}, 1).partition("-")[2] != without.partition("-")[2]


def test_what_is_no_release_is_never_removed(tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    for name in ("20300101T000000Z-00000000", "20300102T000000Z-00000000"):
        (releases / name).mkdir(parents=True)
        (releases / name / "manifest.json").write_bytes(b"{}")
    for name in (".verified", ".20300101T000000Z-00000000.7.tmp", "notes"):  # the second is what a crash left
        (releases / name).mkdir()
    assert publish.prune(tmp_path, 1) == ["20300101T000000Z-00000000"]
    assert {path.name for path in releases.iterdir()} == {
        ".verified", "notes", "20300102T000000Z-00000000",
    }  # fmt: skip


def test_publishing_is_not_yet_making_current(tmp_path: Path, candidate: Path) -> None:
    publish.publish(tmp_path, candidate, {}, 1)
    assert publish.current(tmp_path) is None
    assert publish.history(tmp_path) == []


def test_a_release_stays_as_it_is_whatever_happens_to_its_candidate(tmp_path: Path, candidate: Path) -> None:
    name = publish.publish(tmp_path, candidate, {}, 1)
    np.save(candidate / "lists.npy", np.zeros((1, 20), np.uint16))
    (candidate / "movies.txt").write_text("other+1999\n")
    assert len(Release.open(tmp_path / "releases" / name).users) == 150


def test_other_contents_get_another_name_and_the_same_are_not_written_twice(tmp_path: Path, candidate: Path) -> None:
    one = publish.publish(tmp_path, candidate, {}, 1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "releases" / one).iterdir()}
    again = publish.publish(tmp_path, candidate, {}, 1)
    (candidate / "evaluation.json").write_bytes(b"[]")
    other = publish.publish(tmp_path, candidate, {}, 1)
    assert again.partition("-")[2] == one.partition("-")[2] != other.partition("-")[2]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "releases" / one).iterdir()} == before
    assert len(release_names(tmp_path)) == len({one, again, other})


@pytest.mark.parametrize("name", FILES)
def test_a_candidate_that_lacks_a_file_leaves_nothing_behind(tmp_path: Path, candidate: Path, name: str) -> None:
    (candidate / name).unlink()
    with pytest.raises(Exception, match=name):
        publish.publish(tmp_path, candidate, {}, 1)
    assert not (tmp_path / "releases").exists() or release_names(tmp_path) == []


def test_the_leftover_of_a_crash_is_replaced(tmp_path: Path, candidate: Path) -> None:
    name = publish.publish(tmp_path, candidate, {}, 1)
    (tmp_path / "releases" / f".{name}.{os.getpid()}.tmp" / "half").mkdir(parents=True)
    again = publish.publish(tmp_path, candidate, {}, 1)
    assert Release.open(tmp_path / "releases" / again).id == again


def test_current_moves_and_the_history_remembers_every_move(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    for time, name in enumerate(("one", "two", "one")):
        publish.make_current(tmp_path, name, 1000 + time)
        assert publish.current(tmp_path) == tmp_path / "releases" / name
    moves = publish.history(tmp_path)
    assert [(move["release"], move["stream_time"]) for move in moves] == [("one", 1000), ("two", 1001), ("one", 1002)]
    assert str((tmp_path / "releases" / "current").readlink()) == "one"


def test_a_current_that_points_nowhere_is_none(tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "current").symlink_to("gone")
    assert publish.current(tmp_path) is None


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(-1, 6))
def test_pruning_keeps_the_newest_and_the_current_one(
    tmp_path_factory: pytest.TempPathFactory, count: int, keep: int, current: int
) -> None:
    var = tmp_path_factory.mktemp("var")
    names = [f"2030010{number}T000000Z-00000000" for number in range(count)]
    for name in names:
        (var / "releases" / name).mkdir(parents=True)
        (var / "releases" / name / "manifest.json").write_bytes(b"{}")
    (var / "releases" / ".verified").mkdir()
    for name in names:
        (var / "releases" / ".verified" / f"{name}.json").write_bytes(b"[]")
    if 0 <= current < count:
        publish.make_current(var, names[current], 1)
    removed = publish.prune(var, keep)
    kept = {*names[-keep:], *names[current : current + 1]} if 0 <= current < count else {*names[-keep:]}
    assert set(release_names(var)) == kept
    assert set(removed) == set(names) - kept
    assert {path.stem for path in (var / "releases" / ".verified").iterdir()} == kept
    assert publish.current(var) == (var / "releases" / names[current] if 0 <= current < count else None)


def test_the_commit_of_the_program_can_be_told_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_COMMIT", "abc123")
    assert publish.versions()["commit"] == "abc123"
    monkeypatch.delenv("MARQUEE_COMMIT")
    monkeypatch.setenv("PATH", "")
    assert publish.versions()["commit"] is None
