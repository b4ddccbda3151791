"""Reads and writes Kafka: a thin shell. The positions are ours; offsets are committed to Kafka only for lag monitors.

A `Reader` reads all partitions of a topic by itself (one process per store, without a consumer group, so nothing is
ever rebalanced). It starts at the positions of its owner's store, reads partitions that are added later from their
beginning, and reports a `RetentionGap` if Kafka has dropped the next records. Records of aborted transactions are
skipped, as is the record that ends a transaction, so offsets have holes. A broker may report the end of a partition too
early, so no code here waits for an end.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from stream.connection_faults import connection_fault, unreachable
from stream.errors import BrokerError, KafkaSilent, StreamError, TopicRemade
from stream.kafka_connection import client_arguments
from stream.kafka_contact import SILENT_S, KafkaContact
from stream.kafka_topic import ensure_topic, partitions_of
from stream.kafka_writer import Writer
from stream.offset_commits import OffsetCommits
from stream.record_mark import RecordMark
from stream.settings import StreamSettings
from stream.stalled_partitions import StalledPartitions
from stream.topic_check import CHECK_BYTES, TopicCheck
from stream.zone import EARLIEST_MS, LATEST_MS

log = logging.getLogger(__name__)

_FETCH_BYTES = 16 << 20
_METADATA_S = 20.0
"""How often Kafka is asked for the topic's partitions, and the answer looked at: new ones are read within a minute."""
_START_S = 30.0
"""How long a reader that starts waits for the records at its marks."""
_RETRY_S = 0.1
_COMMIT_S = 5.0
"""How long a reader that ends waits until its last offsets are committed."""
_COUNT_S = 10.0
"""How long a reader that ends waits for the number of records that it would never read."""
_LEADER_S = 5.0
"""How long polling waits for the brokers of new partitions."""


@dataclass(frozen=True, slots=True)
class FetchedRecords:
    """Records of one partition, ascending: values, their offsets (int64) and Kafka times (int64, ms UTC).

    Times are clipped to the years 2000 to 2099: a producer may set none, or invalid ones.
    """

    partition: int
    values: list[bytes]
    offsets: np.ndarray
    times: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", np.clip(self.times, EARLIEST_MS, LATEST_MS))

    @property
    def last_mark(self) -> RecordMark:
        """The mark of the last record."""
        return RecordMark.of(int(self.offsets[-1]), int(self.times[-1]), self.values[-1])


@dataclass(frozen=True, slots=True)
class RetentionGap:
    """Kafka dropped the offsets `first`..`last` before they were read."""

    partition: int
    first: int
    last: int


class Reader:
    """Reads a topic from given positions. Created by `reading`."""

    def __init__(self, consumer: AIOKafkaConsumer, settings: StreamSettings, check: TopicCheck) -> None:
        self._consumer, self._check = consumer, check
        self._marks: dict[int, RecordMark] = {}
        """By partition: a record by which the topic is recognised, the latest that a check has confirmed."""
        self._latest: dict[int, RecordMark] = {}
        """By partition: the last record that was polled."""
        self._settings, self._topic, self._bootstrap = settings, settings.topic, settings.bootstrap
        self._timeout_ms, self._stall_seconds = settings.fetch_timeout_ms, settings.stall_seconds
        self._contact = KafkaContact(f"{self._topic} at {self._bootstrap}")
        self._stalls = StalledPartitions(self._topic, settings.stall_seconds)
        self._looked = time.monotonic()
        self._from: dict[int, int] = {}
        """By partition: the offset that reading began at; empty once it was logged."""
        self._commits = OffsetCommits(consumer, self._topic)
        self.positions: dict[int, int] = {}
        """By partition: the offset to read next."""

    async def start(self, positions: Mapping[int, int], marks: Mapping[int, RecordMark]) -> None:
        """Assign all partitions; a partition missing in `positions` is read from its beginning.

        Raises `TopicRemade` if the topic is not the one that positions and marks are of.
        """
        partitions, self.positions = await partitions_of(self._settings), dict(positions)
        if gone := sorted((positions.keys() | marks.keys()) - set(partitions)):
            raise await self._remade(f"it has no partition {gone[0]} any more")
        self._marks = dict(marks)
        deadline = time.monotonic() + _START_S
        while not await self.verify(whole=True):
            if time.monotonic() > deadline:
                raise BrokerError(f"kafka: {self._bootstrap} does not answer what {self._topic} has where it was read")
            await asyncio.sleep(_RETRY_S)
        await self._assign({partition: positions.get(partition) for partition in partitions})
        self._from = dict(self.positions)

    async def verify(self, *, whole: bool = False) -> bool:
        """Whether Kafka has confirmed that all that was polled came from one topic; False if it does not answer.

        To be called before polled records are stored. Unconfirmed ones may only be stored when Kafka is
        `out_of_reach`, without their marks. One partition in turn speaks for all, since a topic is deleted with all of
        them; `whole` asks for each. Raises `TopicRemade`.
        """
        return False if self._contact.lost else await self._confirm(self._marks if whole else self._next_mark())

    async def _confirm(self, marks: Mapping[int, RecordMark]) -> bool:
        latest, began = dict(self._latest), time.monotonic()
        difference = await self._check.differs(marks)
        self._contact.checked(difference is not None, time.monotonic() - began)
        if difference:
            raise await self._remade(difference)
        if difference is None:
            return False
        self._marks |= latest
        return True

    def _next_mark(self) -> dict[int, RecordMark]:
        """The mark of one partition, of another one each time."""
        for partition in self._marks:
            self._marks[partition] = mark = self._marks.pop(partition)  # to the end of the line
            return {partition: mark}
        return {}

    @property
    def out_of_reach(self) -> bool:
        """Whether Kafka has not answered for so long that what was polled may be stored unconfirmed."""
        return self._contact.lost or self._contact.unchecked_s >= SILENT_S

    def confirmed(self) -> dict[int, int]:
        """By partition: the last offset whose record is surely of the topic that was read before."""
        return {partition: mark.offset for partition, mark in self._marks.items()}

    async def poll(self, most: int, only: Collection[int] = ()) -> list[FetchedRecords | RetentionGap]:
        """The next records, at most `most`, of `only` these partitions, or of all; empty after the fetch timeout.

        Raises `StreamError` if Kafka no longer answers, `TopicRemade` if it has another topic of the name.
        """
        try:
            await self._look_after()
            began = time.monotonic()
            polled = [TopicPartition(self._topic, partition) for partition in only]
            fetched = await self._consumer.getmany(*polled, timeout_ms=self._timeout_ms, max_records=most)
            await self._advance(polled or self._consumer.assignment(), time.monotonic() - began)
        except OffsetOutOfRangeError as error:
            return await self._gaps([tp.partition for tp in error.args[0]])
        except KafkaError as error:
            raise StreamError(f"kafka: cannot read {self._topic}: {error!r}") from error
        await self._require_progress()
        pieces = [self._to_arrays(tp.partition, records) for tp, records in fetched.items()]
        self._latest |= {records.partition: records.last_mark for records in pieces}
        return [*pieces]

    async def commit(self, positions: Mapping[int, int]) -> None:
        """Commit the positions of the owner's store to Kafka, for lag monitors; no process resumes from them.

        In the background. Raises `StreamError` if Kafka refused an earlier commit.
        """
        self._commits.put(positions)

    async def finish(self) -> None:
        """Give the last commit a few seconds. Raises `StreamError` if Kafka refuses it."""
        await self._commits.finish(0 if self._contact.lost else _COMMIT_S)

    def unread(self) -> dict[int, int | None]:
        """By partition: offsets not yet passed, as of the last fetch; None before the first fetch.

        Those of an open transaction count: its records may still come. The client passes those of an aborted one.
        """
        ends = ((partition, self._end(partition)) for partition in self.positions)
        return {number: None if end is None else max(0, end - self.positions[number]) for number, end in ends}

    async def _assign(self, positions: Mapping[int, int | None]) -> None:
        """Read these partitions, each from its position; None is the beginning."""
        topic_partitions = {partition: TopicPartition(self._topic, partition) for partition in positions}
        unknown = [topic_partitions[partition] for partition, position in positions.items() if position is None]
        beginnings = await self._consumer.beginning_offsets(unknown) if unknown else {}
        self.positions = {
            partition: beginnings[topic_partitions[partition]] if position is None else position
            for partition, position in positions.items()
        }
        # without a pause in between: the client would begin to fetch from elsewhere
        self._consumer.assign(list(topic_partitions.values()))
        for partition, tp in topic_partitions.items():
            self._consumer.seek(tp, self.positions[partition])

    async def _look_after(self) -> None:
        """Now and then: is it still the same topic, and does it have new partitions?"""
        if time.monotonic() - self._looked >= _METADATA_S:
            self._looked = time.monotonic()
            await self.verify(whole=True)
            await self._add_partitions()

    async def _add_partitions(self) -> None:
        """Also read partitions that were added to the topic, from their beginning; the others go on where they are."""
        added = sorted((self._consumer.partitions_for_topic(self._topic) or set()) - self.positions.keys())
        if not added:
            return
        try:
            async with asyncio.timeout(_LEADER_S):
                await self._assign({**self.positions, **dict.fromkeys(added)})
        except TimeoutError:
            log.warning("%s has new partitions that Kafka does not serve yet: %s", self._topic, added)
        else:
            log.info("%s has new partitions, which are read from their beginning: %s", self._topic, added)

    def _readable_end(self, partition: int) -> int | None:
        """The end of a partition as of the last fetch, at most the first record of an open transaction."""
        stable: int | None = self._consumer.last_stable_offset(TopicPartition(self._topic, partition))
        return self._end(partition) if stable is None or stable < 0 else stable

    def _end(self, partition: int) -> int | None:
        """The end of a partition as of the last fetch, with open transactions."""
        end: int | None = self._consumer.highwater(TopicPartition(self._topic, partition))
        return end

    async def _advance(self, polled: Collection[TopicPartition], seconds: float) -> None:
        """Follow the client after a poll of so many seconds; its positions also pass aborted records and the marks of
        transactions."""
        answers, positions = {}, {}
        for tp in polled:
            positions[tp.partition] = await self._consumer.position(tp)
            answers[tp.partition] = self._consumer.last_poll_timestamp(tp)
        self.positions |= positions
        self._contact.polled(answers, seconds)
        self._stalls.polled(positions, seconds)
        ends = {partition: self._readable_end(partition) for partition in self._from}
        if self._from and (None not in ends.values() or self._contact.incomplete):
            self._say_what_is_read(ends)

    def _say_what_is_read(self, ends: Mapping[int, int | None]) -> None:
        behind = {
            partition: "?" if end is None else max(0, end - self._from[partition]) for partition, end in ends.items()
        }
        each = [
            f"{partition} from {self._from[partition]} ({behind[partition]} behind)" for partition in sorted(self._from)
        ]
        log.info("reading %s at %s: partition %s", self._topic, self._bootstrap, ", ".join(each))
        self._from = {}

    @staticmethod
    def _to_arrays(partition: int, records: list[ConsumerRecord]) -> FetchedRecords:
        values = [record.value or b"" for record in records]
        offsets = np.array([record.offset for record in records], np.int64)
        times = np.array([record.timestamp for record in records], np.int64)
        return FetchedRecords(partition, values, offsets, times)

    async def _gaps(self, partitions: list[int]) -> list[FetchedRecords | RetentionGap]:
        """The gaps of these partitions; none while Kafka does not confirm the topic: the next poll finds them again."""
        if await self._confirm(self._next_mark()):  # also after an outage, which this answer has ended
            return [await self._gap(partition) for partition in partitions]
        await self._require_answer(self._contact.unchecked_s)
        return []

    async def _gap(self, partition: int) -> RetentionGap:
        tp = TopicPartition(self._topic, partition)
        first = (await self._consumer.beginning_offsets([tp]))[tp]
        next_offset = self.positions[partition]
        if first <= next_offset:
            raise await self._remade(f"partition {partition} ends before offset {next_offset}, the next to read")
        self.positions[partition] = first
        self._consumer.seek(tp, first)
        return RetentionGap(partition, next_offset, first - 1)

    async def _remade(self, evidence: str) -> TopicRemade:
        """The error for a topic made anew, with how many of its records a reader that went on would never read."""
        missed: int | str
        try:
            async with asyncio.timeout(_COUNT_S):
                there = set(await partitions_of(self._settings))
                known = {partition: offset for partition, offset in self.positions.items() if partition in there}
                missed = await self._check.read_before(known)
        except (StreamError, KafkaError, TimeoutError) as error:  # no reason to call the topic anything else
            log.warning("kafka: cannot count what %s has where it was read: %r", self._topic, error)
            missed = "an unknown number"
        return TopicRemade(self._topic, f"{evidence}; {missed} of its records lie where the old ones were read")

    async def _require_progress(self) -> None:
        """Raise `KafkaSilent` after a long outage, `StreamError` if a partition stands still for long."""
        await self._require_answer(self._contact.silent_s)
        if due := self._stalls.due():
            ends = dict(zip(due, await asyncio.gather(*map(self._present_end, due)), strict=True))
            if self._stalls.judge(ends, self.unread()):
                await self._assign(self.positions)

    async def _present_end(self, partition: int) -> int | None:
        """The end of what can be read, which a broker may report too early, but not in a fetch; None if unanswered."""
        end = await self._check.end(partition)
        return None if end is None else max(end, self._readable_end(partition) or 0)

    async def _require_answer(self, silent_s: float) -> None:
        if silent_s > self._stall_seconds:
            fault = await connection_fault(self._settings) or "it can be reached again"
            raise KafkaSilent(f"kafka: no answer from {self._bootstrap} for {self._stall_seconds:.0f} s: {fault}")


@asynccontextmanager
async def reading(
    settings: StreamSettings, group: str, positions: Mapping[int, int], marks: Mapping[int, RecordMark] | None = None
) -> AsyncIterator[Reader]:
    """A `Reader` of the configured topic, from the positions and marks of its owner's store.

    It never reads records of aborted transactions. Raises `BrokerError` without a broker, `StreamError` without the
    topic, `TopicRemade` if the topic was deleted and made anew.
    """
    consumer = _consumer(settings, _FETCH_BYTES, group_id=group, metadata_max_age_ms=int(_METADATA_S * 1000))
    checker = _consumer(settings, CHECK_BYTES)
    try:
        await consumer.start()
        await checker.start()
        reader = Reader(consumer, settings, TopicCheck(checker, settings.topic))
        await reader.start(positions, marks or {})
        yield reader
        await reader.finish()
    except KafkaError as error:
        raise await unreachable(settings, error) from error
    finally:
        await _stop(checker)
        await _stop(consumer)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    try:
        await consumer.stop()
    except asyncio.CancelledError:  # in an outage the client lets the cancellation of its own requests through
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise


def _consumer(settings: StreamSettings, fetch_bytes: int, **options: object) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **client_arguments(settings),
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=fetch_bytes,
        fetch_max_bytes=2 * _FETCH_BYTES,
        **options,
    )


@asynccontextmanager
async def writing(settings: StreamSettings, partitions: int = 1) -> AsyncIterator[Writer]:
    """A `Writer` of the configured topic, which is created with that many partitions if it is missing.

    A topic that is created keeps its records for ever, as recorded and simulated lines are old.
    """
    await ensure_topic(settings, partitions)
    producer = AIOKafkaProducer(**client_arguments(settings), max_batch_size=1 << 20, max_request_size=4 << 20)
    try:
        await producer.start()
        yield Writer(producer, settings.topic)
    except KafkaError as error:
        raise await unreachable(settings, error) from error
    finally:
        await producer.stop()
