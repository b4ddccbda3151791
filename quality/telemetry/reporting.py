"""Keeps the reports up to date while telemetry reads the stream.

Open reports are computed from the store. A final report is computed from the archive, once the ledger has every record
that telemetry had read when the day was over: so telemetry counts what the nights count, whatever happened to its own
store. Without a collector there is no ledger, and final reports come from the store.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from quality.telemetry.archive_rows import ArchiveRows
from quality.telemetry.day_rows import DayRows
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream.archive import Archive
from stream.zone import day_name

_LEDGER_S = 5.0
"""How long telemetry waits before it looks again whether the ledger has come far enough."""
log = logging.getLogger(__name__)


@dataclass
class ReportKeeper:
    """Writes reports from the store and the archive."""

    store: Store
    reports: Reports
    monotonic: Callable[[], float] = time.monotonic
    _needed: dict[int, dict[int, int]] = field(default_factory=dict)
    """By day that is over: by partition, the offset that the ledger must have before the report is final."""
    _looked: float = -_LEDGER_S

    def finish(self, watermark: int, *, now: bool = False) -> list[int]:
        """Write the final reports of the days that are over at a watermark; returns these days."""
        days = self.reports.days
        over = [day for day in self.store.days(final=False) if days.final_from(day) <= watermark]
        if not over or (self.monotonic() - self._looked < _LEDGER_S and not now):
            return []
        for day in over:
            self._needed.setdefault(day, self._read_offsets())
        archived = ArchiveRows.of(self.reports.stream, self.reports.settings)
        held = Archive(self.reports.stream.var).positions(self.reports.stream.topic)
        finished = [day for day in over if not archived.entries or self._has(held, day)]
        if len(finished) < len(over):
            self._looked = self.monotonic()
        for day in finished:
            self._write_final(day, archived)
            del self._needed[day]
        return finished

    def rewrite(self, watermark: int) -> None:
        """Write the reports of the days that are not over, as of a watermark."""
        days = self.reports.days
        today = days.zone.day_number(watermark)
        for day in self.store.days(final=False):
            if day <= today:
                self.reports.write(self.reports.build(day, self.store.day_rows(day, days), watermark))

    def _read_offsets(self) -> dict[int, int]:
        return {partition: mark.offset for partition, mark in self.store.marks(self.reports.stream.topic).items()}

    def _has(self, held: dict[int, int], day: int) -> bool:
        return all(held.get(partition, 0) > offset for partition, offset in self._needed[day].items())

    def _write_final(self, day: int, archived: ArchiveRows) -> None:
        reports = self.reports
        if reports.is_final(day):
            return
        live = self.store.day_rows(day, reports.days)
        rows, notes = live, []
        if archived.entries:
            rows = archived.day_rows(day)
            if differing := count_differences(live, rows):
                notes.append(
                    f"Telemetry had read or judged {differing} events of this day and its windows otherwise than the "
                    "archive, whose events these figures count."
                )
        else:
            notes.append("There is no archive of this topic: these are the events as telemetry judged them.")
        reports.write(reports.build(day, rows, reports.days.closes(day), *notes, final=True))
        log.info("report of %s: final%s", day_name(day), "".join(f"; {note}" for note in notes))


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
