"""Drives the real code through a world: the collector into an archive, telemetry into its store, and the reports."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import cast

import msgspec
import pyarrow as pa

from batch.collecting.collector import Collector
from batch.settings import BatchSettings
from quality.telemetry.archived_reports import ArchivedReports
from quality.telemetry.batch import batch_of
from quality.telemetry.consumer import Telemetry
from quality.telemetry.day_report import DayReport
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream.archive import Archive
from stream.event import KINDS, Kind
from stream.line_columns import events_of
from stream.tables import EVENT_SCHEMAS
from stream.zone import day_name, day_number, zone_named
from tests.quality.telemetry_reference.reference import Line
from tests.quality.telemetry_reference.schedules import Schedule, WorldReader
from tests.quality.telemetry_reference.worlds import TOPIC, RecordedWorld


def collect(world: RecordedWorld, schedule: Schedule, var: Path) -> None:
    """Collect a world into the archive below `var`."""
    for _ in _collecting(world, schedule, var):
        pass


def run_both(world: RecordedWorld, seed: int, var: Path) -> None:
    """Collect a world and follow it with telemetry, in turn as the seed has it; telemetry writes its final reports.

    Telemetry begins after the first commit: without an archive, its reports are of its own store.
    """
    random = Random(seed)
    collecting, following = _collecting(world, Schedule(seed), var), _following(world, Schedule(seed + 1), var)
    for _ in collecting:
        if Archive(var).entries():
            break
    running = [collecting, following]
    while running:
        process = random.choice(running)
        if next(process, "ended") == "ended":
            running.remove(process)
    with closing(Store(_store(var))) as store:
        _telemetry(world, store, var).report()


def _collecting(world: RecordedWorld, schedule: Schedule, var: Path) -> Iterator[None]:
    """A collector that takes a step whenever it is asked to."""
    reader = WorldReader(world)
    collector = _collector(world, reader, var)
    with asyncio.Runner() as runner:
        for step in schedule.steps(reader):
            if isinstance(step, list):
                runner.run(collector.take(step))
            elif step != "crash":
                runner.run(collector.flush())
            if step in ("crash", "hand over"):
                collector = _collector(world, reader, var)
            yield


def _collector(world: RecordedWorld, reader: WorldReader, var: Path) -> Collector:
    """A new collector, which reads on where the last one committed; it knows no movies and asks no API."""
    settings = BatchSettings(api="http://127.0.0.1:1", api_timeout_s=0.2)
    collector = Collector(world.settings.streaming(var), world.settings.quality(), settings)
    reader.seek(collector.resume())
    return collector


def _following(world: RecordedWorld, schedule: Schedule, var: Path) -> Iterator[None]:
    """Telemetry that takes a step whenever it is asked to, and reports."""
    for telemetry in _ingesting(world, schedule, var, _store(var)):
        telemetry.report()
        yield


def _ingesting(world: RecordedWorld, schedule: Schedule, var: Path, path: Path) -> Iterator[Telemetry]:
    """Telemetry after each step; what it had polled when it crashes is not stored."""
    reader, zone = WorldReader(world), zone_named(world.settings.timezone)
    batch = None
    store = Store(path)
    try:
        telemetry = _telemetry(world, store, var)
        for step in schedule.steps(reader):
            if batch is not None and step != "crash":
                telemetry.ingest.take(batch)
            batch = batch_of(step, reader.positions(), zone) if isinstance(step, list) else None
            if step in ("crash", "hand over"):
                store.close()
                store = Store(path)
                telemetry = _telemetry(world, store, var)
                reader.seek(store.positions(TOPIC))
            yield telemetry
    finally:
        store.close()


def _telemetry(world: RecordedWorld, store: Store, var: Path) -> Telemetry:
    return Telemetry(store, world.settings.streaming(var), world.settings.quality())


def _store(var: Path) -> Path:
    return var / "telemetry.db"


def archived_lines(var: Path) -> list[Line]:
    """The lines that the archive counts."""
    archive, lines = Archive(var), list[Line]()
    for file in (file for entry in archive.entries() for file in entry.files if file.room in KINDS):
        kind, table = cast(Kind, file.room), archive.read(file)
        kafka_times = table.column("kafka_time").cast(pa.int64()).to_pylist()
        lines += map(Line, events_of(kind, table.select(EVENT_SCHEMAS[kind].names)), kafka_times)
    return lines


def reports_of_archive(world: RecordedWorld, var: Path, days: Iterable[str]) -> dict[str, DayReport]:
    """By day that is over, of some days and all that have events: the final report, made from the archive."""
    archived = ArchivedReports(Reports(world.settings.streaming(var), world.settings.quality()))
    reached = archived.stream_time or 0
    numbers = {*archived.days(0, 100_000), *map(day_number, days)}
    over = [day for day in sorted(numbers) if archived.reports.days.final_from(day) <= reached]
    return {day_name(day): archived.build(day) for day in over}


def reports_of_store(world: RecordedWorld, schedule: Schedule, var: Path, days: Iterable[str]) -> dict[str, DayReport]:
    """By day: the report of a store of its own, into which telemetry has read the whole world."""
    reports, path = Reports(world.settings.streaming(var), world.settings.quality()), var / "unreported.db"
    for _ in _ingesting(world, schedule, var, path):
        pass
    with closing(Store(path, create=False)) as store:
        reached = store.reached(TOPIC) or 0
        numbers = [day_number(day) for day in days]
        rows = {number: store.day_rows(number, reports.days) for number in numbers}
        return {day_name(day): reports.build(day, rows[day], reached, final=True) for day in numbers}


def written_reports(var: Path) -> dict[str, DayReport]:
    """By day: the final report that telemetry wrote."""
    written = [msgspec.json.decode(path.read_bytes(), type=DayReport) for path in (var / "reports").glob("*.json")]
    return {each.day: each for each in sorted(written, key=lambda each: each.day) if each.final}
