"""What a release shows its users, as one array, is what a worker answers each of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.answers import Answers
from server.release import Release
from tests.server.sample_releases import NO_MOVIE, arrays, write_release


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_shown_lists_are_what_a_worker_answers(tmp_path: Path, kind: type[np.unsignedinteger[Any]]) -> None:
    lists, fallbacks = (arrays(3)[name].astype(kind) for name in ("lists", "fallbacks"))
    for array in (lists, fallbacks):
        array[array == NO_MOVIE] = np.iinfo(kind).max
    fallbacks[1] = np.iinfo(kind).max  # a segment without a list, that of user 11
    segments = np.array([1, 0, 2, 1, 2], np.uint8)
    folder = write_release(tmp_path, "shown", segments=segments, lists=lists, fallbacks=fallbacks)
    release = Release.open(folder)
    answers, user_ids = Answers(release), [2**32 - 1, 1, 2, 5, 9, 11, 10**18]
    shown = release.shown_lists(np.array(user_ids))
    assert (shown.dtype.name, shown.shape) == ("int32", (7, 20))
    texts = [",".join(release.movies[item] for item in row if item >= 0).encode() for row in shown.tolist()]
    assert texts == [answers.find(user)[0] for user in user_ids]
    assert len(set(texts)) == 5  # three own lists, that of a segment, and for three users that of everyone


def test_a_release_without_users_shows_everyone_the_popular_list(tmp_path: Path) -> None:
    users, lists, segments = np.zeros(0, np.uint32), np.zeros((0, 20), np.uint16), np.zeros(0, np.uint8)
    release = Release.open(write_release(tmp_path, "empty", users=users, lists=lists, segments=segments))
    assert release.shown_lists(np.array([1, 7])).tolist() == [list(range(20))] * 2
