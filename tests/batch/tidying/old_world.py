"""A `var` of thirty days: an archive, sessions, final reports and what else grows."""

import atexit
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from batch.history.day_sessions import archived_days, compact_days
from batch.history.day_store import DayStore
from batch.settings import BatchSettings
from batch.tidying.retention import Retention
from quality.settings import QualitySettings
from stream import durable
from stream.archive import Archive
from stream.event import Event
from stream.ledger_entry import FateCount, TimeRange
from stream.line_columns import table_of
from stream.settings import StreamSettings
from stream.zone import DAY_MS, day_name, day_number
from tests.ledger_entries import TOPIC, entry

FIRST = day_number("2026-03-01")
DAYS = [day_name(FIRST + number) for number in range(30)]
QUALITY = QualitySettings()


@dataclass(frozen=True)
class OldWorld:
    """The `var`, and what its settings say."""

    var: Path
    settings: BatchSettings

    @property
    def streaming(self) -> StreamSettings:
        return StreamSettings(var=self.var, timezone="UTC", topic=TOPIC)

    @property
    def archive(self) -> Archive:
        """As a process that starts now reads it."""
        return Archive(self.var)

    def retention(self) -> Retention:
        return Retention(self.streaming, QUALITY, self.settings)

    def compact(self) -> dict[str, int]:
        """The sessions of a night; what it has read."""
        days = archived_days(self.archive, self.archive.condensed())
        return compact_days(days, DayStore(self.var), QUALITY.gap_ms, lambda rows: None)

    def days_there(self, share: str = "archive/watch") -> list[str]:
        """The days that have files."""
        return sorted({path.parent.name.removeprefix("day=") for path in (self.var / share).glob("day=*/*.parquet")})


def archive_day(archive: Archive, day: str, first: int, lines: int = 10, came: str = "") -> None:
    """One batch of a day: watches, and a refused line for every ten; they came on that day, or later."""
    noon, refused = day_number(day) * DAY_MS + DAY_MS // 2, lines // 10
    events = [Event("watch", noon + place * 60_000, place + 1, movie="m+1+2000", minute=1) for place in range(lines)]
    counts = [
        FateCount("accepted", "watch", day, None, lines),
        FateCount("quarantined", None, day, "user_max", refused),
    ]
    at = day_number(came or day) * DAY_MS + DAY_MS // 2
    span = TimeRange(at, at + 60_000)
    batch = entry(first, first + lines + refused - 1, topic=TOPIC, counts=counts, kafka_time=span)
    table = table_of("watch", events)
    files = [archive.write_events(batch, "watch", day, table)]
    files += [archive.write_quarantine(batch, day, table.slice(0, refused))] if refused else []
    archive.commit(batch.with_files(files))


@cache
def _template(lines: int) -> Path:
    """Thirty days with sessions and final reports; made once, without waiting for the disk."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    var = Path(folder.name)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(durable, "sync", lambda path: None)
        archive = Archive(var)
        for number, day in enumerate(DAYS):
            archive_day(archive, day, number * (lines + lines // 10), lines)
        OldWorld(var, BatchSettings()).compact()
    (var / "reports").mkdir()
    for day in DAYS:
        (var / "reports" / f"{day}.json").write_text(json.dumps({"layout": 1, "day": day, "final": True}))
    (var / "telemetry.db").touch()
    return var


def old_world(var: Path, reported: int = 28, lines: int = 10, **settings: Any) -> OldWorld:
    """Thirty days with sessions, of which the first `reported` have final reports."""
    shutil.copytree(_template(lines), var, dirs_exist_ok=True)
    for day in DAYS[reported:]:
        (var / "reports" / f"{day}.json").unlink()
    return OldWorld(var, BatchSettings(**settings))


def aged(path: Path, days: float, content: str = "x" * 100) -> Path:
    """A file that was written so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    when = path.stat().st_mtime - days * 86_400
    os.utime(path, (when, when))
    return path
