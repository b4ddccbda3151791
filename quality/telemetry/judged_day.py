"""The requests of one day and their outcomes: the input of all figures of a report.

`judge_day` makes it from the day's rows; `JudgedDay.split` divides it by hour, segment, source or release. Every figure
is a function of a `JudgedDay`, so that it is defined once for the day and for all of its parts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from quality.catalog import KnownMovie
from quality.metrics.watch_sessions import TimeSpans
from quality.settings import QualitySettings
from quality.telemetry.attribution import Attribution, attribute_starts, first_hits, places_in_lists
from quality.telemetry.baseline_lists import baseline_ranks, open_baseline_lists
from quality.telemetry.day_rows import AnswerRows, DayRows, LineGap
from quality.telemetry.day_surroundings import GroupNames, MovieFacts, Surroundings, read_surroundings
from quality.telemetry.rated_starts import RatedStarts, rated_starts
from quality.telemetry.release_history import ReleaseHistory, read_release_history
from stream.zone import HOUR_MS, Zone

Grouping = Literal["hour", "segment", "source", "release"]
FINISHED_SHARE = 0.9
"""A session of at least this share of the runtime is finished: the rest is mostly credits."""
_MINUTE_MS = 60_000
_UNKNOWN = KnownMovie()


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of answers with status 200; arrays [answers], int64."""

    rank: np.ndarray
    """Rank of the hit, 0 for none."""
    start_delay_ms: np.ndarray
    """From the answer to the start that was the hit; -1 without one."""
    minutes: np.ndarray
    """Watched in the session that was the hit, from its first minute to its last, pauses included, at most the runtime.

    -1 without a hit, or if the session may not be over yet.
    """
    finished: np.ndarray
    """1 if that session reached `FINISHED_SHARE` of the runtime, 0 if not; -1 if minutes or runtime are unknown."""
    cost: np.ndarray
    """float64: what a play of the movie that was the hit costs; NaN without a hit, or if it is unknown."""


@dataclass(frozen=True, slots=True)
class BaselineOutcomes:
    """What would have become of the same answers, had each shown the popular list; arrays [answers]."""

    rank: np.ndarray
    """int64: rank of the hit, 0 for none, -1 if that list is unknown."""
    leaves_out_seen: np.ndarray
    """bool: that list is known to be without the movies that the user had seen, as a shown list is."""


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """Requests of one day and their outcomes; arrays [requests], ascending by time. Only status 200 has outcomes."""

    user: np.ndarray
    """int64: the user's number on the day, from 0: its place among the ids, ascending."""
    status: np.ndarray
    """int64."""
    latency_ms: np.ndarray
    """int64."""
    hour: np.ndarray
    """int64: hour of the service's day, 0 to 23."""
    release: np.ndarray
    """int64: number of the release in force, -1 for none."""
    segment: np.ndarray
    """int64: the user's segment by that release, as a place in `GroupNames.segment`; -1 if the release is gone."""
    source: np.ndarray
    """int64: source of the list that the release has for the user, as `SOURCES`; -1 if the release is gone."""
    minor: np.ndarray
    """int64: `OF_AGE`, `MINOR` or `UNKNOWN_AGE` of the user, by that release."""
    unlike_release: np.ndarray
    """bool: the list is not the one that the release has for the user; true of requests without a list."""
    closed: np.ndarray
    """bool: status 200, and the window has closed."""
    baseline: np.ndarray
    """int64: rank that the popular list would have had, as of `BaselineOutcomes`."""
    leaves_out_seen: np.ndarray
    """bool, as of `BaselineOutcomes`."""
    rank: np.ndarray
    """int64, as of `Outcomes`, like the rest."""
    start_delay_ms: np.ndarray
    minutes: np.ndarray
    finished: np.ndarray
    cost: np.ndarray
    """float64, as of `Outcomes`."""

    def __getitem__(self, rows: np.ndarray) -> "JudgedAnswers":
        return JudgedAnswers(*(getattr(self, name)[rows] for name in self.__slots__))

    def where(self, holds: np.ndarray) -> "JudgedAnswers":
        """The rows where `holds` (bool [requests])."""
        return self if holds.all() else self[np.flatnonzero(holds)]


@dataclass(frozen=True)
class JudgedDay:
    """A day as of a watermark, or a part of it."""

    requests: JudgedAnswers
    """Of every status."""
    lists: np.ndarray
    """int32[requests, 20]: numbers of movies, best first, -1 for none."""
    ratings: RatedStarts
    """Of starts that are credited to closed answers among `requests`."""
    names: GroupNames
    movies: MovieFacts
    left_out: dict[str, int]
    """Lines of the day (of Kafka's time) that are in no figure, by reason."""
    gaps: Sequence[LineGap]
    """Lost lines that may have been of the day or of its windows."""
    lines: int | None
    """Lines of the day; None if that is unknown."""
    settings: QualitySettings

    @cached_property
    def judged(self) -> JudgedAnswers:
        """The answers: requests with status 200."""
        return self.requests.where(self.requests.status == 200)

    @cached_property
    def closed(self) -> JudgedAnswers:
        """The answers whose window has closed: rates use only these."""
        return self.judged.where(self.judged.closed)

    @cached_property
    def listed(self) -> np.ndarray:
        """int64 [largest number + 2]: how often the lists have each movie, by its number."""
        return self.movies.shown_counts(self.lists)

    @cached_property
    def compared(self) -> JudgedAnswers:
        """The closed answers whose baseline is known."""
        return self.closed.where(self.closed.baseline >= 0)

    @cached_property
    def compared_sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of the compared answers: hits, hits of the popular list, hits of only one of them, and answers; [users]."""
        is_hit, is_popular_hit = self.compared.rank > 0, self.compared.baseline > 0
        hits, popular_hits, differing, answers = sums_by_user(
            self.compared.user, is_hit, is_popular_hit, is_hit != is_popular_hit
        )
        return hits, popular_hits, differing, answers

    def split(self, grouping: Grouping) -> Iterator[tuple[str | None, "JudgedDay"]]:
        """The parts of the day with their names, in the order of `GroupNames`; first None: what has no group.

        Each request, and each rating, is in one part.
        """
        names: Sequence[str] = getattr(self.names, grouping)
        keys: np.ndarray = getattr(self.requests, grouping)
        rated_keys = keys[self.ratings.answer]
        for key in np.flatnonzero(np.bincount(keys + 1, minlength=1)).tolist():
            rows = np.flatnonzero(keys == key - 1)
            ratings = self.ratings[np.flatnonzero(rated_keys == key - 1)]
            ratings = replace(ratings, answer=np.searchsorted(rows, ratings.answer))
            part = replace(self, requests=self.requests[rows], lists=self.lists[rows], ratings=ratings)
            yield (names[key - 1] if key else None), part


def sums_by_user(user: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """By user, the sum of each of `values` ([answers]), and last the number of answers; all [users].

    `user` is int64 [answers], numbers from 0; users without answers are left out.
    """
    answers = np.bincount(user)
    asked = np.flatnonzero(answers)
    return [*(np.bincount(user, weights=value)[asked] for value in values), answers[asked]]


def judge_day(
    rows: DayRows,
    releases: Path,
    watermark: int,
    settings: QualitySettings,
    zone: Zone,
    known: Mapping[str, KnownMovie],
) -> JudgedDay:
    """Judge the requests of a day as of a watermark, by the releases in the folder `releases`.

    `known` is what the catalogue has of movies.
    """
    window_ms, history = settings.window_ms, read_release_history(releases)
    # later answers take starts from those of the day: last touch
    shown_rows = np.flatnonzero(rows.answers.status == 200)
    shown = rows.answers[shown_rows]
    attribution = attribute_starts(shown, rows.sessions, window_ms)
    baseline = _baseline(shown, attribution, rows.movies, releases, history)
    known_until = min(watermark, rows.end + window_ms)
    places = places_in_lists(shown.movies, attribution.answer, attribution.movie)
    minutes = _runtimes_by_number(rows.movies, known)
    of_day = rows.answers[: int(np.searchsorted(rows.answers.time, rows.end))]
    surroundings = read_surroundings(of_day, _started(rows), rows.movies, releases, history, known)
    costs = surroundings.movies.cost
    outcomes = _outcomes(shown.time, attribution, places, minutes, costs, known_until - settings.gap_ms)
    shown_of_day = shown_rows[shown_rows < len(of_day.time)]
    requests = _with_outcomes(of_day, surroundings, zone, shown_of_day, watermark - window_ms, baseline, outcomes)
    return JudgedDay(
        requests=requests,
        lists=of_day.movies,
        ratings=_closed_ratings(rows, known_until, attribution, places, shown_rows, requests.closed),
        names=surroundings.names,
        movies=surroundings.movies,
        left_out=rows.left_out,
        gaps=rows.gaps,
        lines=rows.lines,
        settings=settings,
    )


def _started(rows: DayRows) -> TimeSpans:
    """The sessions that began on the day: how popular movies were."""
    return rows.sessions[rows.sessions.start < rows.end]


def _runtimes_by_number(numbers: Mapping[str, int], known: Mapping[str, KnownMovie]) -> np.ndarray:
    """int64 [largest number + 1]: runtime of each movie in minutes, 0 for unknown."""
    by_number = np.zeros(max(numbers.values(), default=0) + 1, np.int64)
    for movie, number in numbers.items():
        by_number[number] = known.get(movie, _UNKNOWN).runtime or 0
    return by_number


def _outcomes(
    answered: np.ndarray,
    attribution: Attribution,
    places: np.ndarray,
    runtimes: np.ndarray,
    costs: np.ndarray,
    over_by: int,
) -> Outcomes:
    """Outcomes of answers at these times (int64, ms). `places` are those of the starts; `runtimes` minutes by movie,
    `costs` those per play.

    A session whose last minute is after `over_by` (ms) may get further minutes.
    """
    rank = np.zeros(len(answered), np.int64)
    delay_ms, minutes, finished = np.full((3, len(answered)), -1, np.int64)
    cost = np.full(len(answered), np.nan)
    hits = first_hits(attribution, places)
    starts, answers = attribution[hits], attribution.answer[hits]
    rank[answers] = places[hits]
    delay_ms[answers] = starts.time - answered[answers]
    cost[answers] = costs[starts.movie]
    runtime, watched = runtimes[starts.movie], (starts.last - starts.time) // _MINUTE_MS + 1
    is_over = starts.last <= over_by
    minutes[answers] = np.where(is_over, np.where(runtime > 0, np.minimum(watched, runtime), watched), -1)
    finished[answers] = np.where(is_over & (runtime > 0), watched >= FINISHED_SHARE * runtime, -1)
    return Outcomes(rank, delay_ms, minutes, finished, cost)


def _baseline(
    shown: AnswerRows, attribution: Attribution, numbers: Mapping[str, int], releases: Path, history: ReleaseHistory
) -> BaselineOutcomes:
    """Outcomes of the answers `shown`, with the popular list of the release in force instead of their own."""
    release = history.in_force(shown.time)
    lists = {
        number: open_baseline_lists(releases, history.releases[number])
        for number in np.unique(release[release >= 0]).tolist()
    }
    fair = [number for number, its_lists in lists.items() if its_lists is not None and its_lists.leaves_out_seen]
    ranks = baseline_ranks(attribution, shown.user, release, lists, numbers)
    return BaselineOutcomes(ranks, np.isin(release, fair))


def _with_outcomes(
    requests: AnswerRows,
    surroundings: Surroundings,
    zone: Zone,
    shown: np.ndarray,
    closed_until: int,
    baseline: BaselineOutcomes,
    outcomes: Outcomes,
) -> JudgedAnswers:
    """Put the outcomes of answers, of which the first belong to the requests `shown` (int64 rows), into one table."""

    def of_requests(values: np.ndarray, absent: float) -> np.ndarray:
        spread = np.full(len(requests.time), absent, values.dtype)
        spread[shown] = values[: len(shown)]
        return spread

    return JudgedAnswers(
        user=np.unique(requests.user, return_inverse=True)[1],
        status=requests.status,
        latency_ms=requests.latency_ms,
        hour=zone.to_local(requests.time) // HOUR_MS % 24,
        release=surroundings.release,
        segment=surroundings.segment,
        source=surroundings.source,
        minor=surroundings.minor,
        unlike_release=surroundings.unlike_release,
        closed=(requests.status == 200) & (requests.time <= closed_until),
        baseline=of_requests(baseline.rank, -1),
        leaves_out_seen=of_requests(baseline.leaves_out_seen, False),
        rank=of_requests(outcomes.rank, 0),
        start_delay_ms=of_requests(outcomes.start_delay_ms, -1),
        minutes=of_requests(outcomes.minutes, -1),
        finished=of_requests(outcomes.finished, -1),
        cost=of_requests(outcomes.cost, np.nan),
    )


def _closed_ratings(
    rows: DayRows,
    known_until: int,
    attribution: Attribution,
    places: np.ndarray,
    shown_rows: np.ndarray,
    closed: np.ndarray,
) -> RatedStarts:
    """Ratings, up to a time, of starts that are credited to closed answers of the day (bool [requests]).

    `places` are those of the starts, `shown_rows` the rows of the answers among all of `rows`.
    """
    row = shown_rows[attribution.answer]
    is_closed = np.append(closed, False)[np.minimum(row, len(closed))]
    starts = replace(attribution[is_closed], answer=row[is_closed])
    ratings = rows.ratings[rows.ratings.time <= known_until]
    return rated_starts(ratings, starts, rows.answers.user[starts.answer], places[is_closed] > 0)
