"""The collector: Kafka to the archive, batch by batch, neither losing nor repeating a line.

| when it dies | what is on disk | what the next start does |
|---|---|---|
| while lines wait in memory | nothing of them | reads them again from the last entry's end |
| while files are written | files that no entry names | removes these, reads the lines again |
| after the ledger entry | the batch, whole | goes on behind it |

`Pending` gathers what is read; `archived` judges and writes one batch; `collect` is the process around them.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import filelock
import numpy as np
import pyarrow as pa

from batch.catalog import Catalog
from batch.errors import Busy
from quality import alerts
from quality.fates import Fates, judge, times_of
from quality.repair import ONE_CHARACTER, Context
from quality.schemas import event_schemas
from quality.settings import QualitySettings
from stream import kafka
from stream.archive import Archive, Entry, File, Span, tally
from stream.event import ARCHIVE_COLUMNS, PROVENANCE, QUARANTINE_COLUMNS
from stream.settings import StreamSettings
from stream.zone import Zone, day_name, zone

log = logging.getLogger("batch.collect")

GROUP = "marquee-collect"


@dataclass
class Pending:
    """Lines of one partition that were read and not archived yet, in order of their offsets."""

    since: float = 0.0
    """When the first of them came, seconds of the monotonic clock."""
    values: list[bytes] = field(default_factory=list)
    offsets: list[np.ndarray] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)

    def add(self, got: kafka.Fetched) -> None:
        if not self.values:
            self.since = time.monotonic()
        self.values += got.values
        self.offsets.append(got.offsets)
        self.times.append(got.times)

    def due(self, settings: StreamSettings) -> bool:
        waited = time.monotonic() - self.since
        return bool(self.values) and (len(self.values) >= settings.batch_lines or waited >= settings.batch_seconds)


@contextmanager
def only_collector(var: Path) -> Iterator[None]:
    """Hold the archive's lock. Raises `Busy` where another process writes it."""
    path = var / "archive" / "writer.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(path, blocking=False):
            yield
    except filelock.Timeout as error:
        raise Busy(f"collect: another process writes {path.parent}; stop it first") from error


def archived(archive: Archive, topic: str, partition: int, pending: Pending, first: int, context: Context) -> Entry:
    """Judge a batch, write its files and commit it as the range from `first` on: where the last one ended."""
    offsets, times = np.concatenate(pending.offsets), np.concatenate(pending.times)
    values = pa.array(pending.values, pa.binary())
    fates = judge(values, times, context)
    entry = Entry(
        topic=topic,
        partition=partition,
        first=first,
        last=int(offsets[-1]),
        lines=len(values),
        counts=fates.counts(times, context.zone),
        kafka_time=Span(int(times.min()), int(times.max())),
    )
    source = _provenance(entry, offsets, times)
    files = [*_event_files(archive, entry, fates, values, source, context.zone)]
    files += _quarantine_files(archive, entry, fates, values, source, context.zone)
    return archive.commit(entry.with_files(files))


def _provenance(entry: Entry, offsets: np.ndarray, times: np.ndarray) -> pa.Table:
    """Where each line of a batch came from, in the columns of `PROVENANCE`."""
    count = len(offsets)
    topic = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([entry.topic]))
    partition = pa.array(np.full(count, entry.partition, np.int32))
    moments = pa.array(times).cast(pa.timestamp("ms", tz="UTC"))
    columns = [topic, partition, pa.array(offsets), moments]
    return pa.Table.from_arrays(columns, schema=pa.schema(PROVENANCE))


def _event_files(
    archive: Archive, entry: Entry, fates: Fates, values: pa.Array, source: pa.Table, zone: Zone
) -> Iterator[File]:
    for kind, good in fates.good.items():
        table = good.table
        for name, column in zip(source.column_names, source.take(pa.array(good.rows)).columns, strict=True):
            table = table.append_column(source.field(name), column)
        rule = [ONE_CHARACTER if repaired else None for repaired in good.repaired.tolist()]
        schema = ARCHIVE_COLUMNS[kind]
        table = table.append_column(schema.field("repair"), pa.array(rule, pa.string()).dictionary_encode())
        rows = pa.array(good.rows, mask=~good.repaired)
        table = table.append_column(schema.field("raw"), values.take(rows)).cast(schema)
        days = zone.day_number(times_of(good.table))
        for day in np.unique(days).tolist():
            part = table.filter(pa.array(days == day))
            yield archive.write_events(entry, kind, day_name(day), part)


def _quarantine_files(
    archive: Archive, entry: Entry, fates: Fates, values: pa.Array, source: pa.Table, zone: Zone
) -> Iterator[File]:
    rows = pa.array(fates.quarantined)
    reasons = pa.array(fates.reasons, pa.string()).dictionary_encode()
    rooms = pa.array(["quality"] * len(rows), pa.string()).dictionary_encode()
    origin = source.take(rows)
    columns = [values.take(rows), reasons, rooms, *origin.columns]
    table = pa.Table.from_arrays(columns, names=QUARANTINE_COLUMNS.names).cast(QUARANTINE_COLUMNS)
    days = zone.day_number(origin.column("kafka_time").cast(pa.int64()).to_numpy())
    for day in np.unique(days).tolist():
        yield archive.write_quarantine(entry, day_name(day), table.filter(pa.array(days == day)))


class Collector:
    """Gathers what a reader polls and archives what is due."""

    def __init__(self, streaming: StreamSettings, quality: QualitySettings) -> None:
        self._settings, self._quality = streaming, quality
        self._zone, self._schemas = zone(streaming.timezone), event_schemas(streaming)
        self._catalog = Catalog(streaming.var)
        self._archive = Archive(streaming.var)
        self._pending: dict[int, Pending] = {}
        self._ends: dict[int, int] = {}
        """By partition: the offset behind the last entry."""

    def resume(self) -> dict[int, int]:
        """Remove what a crash left behind; by partition, the offset to read next."""
        for path in self._archive.sweep():
            log.warning("removed %s: left behind by a crash, its lines are read again", path)
        self._ends = self._archive.positions(self._settings.topic)
        return dict(self._ends)

    async def take(self, got: list[kafka.Fetched | kafka.Gap]) -> None:
        """Gather what was polled; a gap is committed at once, as an entry of its own."""
        for piece in got:
            if isinstance(piece, kafka.Fetched):
                self._pending.setdefault(piece.partition, Pending()).add(piece)
            else:
                await self.flush()
                lost = piece.last - piece.first + 1
                entry = Entry(
                    topic=self._settings.topic,
                    partition=piece.partition,
                    first=piece.first,
                    last=piece.last,
                    lines=0,
                    lost=lost,
                )
                self._told(self._archive.commit(entry))

    async def flush(self, only_due: bool = False) -> dict[int, int]:
        """Archive what waits (or what is due of it); by partition, where its entries now end."""
        done = {}
        for partition, pending in list(self._pending.items()):
            if not pending.values or (only_due and not pending.due(self._settings)):
                continue
            del self._pending[partition]
            # judging takes a second or so: off the loop, so that the client can go on fetching
            first = self._ends.get(partition, int(pending.offsets[0][0]))
            arguments = self._archive, self._settings.topic, partition, pending, first, self._context()
            entry = await asyncio.to_thread(archived, *arguments)
            self._told(entry)
            done[partition] = entry.last + 1
        return done

    def _context(self) -> Context:
        """What lines are held against just now; with an empty catalogue, any movie may exist."""
        known = {name for name, status in self._catalog.statuses("movie").items() if status == "known"}
        window_ms = round(self._quality.time_window_minutes * 60_000)
        return Context(self._zone, self._schemas, window_ms, lambda movie: not known or movie in known)

    def _told(self, entry: Entry) -> None:
        self._ends[entry.partition] = entry.last + 1
        found = alerts.judged(entry, self._quality)
        alerts.raise_alerts(self._settings.var, found)
        for alert in found:
            log.warning("alert %s: %s", alert.alert, alert.text)
        log.info("archived %s: %d lines, %s", entry.name, entry.lines, dict(tally([entry])))


async def collect(streaming: StreamSettings, quality: QualitySettings, until_idle: float | None = None) -> None:
    """Collect until SIGTERM or SIGINT, or until no line came for `until_idle` seconds; then archive what waits.

    Raises `Busy` where another collector runs, `BrokerError` or `StreamError` where Kafka fails.
    """
    collector = Collector(streaming, quality)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with only_collector(streaming.var):
        async with kafka.reading(streaming, GROUP, collector.resume()) as reader:
            last = time.monotonic()
            while not stop.is_set() and (until_idle is None or time.monotonic() - last < until_idle):
                got = await reader.poll(streaming.batch_lines)
                last = time.monotonic() if got else last
                await collector.take(got)
                await _flushed(collector, reader, only_due=True)
            await _flushed(collector, reader, only_due=False)


async def _flushed(collector: Collector, reader: kafka.Reader, only_due: bool) -> None:
    positions = await collector.flush(only_due)
    if positions:
        await reader.commit(positions)
