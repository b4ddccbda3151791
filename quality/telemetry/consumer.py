"""The telemetry consumer: reads the live stream into the store, and keeps the reports up to date. A thin shell.

| event | guarantee |
|---|---|
| a batch was stored | its rows and positions are in one commit; Kafka's own offset follows, for lag monitors only |
| killed at any point (-9) | the next start resumes after the last commit: no line is lost or counted twice |
| killed while a report is written | the old file is whole; the report is written again |
| SIGTERM, SIGINT | the current batch is committed, open reports are rewritten, exit 0 |
| Kafka has dropped offsets | they are counted as lost and logged; reading continues |
| Kafka does not confirm that a batch is of the topic | it waits; in an outage it is stored, and the marks stay |
| another telemetry runs on the same `var` | one error line, exit 1; the store is not touched |
| the topic was deleted and made anew | error, alert; `python -m stream new-topic` goes on with the new one |

Time is the stream's own clock (`stream.clock`): the watermark is the least over the partitions, without those that are
idle (`idle_partitions`).
"""

import asyncio
import logging
import signal
import time
from contextlib import closing
from dataclasses import dataclass, replace

from quality.alerts.alert_file import alert_if_remade
from quality.settings import QualitySettings
from quality.telemetry.batch import batch_of
from quality.telemetry.idle_partitions import IdlePartitions
from quality.telemetry.ingest import Ingest
from quality.telemetry.report import Reports
from quality.telemetry.store import Store, writing
from quality.telemetry.stream_metrics import StreamMetrics, StreamState
from stream import kafka
from stream.archive import Archive
from stream.clock import Quorum
from stream.settings import StreamSettings
from stream.zone import Zone, day_name, zone_named

GROUP = "marquee-telemetry"
log = logging.getLogger(__name__)


@dataclass
class Telemetry:
    """The store and its reports: everything except Kafka and signals."""

    store: Store
    ingest: Ingest
    reports: Reports

    def report(self, *, now: bool = False) -> None:
        """Write the final reports of completed days, and rewrite open ones if they are due (or `now`)."""
        watermark = self.ingest.watermark
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
    """Follow the topic until SIGTERM or SIGINT.

    Raises `StoreBusy` if another telemetry runs, `BrokerError` or `StreamError` if Kafka fails, `TopicRemade` if the
    topic was deleted and made anew.
    """
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    var, topic = stream_settings.var, stream_settings.topic
    with writing(var), closing(Store(var / "telemetry.db")) as store:
        store.follow_topic(topic, Archive(var).times_remade(topic))
        ingest = Ingest(store, topic, zone_named(stream_settings.timezone), settings, Quorum.of(stream_settings))
        telemetry = Telemetry(store, ingest, Reports(store, stream_settings, settings))
        positions, marks = store.positions(topic), store.marks(topic)
        async with alert_if_remade(var), kafka.reading(stream_settings, GROUP, positions, marks) as reader:
            await follow(reader, telemetry, stop)


async def follow(reader: kafka.Reader, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Store batches and write reports until `stop`."""
    stream, ingest = telemetry.reports.stream, telemetry.ingest
    partitions, metrics = IdlePartitions(stream.idle_minutes * 60), StreamMetrics(stream.var)
    polled: list[kafka.FetchedRecords | kafka.RetentionGap] = []
    while not stop.is_set():
        polled += await _gather(reader, stream.batch_lines, telemetry.reports.settings.commit_seconds, stop)
        if polled and not await _stored(reader, ingest, polled, zone_named(stream.timezone)):
            continue  # Kafka is asked again after the next poll
        unread = reader.unread()
        partitions.update({piece.partition for piece in polled}, unread, ingest.with_lines)
        ingest.idle = partitions.idle
        await asyncio.to_thread(telemetry.report)
        metrics.refresh(StreamState(ingest.watermark, ingest.waiting, unread, partitions.idle), now=stop.is_set())
        polled = []
    await asyncio.to_thread(telemetry.report, now=True)


async def _stored(
    reader: kafka.Reader, ingest: Ingest, polled: list[kafka.FetchedRecords | kafka.RetentionGap], zone: Zone
) -> bool:
    """Store what was polled if Kafka confirms that it is of the topic, or does not answer in an outage.

    In threads, one after the other, so that the consumer's heartbeats and fetches continue.
    """
    confirmed = await reader.verify()
    if not confirmed and not reader.out_of_reach:
        return False
    batch = await asyncio.to_thread(batch_of, polled, reader.positions, zone)
    for gap in (piece for piece in polled if isinstance(piece, kafka.RetentionGap)):
        log.warning("partition %d: offsets %d..%d are gone from Kafka", gap.partition, gap.first, gap.last)
    await asyncio.to_thread(ingest.take, batch if confirmed else replace(batch, marks={}))
    await reader.commit(batch.positions)
    return True


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
