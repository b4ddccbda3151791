"""The table of figures: each with its name in the report, its limits, its function, and its rows on the page.

A field with a `Figure` is one line of the table. `GroupFigures` has the figures of a group of requests: the whole day,
an hour, a segment, a source or a release. `day_report.DayReport` has those that only a day has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import msgspec

from quality.metrics.intervals import Interval, interval_text
from quality.telemetry import report_figures
from quality.telemetry.judged_day import Grouping, JudgedDay
from quality.telemetry.report_figures import (
    AdultListed,
    AnswerCounts,
    Baseline,
    Count,
    HitRateAt,
    HitsByRank,
    HitSessions,
    LatencyPercentiles,
    LicenceCosts,
    RatingFigures,
    Share,
    ShownMovies,
    Sources,
    StartDelay,
)

Row = tuple[str, str]
"""The name of a figure, and its value as text."""
Text = Annotated[str, msgspec.Meta(min_length=1)]


def percent(share: float | None) -> str:
    """`97.31 %`, or `–`."""
    return "–" if share is None else f"{100 * share:.2f} %"


def percent_interval(shares: Interval, unit: str) -> str:
    """`48.50 [47.30, 49.70] %`, or `–`."""
    text = interval_text(shares, ".2f", scale=100)
    return text if shares.mean is None else f"{text} {unit}".rstrip()


def number(value: float | None, spec: str = ",", unit: str = "") -> str:
    """A number with its unit, or `–`."""
    return "–" if value is None else f"{value:{spec}} {unit}".rstrip()


def _no_rows(value: object) -> Sequence[Row]:
    return ()


def _answer_rows(answers: AnswerCounts) -> Sequence[Row]:
    return [
        ("requests", f"{answers.requests:,}"),
        *((f"status {status}", f"{count:,}") for status, count in answers.by_status.items()),
        ("answers, window closed", f"{answers.closed:,}"),
        ("answers, window open", f"{answers.provisional:,}"),
    ]


def _latency_rows(latency: LatencyPercentiles) -> Sequence[Row]:
    percentiles = ("p50", "p95", "p99", "max")
    return [
        *((f"latency {name}", number(getattr(latency, name), unit="ms")) for name in percentiles),
        ("over the caller's deadline", percent(latency.over_deadline)),
    ]


def _source_rows(sources: Sources) -> Sequence[Row]:
    return [
        ("personal lists", percent(sources.personalised)),
        ("exploring lists", percent(sources.exploring)),
        ("source unknown", f"{sources.unknown:,}"),
        ("lists unlike the release's", f"{sources.unlike_release:,}"),
    ]


def _shown_rows(shown: ShownMovies) -> Sequence[Row]:
    return [
        ("different movies shown", f"{shown.movies:,}"),
        ("movies in the catalogue", f"{shown.catalogue:,}"),
        ("catalogue coverage", percent(shown.coverage)),
        ("Gini coefficient of showings", number(shown.gini, ".3f")),
        ("novelty", number(shown.novelty_bits, ".2f", "bits")),
    ]


def _hit_rate_rows(at: HitRateAt) -> Sequence[Row]:
    return [(f"hit rate at {name.removeprefix('rank_')}", percent_interval(getattr(at, name), "%"))
            for name in HitRateAt.__struct_fields__]  # fmt: skip


def _rank_rows(counts: Sequence[int]) -> Sequence[Row]:
    return [(f"hits at rank {rank}", f"{hits:,}") for rank, hits in enumerate(counts, 1)]


def _delay_rows(delay: StartDelay) -> Sequence[Row]:
    names = {"median": "median time to the start", "p90": "p90 time to the start"}
    return [(label, number(getattr(delay, name), unit="s")) for name, label in names.items()]


def _session_rows(sessions: HitSessions) -> Sequence[Row]:
    return [
        ("hits whose session is over", f"{sessions.over:,}"),
        ("hits whose session may go on", f"{sessions.unknown:,}"),
        ("minutes watched of a hit", number(sessions.minutes, ".1f")),
        ("sessions over, runtime known", f"{sessions.with_runtime:,}"),
        ("of these, finished", percent(sessions.finished)),
    ]


def _rating_rows(ratings: RatingFigures) -> Sequence[Row]:
    kinds = {"recommended": ratings.recommended, "other": ratings.other}
    rows = [((f"ratings, {kind}", f"{mean.ratings:,}"), (f"mean rating, {kind}", interval_text(mean.mean, ".2f")))
            for kind, mean in kinds.items()]  # fmt: skip
    return [row for pair in rows for row in pair]


def _cost_rows(costs: LicenceCosts) -> Sequence[Row]:
    return [
        ("cost per play of a listed movie", number(costs.listed, ",.2f")),
        ("cost of the hits", number(costs.hits, ",.2f")),
        ("hits of known cost", f"{costs.known:,}"),
        ("cost per hit", number(costs.per_hit, ",.2f")),
        ("cost per answer", number(costs.per_answer, ",.3f")),
    ]


def _adult_rows(adult: AdultListed) -> Sequence[Row]:
    return [
        ("answers to minors", f"{adult.minors:,}"),
        ("adult movies in their lists", percent(adult.share_minors)),
        ("answers to users of unknown age", f"{adult.unknown_age:,}"),
        ("adult movies in these lists", percent(adult.share_unknown_age)),
    ]


def _baseline_rows(baseline: Baseline) -> Sequence[Row]:
    return [
        ("hits of the popular list", f"{baseline.hits:,}"),
        ("hit rate of the popular list", percent_interval(baseline.hit_rate, "%")),
        ("answers with a known popular list", f"{baseline.answers:,}"),
        ("answers without one", f"{baseline.unknown:,}"),
    ]


@dataclass(frozen=True, slots=True)
class Figure:
    """Marks a field of a report as a figure."""

    compute: Callable[[JudgedDay], Any]
    """The value of the field; it has the field's type."""
    rows: Callable[[Any], Sequence[Row]] = _no_rows
    """Rows of the value in a table of the page; none if `report_html` draws it."""


class GroupFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a group of requests: the whole day, an hour, a segment, a source or a release."""

    name: Text | None
    """Of the group; null: its release is gone, or none was in force."""
    answers: Annotated[AnswerCounts, Figure(report_figures.answer_counts, _answer_rows)]
    availability: Annotated[
        Share | None, Figure(report_figures.availability, lambda value: [("availability", percent(value))])
    ]
    """Share of the requests with status 200."""
    latency_ms: Annotated[LatencyPercentiles, Figure(report_figures.latency_percentiles, _latency_rows)]
    sources: Annotated[Sources, Figure(report_figures.sources, _source_rows)]
    shown: Annotated[ShownMovies, Figure(report_figures.shown_movies, _shown_rows)]
    hits: Annotated[Count, Figure(report_figures.hits, lambda value: [("hits", f"{value:,}")])]
    """Closed answers that were hits."""
    hit_rate: Annotated[
        Interval, Figure(report_figures.hit_rate, lambda value: [("hit rate", percent_interval(value, "%"))])
    ]
    """Hits by closed answers."""
    hit_rate_at: Annotated[HitRateAt, Figure(report_figures.hit_rate_at, _hit_rate_rows)]
    hits_by_rank: Annotated[HitsByRank, Figure(report_figures.hits_by_rank, _rank_rows)]
    """Rank 1 first."""
    mean_reciprocal_rank: Annotated[
        Share | None,
        Figure(report_figures.mean_reciprocal_rank, lambda value: [("mean reciprocal rank", number(value, ".4f"))]),
    ]
    """Of closed answers; an answer without a hit counts as 0."""
    start_delay_s: Annotated[StartDelay, Figure(report_figures.start_delay, _delay_rows)]
    hit_sessions: Annotated[HitSessions, Figure(report_figures.hit_sessions, _session_rows)]
    ratings: Annotated[RatingFigures, Figure(report_figures.ratings, _rating_rows)]
    licence_costs: Annotated[LicenceCosts | None, Figure(report_figures.licence_costs, _cost_rows)] = None
    """null in reports of an older version."""
    adult_listed: Annotated[AdultListed | None, Figure(report_figures.adult_listed, _adult_rows)] = None
    """null in reports of an older version."""
    baseline: Annotated[Baseline, Figure(report_figures.baseline, _baseline_rows)]
    uplift: Annotated[
        Interval, Figure(report_figures.uplift, lambda value: [("uplift", percent_interval(value, "points"))])
    ]
    """Hit rate less baseline, paired, over the answers whose baseline is known."""


def figures_of(struct: type[msgspec.Struct]) -> dict[str, Figure]:
    """The figures of a type by field name, in its order."""
    hints = get_type_hints(struct, include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: mark for name, metadata in marks.items() for mark in metadata if isinstance(mark, Figure)}


GROUP_FIGURES = figures_of(GroupFigures)


def total_figures(day: JudgedDay) -> GroupFigures:
    """The figures of the whole day."""
    return _group_figures("all", day)


def figures_by(grouping: Grouping) -> Callable[[JudgedDay], list[GroupFigures]]:
    """A function from a day to the figures of each of its groups."""

    def figures(day: JudgedDay) -> list[GroupFigures]:
        return [_group_figures(name, part) for name, part in day.split(grouping)]

    return figures


def group_rows(group: GroupFigures) -> list[Row]:
    """The rows of all figures of a group."""
    return [row for name, figure in GROUP_FIGURES.items() for row in figure.rows(getattr(group, name))]


def _group_figures(name: str | None, day: JudgedDay) -> GroupFigures:
    return GroupFigures(name=name, **{field: figure.compute(day) for field, figure in GROUP_FIGURES.items()})
