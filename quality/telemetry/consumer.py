"""The telemetry consumer: reads the live stream into the store, and keeps the reports up to date. A thin shell.

| event | guarantee |
|---|---|
| a batch was stored | its rows and positions are in one commit; Kafka's own offset follows, for lag monitors only |
| killed at any point (-9) | the next start resumes after the last commit: no line is lost or counted twice |
| killed while a report is written | the old file is whole; the report is written again |
| SIGTERM, SIGINT | the current batch is committed, open reports are rewritten, exit 0 |
| Kafka has dropped offsets | they are counted as lost and logged; reading continues |

Time is the stream's own (Kafka's record times): the watermark is the least of the latest times of the partitions. An
empty partition does not hold it back, but only once Kafka has confirmed that it is empty: otherwise the first partition
to be read could close days for which another one still has lines.
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
log = logging.getLogger(__name__)


def batch_of(
    polled: Sequence[kafka.FetchedRecords | kafka.RetentionGap], positions: dict[int, int], zone: Zone
) -> TelemetryBatch:
    """Parse fetched records; `positions` are the offsets to read next, by partition."""
    fetched = [records for records in polled if isinstance(records, kafka.FetchedRecords)]
    values = pa.array([value for records in fetched for value in records.values], pa.binary())
    lost: dict[int, int] = {}
    for gap in (gap for gap in polled if isinstance(gap, kafka.RetentionGap)):
        lost[gap.partition] = lost.get(gap.partition, 0) + gap.last - gap.first + 1
        log.warning("partition %d: offsets %d..%d are gone from Kafka", gap.partition, gap.first, gap.last)
    none = np.zeros(0, np.int64)
    return TelemetryBatch(
        read(values, zone),
        np.concatenate([none, *(np.full(len(records.values), records.partition) for records in fetched)]),
        np.concatenate([none, *(records.offsets for records in fetched)]),
        np.concatenate([none, *(records.times for records in fetched)]),
        dict(positions),
        lost,
    )


@dataclass
class Telemetry:
    """The store and its reports: everything except Kafka and signals."""

    store: Store
    ingest: Ingest
    reports: Reports

    def report(self, *, now: bool = False) -> None:
        """Write the final reports of completed days, and rewrite open ones if they are due (or `now`)."""
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
            log.info("report of %s: final", day_name(day))
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
    """Store batches and write reports until `stop`."""
    stream, store = telemetry.reports.stream, telemetry.store
    silent_are_empty = False
    while not stop.is_set():
        polled = await _gather(reader, stream.batch_lines, telemetry.reports.settings.commit_seconds, stop)
        # in a thread, one after the other, so that the consumer's heartbeats and fetches continue
        if polled:
            batch = await asyncio.to_thread(batch_of, polled, reader.positions, zone_named(stream.timezone))
            await asyncio.to_thread(telemetry.ingest.take, batch)
            await reader.commit(batch.positions)
        silent = set(reader.positions) - set(store.kafka_times(stream.topic))
        silent_are_empty = silent_are_empty or all(
            unread == 0 for partition, unread in reader.unread().items() if partition in silent
        )
        if silent_are_empty:
            await asyncio.to_thread(telemetry.report)
    if silent_are_empty:
        await asyncio.to_thread(telemetry.report, now=True)


async def _gather(
    reader: kafka.Reader, most: int, seconds: float, stop: asyncio.Event
) -> list[kafka.FetchedRecords | kafka.RetentionGap]:
    """Poll until there are `most` lines, the time is over, or a poll returns nothing."""
    gathered: list[kafka.FetchedRecords | kafka.RetentionGap] = []
    lines, until = 0, time.monotonic() + seconds
    while lines < most and time.monotonic() < until and not stop.is_set():
        polled = await reader.poll(most - lines)
        if not polled:
            break
        gathered += polled
        lines += sum(len(records.values) for records in polled if isinstance(records, kafka.FetchedRecords))
    return gathered
