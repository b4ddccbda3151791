"""Alert thresholds: compares the faults of each hour of stream time with their normal numbers.

A ledger entry belongs to the hour that its partition had reached by the stream's clock. Each commit re-judges the hours
that it affects: its own, and those of the following week, which are compared with it. So the alerts depend on the
ledger alone, however the lines were batched and whichever process was killed in between:

| killed | what the next start does |
|---|---|
| before the commit | its lines are read and judged again |
| between the commit and its alerts, or during these | `resume` judges the hours that the last entries affect |
| after them | `resume` judges these hours again; an alert that is in the file is not raised again |

An hour has one alert per fate and reason, `<fate>[:<reason>]:<hour>`, and another, `…:hold`, if it is too bad for the
night to learn from. Whether the night is held is decided later, from the ledger of the whole hour (`blocking_alerts`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from quality.alerts.alert_file import Alert, AlertFile
from quality.settings import AlertLimits, QualitySettings, limits_of
from stream.ledger_entry import FATES, LedgerEntry
from stream.zone import HOUR_MS

JUDGED = FATES[1:]
"""Fates with thresholds: all but accepted."""
WEEK = 7 * 24
HOLD = ":hold"

Fault = tuple[str, str | None]
"""A fate and one of its reasons, or None for all of its lines."""


@dataclass
class HourCounts:
    """Lines of one hour of the stream so far."""

    lines: int = 0
    counts: Counter[Fault] = field(default_factory=Counter)
    """Lines by fault; lines with a reason also count for their fate."""
    batch: str = ""
    """Name of the last added entry."""


class HourlyCounts:
    """All hours of the stream, numbered from 1970 on. None is dropped, since an hour takes only a few counts."""

    def __init__(self, settings: QualitySettings) -> None:
        self._settings = settings
        self._hours: dict[int, HourCounts] = {}

    def add(self, entry: LedgerEntry) -> list[int]:
        """Count an entry; returns the hours that it affects, in order."""
        if entry.reached is None:
            return []
        number = entry.reached // HOUR_MS
        hour = self._hours.setdefault(number, HourCounts())
        hour.lines += entry.lines
        hour.batch = entry.last_name
        for count in entry.counts:
            hour.counts[count.fate, None] += count.lines
            if count.reason is not None:
                hour.counts[count.fate, count.reason] += count.lines
        return self.affected(entry)

    def affected(self, entry: LedgerEntry) -> list[int]:
        """The hours that an entry affects, in order: its own, and those of the following week."""
        if entry.reached is None:
            return []
        number = entry.reached // HOUR_MS
        return [other for other in range(number, number + WEEK + 1) if other in self._hours]

    def since(self, number: int) -> list[int]:
        """The hours from one on, in order."""
        return sorted(other for other in self._hours if other >= number)

    def alerts(self, number: int) -> list[Alert]:
        """The alerts of an hour as counted so far."""
        faults = sorted(self._hours[number].counts, key=lambda fault: (fault[0], fault[1] or ""))
        alerts = (self._judged(number, fault) for fault in faults if fault[0] in JUDGED)
        return [alert for alert in alerts if alert is not None]

    def _judged(self, number: int, fault: Fault) -> Alert | None:
        hour, limits = self._hours[number], limits_of(self._settings.thresholds, *fault)
        lines = hour.counts[fault]
        if limits is None or lines < limits.count:
            return None
        week_lines, week_count = self._week(number, fault)
        comparable = week_lines >= self._settings.week_lines
        # whole numbers on both sides: exact at the edge
        grown = comparable and lines * week_lines > limits.times * week_count * hour.lines
        if lines / hour.lines <= limits.share and not grown:
            return None
        return self._alert(number, fault, limits, week_count / week_lines if comparable else None)

    def _week(self, number: int, fault: Fault) -> tuple[int, int]:
        """Lines of the week before an hour, and how many of them have a fault."""
        before = [hour for earlier in range(number - WEEK, number) if (hour := self._hours.get(earlier))]
        return sum(hour.lines for hour in before), sum(hour.counts[fault] for hour in before)

    def _alert(self, number: int, fault: Fault, limits: AlertLimits, week: float | None) -> Alert:
        hour, (fate, reason) = self._hours[number], fault
        lines, share, name = hour.counts[fault], hour.counts[fault] / hour.lines, hour_name(number)
        hold = limits.hold is not None and share > limits.hold and lines >= limits.hold_count
        fault_text = f"{fate} ({reason})" if reason else fate
        text = f"{name}: {share:.2%} of {hour.lines} lines {fault_text}, at most {limits.share:.2%} are normal"
        text += "" if week is None else f"; in the week before {week:.3%}"
        counts = sorted(hour.counts.items(), key=str)
        by_reason = {cause: count for (other, cause), count in counts if other == fate and cause}
        return Alert(
            id=f"{fate}{f':{reason}' if reason else ''}:{name}{HOLD if hold else ''}",
            alert=fate,
            text=text + ("; too many to learn from" if hold else ""),
            reason=reason,
            hour=name,
            stream_time=number * HOUR_MS,
            lines=lines,
            of=hour.lines,
            share=share,
            threshold=limits.share,
            week=week,
            reasons=by_reason if reason is None else {reason: lines},
            batch=hour.batch,
            hold=hold,
        )


class ThresholdMonitor:
    """Raises alerts for what the collector commits. Call `committed` after each commit, before the next one."""

    def __init__(self, var: Path, settings: QualitySettings) -> None:
        self._settings = settings
        self._file = AlertFile(var)
        self._hours = HourlyCounts(settings)

    def resume(self, entries: Iterable[LedgerEntry]) -> list[Alert]:
        """Recount the whole ledger, and raise alerts that a crash prevented. Returns the new ones."""
        self._hours = HourlyCounts(self._settings)
        last: dict[tuple[str, int], LedgerEntry] = {}
        for entry in entries:
            self._hours.add(entry)
            before = last.setdefault((entry.topic, entry.partition), entry)
            if before.last < entry.last:
                last[entry.topic, entry.partition] = entry
        entry_alerts = [alert for entry in last.values() for alert in _entry_alerts(entry)]
        affected = {number for entry in last.values() for number in self._hours.affected(entry)}
        return self._raise(entry_alerts, sorted(affected))

    def committed(self, entry: LedgerEntry) -> list[Alert]:
        """Count a committed entry, and raise its alerts. Returns the new ones."""
        return self._raise(_entry_alerts(entry), self._hours.add(entry))

    def _raise(self, entry_alerts: list[Alert], hours: list[int]) -> list[Alert]:
        alerts = entry_alerts + [alert for number in hours for alert in self._hours.alerts(number)]
        if all(alert.id in self._file.ids for alert in alerts):
            return []
        self._file.refresh()
        # an hour that was too bad, and has since been diluted, already has its alert
        return self._file.append(alert for alert in alerts if alert.id + HOLD not in self._file.ids)


def blocking_alerts(var: Path, entries: Iterable[LedgerEntry], settings: QualitySettings, since_ms: int) -> list[Alert]:
    """The alerts that hold a night which learns from the stream since a time (ms UTC), the worst first.

    Hours are judged by the current ledger: a replay of the quarantine, or good lines later in the hour, can end a
    hold. Alerts of other kinds hold as they were raised.
    """
    hours = HourlyCounts(settings)
    for entry in entries:
        hours.add(entry)
    alerts = [alert for number in hours.since(since_ms // HOUR_MS) for alert in hours.alerts(number)]
    raised = (line.alert for line in AlertFile(var).read())
    alerts += [alert for alert in raised if alert.alert not in JUDGED and (alert.stream_time or 0) >= since_ms]
    return sorted((alert for alert in alerts if alert.hold), key=lambda alert: (-(alert.share or 0), alert.id))


def hour_name(number: int) -> str:
    """`YYYY-MM-DDTHHZ` of an hour counted from 1970 on."""
    return f"{datetime.fromtimestamp(number * HOUR_MS // 1000, UTC):%Y-%m-%dT%HZ}"


def _entry_alerts(entry: LedgerEntry) -> list[Alert]:
    """The alerts of one entry that do not depend on its hour: lost records, clocks apart."""
    if entry.lost:
        name = "retention_gap"
        text = f"{entry.lost} records of {entry.topic}-{entry.partition} were gone from Kafka before they were read"
        return [Alert(id=f"{name}:{entry.name}", alert=name, text=text, lines=entry.lost, batch=entry.name)]
    if entry.clocks_apart_ms is not None and entry.reached is not None:
        name, last = "clocks_apart", entry.reached
        hours = entry.clocks_apart_ms / HOUR_MS
        text = f"most lines of {entry.name} came {hours:+.1f} h after their own time; they were taken by that."
        text += " Is [stream] timezone right, and does the producer set the records' times?"
        id_ = f"{name}:{hour_name(last // HOUR_MS)}"
        return [Alert(id=id_, alert=name, text=text, stream_time=last, lines=entry.lines, batch=entry.name)]
    return []
