"""What the catalogue says of who may be shown which movie, and of what a play costs.

The step `history` writes these files, so that all later steps of a night go by the same facts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batch.history.segments import People
from quality.catalog import KnownMovie
from stream import durable

LIST_FACTS = ("ages.npy", "adult.npy", "costs.npy")


@dataclass(frozen=True)
class ListFacts:
    """n users of a history, and m movies: those of the history in its order, and those of the release behind them."""

    ages: np.ndarray
    """uint8 [n]: years, 0 for unknown."""
    adult: np.ndarray
    """int8 [m]: 1 for a movie that is for adults only, 0 for another, -1 for unknown."""
    costs: np.ndarray
    """float64 [m]: what the licence costs per play, NaN for unknown."""

    @staticmethod
    def of(users: np.ndarray, people: People, movies: Sequence[str], known: Mapping[str, KnownMovie]) -> "ListFacts":
        """The facts of users (ids, ascending) and of movies. `people` and `known` are what the catalogue has."""
        records = [known.get(movie, KnownMovie()) for movie in movies]
        adult = [-1 if record.adult is None else record.adult for record in records]
        costs = [np.nan if record.cost is None else record.cost for record in records]
        return ListFacts(_ages(users, people), np.array(adult, np.int8), np.array(costs, np.float64))

    def first(self, movies: int) -> "ListFacts":
        """The same of the first so many movies: what models and their evaluation go by, which know only the history."""
        return ListFacts(self.ages, self.adult[:movies], self.costs[:movies])


def save_list_facts(folder: Path, facts: ListFacts) -> None:
    """Write the files of `LIST_FACTS`, each whole."""
    for name, values in zip(LIST_FACTS, (facts.ages, facts.adult, facts.costs), strict=True):
        durable.write_array(folder / name, values)


def load_list_facts(folder: Path) -> ListFacts:
    """Read what `save_list_facts` wrote beside a history.

    Raises `OSError` for a missing file, `ValueError` for damaged ones, or those of another history.
    """
    facts = ListFacts(*(np.load(folder / name) for name in LIST_FACTS))
    users, movies = np.load(folder / "users.npy", "r"), (folder / "watched.txt").read_bytes().splitlines()
    if not len(facts.ages) == len(users) or not len(facts.adult) == len(facts.costs) >= len(movies):
        raise ValueError(f"{', '.join(LIST_FACTS)} are not of its users and movies")
    return facts


def _ages(users: np.ndarray, people: People) -> np.ndarray:
    """uint8 [n]: the age of each user, 0 for one who is not among `people`."""
    ages = np.zeros(len(users), np.uint8)
    if people and len(users):
        ids, known_ages = (np.array(column) for column in list(zip(*people, strict=True))[:2])
        row = np.minimum(np.searchsorted(users, ids), len(users) - 1)
        is_user = users[row] == ids
        ages[row[is_user]] = known_ages[is_user]
    return ages
