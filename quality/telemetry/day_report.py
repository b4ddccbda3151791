"""The report of one day, `reports/<day>.json`: the table of its figures, and the reader of the file.

A field of `DayReport` with a `Figure` is one line of that table: its name in the report, its type and limits in the
schema, its function, and its rows on the page. `python -m quality.telemetry.report_schema` generates
`report-schema.json` beside this file from the type.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from quality.errors import ReportError
from quality.metrics.intervals import Interval
from quality.telemetry import report_figures
from quality.telemetry.judged_day import JudgedDay
from quality.telemetry.report_figures import (
    AnswerCounts,
    Baseline,
    Count,
    HitsByRank,
    LatencyPercentiles,
    LeftOut,
    ReleaseFigures,
    Share,
)
from stream.decoding import decode_json

Row = tuple[str, str]
"""The name of a figure, and its value as text."""
Text = Annotated[str, msgspec.Meta(min_length=1)]
Day = Annotated[str, msgspec.Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Moment = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$")]


def _no_rows(value: object) -> Sequence[Row]:
    return ()


def _row(label: str, spec: str) -> Callable[[float | None], Sequence[Row]]:
    return lambda value: [(label, "–" if value is None else format(value, spec))]


def _answer_rows(answers: AnswerCounts) -> Sequence[Row]:
    statuses = [(f"status {status}", f"{count:,}") for status, count in answers.by_status.items()]
    return [*statuses, ("answers whose window is open", f"{answers.provisional:,}")]


def _latency_rows(latency: LatencyPercentiles) -> Sequence[Row]:
    percentiles: dict[str, int | None] = msgspec.structs.asdict(latency)
    return [(f"latency {name}", "–" if ms is None else f"{ms:,} ms") for name, ms in percentiles.items()]


def _left_out_rows(left_out: LeftOut) -> Sequence[Row]:
    return [(f"left out: {reason}", f"{lines:,}") for reason, lines in left_out.by_reason.items()]


@dataclass(frozen=True, slots=True)
class Figure:
    """Marks a field of `DayReport` as a figure."""

    compute: Callable[[JudgedDay], Any]
    """The value of the field; it has the field's type."""
    rows: Callable[[Any], Sequence[Row]] = _no_rows
    """Rows of the value in the table of the page; none if `report_html` draws it."""


class DayReport(msgspec.Struct, frozen=True, kw_only=True):
    """How good the answers of a day were, measured on the stream. Times are UTC; the day is of the service's zone."""

    layout: Literal[1]
    day: Day
    timezone: Text
    final: bool
    """True: this file is never touched again, except by a revision on demand."""
    revision: Count = 0
    """How many times the final report was made again; the older ones are kept beside this file."""
    revision_reason: Text | None = None
    """Why it was made again."""
    window_hours: Annotated[float, msgspec.Meta(gt=0)]
    watermark: Moment
    """Up to when the stream was read; of a final report, when it could be closed."""
    answers: Annotated[AnswerCounts, Figure(report_figures.answer_counts, _answer_rows)]
    latency_ms: Annotated[LatencyPercentiles, Figure(report_figures.latency_percentiles, _latency_rows)]
    hits: Annotated[Count, Figure(report_figures.hits)]
    """Closed answers that were hits."""
    hit_rate: Annotated[Interval, Figure(report_figures.hit_rate)]
    """Hits by closed answers."""
    baseline: Annotated[Baseline, Figure(report_figures.baseline)]
    uplift: Annotated[Interval, Figure(report_figures.uplift)]
    """Hit rate less baseline, paired, over the answers whose baseline is known."""
    hits_by_rank: Annotated[HitsByRank, Figure(report_figures.hits_by_rank)]
    """Rank 1 first."""
    mean_reciprocal_rank: Annotated[
        Share | None, Figure(report_figures.mean_reciprocal_rank, _row("mean reciprocal rank", ".4f"))
    ]
    """Of closed answers; an answer without a hit counts as 0."""
    movies_shown: Annotated[Count, Figure(report_figures.movies_shown, _row("different movies shown", ","))]
    """Different movies in the lists of the day."""
    by_release: Annotated[list[ReleaseFigures], Figure(report_figures.by_release)]
    """The same figures by the release in force; a null release: before the first one."""
    left_out: Annotated[LeftOut, Figure(report_figures.left_out, _left_out_rows)]
    notes: list[Text]
    """What a reader of the figures must know, a sentence each."""

    def figures(self) -> "DayReport":
        """The report without what it says about how it was made: revision and notes."""
        return msgspec.structs.replace(self, revision=0, revision_reason=None, notes=[])


def figures_of_report() -> dict[str, Figure]:
    """The figures of `DayReport` by field name, in its order."""
    hints = get_type_hints(DayReport, include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: mark for name, metadata in marks.items() for mark in metadata if isinstance(mark, Figure)}


FIGURES = figures_of_report()


def read_report(path: Path) -> DayReport | None:
    """The report in a file; None if there is no file. Raises `ReportError` if it cannot be read."""
    try:
        return decode_json(path.read_bytes(), DayReport)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ReportError(f"report: cannot read {path}: {error}") from error
