"""The answers of one day and their outcomes: the input of all figures of a report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from quality.telemetry.store import StoredAnswers


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """Answers of one day with status 200, and their outcomes; arrays [answers]."""

    user: np.ndarray
    """int64."""
    release: np.ndarray
    """int64: number of the release in force, -1 for none."""
    closed: np.ndarray
    """bool: the window has closed."""
    rank: np.ndarray
    """int64: rank of the hit, 0 for none."""
    baseline: np.ndarray
    """int64: rank that the popular list would have had, 0 for none, -1 if that list is unknown."""

    def __getitem__(self, rows: np.ndarray) -> "JudgedAnswers":
        return JudgedAnswers(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(frozen=True)
class JudgedDay:
    """A day as of a watermark."""

    requests: StoredAnswers
    """Answers of every status."""
    judged: JudgedAnswers
    """Those with status 200."""
    releases: Sequence[str]
    """Ids; a release's number is its place here."""
    left_out: dict[str, int]
    """Lines of the day (of Kafka's time) that are in no figure, by reason."""
    samples: int
    """Bootstrap resamples for every interval."""
    seed: int

    @cached_property
    def closed(self) -> JudgedAnswers:
        """The answers whose window has closed: rates use only these."""
        return self.judged[self.judged.closed]

    @cached_property
    def compared(self) -> JudgedAnswers:
        """The closed answers whose baseline is known."""
        return self.closed[self.closed.baseline >= 0]

    @cached_property
    def compared_sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the compared answers: hits, hits of the popular list, and answers, each [users]."""
        compared = self.compared
        hits, popular_hits, answers = sums_by_user(compared.user, compared.rank > 0, compared.baseline > 0)
        return hits, popular_hits, answers

    def by_release(self) -> Iterator[tuple[str | None, "JudgedDay"]]:
        """The day split by the release in force; None stands for the time before the first one, and comes first."""
        for number in np.unique(self.judged.release).tolist():
            release = None if number < 0 else self.releases[number]
            yield release, replace(self, judged=self.judged[self.judged.release == number])


def sums_by_user(user: np.ndarray, *hits: np.ndarray) -> list[np.ndarray]:
    """By user, the sum of each of `hits` (bool [answers]), and last the number of answers; all [users]."""
    users, rows = np.unique(user, return_inverse=True)
    sums = [np.bincount(rows, weights=hit, minlength=len(users)) for hit in hits]
    return [*sums, np.bincount(rows, minlength=len(users))]
