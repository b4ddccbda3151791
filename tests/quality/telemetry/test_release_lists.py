"""What a report says a release gives each user is what a worker answers."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from batch.models.list_caps import MINOR, OF_AGE, UNKNOWN_AGE
from quality.telemetry import release_lists
from quality.telemetry.release_lists import NO_SEGMENT, SOURCES, read_release_lists
from server import answers
from server.answers import Answers
from server.release import Release
from tests.server.sample_releases import NO_MOVIE, arrays, explored_arrays, write_release

USERS = [2**32 - 1, 1, 2, 5, 9, 11, 77]


def sample(var: Path, model: str | None, drawn: tuple[int, ...] = ()) -> Path:
    """A release whose first segment has no popular list of its own, made by a model, but for some rows drawn by lot."""
    fallbacks = arrays(3)["fallbacks"]
    fallbacks[1] = NO_MOVIE
    segments = np.array([1, 0, 2, 1, 2], np.uint8)
    lists = arrays(3)["lists"]
    changed: dict[str, Any] = explored_arrays(lists, drawn) if drawn else {}
    folder = write_release(var, "sample", segments=segments, lists=lists, fallbacks=fallbacks, **changed)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    manifest["model"] = {**manifest.get("model", {}), "lists": model}
    manifest["segments"] = ["everyone", "18-24, F"]
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    return folder


@pytest.mark.parametrize("drawn", [(), (0,), (1, 4)])
@pytest.mark.parametrize("model", ["blend", "segment", "popular", None])
def test_sources_and_lists_are_those_of_a_worker(tmp_path: Path, model: str | None, drawn: tuple[int, ...]) -> None:
    folder = sample(tmp_path, model, drawn)
    release, lists = Release.open(folder), read_release_lists(folder.parent, folder.name)
    assert lists is not None
    worker, rows = Answers(release), lists.rows_of(np.array(USERS))
    given = [worker.find(user) for user in USERS]
    assert SOURCES == answers.SOURCES
    assert lists.sources_of(rows).tolist() == [source for _, source in given]
    shown = release.shown_lists(np.array(USERS))
    numbers = np.arange(len(lists.movies)) + 5
    by_number = np.where(shown >= 0, shown + 5, -1).astype(np.int32)
    assert not lists.are_unlike(by_number, rows, numbers).any()
    for place in (0, 5):
        changed = by_number.copy()
        changed[place, 3] = changed[place, 4]
        assert lists.are_unlike(changed, rows, numbers).tolist() == [row == place for row in range(len(USERS))]
    numbers[shown[1, 0]] = -2  # a movie that no line mentions cannot have been shown
    assert lists.are_unlike(by_number, rows, numbers)[1]


def test_segments_have_the_names_of_the_manifest(tmp_path: Path) -> None:
    folder = sample(tmp_path, "blend")
    lists = read_release_lists(folder.parent, folder.name)
    assert lists is not None
    assert lists.segment_names() == [NO_SEGMENT, "18-24, F", "segment 2"]
    release = Release.open(folder)
    expected = [
        dict(zip(release.users.tolist(), release.segments.tolist(), strict=True)).get(user, 0) for user in USERS
    ]
    assert lists.segments_of(lists.rows_of(np.array(USERS))).tolist() == expected


@pytest.mark.parametrize(
    "name", ["users.npy", "lists.npy", "segments.npy", "fallbacks.npy", "movies.txt", "manifest.json"]
)
def test_a_release_that_is_pruned_or_damaged_has_no_lists(tmp_path: Path, name: str) -> None:
    folder = sample(tmp_path, "blend")
    (folder / name).write_bytes(b"\xff")
    assert read_release_lists(folder.parent, folder.name) is None
    (folder / name).unlink()
    assert read_release_lists(folder.parent, folder.name) is None


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("segments", np.array([9, 0, 0, 0, 0], np.uint8)),
        ("segments", np.zeros(4, np.uint8)),
        ("lists", np.zeros((4, 20), np.uint16)),
        ("lists", np.zeros((5, 19), np.uint16)),
    ],
)
def test_arrays_that_contradict_each_other_are_damage(tmp_path: Path, name: str, array: np.ndarray) -> None:
    folder = sample(tmp_path, "blend")
    np.save(folder / f"{name}.npy", array)
    assert read_release_lists(folder.parent, folder.name) is None


def test_who_is_a_minor_is_as_the_release_says_and_unknown_where_it_does_not(tmp_path: Path) -> None:
    assert (release_lists.OF_AGE, release_lists.MINOR, release_lists.UNKNOWN_AGE) == (OF_AGE, MINOR, UNKNOWN_AGE)
    folder = sample(tmp_path, "blend")
    users = np.load(folder / "users.npy").astype(np.int64)

    def kinds() -> list[int] | None:
        lists = read_release_lists(folder.parent, folder.name)
        return None if lists is None else lists.minors_of(lists.rows_of(np.array([*users, 999]))).tolist()

    assert kinds() == [UNKNOWN_AGE] * (len(users) + 1)
    told = np.arange(len(users), dtype=np.uint8) % 3
    np.save(folder / "minors.npy", told)
    assert kinds() == [*told.tolist(), UNKNOWN_AGE]
    np.save(folder / "minors.npy", told[1:])
    assert kinds() is None
