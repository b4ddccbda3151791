"""What a release shows its users, as one array, is what a worker answers each of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.answers import Answers
from server.release import Release
from tests.server.sample_releases import NONE, arrays, write_release


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_shown_lists_are_what_a_worker_answers(tmp_path: Path, kind: type[np.unsignedinteger[Any]]) -> None:
    held: dict[str, Any] = {name: arrays(3)[name].astype(kind) for name in ("lists", "fallbacks")}
    for array in held.values():
        array[array == NONE] = np.iinfo(kind).max
    held["fallbacks"][1] = np.iinfo(kind).max  # a segment without a list, that of user 11
    segments = np.array([1, 0, 2, 1, 2], np.uint8)
    release = Release.open(write_release(tmp_path, "shown", segments=segments, **held))
    answers, user_ids = Answers(release), [2**32 - 1, 1, 2, 5, 9, 11, 10**18]
    shown = release.shown_lists(np.array(user_ids))
    assert (shown.dtype.name, shown.shape) == ("int32", (7, 20))
    texts = [",".join(release.movies[item] for item in row if item >= 0).encode() for row in shown.tolist()]
    assert texts == [answers.find(user)[0] for user in user_ids]
    assert len(set(texts)) == 5  # three own lists, that of a segment, and for three users that of everyone


def test_a_release_without_users_shows_everyone_the_popular_list(tmp_path: Path) -> None:
    empty: dict[str, Any] = {"users": np.zeros(0, np.uint32), "lists": np.zeros((0, 20), np.uint16)}
    empty["segments"] = np.zeros(0, np.uint8)
    release = Release.open(write_release(tmp_path, "empty", **empty))
    assert release.shown_lists(np.array([1, 7])).tolist() == [list(range(20))] * 2
