"""The figures of a report: their definitions, and their computation from a day's answers.

`quality.telemetry.day_report.DayReport` is the table that gives each of them its name in the report and its place on
the page.
"""

from typing import Annotated

import msgspec
import numpy as np

from quality.metrics.intervals import Interval, ratio_difference_interval, ratio_interval
from quality.telemetry.judged_day import JudgedDay, sums_by_user
from stream.event import LIST_LENGTH

Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
HitsByRank = Annotated[list[Count], msgspec.Meta(min_length=LIST_LENGTH, max_length=LIST_LENGTH)]
Status = Annotated[str, msgspec.Meta(pattern="^[0-9]+$")]


class AnswerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of the day, and their outcomes."""

    requests: Count
    by_status: dict[Status, Count]
    closed: Count
    """Status 200, and the window has closed."""
    provisional: Count
    """Status 200, and the window is open: not in any rate."""


class LatencyPercentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds logged by the caller, over requests of every status; null if there were none."""

    p50: Count | None
    p95: Count | None
    p99: Count | None
    max: Count | None


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The same closed answers, had each shown the popular list of the release in force, less what its user had seen."""

    answers: Count
    """Closed answers whose baseline is known."""
    unknown: Count
    """Closed answers without a known baseline: no release was in force, or it was removed."""
    hits: Count
    hit_rate: Interval


class ReleaseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the answers given while one release was in force."""

    release: str | None
    """Its id; null: before the first release."""
    answers: Count
    """Status 200."""
    closed: Count
    hits: Count
    hit_rate: Interval
    baseline: Baseline
    uplift: Interval


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of the day (of Kafka's time) that are in no figure: refused by the grammar, late, lost."""

    lines: Count
    by_reason: dict[str, Count]


def answer_counts(day: JudgedDay) -> AnswerCounts:
    """Requests by status, and the answers by whether their window has closed."""
    statuses, counts = np.unique(day.requests.status, return_counts=True)
    return AnswerCounts(
        requests=len(day.requests.status),
        by_status=dict(zip(map(str, statuses.tolist()), counts.tolist(), strict=True)),
        closed=len(day.closed.user),
        provisional=len(day.judged.user) - len(day.closed.user),
    )


def latency_percentiles(day: JudgedDay) -> LatencyPercentiles:
    """Percentiles that occurred (inverse of the empirical distribution), whole milliseconds."""
    latency_ms = day.requests.latency_ms
    if not len(latency_ms):
        return LatencyPercentiles(p50=None, p95=None, p99=None, max=None)
    p50, p95, p99, largest = map(int, np.percentile(latency_ms, (50, 95, 99, 100), method="inverted_cdf"))
    return LatencyPercentiles(p50=p50, p95=p95, p99=p99, max=largest)


def hits(day: JudgedDay) -> int:
    """Closed answers that were hits."""
    return int(np.count_nonzero(day.closed.rank))


def hit_rate(day: JudgedDay) -> Interval:
    """Hits by closed answers, with an interval by the variation between users."""
    hits_of_user, answers_of_user = sums_by_user(day.closed.user, day.closed.rank > 0)
    return ratio_interval(hits_of_user, answers_of_user)


def baseline(day: JudgedDay) -> Baseline:
    """Hits and hit rate of the popular list, over the closed answers whose baseline is known."""
    _, popular_hits, _, answers = day.compared_sums
    return Baseline(
        answers=len(day.compared.user),
        unknown=len(day.closed.user) - len(day.compared.user),
        hits=int(popular_hits.sum()),
        hit_rate=ratio_interval(popular_hits, answers),
    )


def uplift(day: JudgedDay) -> Interval:
    """Hit rate less baseline, paired, over the closed answers whose baseline is known."""
    return ratio_difference_interval(*day.compared_sums)


def hits_by_rank(day: JudgedDay) -> list[int]:
    """Hits at each rank of the list, rank 1 first."""
    counts: list[int] = np.bincount(day.closed.rank, minlength=LIST_LENGTH + 1)[1:].tolist()
    return counts


def mean_reciprocal_rank(day: JudgedDay) -> float | None:
    """Mean of 1 / rank of the hit over closed answers, 0 for one without a hit (Voorhees 1999)."""
    rank = day.closed.rank
    reciprocal = np.divide(1.0, rank, where=rank > 0, out=np.zeros(len(rank)))
    return float(reciprocal.mean()) if len(rank) else None


def movies_shown(day: JudgedDay) -> int:
    """Different movies in the lists of the day."""
    movies = day.requests.movies
    return int(np.count_nonzero(np.bincount(movies[movies >= 0])))


def by_release(day: JudgedDay) -> list[ReleaseFigures]:
    """The figures of each release that was in force."""
    return [
        ReleaseFigures(
            release=release,
            answers=len(release_day.judged.user),
            closed=len(release_day.closed.user),
            hits=hits(release_day),
            hit_rate=hit_rate(release_day),
            baseline=baseline(release_day),
            uplift=uplift(release_day),
        )
        for release, release_day in day.by_release()
    ]


def left_out(day: JudgedDay) -> LeftOut:
    """Lines that are in no figure, by reason."""
    return LeftOut(lines=sum(day.left_out.values()), by_reason=day.left_out)
