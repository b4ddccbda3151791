"""Computes the report of a day from the rows of the telemetry store, and writes its files.

`Reports.build` is a function of the store, the releases and a watermark; it returns a `DayReport`. A report is
rewritten while answers of its day have open windows; once the watermark has passed the day's end by the window and the
grace, it is written as final and never changes again. A final report depends on the lines only, not on when or in which
batches they were read.
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import msgspec

from quality.settings import QualitySettings
from quality.telemetry.day_report import FIGURES, DayReport, read_report
from quality.telemetry.day_rows import DayRows
from quality.telemetry.judged_day import JudgedDay, judge_day
from quality.telemetry.report_html import render_html
from quality.telemetry.report_schema import validate_report
from quality.telemetry.store import Store
from stream import durable
from stream.settings import StreamSettings
from stream.zone import day_name, zone_named

_STEERED = (
    "Lists that were shown also steer what is watched: the uplift over the popular list is a comparison, not a "
    "randomised experiment."
)


@dataclass(frozen=True, slots=True)
class Reports:
    """Computes and writes reports."""

    store: Store
    stream: StreamSettings
    settings: QualitySettings

    @property
    def releases(self) -> Path:
        """The folder of the releases."""
        return self.stream.var / "releases"

    def path(self, day: int) -> Path:
        """The file of a day's report."""
        return self.stream.var / "reports" / f"{day_name(day)}.json"

    def closes(self, day: int) -> int:
        """The watermark from which a day's report is final, ms UTC."""
        _, end = self._bounds(day)
        return end + self.settings.window_ms + self.settings.grace_ms

    def written(self, day: int) -> DayReport | None:
        """The final report of a day, if there is one."""
        report = read_report(self.path(day))
        return report if report and report.final else None

    def write(self, day: int, watermark: int) -> None:
        """Write a day's report and its page; a final one stays unchanged."""
        if self.written(day):
            return
        report = self.build(day, watermark)
        document = msgspec.to_builtins(report)
        validate_report(document)
        path = self.path(day)
        # the page first: the JSON marks a report as final
        durable.write_bytes(path.with_suffix(".html"), render_html(report).encode())
        durable.write_json(path, document)

    def build(self, day: int, watermark: int) -> DayReport:
        """The report of a day as of a watermark."""
        watermark = min(watermark, self.closes(day))
        rows = self.store.day_rows(day, *self._bounds(day), self.settings.window_ms)
        judged_day = judge_day(rows, self.releases, watermark, self.settings)
        return DayReport(
            layout=1,
            day=day_name(day),
            timezone=self.stream.timezone,
            final=watermark == self.closes(day),
            window_hours=self.settings.window_hours,
            watermark=_utc(watermark),
            notes=self._notes(rows, judged_day),
            **{name: figure.compute(judged_day) for name, figure in FIGURES.items()},
        )

    def _bounds(self, day: int) -> tuple[int, int]:
        return zone_named(self.stream.timezone).bounds(day_name(day))

    def _notes(self, rows: DayRows, judged_day: JudgedDay) -> list[str]:
        still_open = len(judged_day.judged.user) - len(judged_day.closed.user)
        unknown = len(judged_day.closed.user) - len(judged_day.compared.user)
        notes = [_STEERED]
        if still_open:
            notes.append(f"The windows of {still_open} answers are still open; they are in no rate.")
        if unknown:
            notes.append(f"The baseline of {unknown} answers is unknown: no release was in force, or it is gone.")
        known_from = rows.known_from
        if known_from is not None and known_from > rows.first - self.settings.gap_ms:
            notes.append(
                f"The stream is known from {_utc(known_from)} on; a session that ran then seems to start then."
            )
        return notes


def _utc(time_ms: int) -> str:
    moment = dt.datetime.fromtimestamp(time_ms // 1000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03}Z"
