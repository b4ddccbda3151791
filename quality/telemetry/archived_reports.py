"""Makes reports again from the archive: any day, final ones as well, and revisions of those made under wrong rules."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from quality.errors import ReportError
from quality.telemetry.archive_rows import ArchiveRows
from quality.telemetry.day_report import DayReport
from quality.telemetry.report import Reports
from stream.ledger_clock import latest_lines, stream_time
from stream.zone import day_name

AS_ARCHIVED = "The figures count the events of the archive, whatever telemetry had read."


@dataclass(frozen=True)
class ArchivedReports:
    """Reports of days that are in the archive. Its functions raise `ArchiveError` if the archive cannot be read."""

    reports: Reports

    @cached_property
    def rows(self) -> ArchiveRows:
        """The archive as it is now."""
        return ArchiveRows.of(self.reports.stream, self.reports.settings)

    @cached_property
    def stream_time(self) -> int | None:
        """How far the archived stream has come, ms UTC; None without lines."""
        return stream_time(self.rows.entries)

    def days(self, first: int, last: int) -> list[int]:
        """The days from `first` to `last` that have events."""
        return [day for day in self.rows.known_days() if first <= day <= last]

    def build(self, day: int) -> DayReport:
        """The report of a day: final if the stream has come far enough, else as of the stream's time."""
        if self.stream_time is None:
            raise ReportError(f"report: the archive has no lines of {day_name(day)}")
        final = self.reports.days.final_from(day) <= self.stream_time
        return self.reports.build(day, self.rows.day_rows(day), self.stream_time, AS_ARCHIVED, final=final)

    def partitions_behind(self, day: int) -> Iterator[int]:
        """The partitions whose lines do not reach the end of a day's windows: some may not be archived, yet."""
        for (_, partition), latest in latest_lines(self.rows.entries).items():
            if latest.reached is not None and latest.reached < self.reports.days.closes(day):
                yield partition

    def make_final(self, day: int, reason: str | None) -> str:
        """Write the final report of a day, or with a `reason` its revision; returns what was done.

        Raises `ReportError` if the day is not over, or if the final report differs and no reason is given.
        """
        report = self.build(day)
        if not report.final:
            raise ReportError(
                f"report: {day_name(day)} is not over: the archived stream has come to {report.watermark}"
            )
        if self.reports.final_head(day) is None:
            self.reports.write(report)
            return "final"
        written = self.reports.written(day)
        if written and written.figures() == report.figures():
            return "unchanged"
        if reason is None:
            raise ReportError(
                f"report: {self.reports.path(day)} differs from what the archive gives now; "
                "give --reason to revise it, the old one is kept"
            )
        return f"revision {self.reports.revise(report, reason).revision}"
