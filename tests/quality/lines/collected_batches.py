"""Batches as the collector archives them, for the tests of the quarantine: lines, contexts, and what the files hold."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from quality.catalog import KnownIds
from quality.lines import archive_writer
from quality.lines.context_checks import JudgingContext
from quality.lines.ledger_summary import summarize
from quality.lines.schemas import event_schemas
from quality.lines.verdicts import ParsedLines, judge
from stream.archive import Archive
from stream.event import KINDS, Event, Kind
from stream.ledger_entry import LedgerEntry, TimeRange
from stream.line_columns import events_of
from stream.settings import Generation, StreamSettings
from stream.tables import ARCHIVE_SCHEMAS, EVENT_SCHEMAS, QUARANTINE_SCHEMA
from stream.zone import DAY_MS, HOUR_MS, zone_named
from tests.ledger_entries import TOPIC, entry

CLOCK = zone_named("America/New_York")
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York


def context(
    max_user: int = 1_000,
    generation: Generation = "2022",
    missing: tuple[str, ...] = ("new+2022",),
    ahead_ms: int | None = HOUR_MS,
) -> JudgingContext:
    schemas = event_schemas(StreamSettings(generation=generation))
    known = KnownIds({"a+1984": 90, **({} if missing else {"new+2022": 90})}, frozenset(missing))
    return JudgingContext(CLOCK, schemas, max_user, ahead_ms, DAY_MS, known)


BEFORE = context()
MENDED = {
    "more users": context(max_user=10_000),
    "another generation": context(generation="2026"),
    "a movie that is new": context(missing=()),
    "all of it": context(max_user=10_000, generation="2026", missing=()),
}
LINES = [
    b"2022-10-07T09:40,5,GET /data/m/a+1984/5.mpg",
    b"2022-10-08T01:39,5,GET /data/m/a+1984/6.mpg-",
    b"2022-10-07T09:40,7801,GET /data/m/a+1984/5.mpg",
    b"2022-10-07T09:40,70809,GET /data/m/a+1984/5.mpg",
    b"2022-10-07T09:40,5,GET /rate/a+1984=9",
    b"2022-10-07T09:40,5,GET /rate/a+1984=10",
    b"2022-10-07T09:50,5,GET /rate/new+2022=3",
    b"2022-10-08T01:20,6,GET /rate/new+2022=3-",
    b"2022-10-07T09:40,5,recommendation request a:1, status 200, result: a+1984, new+2022, 5 ms",
    b"2022-10-07T09:40,5,GET /data/m/a+1984/05.mpg",
    b"2022-10-01T09:40,5,GET /create_account",
    b"yesterday,8801,GET /create_account",
    b"nonsense",
    b"\xff\x00",
    b"",
]


def collected(
    archive: Archive,
    lines: list[bytes],
    first: int = 0,
    held: JudgingContext = BEFORE,
    clocks_apart_ms: int | None = None,
    partition: int = 3,
) -> LedgerEntry:
    """A batch as the collector archives it: every third line comes to Kafka on the next day."""
    offsets = first + 2 * np.arange(len(lines), dtype=np.int64)
    kafka_times = NOW + 1_000 + (offsets % 3 == 2) * 16 * HOUR_MS
    read = ParsedLines.read(pa.array(lines, pa.binary()), kafka_times, CLOCK)
    fates = judge(read, held if clocks_apart_ms is None else replace(held, ahead_ms=None))
    batch = entry(
        first,
        int(offsets[-1]),
        partition=partition,
        lines=len(lines),
        counts=fates.counts(kafka_times, CLOCK),
        kafka_time=TimeRange(int(kafka_times.min()), int(kafka_times.max())),
        redelivered=2,
        clocks_apart_ms=clocks_apart_ms,
    )
    origin = archive_writer.provenance_columns(TOPIC, partition, offsets, kafka_times)
    return archive.commit(
        batch.with_files(archive_writer.write_batch(archive, batch, fates, read.values, origin, CLOCK))
    )


Row = tuple[str, str | None, Event | None, bytes | None, str, int, int, int]
"""Fate; reason or rule; event; raw bytes; topic, partition, offset and Kafka's time."""


def rows_of(archive: Archive) -> dict[int, Row]:
    """By offset: what the files of the ledger hold; a line that lies in two of them is an error."""
    rows: dict[int, Row] = {}
    for file in (file for batch in archive.entries() for file in batch.files):
        table = pq.ParquetFile(archive.var / file.path).read()
        assert table.num_rows == file.rows > 0
        quarantined = file.room == "quarantine"
        for row in quarantined_in(table) if quarantined else events_in(file.room, table):  # type: ignore[arg-type]
            assert row[6] not in rows
            moment = row[7] if row[2] is None else row[2].time
            assert file.day == CLOCK.day(moment)
            rows[row[6]] = row
    return rows


def provenance_of(table: pa.Table) -> Iterator[tuple[str, int, int, int]]:
    names = ("topic", "partition", "offset")
    columns = [table.column(name).to_pylist() for name in names]
    return zip(*columns, table.column("kafka_time").cast(pa.int64()).to_pylist(), strict=True)


def quarantined_in(table: pa.Table) -> Iterator[Row]:
    assert table.schema.equals(QUARANTINE_SCHEMA)
    raws, reasons = table.column("raw").to_pylist(), table.column("reason").to_pylist()
    assert set(table.column("room").to_pylist()) == {"quality"}
    for raw, reason, origin in zip(raws, reasons, provenance_of(table), strict=True):
        yield "quarantined", reason, None, raw, *origin


def events_in(kind: Kind, table: pa.Table) -> Iterator[Row]:
    assert table.schema.equals(ARCHIVE_SCHEMAS[kind])
    events = events_of(kind, table.select(EVENT_SCHEMAS[kind].names))
    rules, raws = table.column("repair").to_pylist(), table.column("raw").to_pylist()
    for event, rule, raw, origin in zip(events, rules, raws, provenance_of(table), strict=True):
        assert (rule is None) == (raw is None)
        yield "repaired" if rule else "accepted", rule, event, raw, *origin


def is_whole(archive: Archive) -> bool:
    """Whether the sums hold and the disk holds what the ledger names and nothing else."""
    named = {archive.var / file.path for entry in archive.entries() for file in entry.files}
    folders = [archive.var / "archive" / kind for kind in KINDS] + [archive.var / "quarantine"]
    there = {path for folder in folders for path in folder.glob("day=*/*")}
    return summarize(archive.entries()).balanced and there == named


def digests(var: Path) -> dict[str, tuple[str, int, int]]:
    """By path below a folder: the bytes of each file, and whether it is still the same one."""
    return {
        path.relative_to(var).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_ino, path.stat().st_mtime_ns,
        )
        for path in var.rglob("*")
        if path.is_file()
    }  # fmt: skip
