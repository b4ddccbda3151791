"""Which days of the archive, the quarantine and the sessions may go, and what still needs the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from batch.history.day_sessions import ArchivedDay, archived_days
from batch.history.day_store import DaySource, DayStore
from batch.nights.journal import Journal
from batch.settings import BatchSettings
from batch.tidying.removal import Removal, removal_of
from quality.settings import QualitySettings
from quality.telemetry.report import Reports
from stream.archive import Archive
from stream.dropped_days import Share
from stream.event import KINDS
from stream.ledger_clock import stream_time
from stream.ledger_entry import LedgerEntry
from stream.settings import StreamSettings
from stream.zone import DAY_MS, day_name, day_number, zone_named

LEAST_DAYS = 3
"""The youngest days, which lines still come for and reports are made of, stay even where the disk is short."""
_SPARE_SESSIONS = 7
"""Days of sessions that stay beyond the history."""


@dataclass(frozen=True)
class ArchiveDays:
    """The days below one `var`, as the ledger was when they were looked at first.

    A day of the archive goes only if the sessions of all its lines are made, and if every report that reads it is
    final. A night that was interrupted needs the sessions; it reads no day of the archive whose sessions are made.
    """

    streaming: StreamSettings
    quality: QualitySettings
    settings: BatchSettings

    @cached_property
    def archive(self) -> Archive:
        return Archive(self.streaming.var)

    @cached_property
    def _entries(self) -> list[LedgerEntry]:
        return self.archive.condensed()

    @cached_property
    def _rows(self) -> dict[tuple[Share, str], int]:
        """Lines that were archived, by share and day."""
        rows: dict[tuple[Share, str], int] = {}
        for entry in self._entries:
            for room, day, number in entry.rows_by_file_day():
                share: Share = "quarantine" if room == "quarantine" else "events"
                rows[share, day] = rows.get((share, day), 0) + number
        return rows

    @cached_property
    def _today(self) -> int | None:
        """The number of the stream's day; None without a stream."""
        now = stream_time(self._entries)
        return None if now is None else int(zone_named(self.streaming.timezone).day_number(now))

    @cached_property
    def _reports(self) -> Reports:
        return Reports(self.streaming, self.quality)

    @cached_property
    def _reported_since(self) -> int | None:
        """The first day that has a report."""
        names = sorted(path.stem for path in self._reports.folder.glob("????-??-??.json"))
        return day_number(names[0]) if names else None

    def is_night_pending(self) -> bool:
        """Whether a night was interrupted, and may be resumed."""
        return Journal(self.streaming.var / "night").night is not None

    def archive_removals(self, keep_days: int) -> Iterator[Removal]:
        """The days of events that are older than so many days and that nothing needs, the oldest first."""
        old = [day for day in self._older("events", keep_days) if not self._needed_by_report(day)]
        ranges = [entry for entry in self._entries if any(day in old for _, day, _ in entry.rows_by_file_day())]
        archived, made = archived_days(self.archive, ranges), DayStore(self.streaming.var).days()
        for day in old:
            if self._is_made(archived[day], made.get(day)):
                yield self._removal("events", day)

    def quarantine_removals(self, keep_days: int) -> Iterator[Removal]:
        """The days of the quarantine that are older than so many days and that no report needs, the oldest first."""
        for day in self._older("quarantine", keep_days):
            if not self._needed_by_report(day):
                yield self._removal("quarantine", day)

    def session_removals(self) -> Iterator[Removal]:
        """The days of sessions before the history of any night, that can no longer be made again either."""
        store, dropped = DayStore(self.streaming.var), self.archive.dropped.of("events")
        days = store.days()
        if self.is_night_pending():
            return
        for day in list(days)[: -self.settings.history_days - _SPARE_SESSIONS]:
            if day in dropped and days[day].imported is None:
                yield removal_of(f"sessions of {day}", [store.folder / f"day={day}"])

    def waiting(self, keep_days: int) -> list[str]:
        """The days of events that are older, but stay since something needs them."""
        going = {removal.what.rpartition(" ")[2] for removal in self.archive_removals(keep_days)}
        return [day for day in self._older("events", keep_days) if day not in going]

    def _older(self, share: Share, keep_days: int) -> list[str]:
        """The days before the last so many, that have files, ascending."""
        if self._today is None:
            return []
        last = self._today - max(keep_days, LEAST_DAYS)
        days = sorted(day for own, day in self._rows if own == share and day_number(day) <= last)
        return [day for day in days if any(True for path in self._folders(share, day) for _ in path.glob("*"))]

    def _folders(self, share: Share, day: str) -> list[Path]:
        var = self.streaming.var
        folders = [var / "quarantine"] if share == "quarantine" else [var / "archive" / kind for kind in KINDS]
        return [folder / f"day={day}" for folder in folders if (folder / f"day={day}").is_dir()]

    def _is_made(self, archived: ArchivedDay, made: DaySource | None) -> bool:
        """Whether sessions are made of all that is archived of a day; after it was dropped, none will be."""
        return not archived.is_kept or (made is not None and made.inputs == archived.digest(self.quality.gap_ms))

    def _needed_by_report(self, day: str) -> bool:
        """Whether a report that reads the lines of a day is not final yet: its own, or one of a day beside it."""
        number, window = day_number(day), -(-self.quality.window_ms // DAY_MS)
        return any(not self._is_reported(each) for each in range(number - window - 1, number + 2))

    def _is_reported(self, day: int) -> bool:
        """Whether the report of a day is final, or there will be none."""
        if self._reported_since is None:
            return not (self.streaming.var / "telemetry.db").exists()
        if day < self._reported_since or ("events", day_name(day)) not in self._rows:
            return True
        return self._reports.is_final(day)

    def _removal(self, share: Share, day: str) -> Removal:
        folders = self._folders(share, day)
        files = [path for folder in folders for path in folder.iterdir() if not path.name.startswith(".")]

        def note() -> None:
            before = self.archive.dropped.of(share).get(day)
            rows = self._rows[share, day] - (before.rows if before else 0)
            self.archive.dropped.add(share, day, len(files), rows, sum(path.stat().st_size for path in files))

        return removal_of(f"{'archive' if share == 'events' else 'quarantine'} of {day}", folders, note)
