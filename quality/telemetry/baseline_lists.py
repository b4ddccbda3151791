"""The baseline: how answers would have done if each had shown the popular list of the release in force.

`<id>/baseline.npy` ([users, 20] item indices, the largest value for none) is the popular list without what each user of
`<id>/users.npy` had seen when the release was made, filled up to 20. Users whom the release does not know have seen
nothing: theirs is row 0 of `<id>/fallbacks.npy` ([segments + 1, 20 or more]). Item indices are lines of
`<id>/movies.txt`. Releases of an older version lack `baseline.npy`; everyone then has the list of unknown users.

A movie that was hidden after the release was made stays in its baseline, though no answer held it any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quality.telemetry.attribution import Attribution, hit_ranks, places_in_lists
from stream.event import LIST_LENGTH


@dataclass(frozen=True)
class BaselineLists:
    """The popular list of one release, as each user would have been shown it. n users, m movies.

    Arrays of users are mapped, not loaded.
    """

    movies: list[str]
    """[m] ids by item index."""
    everyone: np.ndarray
    """[20] item indices: the popular list of everyone, the largest value for none."""
    users: np.ndarray
    """uint32 [n], ascending."""
    lists: np.ndarray
    """As `everyone`, [n, 20]: without what each user has seen."""
    leaves_out_seen: bool
    """Whether the release says what users have seen. If not, it counts as a release without users."""

    def places(self, users: np.ndarray, movies: np.ndarray, numbers: Mapping[str, int]) -> np.ndarray:
        """int64: place of each movie in the list of its user, from 1; 0 for none.

        `users` are ids, `movies` numbers of movies; `numbers` has every one of these by id.
        """
        item_of_number = np.full(max(numbers.values(), default=-1) + 1, -1)
        for item, movie in enumerate(self.movies):
            if movie in numbers:
                item_of_number[numbers[movie]] = item
        items = item_of_number[movies]
        # an id is searched for as one of `self.users`, which another type would copy; one too large for that is unknown
        rows = np.searchsorted(self.users, users.astype(np.uint32))
        is_known = rows < len(self.users)
        is_known[is_known] = self.users[rows[is_known]] == users[is_known]
        own, others = np.flatnonzero(is_known), np.flatnonzero(~is_known)
        places = np.zeros(len(users), np.int64)
        places[own] = places_in_lists(self.lists, rows[own], items[own])
        places[others] = places_in_lists(self.everyone[None], np.zeros_like(others), items[others])
        return places


def baseline_ranks(
    attribution: Attribution,
    users: np.ndarray,
    release: np.ndarray,
    lists: Mapping[int, BaselineLists | None],
    numbers: Mapping[str, int],
) -> np.ndarray:
    """int64 [answers]: rank that the popular list would have had, 0 for none, -1 if that list is unknown.

    `users` (ids) and `release` are those of the answers, `lists` those of each release; `numbers` as in `places`.
    """
    places, is_known = np.zeros(len(attribution.answer), np.int64), np.zeros(len(users), bool)
    for number, its_lists in lists.items():
        if its_lists is not None:
            is_known |= release == number
            starts = np.flatnonzero(release[attribution.answer] == number)
            places[starts] = its_lists.places(users[attribution.answer[starts]], attribution.movie[starts], numbers)
    return np.where(is_known, hit_ranks(attribution, places, len(users)), -1)


def open_baseline_lists(releases: Path, release: str) -> BaselineLists | None:
    """The baseline of a release; None if the release was pruned or cannot be read."""
    folder = releases / release
    try:
        # first, so that a release which is pruned meanwhile is not taken for an old one: it loses all files at once
        lists = np.load(folder / "baseline.npy", mmap_mode="r") if (folder / "baseline.npy").exists() else None
        everyone = np.load(folder / "fallbacks.npy", mmap_mode="r")[0, :LIST_LENGTH]
        movies = (folder / "movies.txt").read_text("utf-8").splitlines()
        if lists is None:
            no_users, no_lists = np.zeros(0, np.uint32), np.zeros((0, LIST_LENGTH), everyone.dtype)
            return BaselineLists(movies, everyone, no_users, no_lists, leaves_out_seen=False)
        users = np.load(folder / "users.npy", mmap_mode="r")
    except (OSError, EOFError, ValueError, IndexError):
        return None
    is_whole = users.dtype == np.uint32 and lists.shape == (*users.shape, LIST_LENGTH) and lists.dtype == everyone.dtype
    return BaselineLists(movies, everyone, users, lists, leaves_out_seen=True) if is_whole else None
