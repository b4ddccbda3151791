"""Watches the stream, the store and the reports while telemetry reads: raises its alerts, and keeps figures of answers.

| figure or alert | known |
|---|---|
| silent stream or partition, days that stay open, late lines | with every batch |
| availability | for each hour of the stream (UTC), once it is `grace_minutes` over |
| hit rate, uplift, open answers, share personal | with every report: each hour of the stream, and when it is final |

Hours and reports that were not judged when a process died are judged by the next one; alerts have ids, so a second look
changes nothing. `look` costs a few look-ups in tables by their keys, and once an hour a scan of that hour's answers.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from quality.alerts.alert_file import Alert, AlertFile
from quality.errors import ReportError
from quality.telemetry import stream_alerts
from quality.telemetry.day_report import DayReport, read_report
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from quality.telemetry.stream_state import StreamState
from stream.zone import HOUR_MS

JUDGED_HOUR = "judged_hour"
"""State of the store: the last hour whose availability was judged, counted from 1970-01-01 in UTC."""
_OVERDUE_MS = 6 * HOUR_MS
"""How long a report may stay open though it could be final, ms of stream time."""
_OVERDUE_S = 600.0
"""And how long by this machine's clock: while much is caught up, the collector may need some minutes longer."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnswerFigures:
    """What is known of the latest answers; None is not known yet."""

    open_days: int = 0
    """Days whose report is not final."""
    open_answers: int | None = None
    """Answers whose window is open, as of the last reports."""
    late_lines: Mapping[str, int] = field(default_factory=dict)
    """By reason: lines that came too late for their report, since the first day whose report is open."""
    availability: float | None = None
    """Share of the requests of the last judged hour with requests that had status 200."""
    hit_rate: float | None = None
    """Of the last day that has closed answers, as of its last report."""


class StreamWatch:
    """Raises alerts and keeps `figures`. Uses the store between two batches."""

    def __init__(self, store: Store, reports: Reports, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._store, self._reports, self._monotonic_s = store, reports, monotonic_s
        self._alerts = AlertFile(reports.stream.var)
        self._read: dict[int, tuple[int, DayReport]] = {}
        """By day: its report, and when the file was changed."""
        self._watched = set(store.days(final=True)[-1:])
        """Days of which no final report was read, and the last one of which one was."""
        self._final = set(store.days(final=True))
        """Days whose report was final at the last look; one that only the archive has is never open."""
        self._overdue: dict[int, float] = {}
        """By day whose report is overdue: since when, seconds of the monotonic clock."""
        self._stream_is_silent = False
        self.figures = AnswerFigures()

    def look(self, state: StreamState) -> None:
        """Raise the alerts of a state. To be called after each batch, before rows of the store are pruned."""
        open_days = self._store.days(final=False)
        self.figures = replace(self.figures, open_days=len(open_days), late_lines=self._store.late_lines())
        alerts = [*self._of_reports(open_days)]
        if state.watermark is not None:
            alerts += [*self._of_overdue(open_days, state.watermark), *self._of_hours(state.watermark)]
        if state.stream_time is not None and state.live:
            alerts += self._of_silence(state, int(self._reports.days.zone.day_number(state.stream_time)))
        new = [alert for alert in alerts if alert.id not in self._alerts.ids]
        if new:
            self._alerts.append(new)
        if state.watermark is not None:  # after the alerts are on disk
            self._note_hour(state.watermark)

    def _of_silence(self, state: StreamState, day: int) -> list[Alert]:
        is_silent = state.silent_s >= self._reports.settings.silent_seconds
        if self._stream_is_silent and not is_silent:
            log.info("lines come again")
        self._stream_is_silent = is_silent
        alerts = [stream_alerts.partition_silent(day, partition) for partition in sorted(state.silent)]
        return [stream_alerts.stream_silent(day, state.silent_s), *alerts] if is_silent else alerts

    def _of_overdue(self, open_days: list[int], watermark: int) -> list[Alert]:
        now = self._monotonic_s()
        late_ms = {day: watermark - self._reports.days.final_from(day) for day in open_days}
        self._overdue = {day: self._overdue.get(day, now) for day in open_days if late_ms[day] >= _OVERDUE_MS}
        overdue = [day for day, since in self._overdue.items() if now - since >= _OVERDUE_S]
        return [stream_alerts.report_overdue(day, late_ms[day] / HOUR_MS) for day in overdue]

    def _last_over(self, watermark: int) -> int:
        """The last hour that is over, by more than lines may be in disorder."""
        return (watermark - self._reports.settings.grace_ms) // HOUR_MS - 1

    def _of_hours(self, watermark: int) -> list[Alert]:
        """Judge the hours since the last one that was judged, and that one again if this process has not."""
        last, judged = self._last_over(watermark), self._store.state(JUDGED_HOUR)
        first = last if judged is None else judged + (self.figures.availability is not None)
        by_hour = self._store.requests_by_hour(first * HOUR_MS, (last + 1) * HOUR_MS)
        alerts = [self._of_hour(hour, by_status) for hour, by_status in by_hour.items()]
        return [alert for alert in alerts if alert is not None]

    def _of_hour(self, hour: int, by_status: dict[int, int]) -> Alert | None:
        self.figures = replace(self.figures, availability=by_status.get(200, 0) / sum(by_status.values()))
        day = int(self._reports.days.zone.day_number(hour * HOUR_MS))
        return stream_alerts.availability_low(day, hour, by_status, self._reports.settings.verdict.availability)

    def _note_hour(self, watermark: int) -> None:
        last, judged = self._last_over(watermark), self._store.state(JUDGED_HOUR)
        if judged is None or last > judged:
            self._store.set_state(JUDGED_HOUR, last)

    def _of_reports(self, open_days: list[int]) -> list[Alert]:
        """Judge the reports that were written since the last look."""
        before, self._final = self._final, set(self._store.days(final=True))
        days = sorted(self._watched.union(open_days, self._final - before))
        new = [report for day in days if (report := self._written(day))]
        if new:
            is_final = {day: report.final for day, (_, report) in self._read.items()}
            last_final = max((day for day, final in is_final.items() if final), default=None)
            self._read = {day: read for day, read in self._read.items() if day == last_final or not is_final[day]}
            self._note_reports()
        self._watched = {*self._read, *open_days}
        judges = stream_alerts.below_baseline, stream_alerts.few_personal
        alerts = [judge(report) for report in new for judge in judges]
        return [alert for alert in alerts if alert is not None]

    def _note_reports(self) -> None:
        reports = [report for _, (_, report) in sorted(self._read.items())]
        measured = [report.total.hit_rate.mean for report in reports if report.total.hit_rate.mean is not None]
        self.figures = replace(
            self.figures,
            hit_rate=measured[-1] if measured else None,
            open_answers=sum(report.total.answers.provisional for report in reports),
        )

    def _written(self, day: int) -> DayReport | None:
        """The report of a day, if it was written since the last look."""
        path = self._reports.path(day)
        try:
            changed = path.stat().st_mtime_ns
            if day in self._read and self._read[day][0] == changed:
                return None
            report = read_report(path)
        except (FileNotFoundError, ReportError):  # the next writing sets a damaged file aside, and says so
            return None
        if report is not None:
            self._read[day] = changed, report
        return report
