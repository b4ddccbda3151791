"""The figures of a report: their definitions, and their computation from a day's requests, or from a part of them.

`quality.telemetry.group_figures.GroupFigures` is the table that gives each of them its name in the report and its place
on the page.
"""

import math
from typing import Annotated

import msgspec
import numpy as np

from quality.metrics.intervals import Interval, ratio_difference_interval, ratio_interval, score_interval
from quality.metrics.ranking import gini
from quality.telemetry.judged_day import JudgedDay, sums_by_user
from quality.telemetry.release_lists import MINOR, SOURCES, UNKNOWN_AGE
from stream.event import LIST_LENGTH
from stream.settings import BEST_RATING

Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(ge=0)]
HitsByRank = Annotated[list[Count], msgspec.Meta(min_length=LIST_LENGTH, max_length=LIST_LENGTH)]
Status = Annotated[str, msgspec.Meta(pattern="^[0-9]+$")]
_PERSONAL, _EXPLORING = SOURCES.index("personal"), SOURCES.index("exploring")
_BEST_RATING = max(BEST_RATING.values())


class AnswerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests, and their outcomes."""

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
    over_deadline: Share | None
    """Share of the requests that took longer than `[quality] deadline_ms`."""


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """How the lists were chosen: by what the release in force has for the user, since a line does not say it."""

    personalised: Share | None
    """Share of personal lists among the answers whose source is known."""
    unknown: Count
    """Answers without a known source: no release was in force, or it was removed."""
    unlike_release: Count
    """Answers with another list than that release has: a swap within the minute, hidden movies, a worker that lags."""
    exploring: Share | None = None
    """Share of lists that were drawn by lot among the answers whose source is known; null in older reports."""


class ShownMovies(msgspec.Struct, frozen=True, kw_only=True):
    """Which movies the lists had."""

    movies: Count
    """Different movies."""
    catalogue: Count
    """Movies in the catalogues of the releases that were in force; 0 if none is known."""
    coverage: Share | None
    """Share of that catalogue that was shown (Ge et al. 2010)."""
    gini: Share | None
    """How unevenly the shown movies were shown: 0 if all equally often, towards 1 if one has everything."""
    novelty_bits: Positive | None
    """Mean self-information of the listed movies by the users who started them that day (Zhou et al. 2010)."""


class HitRateAt(msgspec.Struct, frozen=True, kw_only=True):
    """Share of the closed answers that were hits at this rank or a better one; at 20 it is the hit rate."""

    rank_1: Interval
    rank_5: Interval
    rank_10: Interval


class StartDelay(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from an answer to the start that was its hit; null without hits."""

    median: Count | None
    p90: Count | None


class HitSessions(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions that were hits."""

    over: Count
    """Sessions that are known to be over: their pauses cannot be continued within the windows."""
    unknown: Count
    """Those that may have gone on."""
    minutes: Positive | None
    """Mean, from the first minute to the last, pauses included, at most the runtime where it is known."""
    with_runtime: Count
    """Sessions that are over, of movies whose runtime the catalogue has."""
    finished: Share | None
    """Share of these that reached 90 % of the runtime."""


class LicenceCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What licences cost per play, in the service's money; null where no cost is known."""

    listed: Positive | None
    """Mean cost of a listed movie, over all places of the lists whose movie has a known cost."""
    hits: Positive | None
    """Costs of the hits together: of each, one play of the movie that was started."""
    known: Count
    """Hits whose movie has a known cost."""
    per_hit: Positive | None
    """Mean cost of these."""
    per_answer: Positive | None
    """Costs of the hits by closed answers: an answer without a hit costs nothing, nor does one of unknown cost."""


class AdultListed(msgspec.Struct, frozen=True, kw_only=True):
    """Adult movies in the lists of users who are not known to be of age, by the release in force."""

    minors: Count
    """Answers to minors."""
    share_minors: Share | None
    """Share of adult movies among those that these list. A movie that is not known to be adult is none."""
    unknown_age: Count
    """Answers to users of whom the release does not say whether they are minors, or where it is gone."""
    share_unknown_age: Share | None


class MeanRating(msgspec.Struct, frozen=True, kw_only=True):
    """Ratings, the latest of each user and movie."""

    ratings: Count
    mean: Interval


class RatingFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Ratings of movies that were started within the window after a closed answer, by whether it had listed them."""

    recommended: MeanRating
    other: MeanRating


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The same closed answers, had each shown the popular list of the release in force, less what its user had seen."""

    answers: Count
    """Closed answers whose baseline is known."""
    unknown: Count
    """Closed answers without a known baseline: no release was in force, or it was removed."""
    hits: Count
    hit_rate: Interval


def answer_counts(day: JudgedDay) -> AnswerCounts:
    """Requests by status, and the answers by whether their window has closed."""
    counts = np.bincount(day.requests.status)
    return AnswerCounts(
        requests=len(day.requests.status),
        by_status={str(status): int(counts[status]) for status in np.flatnonzero(counts)},
        closed=len(day.closed.user),
        provisional=len(day.judged.user) - len(day.closed.user),
    )


def availability(day: JudgedDay) -> float | None:
    """Share of the requests with status 200."""
    return share(day.requests.status == 200)


def latency_percentiles(day: JudgedDay) -> LatencyPercentiles:
    """Percentiles that occurred (inverse of the empirical distribution), whole milliseconds."""
    latency_ms = day.requests.latency_ms
    p50, p95, p99, largest = _percentiles(latency_ms, 50, 95, 99, 100)
    over_deadline = share(latency_ms > day.settings.deadline_ms)
    return LatencyPercentiles(p50=p50, p95=p95, p99=p99, max=largest, over_deadline=over_deadline)


def sources(day: JudgedDay) -> Sources:
    """Sources of the answers, and how many lists are not those of the release in force."""
    source = day.judged.source
    known = source[source >= 0]
    return Sources(
        personalised=share(known == _PERSONAL),
        unknown=int(np.count_nonzero(source < 0)),
        unlike_release=int(np.count_nonzero(day.judged.unlike_release)),
        exploring=share(known == _EXPLORING),
    )


def shown_movies(day: JudgedDay) -> ShownMovies:
    """Variety of the lists."""
    facts, counts = day.movies, day.listed
    release = day.judged.release
    catalogue = facts.catalogue(np.flatnonzero(np.bincount(release[release >= 0])))
    is_shown = counts > 0
    # exact, since the order of the movies, and so of rounding, depends on the order of the lines
    bits = math.fsum((counts[is_shown] * facts.bits[is_shown]).tolist())
    return ShownMovies(
        movies=int(np.count_nonzero(is_shown)),
        catalogue=len(catalogue),
        coverage=share(is_shown[catalogue]),
        gini=gini(counts),
        novelty_bits=bits / int(counts.sum()) if is_shown.any() else None,
    )


def hits(day: JudgedDay) -> int:
    """Closed answers that were hits."""
    return int(np.count_nonzero(day.closed.rank))


def hit_rate(day: JudgedDay) -> Interval:
    """Hits by closed answers, with an interval by the variation between users."""
    return _hit_rates(day, LIST_LENGTH)[0]


def hit_rate_at(day: JudgedDay) -> HitRateAt:
    """Cumulative hit rates."""
    rank_1, rank_5, rank_10 = _hit_rates(day, 1, 5, 10)
    return HitRateAt(rank_1=rank_1, rank_5=rank_5, rank_10=rank_10)


def hits_by_rank(day: JudgedDay) -> list[int]:
    """Hits at each rank of the list, rank 1 first."""
    counts: list[int] = np.bincount(day.closed.rank, minlength=LIST_LENGTH + 1)[1:].tolist()
    return counts


def mean_reciprocal_rank(day: JudgedDay) -> float | None:
    """Mean of 1 / rank of the hit over closed answers, 0 for one without a hit (Voorhees 1999)."""
    rank = day.closed.rank
    reciprocal = np.divide(1.0, rank, where=rank > 0, out=np.zeros(len(rank)))
    return float(reciprocal.mean()) if len(rank) else None


def start_delay(day: JudgedDay) -> StartDelay:
    """Percentiles that occurred, rounded down to whole seconds."""
    delay_ms = day.closed.start_delay_ms[day.closed.rank > 0]
    median, p90 = _percentiles(delay_ms // 1000, 50, 90)
    return StartDelay(median=median, p90=p90)


def hit_sessions(day: JudgedDay) -> HitSessions:
    """How long the hits were watched."""
    is_hit, minutes, finished = day.closed.rank > 0, day.closed.minutes, day.closed.finished
    over = minutes[is_hit & (minutes >= 0)]
    with_runtime = finished[is_hit & (finished >= 0)]
    return HitSessions(
        over=len(over),
        unknown=int(np.count_nonzero(is_hit)) - len(over),
        minutes=float(over.mean()) if len(over) else None,
        with_runtime=len(with_runtime),
        finished=share(with_runtime == 1),
    )


def licence_costs(day: JudgedDay) -> LicenceCosts:
    """What the lists, and the plays that they led to, cost."""
    counts, cost = day.listed, day.movies.cost
    priced = np.flatnonzero((counts > 0) & ~np.isnan(cost))
    of_hits = day.closed.cost[~np.isnan(day.closed.cost)]
    # exact, since the order of the movies and of the rows, and so of rounding, depends on the order of the lines
    listed, hits = math.fsum((counts[priced] * cost[priced]).tolist()), math.fsum(of_hits.tolist())
    return LicenceCosts(
        listed=listed / int(counts[priced].sum()) if len(priced) else None,
        hits=hits if len(of_hits) else None,
        known=len(of_hits),
        per_hit=hits / len(of_hits) if len(of_hits) else None,
        per_answer=hits / len(day.closed.cost) if len(of_hits) else None,
    )


def adult_listed(day: JudgedDay) -> AdultListed:
    """Who was shown adult movies without being known to be of age."""
    is_answer = day.requests.status == 200

    def of_users(kind: int) -> tuple[int, float | None]:
        lists = day.lists[np.flatnonzero(is_answer & (day.requests.minor == kind))]
        counts = day.movies.shown_counts(lists)
        listed = int(counts.sum())
        return len(lists), int(counts[day.movies.adult].sum()) / listed if listed else None

    (minors, share_minors), (unknown, share_unknown) = of_users(MINOR), of_users(UNKNOWN_AGE)
    return AdultListed(minors=minors, share_minors=share_minors, unknown_age=unknown, share_unknown_age=share_unknown)


def ratings(day: JudgedDay) -> RatingFigures:
    """Mean ratings, with intervals by the variation between users."""

    def mean(rows: np.ndarray) -> MeanRating:
        rated = day.ratings[np.flatnonzero(rows)]
        scores = rated.rating / _BEST_RATING
        shares = score_interval(*sums_by_user(day.requests.user[rated.answer], scores, scores**2))
        return MeanRating(ratings=len(rated.answer), mean=_times(shares, _BEST_RATING))

    return RatingFigures(recommended=mean(day.ratings.is_listed), other=mean(~day.ratings.is_listed))


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


def share(holds: np.ndarray) -> float | None:
    """Share of true values, bool [n]; None if there are none at all."""
    return float(holds.mean()) if len(holds) else None


def _hit_rates(day: JudgedDay, *ranks: int) -> list[Interval]:
    """Share of the closed answers that were hits at each of these ranks or a better one."""
    rank = day.closed.rank
    *hits_of_user, answers = sums_by_user(day.closed.user, *((rank > 0) & (rank <= last) for last in ranks))
    return [ratio_interval(hits_at_rank, answers) for hits_at_rank in hits_of_user]


def _times(interval: Interval, factor: float) -> Interval:
    values = (interval.mean, interval.low, interval.high)
    return Interval(*(None if value is None else factor * value for value in values))


def _percentiles(values: np.ndarray, *percents: float) -> list[int | None]:
    """Values that occurred (inverse of the empirical distribution); None without values."""
    if not len(values):
        return [None] * len(percents)
    return [int(value) for value in np.percentile(values, percents, method="inverted_cdf")]
