"""Copies a topic into another one, where each record has its user's id as key: a user's lines lie in one partition.

| event | guarantee |
|---|---|
| killed at any point (-9), started again | it goes on; readers of committed records find each line once |
| the same without transactions (`exactly_once`) | no line is missing; the last ones may be there twice |
| a second process copies the same | the first one ends with an error; the copy stays whole |
| it is not known how far the copy had come | refused, unless the offsets to begin at are given |
| Kafka has dropped offsets | they are logged; copying continues |
| SIGTERM, SIGINT | the current lines are committed, exit 0 |

Bytes and Kafka times stay (within the years 2000 to 2099, as Marquee reads them). Lines of one source partition stay in
order; those of several are copied in the order of their Kafka times, to within `_SLICE` lines, since whoever reads a
partition of the copy takes it to be in order. Keys go to partitions as in Kafka's own clients (murmur2).
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.partitioner import murmur2
from msgspec.structs import replace

from stream import kafka, kafka_topic
from stream.errors import StreamError, TopicRemade
from stream.grammar import MAX_USER
from stream.kafka_connection import client_arguments
from stream.kafka_writer import Writer
from stream.settings import StreamSettings

_SLICE = 50
"""Lines of one partition that are copied in a row, while others have older ones."""
_BATCH_LINES = 20_000
_BATCH_S = 1.0
"""How many lines are committed at once, and how long the first of them waits for the last."""
_MOST_DIGITS = len(str(MAX_USER))
_NO_DIGIT = re.compile(rb"\D")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CopyPlan:
    """What to copy, and how."""

    target: str
    """The topic to write to."""
    partitions: int | None = None
    """Of the target; None: as many as it has, or as the source if it is to be made."""
    starts: Mapping[int, int] = field(default_factory=dict)
    """By source partition: the first offset to copy; others are copied from their beginning."""
    follow: bool = False
    """Whether to go on at the end that the source had when copying began."""
    exactly_once: bool = True
    """Whether to write in transactions."""


@dataclass(kw_only=True)
class CopyResult:
    """What a run has copied."""

    lines: int = 0
    without_user: int = 0
    positions: dict[int, int] = field(default_factory=dict)
    """By source partition: the first offset that is not copied."""


def user_key(line: bytes) -> bytes | None:
    """The key of a line: the digits of its second field, which is the user's id; None if that cannot be an id.

    So a line that is only refused for a stray character in its id goes to the same partition as all others of the user.
    """
    user = line.partition(b",")[2].partition(b",")[0]
    digits = user if user.isdigit() else _NO_DIGIT.sub(b"", user)
    digits = digits.lstrip(b"0")
    return digits if 0 < len(digits) <= _MOST_DIGITS else None


@lru_cache(1 << 20)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's own clients choose it."""
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions


async def repartition(settings: StreamSettings, plan: CopyPlan, stop: asyncio.Event) -> CopyResult:
    """Copy the configured topic until its present end, or until `stop`.

    Raises `StreamError` if the plan cannot be carried out, or Kafka fails; a further run then goes on.
    """
    partitions = await _prepare(settings, plan)
    name = f"marquee-repartition-{settings.topic}-to-{plan.target}-{partitions}"
    async with _producing(settings, plan, name) as producer:
        # afterwards: the producer has ended the transaction of a run that was killed
        positions = await _positions(settings, plan, name)
        try:
            async with kafka.reading(settings, name, positions) as reader:
                copy = _Copy(reader, producer, settings.topic, plan, partitions, name)
                await copy.run(stop)
                return copy.result
        except TopicRemade as error:
            raise StreamError(
                f"repartition: {error.evidence}: either --from is wrong, or {settings.topic} was deleted and made anew,"
                " and needs a copy of another name"
            ) from error


async def _prepare(settings: StreamSettings, plan: CopyPlan) -> int:
    """Make the target if it is missing; returns the number of its partitions. Raises `StreamError`."""
    if plan.target == settings.topic:
        raise StreamError(f"repartition: {plan.target} is the topic that is read ([stream] topic); name another one")
    target, sources = replace(settings, topic=plan.target), await kafka_topic.partitions_of(settings)
    if unknown := sorted(plan.starts.keys() - set(sources)):
        raise StreamError(f"repartition: {settings.topic} has no partition {unknown[0]}; it has {len(sources)}")
    await kafka_topic.ensure_topic(target, plan.partitions or len(sources))
    partitions = len(await kafka_topic.partitions_of(target))
    if plan.partitions not in (None, partitions):
        raise StreamError(f"repartition: {plan.target} has {partitions} partitions, not {plan.partitions}")
    if not await kafka_topic.keeps_times(target):
        raise StreamError(
            f"repartition: {plan.target} would give lines the time of the copy; set its message.timestamp.type to"
            " CreateTime"
        )
    kept_ms, source_ms = await kafka_topic.retention_ms(target), await kafka_topic.retention_ms(settings)
    if kept_ms is not None and (source_ms is None or kept_ms < source_ms):
        raise StreamError(
            f"repartition: {plan.target} keeps records for a shorter time than {settings.topic}, so Kafka would delete"
            " old lines at once; set its retention.ms to that of the other, or to -1"
        )
    return partitions


async def _positions(settings: StreamSettings, plan: CopyPlan, group: str) -> dict[int, int]:
    """Where to begin, by partition; one that is missing is read from its beginning. Raises `StreamError`."""
    positions = await kafka_topic.committed_offsets(settings, group)
    if not positions:
        target = await kafka_topic.offset_ranges(replace(settings, topic=plan.target))
        if not plan.starts and any(end > first for first, end in target.values()):
            raise StreamError(
                f"repartition: {plan.target} has records, and Kafka does not know up to where they are of"
                f" {settings.topic} (group {group}); name an empty topic, or where to begin with --from"
            )
        return dict(plan.starts)
    if plan.starts:
        raise StreamError(f"repartition: {plan.target} has a copy, which goes on by itself; leave out --from")
    return positions


@asynccontextmanager
async def _producing(settings: StreamSettings, plan: CopyPlan, name: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer, of transactions if the plan wants them; it ends those of any other with its name."""
    producer = AIOKafkaProducer(
        **client_arguments(settings),
        transactional_id=name if plan.exactly_once else None,
        max_batch_size=1 << 20,
        max_request_size=4 << 20,
    )
    try:
        try:
            await producer.start()
        except KafkaError as error:
            raise StreamError(
                f"kafka: {settings.bootstrap} begins no transactions for {name}: {error!r}; allow them, or copy with"
                " --at-least-once"
            ) from error
        yield producer
    finally:
        await producer.stop()


class Pace:
    """Which partition is behind the others in time: it is read next."""

    def __init__(self) -> None:
        self._times: dict[int, float] = {}
        """By partition: the median of the Kafka times of its last lines, so that wrong ones mean nothing."""

    def polled(self, records: kafka.FetchedRecords) -> None:
        """Note the lines that were read last."""
        self._times[records.partition] = float(np.median(records.times))

    def behind(self, unread: Mapping[int, int | None]) -> list[int]:
        """Of the partitions that are not read to their end, the one with the oldest lines; none if there is none."""
        left = [partition for partition, records in unread.items() if records != 0]
        return sorted(left, key=lambda partition: self._times.get(partition, -1.0))[:1]


class _Copy:
    """Copies what a reader reads."""

    def __init__(
        self, reader: kafka.Reader, producer: AIOKafkaProducer, source: str, plan: CopyPlan, partitions: int, group: str
    ) -> None:
        self.result = CopyResult(positions=dict(reader.positions))
        self._reader, self._producer, self._plan = reader, producer, plan
        self._writer, self._partitions = Writer(producer, plan.target), partitions
        self._source, self._group, self._pace = source, group, Pace()

    async def run(self, stop: asyncio.Event) -> None:
        """Copy until the end that the partitions have when they are read first, or until `stop`."""
        reader, ends = self._reader, dict[int, int]()
        polled: list[kafka.FetchedRecords] = []
        await self._commit([])  # from now on it is known how far the copy has come
        while not stop.is_set():
            polled += await self._gather(stop)
            for partition, left in reader.unread().items():
                if left is not None:
                    ends.setdefault(partition, reader.positions[partition] + left)
            if polled and await reader.verify():  # else again after the next poll
                await self._commit(polled)
                polled = []
            at_end = all(ends.get(number, position + 1) <= position for number, position in reader.positions.items())
            if at_end and not polled and not self._plan.follow:
                break

    async def _gather(self, stop: asyncio.Event) -> list[kafka.FetchedRecords]:
        """The next lines of all partitions."""
        gathered: list[kafka.FetchedRecords] = []
        lines, until = 0, time.monotonic() + _BATCH_S
        while lines < _BATCH_LINES and time.monotonic() < until and not stop.is_set():
            polled = await self._reader.poll(_SLICE, self._pace.behind(self._reader.unread()))
            for records in polled:
                if isinstance(records, kafka.RetentionGap):
                    log.warning(
                        "partition %d: Kafka has dropped %d..%d", records.partition, records.first, records.last
                    )
                else:
                    self._pace.polled(records)
                    gathered.append(records)
                    lines += len(records.values)
            if not polled:
                break
        return gathered

    async def _commit(self, polled: Sequence[kafka.FetchedRecords]) -> None:
        """Write lines, and how far they go, in one transaction, if there are any."""
        positions = dict(self._reader.positions)
        try:
            if self._plan.exactly_once:
                async with self._producer.transaction():
                    await self._write(polled)
                    offsets = {TopicPartition(self._source, number): offset for number, offset in positions.items()}
                    await self._producer.send_offsets_to_transaction(offsets, self._group)
            else:
                await self._write(polled)
                await self._reader.commit(positions)
        except ProducerFenced as error:
            raise StreamError(f"repartition: another process has begun to copy to {self._plan.target}") from error
        except KafkaError as error:
            raise StreamError(f"kafka: cannot copy to {self._plan.target}: {error!r}; a further run goes on") from error
        self.result.positions = positions

    async def _write(self, polled: Sequence[kafka.FetchedRecords]) -> None:
        rows: dict[int, tuple[list[bytes], list[int], list[bytes | None]]] = {}
        for records in polled:
            for line, time_ms in zip(records.values, records.times.tolist(), strict=True):
                key = user_key(line)
                # without a user: by a rule that never changes, to where its neighbours cannot be late
                partition = records.partition % self._partitions if key is None else partition_of(key, self._partitions)
                lines, times, keys = rows.setdefault(partition, ([], [], []))
                lines.append(line)
                times.append(time_ms)
                keys.append(key)
        writes = [self._writer.write(lines, times, number, keys) for number, (lines, times, keys) in rows.items()]
        await asyncio.gather(*writes)
        self.result.lines += sum(len(lines) for lines, _, _ in rows.values())
        self.result.without_user += sum(keys.count(None) for _, _, keys in rows.values())
