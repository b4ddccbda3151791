"""Keeps the reports up to date while telemetry reads the stream.

Open reports are computed from the store. A final report is computed from the archive, once the ledger has every record
that telemetry had read when the day was over: so telemetry counts what the nights count, whatever happened to its own
store. Without a collector there is no ledger, and final reports come from the store.

The archive may also have lines of a day on which telemetry refused them all, so days that its store lacks are looked up
in the archive when they are over.
"""

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from quality.alerts.alert_file import raise_alert
from quality.telemetry.archive_rows import ArchiveRows
from quality.telemetry.archived_reports import AS_ARCHIVED
from quality.telemetry.day_rows import DayRows
from quality.telemetry.open_sessions import OpenSessions
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from quality.telemetry.stream_alerts import report_differs
from stream.archive import Archive
from stream.ledger_entry import of_present_topic
from stream.zone import day_name

_DIFFERING = 0.005
"""A larger share of events that telemetry had read otherwise is an alert. Some are normal: the collector asks the APIs
about torn movie ids, and telemetry judges by what the catalogue holds at that moment."""
_SET_ASIDE_S = 30.0
"""How long a final report waits for records that were set aside and that the stream's clock has confirmed."""
_NO_ARCHIVE = "There is no archive of this topic: the figures count events as telemetry judged them."
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReportJob:
    """Reports to write, as of one state of the store."""

    watermark: int
    """ms UTC."""
    over: Sequence[int]
    """Days whose report is final as soon as the archive has all their lines."""
    unknown: Sequence[int]
    """Days that are over and not in the store; the archive may have lines of them, and then they have a report too."""
    rewritten: Sequence[int] | None
    """Days whose report is written again; None: not yet."""


@dataclass(frozen=True)
class ReportKeeper:
    """Decides which reports are due, and writes them.

    `due` and `note` use the store between two batches; `write` takes long, and reads the store by a connection of its
    own while the next batches are taken.
    """

    store: Store
    reports: Reports
    sessions: OpenSessions
    alone_from: float = 0.0
    """The time of the monotonic clock from which on a missing archive means that there is no collector."""
    _needed: dict[int, dict[int, int]] = field(default_factory=dict)
    """By day that is over: by partition, the offset that the ledger must have before the report is final."""

    _held_since: dict[int, float] = field(default_factory=dict)
    """By day that waits for records that were set aside: since when, seconds of the monotonic clock."""

    _without_lines: set[int] = field(default_factory=set)
    """Days that are neither in the store nor in the archive."""

    @cached_property
    def _archive(self) -> Archive:
        """Read again and again while days wait for the ledger, so it keeps the entries that it has read."""
        return Archive(self.reports.stream.var)

    def due(self, watermark: int, *, now: bool = False, open_too: bool = True) -> ReportJob | None:
        """What to write at a watermark: the days that are over, and all open ones if it is time (or `now`).

        Without `open_too` it is never time for open ones.
        """
        days, still_open = self.reports.days, self.store.days(final=False)
        over = [day for day in still_open if days.final_from(day) <= watermark]
        unknown = self._unknown_days({*still_open, *self.store.days(final=True)}, watermark)
        if new := [day for day in (*over, *unknown) if day not in self._needed]:
            self._needed.update(dict.fromkeys(new, self._read_offsets()))
        reported = self.store.state("reported")
        is_recent = reported is not None and 0 <= watermark - reported < self.reports.settings.report_every_ms
        rewrite = now or (open_too and not is_recent)
        if not (over or unknown or rewrite):
            return None
        today = days.zone.day_number(watermark)
        return ReportJob(watermark, over, unknown, [day for day in still_open if day <= today] if rewrite else None)

    def _unknown_days(self, known: Collection[int], watermark: int) -> list[int]:
        """The days that are over, since the first of the `known` ones, that are not among them."""
        last = self.reports.days.last_closed(watermark - self.reports.days.grace_ms)
        days = range(min(known, default=last + 1), last + 1)
        return [day for day in days if day not in known and day not in self._without_lines]

    def write(self, job: ReportJob) -> list[int]:
        """Write the reports that are due; returns the days that have a final one now."""
        finished = self._write_final(job) if job.over or job.unknown else []
        if still_open := [day for day in job.rewritten or () if day not in finished]:
            days = self.reports.days
            with self.sessions.reading(self.store, days.bounds(min(still_open))[0]) as (store, sessions):
                for day in still_open:
                    rows = store.rows_with_sessions(day, days, sessions)
                    self.reports.write(self.reports.build(day, rows, job.watermark))
        return finished

    def note(self, job: ReportJob, finished: list[int], open_since: int) -> None:
        """Note in the store what was written, and prune the rows that no open report needs.

        `open_since`: sessions without a minute since then, ms UTC, grow only by late lines.
        """
        if job.rewritten is not None:
            self.store.set_reported(job.watermark)
        if finished:
            still_open = set(self.store.days(final=False)) - set(finished)
            keep_day = min(still_open, default=finished[-1] + 1)
            self.store.finish(finished, self.reports.days.bounds(keep_day)[0], keep_day, open_since)
            self._forget(finished)

    def _read_offsets(self) -> dict[int, int]:
        return {partition: mark.offset for partition, mark in self.store.marks(self.reports.stream.topic).items()}

    def _stored_rows(self, day: int) -> DayRows:
        with self.store.snapshot() as store:
            return store.day_rows(day, self.reports.days)

    def _write_final(self, job: ReportJob) -> list[int]:
        archived = ArchiveRows.of(self.reports.stream, self.reports.settings, self._archive)
        if not archived.entries and self._may_be_archived():
            return []
        held = {entry.partition: entry.last + 1 for entry in of_present_topic(archived.entries)}
        over = sorted([*job.over, *job.unknown])
        has_all = [day for day in over if not archived.entries or self._has(held, day)]
        settled = self._after_set_aside(has_all) if archived.is_waiting() else has_all
        finished = self._with_lines(settled, job.unknown, archived)
        for day in finished:
            if not self.reports.is_final(day):
                self._write_final_of(day, archived)
        return finished

    def _with_lines(self, days: list[int], unknown: Collection[int], archived: ArchiveRows) -> list[int]:
        """The days that the store or the archive has; notes the others, which are not looked up again."""
        without_lines = set(days).intersection(unknown)
        if without_lines:
            without_lines -= {*archived.known_days()}
        self._without_lines.update(without_lines)
        self._forget(without_lines)
        return [day for day in days if day not in without_lines]

    def _forget(self, days: Collection[int]) -> None:
        """Wait no longer for what some days needed."""
        for day in days:
            del self._needed[day]
            self._held_since.pop(day, None)

    def _may_be_archived(self) -> bool:
        """Whether a collector has begun, or may still: processes that start together do so within seconds."""
        return self._archive.ledger.parent.exists() or time.monotonic() < self.alone_from

    def _has(self, held: dict[int, int], day: int) -> bool:
        return all(held.get(partition, 0) > offset for partition, offset in self._needed[day].items())

    def _after_set_aside(self, days: list[int]) -> list[int]:
        """The days that have waited long enough for records that the collector is about to archive.

        It does so right after a commit. Not for ever: it may be dead, or find that they are wrong after all.
        """
        now = time.monotonic()
        return [day for day in days if now - self._held_since.setdefault(day, now) >= _SET_ASIDE_S]

    def _write_final_of(self, day: int, archived: ArchiveRows) -> None:
        rows = live = self._stored_rows(day)
        notes = [_NO_ARCHIVE]
        if archived.entries:
            rows, notes = archived.day_rows(day), [AS_ARCHIVED]
            differing = count_differences(live, rows)
            log.info("report of %s: telemetry had read %d events otherwise than the archive", day_name(day), differing)
            if differing > _DIFFERING * rows.events:
                raise_alert(self.reports.stream.var, report_differs(day, differing))
        self.reports.write(self.reports.build(day, rows, self.reports.days.closes(day), *notes, final=True))
        log.info("report of %s: final", day_name(day))


def count_differences(live: DayRows, archived: DayRows) -> int:
    """How many answers, ratings and starts only one of two has."""
    number = np.full(max(live.movies.values(), default=0) + 1, -1, np.int64)
    for movie, own in live.movies.items():
        number[own] = archived.movies.get(movie, -1)
    starts, ratings = live.starts(), live.ratings
    pairs = [
        (live.answers.identities(), archived.answers.identities()),
        ((*starts[:2], number[starts[2]]), archived.starts()),
        (
            (ratings.time, ratings.user, number[ratings.movie], ratings.rating),
            tuple(getattr(archived.ratings, name) for name in ("time", "user", "movie", "rating")),
        ),
    ]
    return sum(_only_in_one(*pair) for pair in pairs)


def _only_in_one(left: tuple[np.ndarray, ...], right: tuple[np.ndarray, ...]) -> int:
    """How many rows only one of two tables (columns of int64) has, each with its multiplicity."""
    rows, counts = np.unique(np.concatenate([np.stack(left, 1), np.stack(right, 1)]), axis=0, return_inverse=True)[:2]
    balance = np.bincount(counts.ravel(), np.repeat([1, -1], [len(left[0]), len(right[0])]), minlength=len(rows))
    return int(np.abs(balance).sum())
