"""Computes the report of a day from its rows, and writes its files.

`Reports.build` is a function of the rows, the releases and a watermark; it returns a `DayReport`. A report is rewritten
while answers of its day have open windows, and once more when it is final. Then it is only replaced by a revision, on
demand; the old one is kept beside it. A file that cannot be read is set aside and made again.

Telemetry and `quality report --final` may write at the same time. Whoever writes holds a lock while it looks at the
file and replaces it, so the first final report stays, a provisional one never replaces it, and a revision is always of
the report that is kept beside it.
"""

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import filelock
import msgspec
import numpy as np

from quality.alerts.alert_file import LOCK_S
from quality.catalog import Catalog, KnownMovie
from quality.errors import RecordsError, ReportError
from quality.settings import QualitySettings
from quality.telemetry.day_report import FIGURES, LAYOUT, DayReport, ReportHead, encode_report, read_head, read_report
from quality.telemetry.day_rows import DayRows
from quality.telemetry.day_verdict import moment
from quality.telemetry.judged_day import JudgedDay, judge_day
from quality.telemetry.release_history import read_release_history
from quality.telemetry.report_days import ReportDays
from quality.telemetry.report_html import render_html
from stream import durable
from stream.settings import StreamSettings
from stream.zone import day_name, day_number

log = logging.getLogger(__name__)

_STEERED = (
    "Lists that were shown also steer what is watched: the uplift over the popular list is a comparison, not a "
    "randomised experiment."
)


@dataclass(frozen=True)
class Reports:
    """Computes and writes reports."""

    stream: StreamSettings
    settings: QualitySettings

    @cached_property
    def days(self) -> ReportDays:
        """When reports close and become final."""
        return ReportDays.of(self.stream, self.settings)

    @property
    def folder(self) -> Path:
        """The folder of the reports."""
        return self.stream.var / "reports"

    def path(self, day: int) -> Path:
        """The file of a day's report."""
        return self.folder / f"{day_name(day)}.json"

    def final_head(self, day: int) -> ReportHead | None:
        """What the final report of a day says of itself; None if there is none.

        It may have the layout of an older version. Raises `ReportError` if the file cannot be read.
        """
        head = read_head(self.path(day))
        return head if head and head.final else None

    def written(self, day: int) -> DayReport | None:
        """The final report of a day, if there is one of this layout. Raises `ReportError` as `final_head` does."""
        head = self.final_head(day)
        return read_report(self.path(day)) if head and head.layout == LAYOUT else None

    def is_final(self, day: int) -> bool:
        """Whether a day has a final report, of any layout, that can be read."""
        try:
            return self.final_head(day) is not None
        except ReportError:
            return False

    def lock(self) -> AbstractContextManager[object]:
        """Held while a report is looked at and replaced, so that of several processes none undoes what another did.

        Raises `filelock.Timeout` (an `OSError`) if it is not free in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.folder / "writer.lock", timeout=LOCK_S)

    def write(self, report: DayReport) -> None:
        """Write a report and its page, unless there is a final one; a file that cannot be read is set aside."""
        day = day_number(report.day)
        with self.lock():
            try:
                if self.final_head(day):
                    return
            except ReportError as error:
                log.error("%s; it is set aside as %s and made again", error, self.set_aside(day).name)
            self._replace(report)

    def revise(self, report: DayReport, reason: str) -> DayReport:
        """Replace a final report, keeping it beside the new one; returns the revision.

        Raises `ReportError` if there is none, or the file cannot be read.
        """
        path = self.path(day_number(report.day))
        with self.lock():
            final = self.final_head(day_number(report.day))
            if final is None:
                raise ReportError(f"report: there is no final report {path}")
            number = final.revision
            for kept in (f"{report.day}.revision-{number}.html", f"{report.day}.revision-{number}.json"):
                durable.write_bytes(path.with_name(kept), path.with_suffix(Path(kept).suffix).read_bytes())
            revised = msgspec.structs.replace(report, revision=final.revision + 1, revision_reason=reason)
            self._replace(revised)
        return revised

    def set_aside(self, day: int) -> Path:
        """Rename a day's file, which cannot be read; returns the new path."""
        path = self.path(day)
        return path.replace(path.with_name(f"{path.name}.damaged"))

    def _replace(self, report: DayReport) -> None:
        path, data = self.path(day_number(report.day)), encode_report(report)
        # the page first: the JSON marks a report as final
        durable.write_bytes(path.with_suffix(".html"), render_html(report).encode())
        durable.write_bytes(path, data)

    def build(self, day: int, rows: DayRows, watermark: int, *notes: str, final: bool = False) -> DayReport:
        """The report of a day as of a watermark; a final one is as of the time at which it closes."""
        as_of = self.days.closes(day) if final else min(watermark, self.days.closes(day))
        releases, known = self.stream.var / "releases", self._known_movies()
        judged_day = judge_day(rows, releases, as_of, self.settings, self.days.zone, known)
        return DayReport(
            layout=2,
            day=day_name(day),
            timezone=self.stream.timezone,
            final=final,
            window_hours=self.settings.window_hours,
            watermark=moment(as_of),
            notes=[*self._notes(rows, judged_day), *notes],
            **{name: figure.compute(judged_day) for name, figure in FIGURES.items()},
        )

    def _known_movies(self) -> dict[str, KnownMovie]:
        """A catalogue that cannot be read costs the figures that need it, not the report."""
        try:
            return Catalog(self.stream.var).movies()
        except RecordsError as error:
            log.warning("report: no runtimes, costs and adult flags: %s", error)
            return {}

    def _notes(self, rows: DayRows, judged_day: JudgedDay) -> list[str]:
        still_open = len(judged_day.judged.user) - len(judged_day.closed.user)
        unknown = len(judged_day.closed.user) - len(judged_day.compared.user)
        with_seen = int(np.count_nonzero(~judged_day.compared.leaves_out_seen))
        notes = [_STEERED]
        if still_open:
            notes.append(f"The windows of {still_open} answers are still open; they are in no rate.")
        if unknown:
            notes.append(f"The baseline of {unknown} answers is unknown: no release was in force, or it is gone.")
        if with_seen:
            notes.append(
                f"The baseline of {with_seen} answers may hold movies that their users had seen, to its disadvantage: "
                "an older version made their release, which does not say what these are."
            )
        known_from = rows.known_from
        if known_from is not None and known_from > rows.first - self.settings.gap_ms:
            notes.append(
                f"The stream is known from {moment(known_from)} on; a session that ran then seems to start then."
            )
        damage = read_release_history(self.stream.var / "releases").damage
        return notes + [f"{error}; of the answers then the release is not known." for error in damage]
