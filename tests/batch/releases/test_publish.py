"""Publishing: a release is whole and immutable, `current` moves in one step, and what is current is never removed."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.errors import ReleaseError
from batch.releases import publish, rendered
from server.good_releases import note_good
from server.manifest import InputFacts, Manifest, ReleaseModel
from server.release import BASELINE, FILES, RENDERED, Release
from stream import durable
from stream.zone import DAY_MS

WriteCandidate = Callable[..., Path]


@pytest.fixture
def candidate(write_candidate: WriteCandidate, tmp_path: Path) -> Path:
    return write_candidate(tmp_path / "night")


def release_names(var: Path) -> list[str]:
    """Folders of releases; there are others for what is noted of them."""
    folders = [path for path in (var / "releases").iterdir() if path.is_dir() and not path.is_symlink()]
    return sorted(path.name for path in folders if path.name not in (".verified", ".refused", "manifests"))


def test_a_release_is_what_the_server_opens(tmp_path: Path, candidate: Path) -> None:
    name = publish.publish(tmp_path, candidate, Manifest(stream_time=123, model=ReleaseModel(lists="als")))
    release = Release.open(tmp_path / "releases" / name)
    assert release.id == name
    assert release.manifest.stream_time == 123
    assert release.manifest.model.lists == "als"
    versions = release.manifest.versions
    assert versions == publish.versions()
    assert all(getattr(versions, name) for name in versions.__struct_fields__)
    assert all(library.architecture and library.num_threads for library in versions.blas)
    assert {path.name for path in (tmp_path / "releases" / name).iterdir()} == {*FILES, BASELINE, "manifest.json"}
    assert (tmp_path / "releases" / name / "lists.npy").read_bytes() == (candidate / "lists.npy").read_bytes()


def test_workers_do_without_the_baseline(tmp_path: Path, candidate: Path) -> None:
    folder = tmp_path / "releases" / publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    for damage in (b"damaged", None):
        (folder / BASELINE).unlink()
        if damage is not None:
            (folder / BASELINE).write_bytes(damage)
        assert Release.open(folder, trust=False).id == folder.name


def test_a_release_with_its_answers_as_text_is_what_the_server_opens(tmp_path: Path, candidate: Path) -> None:
    lists, movies = np.load(candidate / "lists.npy"), (candidate / "movies.txt").read_text().splitlines()
    rendered.write(candidate, lists, movies, 65_535)
    name = publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    files = {*FILES, BASELINE, *RENDERED}
    assert {path.name for path in (tmp_path / "releases" / name).iterdir()} == {*files, "manifest.json"}
    release = Release.open(tmp_path / "releases" / name)
    assert set(release.manifest.files) == files
    assert release.rendered is not None


def test_a_release_with_texts_has_another_name_than_one_without(tmp_path: Path, candidate: Path) -> None:
    without = publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    rendered.write(candidate, np.load(candidate / "lists.npy"), ["a+2000"] * 60, 65_535)
    assert publish.publish(tmp_path, candidate, Manifest(stream_time=1)).partition("-")[2] != without.partition("-")[2]


def test_folders_that_are_not_releases_are_never_removed(tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    for name in ("20300101T000000Z-00000000", "20300102T000000Z-00000000"):
        (releases / name).mkdir(parents=True)
        (releases / name / "manifest.json").write_bytes(b"{}")
    staged = releases / ".20300103T000000Z-00000000.7.tmp"  # what a crash left: whole, as it may be, or a link
    for folder in (releases / ".verified", staged, releases / "notes"):
        folder.mkdir()
    (staged / "manifest.json").write_bytes(b"{}")
    (releases / ".current.7.tmp").symlink_to("20300102T000000Z-00000000")
    (releases / ".history.jsonl.7.tmp").write_bytes(b"half")
    assert publish.sealed(tmp_path) == ["20300101T000000Z-00000000", "20300102T000000Z-00000000"]
    assert publish.prune(tmp_path, 1) == ["20300101T000000Z-00000000"]
    assert {path.name for path in releases.iterdir()} == {
        ".verified", "manifests", "notes", "20300102T000000Z-00000000",
    }  # fmt: skip


def test_publishing_does_not_move_current(tmp_path: Path, candidate: Path) -> None:
    publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    assert publish.current_release(tmp_path) is None
    assert publish.read_publications(tmp_path) == []


def test_a_release_does_not_change_with_its_candidate(tmp_path: Path, candidate: Path) -> None:
    name = publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    np.save(candidate / "lists.npy", np.zeros((1, 20), np.uint16))
    (candidate / "movies.txt").write_text("other+1999\n")
    assert len(Release.open(tmp_path / "releases" / name).users) == 150


def renamed(var: Path, release: str, name: str) -> str:
    """The same release, as if it had been published at another time."""
    folder = (var / "releases" / release).rename(var / "releases" / name)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    durable.write_json(folder / "manifest.json", manifest | {"id": name})
    return name


def test_other_contents_get_another_id_and_equal_contents_are_written_once(tmp_path: Path, candidate: Path) -> None:
    first = publish.publish(tmp_path, candidate, Manifest(stream_time=1, settings={"a": 1.5}))
    first = renamed(tmp_path, first, f"20200101T000000Z-{first.partition('-')[2]}")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "releases" / first).iterdir()}
    assert publish.publish(tmp_path, candidate, Manifest(stream_time=1, settings={"a": 1.5})) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "releases" / first).iterdir()} == before
    (candidate / "evaluation.json").write_bytes(b"[]")
    other = publish.publish(tmp_path, candidate, Manifest(stream_time=1, settings={"a": 1.5}))
    assert first.partition("-")[2] != other.partition("-")[2]
    assert release_names(tmp_path) == [first, other]


def test_equal_files_with_another_manifest_are_another_release(tmp_path: Path, candidate: Path) -> None:
    first = publish.publish(tmp_path, candidate, Manifest(stream_time=1, settings={"a": 1}))
    first = renamed(tmp_path, first, f"20200101T000000Z-{first.partition('-')[2]}")
    later = publish.publish(tmp_path, candidate, Manifest(stream_time=2, settings={"a": 1}))
    later = renamed(tmp_path, later, f"20200102T000000Z-{first.partition('-')[2]}")
    assert publish.publish(tmp_path, candidate, Manifest(stream_time=2, settings={"a": 2})) not in (first, later)
    assert len(release_names(tmp_path)) == 3


@pytest.mark.parametrize("name", [*FILES, BASELINE])
def test_a_damaged_release_is_published_again(tmp_path: Path, candidate: Path, name: str) -> None:
    first = publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    first = renamed(tmp_path, first, f"20200101T000000Z-{first.partition('-')[2]}")
    flipped = bytearray((tmp_path / "releases" / first / name).read_bytes())
    flipped[-1] ^= 1
    durable.write_bytes(tmp_path / "releases" / first / name, bytes(flipped))
    again = publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    assert again != first
    assert Release.open(tmp_path / "releases" / again).id == again


def test_publishing_the_same_elsewhere_changes_only_the_id(tmp_path: Path, candidate: Path) -> None:
    made_of = Manifest(stream_time=1, input=InputFacts(stream_time=1, hash="x"), settings={"seed": 1})
    first, second = (tmp_path / "first", tmp_path / "second")
    names = [publish.publish(first, candidate, made_of)]
    names.append(renamed(second, publish.publish(second, candidate, made_of), "20200101T000000Z-00000000"))
    read = [
        {path.name: path.read_bytes() for path in (var / "releases" / name).iterdir()}
        for var, name in zip((first, second), names, strict=True)
    ]
    manifests = [orjson.loads(files.pop("manifest.json")) for files in read]
    assert read[0] == read[1]
    assert manifests[0] | {"id": ""} == manifests[1] | {"id": ""}


def test_files_of_a_release_are_read_only(tmp_path: Path, candidate: Path) -> None:
    name = publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    for path in (tmp_path / "releases" / name).iterdir():
        assert path.stat().st_mode & 0o777 == 0o444, path.name
        assert path.stat().st_nlink == 1, path.name


@pytest.mark.parametrize("name", [*FILES, BASELINE])
def test_publishing_an_incomplete_candidate_leaves_no_files(tmp_path: Path, candidate: Path, name: str) -> None:
    (candidate / name).unlink()
    with pytest.raises(Exception, match=name):
        publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    assert not (tmp_path / "releases").exists() or release_names(tmp_path) == []


def test_the_leftover_of_a_crash_is_replaced(tmp_path: Path, candidate: Path) -> None:
    name = publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    (tmp_path / "releases" / f".{name}.{os.getpid()}.tmp" / "half").mkdir(parents=True)
    again = publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    assert Release.open(tmp_path / "releases" / again).id == again


def folders(var: Path, *names: str) -> None:
    for name in names:
        (var / "releases" / name).mkdir(parents=True)
        (var / "releases" / name / "manifest.json").write_bytes(b'{"id": "%s"}' % name.encode())


def test_every_move_of_current_is_in_the_history(tmp_path: Path) -> None:
    folders(tmp_path, "one", "two")
    expected: list[tuple[str, publish.By]] = [("one", "night"), ("two", "pin"), ("one", "rollback")]
    for time, (name, by) in enumerate(expected):
        assert publish.make_current(tmp_path, name, 1000 + time, by)
        assert publish.current_release(tmp_path) == tmp_path / "releases" / name
    moves = [(move.release, move.stream_time, move.by) for move in publish.read_publications(tmp_path)]
    assert moves == [("one", 1000, "night"), ("two", 1001, "pin"), ("one", 1002, "rollback")]
    assert str((tmp_path / "releases" / "current").readlink()) == "one"


def test_making_the_current_release_current_again_is_no_move(tmp_path: Path) -> None:
    folders(tmp_path, "one", "two")
    for time in (1, 2):
        assert publish.make_current(tmp_path, "one", time)
    assert [move.stream_time for move in publish.read_publications(tmp_path)] == [1]
    durable.point(tmp_path / "releases" / "current", "two")  # killed before the history was written
    publish.make_current(tmp_path, "two", 3)
    assert [move.stream_time for move in publish.read_publications(tmp_path)] == [1, 3]
    durable.point(tmp_path / "releases" / "current", "one")
    publish.make_current(tmp_path, "two", 4)
    assert publish.current_release(tmp_path) == tmp_path / "releases" / "two"


def test_while_a_release_is_pinned_nights_do_not_move_current(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders(tmp_path, "one", "two", "three")
    publish.make_current(tmp_path, "one", 1)
    publish.pin(tmp_path, "one", 1)
    assert publish.pinned(tmp_path) == "one"
    assert not publish.make_current(tmp_path, "two", 2)
    assert "release two is published, but one is pinned and stays current" in caplog.text
    assert publish.make_current(tmp_path, "one", 2)
    assert [move.release for move in publish.read_publications(tmp_path)] == ["one"]
    publish.unpin(tmp_path)
    publish.unpin(tmp_path)
    assert publish.make_current(tmp_path, "three", 3)
    assert publish.current_release(tmp_path) == tmp_path / "releases" / "three"


def test_a_pin_of_a_removed_release_has_no_effect(tmp_path: Path) -> None:
    folders(tmp_path, "one", "two")
    publish.pin(tmp_path, "one", 1)
    shutil.rmtree(tmp_path / "releases" / "one")
    assert publish.pinned(tmp_path) is None
    assert publish.make_current(tmp_path, "two", 2)


LINES = [("", ""), ("a", "a"), ("abc", "abc"), ("abcb", "ab"), ("abcba", "a"), ("abca", "a"), ("abcbd", "abd")]


@pytest.mark.parametrize(("moves", "left"), LINES)
def test_the_lineage_of_current_leaves_out_rolled_back_releases(tmp_path: Path, moves: str, left: str) -> None:
    folders(tmp_path, *{*moves})
    for time, name in enumerate(moves):
        publish.make_current(tmp_path, name, time)
    assert publish.line(tmp_path) == [*left]


def test_the_lineage_ends_with_current_even_if_the_history_lacks_it(tmp_path: Path) -> None:
    folders(tmp_path, "one", "two")
    publish.make_current(tmp_path, "one", 1)
    durable.point(tmp_path / "releases" / "current", "two")
    assert publish.line(tmp_path) == ["one", "two"]


def test_a_refusal_stands_until_the_gate_passes_the_same_release(tmp_path: Path) -> None:
    folders(tmp_path, "one", "two")
    publish.refuse(tmp_path, "one", {"counts_hold": "only 3 users"})
    publish.refuse(tmp_path, "two", {"lists_differ": "all alike"})
    publish.make_current(tmp_path, "one", 1, "rollback")
    assert publish.refused_releases(tmp_path) == {
        "one": {"counts_hold": "only 3 users"},
        "two": {"lists_differ": "all alike"},
    }
    publish.make_current(tmp_path, "two", 2)
    assert [*publish.refused_releases(tmp_path)] == ["one"]


@pytest.mark.parametrize("name", ["history.jsonl", "pinned.json", ".refused/one.json"])
@pytest.mark.parametrize(
    "spoiled", [b"{", b"[]\n", b"{}\n", b"\xff\n", b'{"release":5}\n', b'{"release":"one"}\nnull\n']
)
def test_damaged_notes_are_an_error_that_names_the_file(tmp_path: Path, name: str, spoiled: bytes) -> None:
    folders(tmp_path, "one")
    durable.write_bytes(tmp_path / "releases" / name, spoiled)
    with pytest.raises(ReleaseError, match=name):
        publish.make_current(tmp_path, "two", publish.prunable(tmp_path, 1) != [])
    assert publish.sealed(tmp_path) == ["one"]


@pytest.mark.parametrize("before", ["one", None])
def test_a_move_that_cannot_be_recorded_does_not_happen(
    tmp_path: Path, before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk, for instance: otherwise a second `rollback` would go back twice as far."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folders(tmp_path, "one", "two")
    if before is not None:
        publish.make_current(tmp_path, before, 1)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            publish.make_current(tmp_path, "two", 2, "rollback")
    current = publish.current_release(tmp_path)
    assert (current and current.name) == before
    assert [move.release for move in publish.read_publications(tmp_path)] == [before] * bool(before)


def test_a_dangling_current_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "current").symlink_to("gone")
    assert publish.current_release(tmp_path) is None


NUMBERS = st.integers(0, 8)


@settings(deadline=None, max_examples=25)
@given(
    count=st.integers(1, 9),
    keep=st.integers(1, 5),
    bad=st.sets(NUMBERS),
    now=st.none() | NUMBERS,
    held=st.none() | NUMBERS,
    noted=st.none() | NUMBERS,
)
def test_pruning_keeps_the_newest_good_and_refused_ones_and_what_is_current_or_pinned_or_last_good(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    keep: int,
    bad: set[int],
    now: int | None,
    held: int | None,
    noted: int | None,
) -> None:
    var = tmp_path_factory.mktemp("var")
    names = [f"2030010{number}T000000Z-00000000" for number in range(count)]
    folders(var, *names)
    (var / "releases" / ".verified").mkdir()
    for number, name in enumerate(names):
        (var / "releases" / ".verified" / f"{name}.json").write_bytes(b"[]")
        if number in bad:
            publish.refuse(var, name, {"rule": "why"})
    if now is not None and now < count:
        publish.make_current(var, names[now], 1, "rollback")
    if held is not None and held < count:
        publish.pin(var, names[held], 1)
    if noted is not None and noted < count:
        note_good(var / "releases", names[noted])
    newest = sorted((number for number in range(count) if number not in bad), reverse=True)[:keep]
    newest += sorted((number for number in bad if number < count), reverse=True)[:3]
    kept = {names[number] for number in [*newest, now, held, noted] if number is not None and number < count}
    assert set(publish.prunable(var, keep)) == set(names) - kept
    assert set(publish.prune(var, keep)) == set(names) - kept
    assert set(release_names(var)) == kept == set(publish.sealed(var))
    assert {path.stem for path in (var / "releases" / ".verified").iterdir()} == kept
    assert set(publish.refused_releases(var)) == {names[number] for number in bad if number < count} & kept
    left = {path.stem: path.read_bytes() for path in (var / "releases" / "manifests").glob("*")}
    assert left == {name: b'{"id": "%s"}' % name.encode() for name in set(names) - kept}
    assert publish.current_release(var) == (var / "releases" / names[now] if now is not None and now < count else None)
    assert publish.prune(var, keep) == []


@pytest.mark.parametrize(("passed_ms", "old"), [(3 * DAY_MS - 1, []), (3 * DAY_MS, ["a"])])
def test_pruning_keeps_what_was_in_force_in_the_last_three_days(tmp_path: Path, passed_ms: int, old: list[str]) -> None:
    folders(tmp_path, "a", "b", "c", "d")
    publish.make_current(tmp_path, "a", 1000)
    publish.make_current(tmp_path, "b", 2000)
    publish.make_current(tmp_path, "c", 2000 + passed_ms)
    assert publish.prunable(tmp_path, 1) == old  # d is the newest, and was never in force


def test_old_releases_are_removed_from_a_full_disk_and_their_manifests_stay(
    tmp_path: Path, candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish.publish(tmp_path, candidate, Manifest(stream_time=1))
    manifest = (tmp_path / "releases" / old / "manifest.json").read_bytes()
    (candidate / "evaluation.json").write_bytes(b'{"seed": 2}')
    new = renamed(tmp_path, publish.publish(tmp_path, candidate, Manifest(stream_time=2)), "29990101T000000Z-00000000")
    whole = durable.write_bytes

    def full_before_anything_is_removed(path: Path, data: bytes) -> None:
        if len([*(tmp_path / "releases").rglob("lists.npy")]) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, data)

    monkeypatch.setattr(durable, "write_bytes", full_before_anything_is_removed)
    assert publish.prune(tmp_path, 1) == [old]
    assert release_names(tmp_path) == [new]
    assert (tmp_path / "releases" / "manifests" / f"{old}.json").read_bytes() == manifest


def test_the_commit_can_be_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_COMMIT", "abc123")
    assert publish.versions().commit == "abc123"
    monkeypatch.delenv("MARQUEE_COMMIT")
    monkeypatch.setenv("PATH", "")
    assert publish.versions().commit is None
