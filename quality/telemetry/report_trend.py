"""The trend of hit rate and uplift over the days whose reports are final."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from quality.errors import ReportError
from quality.metrics.intervals import Interval, interval_text
from quality.metrics.trend import Trend, trend
from quality.telemetry.day_report import DayReport, read_report
from stream.zone import day_number


class ReportTrend(msgspec.Struct, frozen=True, kw_only=True):
    """The trend of a service's daily reports."""

    first: str
    """First day, `YYYY-MM-DD`."""
    last: str
    """Last day."""
    hit_rate: Trend
    uplift: Trend
    sentence: str
    """What the slopes say."""


class FinalReports:
    """The final reports in a folder, newest first; `damaged` gathers what could not be read on the way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged: list[ReportError] = []

    def __iter__(self) -> Iterator[DayReport]:
        for path in sorted(self._folder.glob("????-??-??.json"), reverse=True):
            try:
                report = _read(path)
            except ReportError as error:
                self.damaged.append(error)
                continue
            if report and report.final:
                yield report


def _read(path: Path) -> DayReport | None:
    """A day's report; None if it vanished. Raises `ReportError` if it cannot be read or is of another day."""
    report = read_report(path)
    try:
        is_own_day = report is None or day_number(report.day) == day_number(path.stem)
    except ValueError as error:
        raise ReportError(f"report: {path} is of no day: {error}") from error
    if report and not is_own_day:
        raise ReportError(f"report: {path} is of {report.day}")
    return report


def report_trend(reports: Sequence[DayReport]) -> ReportTrend:
    """The trend over some reports. Raises `ReportError` if there is none, or if their windows differ."""
    if not reports:
        raise ReportError("trend: there is no final report; a day's report is final once its last window has closed")
    windows = sorted({report.window_hours for report in reports})
    if len(windows) > 1:
        raise ReportError(
            f"trend: reports have windows of {' and '.join(map(str, windows))} hours, so their rates cannot be"
            " compared; give a smaller --days"
        )
    days = [day_number(report.day) for report in reports]
    hit_rate = trend(days, [report.total.hit_rate for report in reports])
    uplift = trend(days, [report.total.uplift for report in reports])
    return ReportTrend(
        first=min(report.day for report in reports),
        last=max(report.day for report in reports),
        hit_rate=hit_rate,
        uplift=uplift,
        sentence=f"The hit rate {_verdict(hit_rate.slope)}; the uplift {_verdict(uplift.slope)}.",
    )


def trend_text(trend: ReportTrend) -> str:
    """The trend as a table in percent and points, and its sentence."""
    lines = [f"{f'{trend.first} to {trend.last}':<24}{'hit rate, %':>25}{'uplift, points':>28}"]
    for label, cells in (
        ("days", [str(each.days) for each in (trend.hit_rate, trend.uplift)]),
        ("mean over days", [interval_text(each.mean, ".2f", 100) for each in (trend.hit_rate, trend.uplift)]),
        ("between days, SD", [_points(each.between_days) for each in (trend.hit_rate, trend.uplift)]),
        ("slope per day", [interval_text(each.slope, "+.3f", 100) for each in (trend.hit_rate, trend.uplift)]),
    ):
        lines.append(f"{label:<24}{cells[0]:>25}{cells[1]:>28}")
    return "\n".join([*lines, trend.sentence])


def _points(deviation: float | None) -> str:
    return "–" if deviation is None else format(100 * deviation, ".2f")


def _verdict(slope: Interval) -> str:
    if slope.mean is None or slope.low is None or slope.high is None:
        return "has too few days for a trend"
    if slope.low <= 0 <= slope.high:
        return "shows no trend beyond what days differ by chance"
    return f"{'rises' if slope.mean > 0 else 'falls'} by {100 * abs(slope.mean):.2g} points a day"
