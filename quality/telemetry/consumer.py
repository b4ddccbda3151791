"""The telemetry consumer: reads the live stream into the store, and keeps the reports up to date. A thin shell.

| event | guarantee |
|---|---|
| a batch was stored | its rows and positions are in one commit; Kafka's own offset follows, for lag monitors only |
| killed at any point (-9) | the next start resumes after the last commit: no line is lost or counted twice |
| killed while a report is written | the old file is whole; the report is written again |
| a report takes long | reading goes on: it is computed in a thread, from a snapshot of the store or from the archive |
| telemetry is far behind | open reports are written again more seldom: they take a tenth of the time at most |
| SIGTERM, SIGINT | the current batch is committed, open reports are rewritten, exit 0 |
| Kafka has dropped offsets | they are counted as lost and logged; reading continues |
| Kafka does not confirm that a batch is of the topic | it waits; in an outage it is stored, and the marks stay |
| another telemetry runs on the same `var` | one error line, exit 1; the store is not touched |
| the topic was deleted and made anew | error, alert; `python -m stream new-topic` goes on with the new one |

Time is the stream's own clock (`stream.clock`): the watermark is the least over the partitions, without those that are
idle (`idle_partitions`). `stream_watch` raises the alerts.
"""

import asyncio
import logging
import math
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from quality.alerts.alert_file import alert_if_remade
from quality.alerts.webhook import posting
from quality.settings import QualitySettings
from quality.telemetry.batch import batch_of
from quality.telemetry.ingest import Ingest
from quality.telemetry.open_sessions import OpenSessions
from quality.telemetry.recovery import repair_reports, sound_store
from quality.telemetry.report import Reports
from quality.telemetry.reporting import ReportJob, ReportKeeper
from quality.telemetry.store import Store, writing
from quality.telemetry.stream_metrics import StreamMetrics
from quality.telemetry.stream_state import StreamProgress
from quality.telemetry.stream_watch import StreamWatch
from stream import kafka
from stream.archive import Archive
from stream.settings import StreamSettings
from stream.zone import Zone, zone_named

GROUP = "marquee-telemetry"
_ALONE_S = 15.0
"""How long telemetry waits, after its start, for a collector that may start with it."""
_OPEN_SHARE = 0.1
"""The largest share of the time in which open reports are computed: they help nobody while telemetry catches up."""
_LEDGER_S = 5.0
"""How long telemetry waits, after a job that made no report final, before it looks again for what is due."""
log = logging.getLogger(__name__)


class Telemetry:
    """The store and its reports: everything except Kafka and signals. Raises `StoreError` if the store is damaged."""

    def __init__(
        self, store: Store, stream: StreamSettings, settings: QualitySettings, alone_from: float = 0.0
    ) -> None:
        """`alone_from`: the time of the monotonic clock from which on a missing archive means that none will come."""
        self.store, self.stream, self.settings = store, stream, settings
        self.ingest = Ingest(store, stream, settings)
        self.keeper = ReportKeeper(store, Reports(stream, settings), OpenSessions(self.ingest.changes), alone_from)

    def report(self, *, now: bool = False) -> None:
        """Write the final reports of the days that are over, and rewrite open ones if they are due (or `now`)."""
        if job := self.due(now=now):
            self.note(job, self.keeper.write(job))

    def due(self, *, now: bool = False, open_too: bool = True) -> ReportJob | None:
        """The reports that are due, to be written by `keeper.write`; `note` then finishes the job."""
        watermark = self.ingest.watermark
        return None if watermark is None else self.keeper.due(watermark, now=now, open_too=open_too)

    def note(self, job: ReportJob, finished: list[int]) -> None:
        """Note what a job has written."""
        self.keeper.note(job, finished, self.ingest.open_since)
        if finished:
            self.ingest.refresh()


class BackgroundReports:
    """Writes reports in a thread, one job at a time, while telemetry goes on reading.

    Final reports are written at once. After a job with open ones no others are written for some time, so that these
    jobs take at most `_OPEN_SHARE` of the time, however fast the stream is read.
    """

    def __init__(self, telemetry: Telemetry, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._telemetry, self._monotonic_s = telemetry, monotonic_s
        self._job: ReportJob | None = None
        self._writing: asyncio.Task[list[int]] | None = None
        self._looked = self._rests_until = -math.inf

    async def go_on(self) -> None:
        """Finish the job if it is written, or begin one that is due. A day that waits for the ledger is no hurry."""
        if self._writing is not None:
            if self._writing.done():
                await self.wait()
        elif job := self._due():
            self._job = job
            self._writing = asyncio.create_task(asyncio.to_thread(self._write, job))

    def _due(self) -> ReportJob | None:
        now_s = self._monotonic_s()
        return None if now_s < self._looked + _LEDGER_S else self._telemetry.due(open_too=now_s >= self._rests_until)

    async def wait(self) -> None:
        """Wait for the job, if there is one."""
        if self._writing is not None and self._job is not None:
            job, finished = self._job, await self._writing
            self._job = self._writing = None
            if not finished:
                self._looked = self._monotonic_s()
            await asyncio.to_thread(self._telemetry.note, job, finished)

    def _write(self, job: ReportJob) -> list[int]:
        began_s = self._monotonic_s()
        finished = self._telemetry.keeper.write(job)
        if job.rewritten is not None:
            ended_s = self._monotonic_s()
            self._rests_until = ended_s + (ended_s - began_s) * (1 / _OPEN_SHARE - 1)
        return finished


async def run(stream_settings: StreamSettings, settings: QualitySettings) -> None:
    """Follow the topic until SIGTERM or SIGINT.

    Raises `StoreBusy` if another telemetry runs, `BrokerError` or `StreamError` if Kafka fails, `TopicRemade` if the
    topic was deleted and made anew.
    """
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    var, topic = stream_settings.var, stream_settings.topic
    with writing(var), posting(var, settings), closing(sound_store(stream_settings, settings)) as store:
        repair_reports(Reports(stream_settings, settings))
        store.follow_topic(topic, Archive(var).times_remade(topic))
        telemetry = Telemetry(store, stream_settings, settings, time.monotonic() + _ALONE_S)
        positions, marks = store.positions(topic), store.marks(topic)
        async with alert_if_remade(var), kafka.reading(stream_settings, GROUP, positions, marks) as reader:
            await follow(reader, telemetry, stop)


async def follow(reader: kafka.Reader, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Store batches and write reports until `stop`."""
    stream, ingest = telemetry.stream, telemetry.ingest
    progress, metrics = StreamProgress(ingest, stream.idle_minutes * 60), StreamMetrics(stream.var)
    watch, background = StreamWatch(telemetry.store, telemetry.keeper.reports), BackgroundReports(telemetry)
    polled: list[kafka.FetchedRecords | kafka.RetentionGap] = []
    while not stop.is_set():
        arrived = await _gather(reader, stream.batch_lines, telemetry.settings.commit_seconds, stop)
        progress.polled(arrived)
        polled += arrived
        if polled and not await _stored(reader, ingest, polled, zone_named(stream.timezone)):
            continue  # Kafka is asked again after the next poll
        state = progress.stored(polled, reader.unread())
        await asyncio.to_thread(watch.look, state)
        await background.go_on()
        metrics.refresh(state, watch.figures, now=stop.is_set())
        polled = []
    await background.wait()
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
    for gap in batch.gaps:
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
