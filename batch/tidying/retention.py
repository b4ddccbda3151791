"""What goes by policy (`due`), and what goes besides while the disk is short (`spare`), the least valuable first.

| never | because |
|---|---|
| the ledger, the catalogue, `telemetry.db`, final reports, `hidden.txt` | nothing else has them |
| the current, the pinned and the last good releases, and those of the last three days | answers, rollback, reports |
| days of the archive whose sessions are not made, or that a report which is not final reads | nights, telemetry |
| sessions within the history, and those of imports | nights |
| sessions and `night/`, while a night was interrupted | it resumes |
| alerts that the webhook has not taken | someone is to be told |
"""

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from batch.nights.journal import Journal
from batch.releases import publish
from batch.settings import BatchSettings
from batch.tidying.archive_days import LEAST_DAYS, ArchiveDays
from batch.tidying.removal import Removal, removal_of, size_of
from quality.alerts.alert_file import AlertFile
from quality.alerts.webhook import Outbox
from quality.settings import QualitySettings
from stream.settings import StreamSettings

_DAY_S = 86_400
_STAYS = {"journal.json", "summary.json", "outcomes.jsonl", "night.lock"}
"""Files of `night/` that are more than the intermediate results of a night."""


@dataclass(frozen=True)
class Retention:
    """What may go of one `var` now. The caller holds the night's lock."""

    streaming: StreamSettings
    quality: QualitySettings
    settings: BatchSettings

    @property
    def var(self) -> Path:
        return self.streaming.var

    @cached_property
    def days(self) -> ArchiveDays:
        """The days of archive, quarantine and sessions."""
        return ArchiveDays(self.streaming, self.quality, self.settings)

    def due(self) -> Iterator[Removal]:
        """What goes by the settings. First what takes no note, for which a full disk has no room."""
        settings = self.settings
        yield from self._damaged(settings.keep_damaged_days)
        yield from self._revisions(settings.keep_revision_days)
        yield from self._experiments(settings.keep_experiment_days)
        yield from self._releases(settings.keep_releases, publish.KEPT_REFUSED)
        yield from self.days.archive_removals(settings.keep_archive_days)
        yield from self.days.quarantine_removals(settings.keep_quarantine_days)
        yield from self.days.session_removals()
        yield from self._alerts(settings.keep_alert_days)

    def spare(self) -> Iterator[Removal]:
        """What goes besides, the least valuable first."""
        yield from self._damaged(0)
        yield from self._night()
        yield from self._releases(1, 0)
        yield from self.days.archive_removals(LEAST_DAYS)
        yield from self.days.quarantine_removals(LEAST_DAYS)
        yield from self._experiments(LEAST_DAYS)
        yield from self._revisions(0)

    def _damaged(self, days: int) -> Iterator[Removal]:
        for path in [*self.var.glob("telemetry.db.damaged-*"), *(self.var / "reports").glob("*.damaged")]:
            if _age_days(path) >= days:
                yield removal_of(f"damaged {path.name}", [path])

    def _revisions(self, days: int) -> Iterator[Removal]:
        for path in sorted((self.var / "reports").glob("*.revision-*")):
            if _age_days(path) >= days:
                yield removal_of(f"revised report {path.name}", [path])

    def _experiments(self, days: int) -> Iterator[Removal]:
        for folder in sorted((self.var / "experiments").glob("*")):
            if min(map(_age_days, [folder, *folder.rglob("*")])) >= days:
                yield removal_of(f"experiment {folder.name}", [folder])

    def _releases(self, keep: int, keep_refused: int) -> Iterator[Removal]:
        refused = publish.refused_releases(self.var)
        for release in publish.prunable(self.var, keep, keep_refused):
            what = f"{'refused candidate' if release in refused else 'release'} {release}"
            size = size_of(self.var / "releases" / release)
            yield Removal(what, size, partial(publish.remove_releases, self.var, [release]))

    def _night(self) -> Iterator[Removal]:
        """The intermediate files of a night that is over; the next one makes them again."""
        folder = self.var / "night"
        files = [path for path in folder.glob("*") if path.name not in _STAYS]
        if files and not self.days.is_night_pending():
            yield removal_of("intermediate files of the last night", files, Journal(folder).forget)

    def _alerts(self, days: int) -> Iterator[Removal]:
        unposted = len(Outbox(self.var).pending()) if self.quality.webhook else 0
        before, file = dt.datetime.now(dt.UTC) - dt.timedelta(days=days), AlertFile(self.var)
        if size := file.trimmable(before, unposted + 1):
            yield Removal("old alerts", size, lambda: file.trim(before, unposted + 1))


def _age_days(path: Path) -> float:
    """Days since a file was written, by the machine's clock."""
    try:
        return (time.time() - path.lstat().st_mtime) / _DAY_S
    except FileNotFoundError:
        return 0.0
