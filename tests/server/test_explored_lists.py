"""Releases some of whose lists were drawn by lot: what they hold, which are refused, and what their answers call
themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from server.answers import SOURCES, Answers
from server.errors import BadRelease
from server.release import Release
from tests.server.sample_releases import MOVIES, arrays, explored_arrays, names, seal, write_release

ROWS = (0, 1)
"""Users 1, with a full list, and 5, with a short one."""


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(releases: Path, text: bool = False, model: str = "blend", rows: tuple[int, ...] = ROWS) -> Path:
    explored = explored_arrays(arrays(0)["lists"], rows)
    drawn, chances = explored["explorers"], explored["propensities"]
    return write_release(releases, "drawn", text=text, model=model, explorers=drawn, propensities=chances)


@pytest.mark.parametrize("text", [False, True], ids=["compact", "rendered"])
@pytest.mark.parametrize(
    ("model", "others"),
    [
        # users 9, 11, the last one, a stranger
        ("blend", ["segment", "popular", "personal", "popular"]),
        ("popular", ["segment", "popular", "popular", "popular"]),
        ("segment", ["segment", "popular", "segment", "popular"]),
    ],
)
def test_answers_of_drawn_lists_call_themselves_exploring_and_no_others_do(
    tmp_path: Path, model: str, others: list[str], text: bool
) -> None:
    folder = written(tmp_path, text, model)
    for hidden in (frozenset[str](), frozenset({"movie+7+2000", "movie+19+2000"})):
        answers = Answers(Release.open(folder), hidden)
        answers.self_test()
        sources = [SOURCES[answers.find(user)[1]] for user in (1, 5, 9, 11, 2**32 - 1, 12)]
        assert sources == ["exploring", "exploring", *others]
        plain = Answers(Release.open(write_release(tmp_path, f"plain-{len(hidden)}", model=model)), hidden)
        assert all(answers.find(user)[0] == plain.find(user)[0] for user in (1, 5, 9, 11, 2**32 - 1, 12))


def test_a_drawn_list_that_is_hidden_as_a_whole_is_the_popular_one(drawn: Path) -> None:
    answers = Answers(Release.open(drawn), frozenset({"movie+7+2000", "movie+0+2000", "movie+29+2000"}))
    assert answers.find(5) == (names(*range(1, 7), *range(8, 20)).encode(), SOURCES.index("popular"))


def test_propensities_are_read_by_row(drawn: Path) -> None:
    explored = Release.open(drawn).explored
    assert explored is not None
    chance = float(np.float32(0.4))
    assert explored.propensities_of(0) == [chance] * 20
    assert explored.propensities_of(1) == [chance] * 3 + [0.0] * 17
    assert [explored.propensities_of(row) for row in (2, 4, 5)] == [None] * 3


def test_a_release_may_have_nobody_who_explores(tmp_path: Path) -> None:
    release = Release.open(written(tmp_path, rows=()))
    assert release.explored is not None
    assert SOURCES[Answers(release).find(1)[1]] == "personal"


def change_rows(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "explorers.npy", change(np.load(folder / "explorers.npy")))


def change_chances(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "propensities.npy", change(np.load(folder / "propensities.npy")))


def one(row: int, column: int, value: float) -> Callable[[Path], None]:
    def change(chances: np.ndarray) -> np.ndarray:
        chances[row, column] = value
        return chances

    return change_chances(change)


CONTRADICTIONS: dict[str, Callable[[Path], object]] = {
    "a user whom the release does not have": change_rows(lambda rows: np.array([0, 5], np.uint32)),
    "a user twice": change_rows(lambda rows: np.array([1, 1], np.uint32)),
    "unsorted users": change_rows(lambda rows: rows[::-1]),
    "users of another type": change_rows(lambda rows: rows.astype(np.int64)),
    "users in two dimensions": change_rows(lambda rows: rows[:, None]),
    "users in no dimension": change_rows(lambda rows: np.array(1, np.uint32)),
    "users that are no array": lambda folder: (folder / "explorers.npy").write_bytes(b"none"),
    "another user": change_rows(lambda rows: np.array([0, 4], np.uint32)),
    "fewer users": change_rows(lambda rows: rows[:1]),
    "fewer chances": change_chances(lambda chances: chances[:1]),
    "chances of another width": change_chances(lambda chances: chances[:, :19]),
    "chances in double precision": change_chances(lambda chances: chances.astype(np.float64)),
    "a chance of more than one": one(0, 3, 1.001),
    "a chance below nothing": one(0, 3, -0.1),
    "a chance below nothing of no movie": one(1, 19, -0.1),
    "a chance that is no number": one(0, 3, np.nan),
    "no chance of a movie": one(0, 3, 0),
    "a chance of no movie": one(1, 3, 0.4),
}


@pytest.mark.parametrize("change", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_sealed_draws_that_contradict_the_lists_are_refused(drawn: Path, change: Callable[[Path], object]) -> None:
    change(drawn)
    seal(drawn)
    with pytest.raises(BadRelease, match=r"explorers\.npy|propensities\.npy"):
        Release.open(drawn)


@pytest.mark.parametrize("name", ["explorers.npy", "propensities.npy"])
def test_draws_are_verified_like_all_files(drawn: Path, name: str) -> None:
    release = Release.open(drawn)
    assert release.changed_in_place() is None
    data = (drawn / name).read_bytes()
    (drawn / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert release.changed_in_place() == (name, True)
    with pytest.raises(BadRelease, match="sha256 differs"):
        Release.open(drawn)
    (drawn / name).unlink()
    with pytest.raises(BadRelease, match=name):
        Release.open(drawn)


@pytest.mark.parametrize("name", ["explorers.npy", "propensities.npy"])
def test_one_of_the_two_files_is_not_enough(drawn: Path, name: str) -> None:
    manifest = orjson.loads((drawn / "manifest.json").read_bytes())
    del manifest["files"][name]
    (drawn / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BadRelease, match="without the other of explorers"):
        Release.open(drawn)


def test_files_that_the_manifest_does_not_name_are_no_draws(drawn: Path) -> None:
    manifest = orjson.loads((drawn / "manifest.json").read_bytes())
    for name in ("explorers.npy", "propensities.npy"):
        del manifest["files"][name]
    (drawn / "manifest.json").write_bytes(orjson.dumps(manifest))
    assert Release.open(drawn).explored is None
    assert len(MOVIES) == 30
