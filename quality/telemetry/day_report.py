"""The report of one day, `reports/<day>.json`: the table of its figures, and the reader of the file.

Fields with a `Figure` are the table, see `quality.telemetry.group_figures`. `python -m
quality.telemetry.report_schema` generates `report-schema.json` beside this file from the type.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import orjson

from quality.errors import ReportError
from quality.telemetry import day_verdict, equal_hours
from quality.telemetry.day_verdict import DayVerdict
from quality.telemetry.equal_hours import EqualHours
from quality.telemetry.group_figures import Figure, GroupFigures, Row, Text, figures_by, figures_of, total_figures
from quality.telemetry.judged_day import JudgedDay
from quality.telemetry.report_figures import Count
from stream.decoding import decode_json

LAYOUT = 2
"""Layout 1 had the figures of the day and of its releases only."""
Day = Annotated[str, msgspec.Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Moment = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$")]
Contents = TypeVar("Contents", bound=msgspec.Struct)


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of the day (of Kafka's time) that are in no figure: refused by the grammar, late, lost."""

    lines: Count
    by_reason: dict[str, Count]


def left_out(day: JudgedDay) -> LeftOut:
    """Lines that are in no figure, by reason."""
    return LeftOut(lines=sum(day.left_out.values()), by_reason=day.left_out)


def _left_out_rows(left_out: LeftOut) -> list[Row]:
    return [(f"left out: {reason}", f"{lines:,}") for reason, lines in left_out.by_reason.items()]


class DayReport(msgspec.Struct, frozen=True, kw_only=True):
    """How good the answers of a day were, measured on the stream. Times are UTC; the day is of the service's zone."""

    layout: Literal[2]
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
    verdict: Annotated[DayVerdict, Figure(day_verdict.day_verdict)]
    total: Annotated[GroupFigures, Figure(total_figures)]
    """Of the whole day."""
    by_release: Annotated[list[GroupFigures], Figure(figures_by("release"))]
    """By the release in force; null: before the first one. They served at different hours: see `equal_hours`."""
    equal_hours: Annotated[list[EqualHours], Figure(equal_hours.compare_releases)]
    """Each release compared with the one before it; empty if there was only one."""
    by_source: Annotated[list[GroupFigures], Figure(figures_by("source"))]
    """By where the list comes from: `personal`, `segment`, `popular`."""
    by_segment: Annotated[list[GroupFigures], Figure(figures_by("segment"))]
    """By the user's age band and gender, as the release in force has them."""
    by_hour: Annotated[list[GroupFigures], Figure(figures_by("hour"))]
    """By hour of the service's clock; an hour that the clock shows twice is one group."""
    left_out: Annotated[LeftOut, Figure(left_out, _left_out_rows)]
    notes: list[Text]
    """What a reader of the figures must know, a sentence each."""

    def figures(self) -> "DayReport":
        """The report without what it says about how it was made: revision and notes."""
        return msgspec.structs.replace(self, revision=0, revision_reason=None, notes=[])


FIGURES = figures_of(DayReport)


class ReportHead(msgspec.Struct, frozen=True, kw_only=True):
    """What reports of every layout say of themselves."""

    layout: Annotated[int, msgspec.Meta(ge=1, le=LAYOUT)]
    day: Day
    final: bool
    revision: Count = 0


def encode_report(report: DayReport) -> bytes:
    """The report as it stands in its file. Raises `ReportError` if a value is not one that its field may have."""
    data = orjson.dumps(msgspec.to_builtins(report), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:  # nothing checks a struct when it is made; the schema of outsiders is made from the same type
        decode_json(data, DayReport)
    except msgspec.DecodeError as error:
        raise ReportError(f"report: {report.day} is not as it must be: {error}") from error
    return data


def read_report(path: Path) -> DayReport | None:
    """The report in a file; None if there is no file.

    Raises `ReportError` if it cannot be read, or an older version wrote it, in another layout.
    """
    head = read_head(path)
    if head and head.layout != LAYOUT:
        raise ReportError(f"report: {path} has layout {head.layout}, of an older version; this one reads {LAYOUT}")
    return _read(path, DayReport)


def read_head(path: Path) -> ReportHead | None:
    """What a report of any layout says of itself; None if there is no file.

    Raises `ReportError` if the file cannot be read, whole if it is of this layout.
    """
    head = _read(path, ReportHead)
    if head and head.layout == LAYOUT:
        _read(path, DayReport)
    return head


def _read(path: Path, contents: type[Contents]) -> Contents | None:
    try:
        return decode_json(path.read_bytes(), contents)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ReportError(f"report: cannot read {path}: {error}") from error
