"""The answers of one day and their outcomes: the input of all figures of a report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from quality.settings import QualitySettings
from quality.telemetry.attribution import attribute_starts, hit_ranks, places_in_lists
from quality.telemetry.baseline_lists import baseline_ranks, open_baseline_lists
from quality.telemetry.day_rows import AnswerRows, DayRows
from quality.telemetry.release_history import read_release_history


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
    leaves_out_seen: np.ndarray
    """bool: that list is known to be without the movies that the user had seen, as a shown list is."""

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

    @cached_property
    def closed(self) -> JudgedAnswers:
        """The answers whose window has closed: rates use only these."""
        return self.judged[self.judged.closed]

    @cached_property
    def compared(self) -> JudgedAnswers:
        """The closed answers whose baseline is known."""
        return self.closed[self.closed.baseline >= 0]

    @cached_property
    def compared_sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of the compared answers: hits, hits of the popular list, hits of only one of them, and answers; [users]."""
        is_hit, is_popular_hit = self.compared.rank > 0, self.compared.baseline > 0
        hits, popular_hits, differing, answers = sums_by_user(
            self.compared.user, is_hit, is_popular_hit, is_hit != is_popular_hit
        )
        return hits, popular_hits, differing, answers

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
    places = places_in_lists(shown.movies, attribution.answer, attribution.movie)
    lists = {
        number: open_baseline_lists(releases, history.releases[number])
        for number in np.unique(release[release >= 0]).tolist()
    }
    fair = [number for number, its_lists in lists.items() if its_lists is not None and its_lists.leaves_out_seen]
    judged = JudgedAnswers(
        user=shown.user,
        release=release,
        closed=shown.time + window_ms <= watermark,
        rank=hit_ranks(attribution, places, len(shown.time)),
        baseline=baseline_ranks(attribution, shown.user, release, lists, rows.movies),
        leaves_out_seen=np.isin(release, fair),
    )
    return JudgedDay(
        requests=rows.answers[rows.answers.time < rows.end],
        judged=judged[shown.time < rows.end],
        releases=history.releases,
        left_out=rows.left_out,
    )
