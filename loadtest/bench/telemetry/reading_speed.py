"""CPU time of telemetry itself: from parsed lines to the store, and from the archive to a final report.

Each figure is lines by CPU seconds of one core. Parsed lines are judged and stored in batches as large as telemetry
takes when it catches up; then the open report is written. From the archive, the report of the day is computed and
rendered.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from batch.collecting.collector import PendingLines, archive_batch
from loadtest.bench.cpu_clock import medians, one_core
from loadtest.bench.lines.line_sources import SETTINGS, LineSample
from quality.catalog import Catalog
from quality.lines.context_checks import make_context
from quality.settings import QualitySettings
from quality.telemetry.archived_reports import ArchivedReports
from quality.telemetry.batch import batch_of
from quality.telemetry.consumer import Telemetry
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream.archive import Archive
from stream.clock import Quorum, TopicClock
from stream.kafka import FetchedRecords
from stream.set_aside import OpenCases
from stream.settings import StreamSettings
from stream.zone import zone_named

QUALITY = QualitySettings()
_ZONE = zone_named(SETTINGS.timezone)


class ColumnsFigures(Struct, frozen=True, kw_only=True):
    """Parsed lines to the store."""

    columns_lines_per_s: int
    """Judging, storing and the open report, by CPU time."""


class ArchiveFigures(Struct, frozen=True, kw_only=True):
    """Archived lines to a report."""

    archive_lines_per_s: int
    """Lines of the day by CPU seconds of its report."""


def settings_for(var: Path, runtimes: Mapping[str, int | None]) -> StreamSettings:
    """The settings of a new `var`, whose catalogue holds the movies."""
    records = ((name, {"id": name, "runtime": minutes}) for name, minutes in runtimes.items())
    Catalog(var).keep("movie", [(name, "known", record, "") for name, record in records])
    return replace(SETTINGS, var=var)


def records_of(sample: LineSample, size: int) -> list[FetchedRecords]:
    """The lines as records of partition 0, at most `size` at a time."""
    return [
        FetchedRecords(
            0,
            sample.lines[first : first + size],
            np.arange(first, min(first + size, len(sample))),
            sample.kafka_times[first : first + size],
        )
        for first in range(0, len(sample), size)
    ]


def measure_columns(
    sample: LineSample, runtimes: Mapping[str, int | None], rounds: int, folder: Path
) -> ColumnsFigures:
    """Store parsed lines in a new store each round."""
    fetched = records_of(sample, SETTINGS.batch_lines)
    batches = [batch_of([records], {0: int(records.offsets[-1]) + 1}, _ZONE) for records in fetched]
    stores = (folder / f"columns-{number}" for number in range(rounds + 1))

    def read() -> None:
        streaming = settings_for(next(stores), runtimes)
        store = Store(streaming.var / "telemetry.db")
        telemetry = Telemetry(store, streaming, QUALITY)
        for batch in batches:
            telemetry.ingest.take(batch)
        telemetry.report(now=True)
        store.close()

    with one_core():
        seconds = medians({"columns": read}, rounds)["columns"]
    return ColumnsFigures(columns_lines_per_s=round(len(sample) / seconds))


def measure_archive(
    sample: LineSample, runtimes: Mapping[str, int | None], rounds: int, folder: Path
) -> ArchiveFigures:
    """Compute the report of the lines' day from the archive."""
    streaming = settings_for(folder / "archived", runtimes)
    _archive(sample, streaming)
    day = int(_ZONE.day_number(int(sample.kafka_times[0])))

    def build() -> None:
        ArchivedReports(Reports(streaming, QUALITY)).build(day)

    with one_core():
        seconds = medians({"archive": build}, rounds)["archive"]
    return ArchiveFigures(archive_lines_per_s=round(len(sample) / seconds))


def _archive(sample: LineSample, streaming: StreamSettings) -> None:
    """Archive the lines as the collector does."""
    archive, clock, set_aside = Archive(streaming.var), TopicClock(Quorum.of(streaming), {}), OpenCases()
    context = make_context(streaming, QUALITY, Catalog(streaming.var).known(streaming.max_user))
    for records in records_of(sample, streaming.batch_lines):
        pending = PendingLines(int(records.offsets[0]))
        pending.add(records)
        archive_batch(archive, streaming.topic, 0, pending, _ZONE, clock, set_aside, lambda _: context)
