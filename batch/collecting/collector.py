"""The collector: Kafka to the archive, batch by batch, without losing or repeating a line.

| when it dies | on disk | what the next start does |
|---|---|---|
| while lines wait in memory | none of them | reads them again, from the end of the last entry |
| while it writes files | files that no entry names | removes them and reads the lines again |
| after the ledger entry | the whole batch | continues after it, and raises the alerts that were due |

If the topic is deleted and made anew, lines that were surely of the old one are archived before the process ends. Lines
wait until Kafka confirms that they are of the topic; in an outage they are archived without a mark of their own.

`PendingLines` buffers lines; `archive_batch` judges and writes one batch; `collect` is the process around them.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress

import numpy as np
import pyarrow as pa

from batch.collecting.unknown_ids import UnknownIdLookup
from batch.settings import BatchSettings
from quality.alerts.alert_file import alert_if_remade
from quality.alerts.prometheus import LedgerMetrics
from quality.alerts.thresholds import ThresholdMonitor
from quality.alerts.webhook import Poster, posting
from quality.catalog import KnownIds
from quality.lines import archive_writer
from quality.lines.context_checks import JudgingContext, make_context
from quality.lines.quarantine import replay_entry
from quality.lines.repair import unconfirmed_movies
from quality.lines.verdicts import ParsedLines, Verdicts, judge
from quality.settings import QualitySettings
from stream import kafka
from stream.archive import Archive
from stream.clock import ClockLimit, PartitionClock, Quorum, TopicClock
from stream.errors import KafkaSilent, TopicRemade
from stream.ledger_clock import latest_lines, was_live
from stream.ledger_entry import LedgerEntry, count_by_fate
from stream.record_mark import RecordMark
from stream.set_aside import OpenCases
from stream.settings import StreamSettings
from stream.zone import Zone, zone_named

log = logging.getLogger(__name__)

GROUP = "marquee-collect"
BATCH_BYTES = 256 << 20
"""A batch of so many bytes is full, however few lines it has."""
METRICS_S = 15.0
"""How often the metrics are written while no lines come."""
_RETRY_S = 0.1
"""How long the collector waits, at its end, before it asks Kafka again."""


@dataclass
class PendingLines:
    """Lines of one partition, not yet archived, by offset."""

    first: int
    """The offset after the last entry, where the next entry's range begins even if Kafka has no record there."""
    since: float = 0.0
    """When the first of these lines arrived, seconds of the monotonic clock."""
    values: list[bytes] = field(default_factory=list)
    offsets: list[np.ndarray] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)
    redelivered: int = 0
    """Records that Kafka delivered again."""
    size: int = 0
    """Bytes of the lines."""

    @property
    def end(self) -> int:
        """The offset after the last line."""
        return int(self.offsets[-1][-1]) + 1 if self.offsets else self.first

    def add(self, records: kafka.FetchedRecords) -> None:
        """Add new records; count and skip those whose offset was read before."""
        new = records.offsets >= self.end
        self.redelivered += len(new) - int(new.sum())
        if not new.any():
            return
        if not self.values:
            self.since = time.monotonic()
        values = list(compress(records.values, new.tolist()))
        self.values += values
        self.size += sum(map(len, values))
        self.offsets.append(records.offsets[new])
        self.times.append(records.times[new])

    def cut(self, last: int) -> int:
        """Forget the lines after an offset; returns how many."""
        offsets, times = (np.concatenate([np.zeros(0, np.int64), *parts]) for parts in (self.offsets, self.times))
        kept = int(np.searchsorted(offsets, last, side="right"))
        self.values = self.values[:kept]
        self.offsets, self.times = ([offsets[:kept]], [times[:kept]]) if kept else ([], [])
        self.size = sum(map(len, self.values))
        return len(offsets) - kept

    def due(self, settings: StreamSettings) -> bool:
        """Whether the batch is full, or its first line has waited long enough."""
        waited = time.monotonic() - self.since
        full = len(self.values) >= settings.batch_lines or self.size >= BATCH_BYTES
        return bool(self.values) and (full or waited >= settings.batch_seconds)


def archive_batch(
    archive: Archive,
    topic: str,
    partition: int,
    pending: PendingLines,
    zone: Zone,
    clock: TopicClock,
    set_aside: OpenCases,
    context_for: Callable[[ParsedLines], JudgingContext],
    confirm: Callable[[list[frozenset[str]]], KnownIds] | None = None,
    *,
    marked: bool = True,
) -> LedgerEntry:
    """Judge a batch, write its files and commit it; `marked` if Kafka has confirmed that it is of the topic.

    `context_for` gives the context for its lines; `confirm` asks which movies exist that would make a line valid.
    """
    offsets, times = np.concatenate(pending.offsets), np.concatenate(pending.times)
    lines = ParsedLines.read(pa.array(pending.values, pa.binary()), times, zone)
    clock.add(partition, *lines.times_and_users())
    context = replace(context_for(lines), clock=clock.limit())
    apart_ms = lines.clocks_apart_ms(context)
    verdicts = _judge(lines, context if apart_ms is None else replace(context, ahead_ms=None), confirm)
    behind = set_aside.lines_behind(partition, times)
    entry = LedgerEntry(
        topic=topic,
        partition=partition,
        first=pending.first,
        last=int(offsets[-1]),
        lines=len(times),
        counts=verdicts.counts(times, zone),
        kafka_time=verdicts.span(times if context.clock is None else np.minimum(times, context.clock.latest_ms)),
        redelivered=pending.redelivered,
        mark=RecordMark.of(int(offsets[-1]), int(times[-1]), pending.values[-1]) if marked else None,
        clocks_apart_ms=apart_ms,
        clock=PartitionClock.of(clock.latest(partition), verdicts.ahead_from(times), behind),
    )
    origin = archive_writer.provenance_columns(topic, partition, offsets, times)
    files = archive_writer.write_batch(archive, entry, verdicts, lines.values, origin, zone)
    return archive.commit(entry.with_files(files))


def _judge(
    lines: ParsedLines, context: JudgingContext, confirm: Callable[[list[frozenset[str]]], KnownIds] | None
) -> Verdicts:
    """Judge a batch; once more if movies were confirmed that may repair quarantined lines."""
    verdicts = judge(lines, context)
    quarantined = dict(zip(verdicts.quarantined.tolist(), verdicts.reasons, strict=True))
    if confirm is None or not (groups := unconfirmed_movies(lines.values, lines.kafka_times, quarantined, context)):
        return verdicts
    known = confirm(groups)
    confirmed = any(movie in known.runtimes for group in groups for movie in group)
    return judge(lines, replace(context, known=known)) if confirmed else verdicts


class Collector:
    """Buffers the records that a reader polls, and archives each batch that is due."""

    def __init__(
        self, streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings, poster: Poster | None = None
    ) -> None:
        self._settings, self._quality, self._poster = streaming, quality, poster
        self._zone = zone_named(streaming.timezone)
        self._archive = Archive(streaming.var)
        self._unknown_ids = UnknownIdLookup(streaming, settings)
        self._thresholds = ThresholdMonitor(streaming.var, quality)
        self._metrics = LedgerMetrics(streaming.var, "collect", quality)
        self._clock, self._set_aside = TopicClock(Quorum.of(streaming), {}), OpenCases()
        self._pending: dict[int, PendingLines] = {}
        self._topic = streaming.topic
        """The topic's name in the ledger."""
        self._ends: dict[int, int] = {}
        """By partition: the offset after the last entry."""

    def resume(self) -> dict[int, int]:
        """Clean up after a crash and raise the alerts that it prevented; returns the next offset by partition."""
        for path in self._archive.sweep():
            log.warning("removed %s: left behind by a crash, its lines are read again", path)
        if folded := self._archive.fold():
            log.info("folded %d entries of the ledger", folded)
        entries = self._archive.condensed()
        self._topic = self._archive.name_of(self._settings.topic)
        of_topic = [entry for entry in entries if entry.topic == self._topic]
        self._clock = _clock_of(self._archive.condensed(self._settings.topic), self._topic, self._settings)
        self._set_aside = OpenCases(of_topic)
        self._recount(entries)
        self._ends = self._archive.positions(self._settings.topic)
        return dict(self._ends)

    def marks(self) -> dict[int, RecordMark]:
        """By partition: the last archived record."""
        return self._archive.marks(self._settings.topic)

    def has_due(self, only_due: bool) -> bool:
        """Whether `flush` has something to archive."""
        return any(
            pending.values and (not only_due or pending.due(self._settings)) for pending in self._pending.values()
        )

    async def take(self, polled: list[kafka.FetchedRecords | kafka.RetentionGap]) -> None:
        """Buffer polled records; a gap is committed at once, as a separate entry."""
        for piece in polled:
            if isinstance(piece, kafka.FetchedRecords):
                first = self._ends.get(piece.partition, int(piece.offsets[0]))
                self._pending.setdefault(piece.partition, PendingLines(first)).add(piece)
            else:
                await self.flush()
                entry = LedgerEntry(
                    topic=self._topic,
                    partition=piece.partition,
                    first=self._ends.get(piece.partition, piece.first),  # the reader also passes marks of transactions
                    last=piece.last,
                    lines=0,
                    lost=piece.last - piece.first + 1,
                )
                self._committed(self._archive.commit(entry))
                if piece.partition in self._pending:  # it has only a count of redelivered records
                    self._pending[piece.partition].first = piece.last + 1

    async def flush(self, only_due: bool = False, *, marked: bool = True) -> dict[int, int]:
        """Archive all pending batches, or those that are due; returns the offset after each by partition.

        `marked` if Kafka has confirmed that they are of the topic: otherwise the latest mark stays the old one.
        """
        ends = {}
        for partition, pending in list(self._pending.items()):
            if not pending.values or (only_due and not pending.due(self._settings)):
                continue
            del self._pending[partition]
            # judging takes about a second: in a thread, so that the Kafka client keeps fetching
            entry = await asyncio.to_thread(
                archive_batch,
                self._archive,
                self._topic,
                partition,
                pending,
                self._zone,
                self._clock,
                self._set_aside,
                self._context_for,
                self._unknown_ids.confirm,
                marked=marked,
            )
            self._committed(entry)
            await self._take_confirmed()
            ends[partition] = entry.last + 1
        if ends:
            await asyncio.to_thread(self._archive.fold)
        return ends

    async def _take_confirmed(self) -> None:
        """Archive the records that were set aside and that the stream's clock has confirmed."""
        limit, revised = self._clock.limit(), False
        for entry in self._set_aside.confirmed(limit):
            context_for = partial(self._context_again, entry, limit)
            replayed = await asyncio.to_thread(replay_entry, self._archive, entry, self._zone, context_for)
            self._set_aside.revised(replayed.entry)
            if replayed.entry is entry:  # no verdict has changed, nor will one
                self._set_aside.closed(entry)
                continue
            revised = True
            log.info("the stream's clock has jumped: %s judged again, %s", entry.name, dict(replayed.fates))
        if revised:
            self._recount(self._archive.condensed())

    def _context_again(self, entry: LedgerEntry, limit: ClockLimit | None, lines: ParsedLines) -> JudgingContext:
        """The context for lines of an entry that are judged again."""
        context = replace(self._context_for(lines), clock=limit)
        return context if entry.clocks_apart_ms is None else replace(context, ahead_ms=None)

    def _recount(self, entries: list[LedgerEntry]) -> None:
        self._thresholds.resume(entries)
        self._metrics.resume(entries)
        self.publish_state()

    async def flush_until(self, confirmed: Mapping[int, int]) -> None:
        """Archive the pending lines up to an offset of each partition. Later ones may be of a topic made anew."""
        left_out = sum(pending.cut(confirmed.get(partition, -1)) for partition, pending in self._pending.items())
        if left_out:
            log.warning("%d lines are left out: the topic may have been made anew before they were read", left_out)
        await self.flush()

    def _context_for(self, lines: ParsedLines) -> JudgingContext:
        return make_context(self._settings, self._quality, self._unknown_ids.known_for(lines))

    def publish_state(self) -> None:
        """Write the metrics and wake the poster, which posts the alerts of this and other processes."""
        self._metrics.write()
        if self._poster is not None:
            self._poster.wake()

    def _committed(self, entry: LedgerEntry) -> None:
        self._ends[entry.partition] = entry.last + 1
        self._set_aside.committed(entry)
        self._thresholds.committed(entry)
        self._metrics.committed(entry)
        self.publish_state()
        log.info("archived %s: %d lines, %s", entry.name, entry.lines, dict(count_by_fate([entry])))


def _clock_of(entries: list[LedgerEntry], name: str, settings: StreamSettings) -> TopicClock:
    """The clock of a topic, from its entries; `name` are those since it was made anew, if it was."""
    latest = latest_lines(entries)
    partitions = {number: lines for (own, number), lines in latest.items() if own == name}
    before = [lines for (own, _), lines in latest.items() if own != name]
    partitions |= {-1 - number: lines for number, lines in enumerate(before)}  # of no partition that there is
    return TopicClock(Quorum.of(settings), partitions, was_live(entries))


async def collect(
    streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings, until_idle: float | None = None
) -> None:
    """Collect until SIGTERM or SIGINT, or until no line came for `until_idle` seconds; then archive pending lines.

    Raises `ArchiveBusy` if another collector runs, `BrokerError` or `StreamError` if Kafka fails, `TopicRemade` if the
    topic was deleted and made anew.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with Archive(streaming.var).writing(), posting(streaming.var, quality) as poster:
        collector = Collector(streaming, quality, settings, poster)
        positions = collector.resume()
        async with (
            alert_if_remade(streaming.var),
            kafka.reading(streaming, GROUP, positions, collector.marks()) as reader,
        ):
            try:
                await _follow(collector, reader, streaming.batch_lines, stop, until_idle)
            except TopicRemade:
                await collector.flush_until(reader.confirmed())
                raise
            except KafkaSilent:
                await collector.flush(marked=False)  # the process ends, and Kafka may not be back for long
                raise


async def _follow(
    collector: Collector, reader: kafka.Reader, most: int, stop: asyncio.Event, until_idle: float | None
) -> None:
    last_arrival = published = time.monotonic()
    while not stop.is_set() and (until_idle is None or time.monotonic() - last_arrival < until_idle):
        polled = await reader.poll(most)
        await collector.take(polled)
        await _flush_and_commit(collector, reader, only_due=True)
        if time.monotonic() - published > METRICS_S:
            collector.publish_state()
            published = time.monotonic()
        last_arrival = time.monotonic() if polled else last_arrival  # after the work, which is not idle time
    await _flush_and_commit(collector, reader, only_due=False)


async def _flush_and_commit(collector: Collector, reader: kafka.Reader, only_due: bool) -> None:
    """Archive lines once Kafka confirms their topic, or in an outage; those that are due wait for the next poll."""
    if not collector.has_due(only_due):
        return
    while not (confirmed := await reader.verify()) and not reader.out_of_reach:
        if only_due:
            return
        await asyncio.sleep(_RETRY_S)  # the process ends, so there is no next poll
    await reader.commit(await collector.flush(only_due, marked=confirmed))
