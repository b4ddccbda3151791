"""The candidate that the gate judges: a sealed release, and the data that it is compared with."""

from collections.abc import Collection, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from batch import models
from batch.evaluation_file import Evaluation, read_evaluation
from batch.gate import list_relevance
from batch.models.described_taste import SelfDescriptions
from batch.models.list_caps import ListCaps
from batch.models.new_movies import NewMovieBudget
from batch.models.top_lists import RESERVE
from quality.alerts.alert_file import Alert
from server.manifest import InputFacts
from server.release import Release
from stream.ledger_entry import LedgerEntry

PARTS = 8
"""Parts into which the users are divided, in their order: lists are built in blocks, one of which may be wrong."""
SEED = 1


@dataclass(frozen=True)
class Candidate:
    """A candidate, and the data that it is compared with. n users, m movies."""

    folder: Path
    """The sealed release, below `releases/`."""
    entries: list[LedgerEntry]
    """The ledger."""
    alerts: list[Alert]
    """The alerts that hold the night, without ignored ones."""
    users: np.ndarray
    """uint32 [n]: ids of the history's users."""
    movies: list[str]
    """[m]: the movies of the release: those of the history, and behind them those that nobody has watched."""
    watched: int
    """How many of them are of the history."""
    seen: sp.csr_matrix
    """[n, m], nonzero where the user has seen the movie, each pair once."""
    popularity: np.ndarray
    """float64 [m]: starts of each movie, recent ones weighing more."""
    content: sp.csr_matrix
    """float32 [m, f]: weights of genres, decade, language and collection."""
    shown: np.ndarray
    """int64 [m]: lists with the movie that were shown in the days of the history."""
    budget: NewMovieBudget
    """What new movies may take of the lists."""
    segments: np.ndarray
    """uint8 [n]: segments of the history's users."""
    until: int
    """The moment after the history's last start, ms UTC."""
    catalog_movies: Set[str]
    """All movies that the catalogue knows."""
    denied_movies: Set[str]
    """All movies that do not exist, according to the API."""
    proven_users: int
    """So many users prove a movie on which the API has not answered."""
    hidden: Collection[str]
    """Movies that were hidden when the lists were made, as a set."""
    caps: ListCaps
    """What lists may hold, by the settings and the catalogue."""
    current: Release | None
    descriptions: SelfDescriptions | None = None
    """What the history's users have written about themselves; None if that is unknown."""

    @cached_property
    def release(self) -> Release:
        """The release, opened. Raises `BadRelease`."""
        return Release.open(self.folder)

    @cached_property
    def facts(self) -> InputFacts:
        """The facts of its input, from the manifest. Raises `BadRelease` if they are missing."""
        return self.release.manifest.require_input()

    @cached_property
    def evaluation(self) -> Evaluation:
        """The evaluation in the release. Raises `EvaluationDamaged`."""
        return read_evaluation(self.folder)

    @property
    def current_facts(self) -> InputFacts | None:
        """The facts of the current release's input; None if there is no current release, or they are missing."""
        return self.current.manifest.input if self.current else None

    @cached_property
    def is_better_confirmed(self) -> bool:
        """Whether the API answered, has meanwhile, on most of the movies that the current release had without it."""
        if self.current is None or self.current.manifest.api_answered or not self.release.manifest.api_answered:
            return False
        open_before = self.current.manifest.proven_movies
        answered = self.catalog_movies | self.denied_movies
        still_open = sum(movie not in answered for movie in self.current.movies)
        return 0 < open_before >= 2 * still_open

    @cached_property
    def denied_of_current(self) -> int:
        """How many movies of the current release the API has denied since."""
        return sum(movie in self.denied_movies for movie in self.current.movies) if self.current else 0

    @cached_property
    def lists(self) -> np.ndarray:
        """int32 [n, 20], -1 for none. Read off the array here, not by `Release.shown_lists`, which serving shares."""
        lists = self.release.lists
        return np.where(lists == np.iinfo(lists.dtype).max, -1, lists.astype(np.int32))

    @cached_property
    def is_drawn(self) -> np.ndarray:
        """bool [n]: the users whose lists were drawn by lot."""
        drawn = np.zeros(len(self.lists), bool)
        if self.release.explored is not None:
            drawn[self.release.explored.rows] = True
        return drawn

    @cached_property
    def model_lists(self) -> np.ndarray:
        """As `lists`, without the movies that nobody has watched: what the model made, but for what they replace."""
        lists = np.where(self.lists < self.watched, self.lists, -1)
        return np.take_along_axis(lists, np.argsort(lists < 0, axis=1, kind="stable"), axis=1)

    @cached_property
    def is_hidden(self) -> np.ndarray:
        """bool [m]: the movies that are hidden."""
        return np.array([movie in self.hidden for movie in self.release.movies], bool)

    @cached_property
    def is_left_out(self) -> np.ndarray:
        """bool [m]: the movies that no model lists: hidden ones, and those that nobody has watched."""
        return self.is_hidden | (np.arange(len(self.movies)) >= self.watched)

    @cached_property
    def off_lists(self) -> np.ndarray:
        """bool [s + 1, m]: the movies that the popular lists of everyone and of each segment may not hold."""
        return self.is_left_out | self.caps.kept_off[: len(self.release.fallbacks)]

    @cached_property
    def popular_ranking(self) -> np.ndarray:
        """int64: the 100 most popular movies that a list may hold of a user who is of age, ties by index."""
        ranking = np.argsort(-self.popularity, kind="stable")
        return ranking[~(self.is_left_out | self.caps.too_dear)[ranking]][:RESERVE]

    def out_of_reach(self, rows: np.ndarray) -> sp.csr_matrix:
        """What some users (int64 rows) have seen, with the adult movies that minors may not be shown: [k, m]."""
        return self.caps.out_of_reach(self.seen[rows], rows)

    @cached_property
    def with_history(self) -> np.ndarray:
        """int64: rows of the users who have seen something."""
        return np.flatnonzero(np.diff(self.seen.indptr))

    @cached_property
    def with_first_list(self) -> np.ndarray:
        """int64: rows of the users who have seen nothing and have a list all the same."""
        return np.flatnonzero((np.diff(self.seen.indptr) == 0) & (self.lists[:, 0] >= 0))

    @cached_property
    def co_occurrence(self) -> list_relevance.CoOccurrence:
        """Counts of movies seen by the same users."""
        return list_relevance.count_co_occurrence(self.seen, np.random.default_rng(SEED))

    @property
    def is_personal(self) -> bool:
        """Whether the chosen model gives users with different histories different rankings."""
        return models.is_personal(self.evaluation.chosen)

    @property
    def popular_below(self) -> int:
        """Users who have seen fewer movies get the popular list, whatever the chosen model."""
        return self.evaluation.popular_below.get(self.evaluation.chosen, 0)

    def sampled_rows(self, least_seen: int = 1, most_seen: float = np.inf) -> np.ndarray:
        """int64: rows of some users who have seen so many movies, and have a list that was not drawn by lot: by part,
        in random order within each part.
        """
        seen, has_list = np.diff(self.seen.indptr), (self.lists[:, 0] >= 0) & ~self.is_drawn
        rows = np.flatnonzero((seen >= max(least_seen, 1)) & (seen <= most_seen) & has_list)
        rows = np.random.default_rng(SEED).permutation(rows)[: list_relevance.ROWS]
        return rows[np.argsort(rows * PARTS // len(self.lists), kind="stable")]
