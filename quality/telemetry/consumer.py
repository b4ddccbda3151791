"""The telemetry consumer: lines of the live stream to the store, and from there to reports. A thin shell.

| what happens | what holds |
|---|---|
| a batch was taken | its rows and positions are in one commit; Kafka's own offset follows, for lag monitors only |
| killed at any point (-9) | the next start reads on after the last commit: no line is lost, none counts twice |
| killed while a report is written | the old file is whole; the report is written again |
| SIGTERM, SIGINT | the batch at hand is committed, open reports are rewritten, exit 0 |
| offsets are gone from Kafka | counted as lost, logged, read on |

Time is the stream's own (Kafka's record times): the watermark is the least of the latest times of the partitions. A
partition that never had a line holds nothing back, but only once Kafka has told that it holds none: else a first look
at one partition could close days that another still has lines of.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from quality.settings import QualitySettings
from quality.telemetry.ingest import Ingest, TelemetryBatch
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream import kafka
from stream.line_columns import read
from stream.settings import StreamSettings
from stream.zone import Zone, day_name, zone_named

GROUP = "marquee-telemetry"
_log = logging.getLogger(__name__)


def batch_of(
    got: Sequence[kafka.FetchedRecords | kafka.RetentionGap], positions: dict[int, int], zone: Zone
) -> TelemetryBatch:
    """Read what was fetched; `positions` are those to read on from, by partition."""
    fetched = [part for part in got if isinstance(part, kafka.FetchedRecords)]
    values = pa.array([value for part in fetched for value in part.values], pa.binary())
    lost: dict[int, int] = {}
    for gap in (part for part in got if isinstance(part, kafka.RetentionGap)):
        lost[gap.partition] = lost.get(gap.partition, 0) + gap.last - gap.first + 1
        _log.warning("partition %d: offsets %d..%d are gone from Kafka", gap.partition, gap.first, gap.last)
    none = np.zeros(0, np.int64)
    return TelemetryBatch(
        read(values, zone),
        np.concatenate([none, *(np.full(len(part.values), part.partition) for part in fetched)]),
        np.concatenate([none, *(part.offsets for part in fetched)]),
        np.concatenate([none, *(part.times for part in fetched)]),
        dict(positions),
        lost,
    )


@dataclass
class Telemetry:
    """Keeps the reports of what was taken in up to date: all but Kafka and signals."""

    store: Store
    ingest: Ingest
    reports: Reports

    def report(self, *, now: bool = False) -> None:
        """Close the days that are over; rewrite the open reports where it is time (or `now`)."""
        watermark = self.store.watermark(self.reports.stream.topic)
        if watermark is None:
            return
        self._close(watermark)
        reported = self.store.state("reported")
        if now or reported is None or not 0 <= watermark - reported < self.reports.settings.report_every_ms:
            self._rewrite(watermark)

    def _close(self, watermark: int) -> None:
        days = self.store.days(final=False)
        over = [day for day in days if self.reports.closes(day) <= watermark]
        for day in over:
            self.reports.write(day, watermark)
            _log.info("report of %s: final", day_name(day))
        if over:
            keep_day = min(set(days) - set(over), default=over[-1] + 1)
            keep_from, _ = zone_named(self.reports.stream.timezone).bounds(day_name(keep_day))
            self.store.finish(over, keep_from, keep_day, self.ingest.open_since)
            self.ingest.refresh()

    def _rewrite(self, watermark: int) -> None:
        today = zone_named(self.reports.stream.timezone).day_number(watermark)
        for day in self.store.days(final=False):
            if day <= today:
                self.reports.write(day, watermark)
        self.store.set_reported(watermark)


async def run(stream_settings: StreamSettings, settings: QualitySettings) -> None:
    """Follow the topic until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    store = Store(stream_settings.var / "telemetry.db")
    try:
        ingest = Ingest(store, stream_settings.topic, zone_named(stream_settings.timezone), settings)
        telemetry = Telemetry(store, ingest, Reports(store, stream_settings, settings))
        async with kafka.reading(stream_settings, GROUP, store.positions(stream_settings.topic)) as reader:
            await follow(reader, telemetry, stop)
    finally:
        store.close()


async def follow(reader: kafka.Reader, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Take what comes, batch by batch, until `stop`."""
    stream, store = telemetry.reports.stream, telemetry.store
    settled = False
    while not stop.is_set():
        got = await _gather(reader, stream.batch_lines, telemetry.reports.settings.commit_seconds, stop)
        # in a thread, so that the consumer's heartbeats and fetches go on meanwhile; one at a time
        if got:
            batch = await asyncio.to_thread(batch_of, got, reader.positions, zone_named(stream.timezone))
            await asyncio.to_thread(telemetry.ingest.take, batch)
            await reader.commit(batch.positions)
        silent = set(reader.positions) - set(store.kafka_times(stream.topic))
        settled = settled or all(left == 0 for name, left in reader.unread().items() if name in silent)
        if settled:
            await asyncio.to_thread(telemetry.report)
    if settled:
        await asyncio.to_thread(telemetry.report, now=True)


async def _gather(
    reader: kafka.Reader, most: int, seconds: float, stop: asyncio.Event
) -> list[kafka.FetchedRecords | kafka.RetentionGap]:
    """Poll until there are `most` lines, the time is over, or nothing more comes."""
    gathered: list[kafka.FetchedRecords | kafka.RetentionGap] = []
    lines, until = 0, time.monotonic() + seconds
    while lines < most and time.monotonic() < until and not stop.is_set():
        got = await reader.poll(most - lines)
        if not got:
            break
        gathered += got
        lines += sum(len(part.values) for part in got if isinstance(part, kafka.FetchedRecords))
    return gathered
