"""The baseline, list by list, against lists that plain Python makes of any ranking and any history."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quality.telemetry import attribution as attribution_module
from quality.telemetry.attribution import Attribution
from quality.telemetry.baseline_lists import BaselineLists, baseline_ranks, open_baseline_lists

NAMES = [f"movie+{number}+2000" for number in range(70)]
NUMBERS = {name: 3 * place for place, name in enumerate(reversed(NAMES[5:]))}
"""Numbers of movies in the store, which has not heard of the first five."""


def opened(releases: Path, release: str) -> BaselineLists:
    lists = open_baseline_lists(releases, release)
    assert lists is not None
    return lists


def test_places_are_those_in_the_list_that_each_user_would_have_been_shown(
    tmp_path: Path, publish: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    monkeypatch.setattr(attribution_module, "_CHUNK", 7)
    popular = rng.permutation(NAMES)[:60].tolist()
    known = [1, 7, 2**32 - 1]
    seen = {
        user: rng.choice(NAMES, size, replace=False).tolist() for user, size in zip(known, (0, 15, 55), strict=True)
    }
    publish(tmp_path, "one", 1, popular, seen)
    publish(tmp_path, "old", 1, popular)
    users = np.array([user for user in [*known, 0, 8, 2**32 + 7, 2**62] for _ in NUMBERS])
    movies = np.tile(np.array([*NUMBERS.values()]), 7)
    names = {number: name for name, number in NUMBERS.items()}
    for release, barred in (("one", seen), ("old", {})):
        lists = {user: [name for name in popular if name not in barred.get(user, ())][:20] for user in users.tolist()}
        expected = [
            lists[user].index(names[movie]) + 1 if names[movie] in lists[user] else 0
            for user, movie in zip(users.tolist(), movies.tolist(), strict=True)
        ]
        assert opened(tmp_path, release).places(users, movies, NUMBERS).tolist() == expected
        assert opened(tmp_path, release).leaves_out_seen == (release == "one")


def test_each_answer_is_compared_with_the_list_of_its_release(tmp_path: Path, publish: Callable[..., None]) -> None:
    publish(tmp_path, "a", 1, NAMES[10:40], {5: NAMES[10:12]})
    publish(tmp_path, "b", 2, NAMES[40:10:-1], {5: NAMES[40:35:-1], 6: []})
    started = np.array([NUMBERS[name] for name in (NAMES[14], NAMES[35], NAMES[40], NAMES[11], NAMES[31])])
    starts = Attribution(np.array([0, 1, 2, 3, 4]), started, np.arange(5), np.arange(5))
    users, release = np.array([5, 5, 6, 5, 7, 5]), np.array([0, 1, 1, 0, 0, -1])
    lists = {0: opened(tmp_path, "a"), 1: opened(tmp_path, "b")}
    assert baseline_ranks(starts, users, release, lists, NUMBERS).tolist() == [3, 1, 1, 0, 0, -1]
    assert baseline_ranks(starts, users, release, {**lists, 1: None}, NUMBERS).tolist() == [3, -1, -1, 0, 0, -1]


def test_the_arrays_of_users_are_mapped_not_loaded(tmp_path: Path, publish: Callable[..., None]) -> None:
    publish(tmp_path, "one", 1, NAMES, dict.fromkeys(range(9), ()))
    lists = opened(tmp_path, "one")
    assert isinstance(lists.users, np.memmap)
    assert isinstance(lists.lists, np.memmap)


@pytest.mark.parametrize("name", ["baseline.npy", "users.npy", "fallbacks.npy", "movies.txt"])
def test_a_release_that_cannot_be_read_has_no_baseline_rather_than_another(
    tmp_path: Path, publish: Callable[..., None], name: str
) -> None:
    publish(tmp_path, "one", 1, NAMES, {1: (), 2: ()})
    path = tmp_path / "one" / name
    data = path.read_bytes()
    path.unlink()
    if name != "baseline.npy":  # which old releases lack
        assert open_baseline_lists(tmp_path, "one") is None
    path.mkdir()
    assert open_baseline_lists(tmp_path, "one") is None
    path.rmdir()
    if name != "movies.txt":
        for damaged in (b"", data[:40], data[:-1]):
            path.write_bytes(damaged)
            assert open_baseline_lists(tmp_path, "one") is None
    if name in ("baseline.npy", "users.npy"):
        np.save(path, np.zeros((3, 20), np.uint16))  # not of as many users as the other file
        assert open_baseline_lists(tmp_path, "one") is None
    assert open_baseline_lists(tmp_path, "gone") is None
