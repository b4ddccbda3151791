"""Caps on what lists may hold: adult movies in lists of minors, and movies whose licence costs too much.

A *minor* is a user who is not known to be of age, so one of unknown age is one too: it costs that user a few movies,
while the other mistake shows them to a child. A movie of which the catalogue does not say it is not adult, and one
without a cost is not too dear: otherwise a night without the API would have no movies to list.

Caps apply to scores, once seen and hidden movies are out, so lists are filled with the next best, and the evaluation
measures the lists that a release would show. Nobody knows who reads a list that is not made for one user. So as soon as
there is any cap on adult movies, none is in popular lists that a minor may get, or among similar movies.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from batch.history.list_facts import ListFacts
from batch.history.segments import are_for
from batch.settings import BatchSettings
from stream.event import LIST_LENGTH

OF_AGE, MINOR, UNKNOWN_AGE = range(3)
"""The values of `minors.npy`, the part of a release that says to reports who is a minor."""


@dataclass(frozen=True)
class ListCaps:
    """Caps for n users and m movies."""

    facts: ListFacts
    most_adult: int
    """Adult movies in a minor's list of 20, at most."""
    below_age: int
    """Who is younger is a minor."""
    max_cost: float
    """Largest cost per play of a listed movie."""

    @staticmethod
    def of(facts: ListFacts, settings: BatchSettings) -> "ListCaps":
        """The caps of the settings."""
        most_adult = int(round(settings.adult_share_minors * LIST_LENGTH, 6))  # rounded down, but not 6.9999999
        return ListCaps(facts, most_adult, settings.minor_below_age, settings.max_cost)

    def first(self, movies: int) -> "ListCaps":
        """The same for the first so many movies."""
        return replace(self, facts=self.facts.first(movies))

    @cached_property
    def minors(self) -> np.ndarray:
        """bool [n]."""
        return self.facts.ages < self.below_age

    @cached_property
    def minor_kinds(self) -> np.ndarray:
        """uint8 [n]: `OF_AGE`, `MINOR` or `UNKNOWN_AGE`."""
        return np.where(self.facts.ages == 0, UNKNOWN_AGE, np.where(self.minors, MINOR, OF_AGE)).astype(np.uint8)

    @cached_property
    def adult(self) -> np.ndarray:
        """bool [m]: adult movies whose number is capped; none if there is no cap on them."""
        return (self.facts.adult == 1) & (self.most_adult < LIST_LENGTH)

    @cached_property
    def too_dear(self) -> np.ndarray:
        """bool [m]: movies that no list may hold for their cost."""
        return self.facts.costs > self.max_cost

    @cached_property
    def _ceiling(self) -> np.ndarray:
        """float32 [m]: -inf for movies that are too dear."""
        return np.where(self.too_dear, -np.inf, np.inf).astype(np.float32)

    @cached_property
    def not_for_everyone(self) -> np.ndarray:
        """bool [m]: movies that no list may hold that is not made for one user."""
        return self.adult | self.too_dear

    @cached_property
    def kept_off(self) -> np.ndarray:
        """bool [s + 1, m]: movies that the popular lists of everyone and of each segment may not hold."""
        return self.too_dear | (are_for(self.below_age)[:, None] & self.adult)

    def leave_out(self, scores: np.ndarray, users: np.ndarray) -> None:
        """Set scores (float32 [k, m]) of some users (int64 rows) to -inf for movies that their lists may not hold.

        Of a minor's adult movies the best `most_adult` stay, ties by movie index.
        """
        if self.too_dear.any():  # one pass over all scores takes far less than to set many columns
            np.minimum(scores, self._ceiling, out=scores)
        rows, adult = np.flatnonzero(self.minors[users]), np.flatnonzero(self.adult)
        if not len(rows) or not len(adult):
            return
        cells = np.ix_(rows, adult)
        if self.most_adult:
            own = scores[cells]
            order = np.argsort(-own, axis=1, kind="stable")[:, self.most_adult :]
            np.put_along_axis(own, order, -np.inf, axis=1)
            scores[cells] = own
        else:
            scores[cells] = -np.inf

    def out_of_reach(self, seen: sp.csr_matrix, users: np.ndarray) -> sp.csr_matrix:
        """What some users (int64 rows) have seen (`seen` [k, m], nonzero), with all capped movies of minors."""
        minors = sp.csr_matrix(self.minors[users].astype(np.float32)[:, None])
        return sp.csr_matrix(seen + minors @ sp.csr_matrix(self.adult.astype(np.float32)[None, :]))
