"""What telemetry does at its start about damaged files: each is named, set aside, and made again from the archive.

Bits that flip in the store's rows without breaking its structure reach open reports only: final ones are computed from
the archive, and say if the store had other events.
"""

import datetime as dt
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from quality.errors import ReportError, StoreDamaged
from quality.settings import QualitySettings
from quality.telemetry.archive_rows import ArchiveRows
from quality.telemetry.archived_reports import ArchivedReports
from quality.telemetry.day_report import read_head
from quality.telemetry.day_rows import milliseconds
from quality.telemetry.ingest import Ingest
from quality.telemetry.judging import JudgedLines
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream.clock import PartitionClock
from stream.event import KINDS
from stream.ledger_clock import latest_lines
from stream.ledger_entry import LedgerEntry, of_present_topic
from stream.settings import StreamSettings
from stream.tables import EVENT_SCHEMAS
from stream.zone import day_number

log = logging.getLogger(__name__)


def sound_store(streaming: StreamSettings, quality: QualitySettings) -> Store:
    """Open the store of `var`; a damaged one is set aside and made again from the archive.

    Raises `StoreError` if it cannot be opened, and `ArchiveError` if the archive cannot be read.
    """
    path = streaming.var / "telemetry.db"
    try:
        return _checked(path)
    except StoreDamaged as error:
        aside = path.with_name(f"{path.name}.damaged-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}")
        log.error("%s; it is set aside as %s and made again", error, aside.name)
    rebuilt = path.with_name(f".{path.name}.rebuilt")
    for leftover in (rebuilt, *_journals(rebuilt)):
        leftover.unlink(missing_ok=True)
    _rebuild(rebuilt, streaming, quality)
    for journal in _journals(path):
        journal.unlink(missing_ok=True)
    path.replace(aside)
    rebuilt.replace(path)
    return Store(path)


def _checked(path: Path) -> Store:
    store = Store(path)
    try:
        store.check()
    except BaseException:
        store.close()
        raise
    return store


def _journals(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _rebuild(path: Path, streaming: StreamSettings, quality: QualitySettings) -> None:
    """A new store with the archived events of all days without a final report, up to where the ledger is."""
    rows, topic = ArchiveRows.of(streaming, quality), streaming.topic
    store = Store(path)
    if rows.entries:
        present = of_present_topic(rows.entries)  # of these very entries: a collector may go on meanwhile
        clocks = {number: PartitionClock.of(lines) for (_, number), lines in latest_lines(present).items()}
        positions = {entry.partition: entry.last + 1 for entry in present if entry.partition in clocks}
        marks = {entry.partition: entry.mark for entry in present if entry.mark}
        store.begin_at(topic, positions, clocks, marks, rows.archive.times_remade(topic))
        ingest, first = Ingest(store, streaming, quality), _first_open_day(Reports(streaming, quality), rows)
        keep_from = rows.days.bounds(first)[0] - quality.gap_ms
        for entry in rows.archive.expand(rows.entries):
            ingest.take_judged(_archived(rows, entry, keep_from))
    else:
        log.warning("telemetry: there is no archive: the topic is read again from its beginning")
    store.close()


def _first_open_day(reports: Reports, rows: ArchiveRows) -> int:
    """The day after the last final report; without any, the first whose report is not due."""
    final = [day for day in rows.known_days() if reports.is_final(day)]
    if final:
        return final[-1] + 1
    return rows.days.last_closed(ArchivedReports(reports).stream_time or 0) + 1


def _archived(rows: ArchiveRows, entry: LedgerEntry, keep_from: int) -> JudgedLines:
    """The events of an entry from a time on, and its refused lines."""
    kept_from, events = int(rows.days.zone.day_number(keep_from)), {}
    for kind in KINDS:
        schema = EVENT_SCHEMAS[kind].append(pa.field("kafka_time", EVENT_SCHEMAS[kind].field("time").type))
        tables = [schema.empty_table()]
        for file in entry.files:
            if file.room == kind and day_number(file.day) >= kept_from:
                table = rows.archive.read(file, schema.names)
                tables.append(table.filter(pa.array(milliseconds(table, "time") >= keep_from)))
        events[kind] = pa.concat_tables(tables).unify_dictionaries()
    left_out = Counter[tuple[int, str]]()
    for count in entry.counts:
        if count.fate == "quarantined" and day_number(count.day) >= kept_from:
            left_out[day_number(count.day), count.reason or ""] += count.lines
    return JudgedLines(events, left_out)


def repair_reports(reports: Reports) -> None:
    """Set report files aside that cannot be read, and make those of days that are over again."""
    archived = ArchivedReports(reports)
    for day, path in _reports_in(reports.folder):
        try:
            read_head(path)
        except ReportError as error:
            log.error("%s; it is set aside as %s", error, reports.set_aside(day).name)
            if archived.days(day, day) and (report := archived.build(day)).final:
                reports.write(report)


def _reports_in(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in sorted(folder.glob("????-??-??.json")):
        try:
            yield day_number(path.stem), path
        except ValueError:  # no day's name
            continue
