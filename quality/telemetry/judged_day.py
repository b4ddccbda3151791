"""The answers of one day and their outcomes: the input of all figures of a report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from quality.settings import QualitySettings
from quality.telemetry.attribution import attribute_starts, hit_ranks
from quality.telemetry.day_rows import AnswerRows, DayRows
from quality.telemetry.release_history import ReleaseHistory, popular_list, read_release_history
from stream.event import LIST_LENGTH


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

    requests: AnswerRows
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


def judge_day(rows: DayRows, releases: Path, watermark: int, settings: QualitySettings) -> JudgedDay:
    """Judge the answers of a day as of a watermark, by the releases in the folder `releases`."""
    window_ms, history = settings.window_ms, read_release_history(releases)
    # later answers take starts from those of the day: last touch
    shown = rows.answers[rows.answers.status == 200]
    attribution = attribute_starts(shown, rows.sessions, window_ms)
    release = history.in_force(shown.time)
    lists, is_known = _popular_lists(releases, history, rows.movies)
    list_of = np.where(is_known[release], release, -1)
    baseline = np.where(list_of >= 0, hit_ranks(attribution, lists, list_of), -1)
    rank = hit_ranks(attribution, shown.movies, np.arange(len(shown.time)))
    judged = JudgedAnswers(shown.user, release, shown.time + window_ms <= watermark, rank, baseline)
    return JudgedDay(
        requests=rows.answers[rows.answers.time < rows.end],
        judged=judged[shown.time < rows.end],
        releases=history.releases,
        left_out=rows.left_out,
        samples=settings.bootstrap_samples,
        seed=settings.seed,
    )


def _popular_lists(
    releases: Path, history: ReleaseHistory, numbers: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Popular lists by release number, int32 [releases + 1, 20], and which of them are known.

    The last row stands for no release.
    """
    lists = np.full((len(history.releases) + 1, LIST_LENGTH), -1, np.int32)
    is_known = np.zeros(len(lists), bool)
    for row, release in enumerate(history.releases):
        movies = popular_list(releases, release)
        is_known[row] = movies is not None
        # a movie that no line mentions has neither a number nor a start
        lists[row, : len(movies or ())] = [numbers.get(movie, -1) for movie in movies or ()]
    return lists, is_known
