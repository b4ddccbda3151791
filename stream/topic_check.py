"""Is the topic still the one that was read, or was it deleted and made anew?

Kafka numbers the records of a new topic from 0 again, so a reader at offset 50 sees nothing wrong in a new topic of 80
records, and skips 50. `TopicCheck` compares the records at remembered offsets (`RecordMark`) with what Kafka has there
now: a topic that confirms a mark is the one that it was taken from, and so were all records read in between. It has a
client of its own, since the one that reads would lose what it has fetched ahead.
"""

import asyncio
import logging
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from stream.record_mark import RecordMark

log = logging.getLogger(__name__)

CHECK_BYTES = 1 << 16
"""Bytes that a check fetches of a partition, unless the record's batch is larger."""
_ANSWER_S = 5.0
"""How long a check waits for Kafka. A check without an answer says nothing."""
_FETCH_MS = 1000


class TopicCheck:
    """Compares the marks of one topic with Kafka, by a started client without a group."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer, self._topic = consumer, topic
        self._silent: set[int] = set()
        """The partitions that did not answer when they were asked last."""

    async def differs(self, marks: Mapping[int, RecordMark]) -> str | None:
        """What is not as it was read, by the marks of partitions; "" if nothing, None if Kafka answers for none.

        A record that Kafka has dropped (retention) is as good as one that is still there. Partitions without an answer
        are left out, since a topic is deleted with all of them; of the next check they come last.
        """
        if not marks:
            return ""
        order = sorted(marks, key=self._silent.__contains__)
        by_partition = {TopicPartition(self._topic, partition): marks[partition] for partition in order}
        answers: dict[int, str] = {}
        try:
            async with asyncio.timeout(_ANSWER_S):
                self._consumer.assign(list(by_partition))
                for tp, mark in by_partition.items():
                    self._consumer.seek(tp, mark.offset)
                for tp, mark in by_partition.items():
                    self._silent.add(tp.partition)
                    if (difference := await self._compare(tp, mark)) is not None:
                        self._silent.remove(tp.partition)
                        answers[tp.partition] = difference
        except (KafkaError, TimeoutError) as error:
            log.debug("the check of %s is not complete: %r", self._topic, error)
        finally:
            self._consumer.pause(*by_partition)
        return max(answers.values(), default=None)  # a difference, if there is one

    async def end(self, partition: int) -> int | None:
        """The end of what can be read of a partition; None if Kafka does not tell, as of one without a leader."""
        tp = TopicPartition(self._topic, partition)
        try:
            async with asyncio.timeout(_ANSWER_S):
                end: int = (await self._consumer.end_offsets([tp]))[tp]
        except (KafkaError, TimeoutError) as error:
            log.debug("the end of partition %d of %s is not known: %r", partition, self._topic, error)
            return None
        return end

    async def read_before(self, positions: Mapping[int, int]) -> int:
        """How many records Kafka has before these positions."""
        tps = {TopicPartition(self._topic, partition): position for partition, position in positions.items()}
        first, end = await self._consumer.beginning_offsets(tps), await self._consumer.end_offsets(tps)
        # a broker may report the end too early, but not in a fetch
        ends = {tp: max(end[tp], self._fetched_end(tp) or 0) for tp in tps}
        return sum(max(0, min(position, ends[tp]) - first[tp]) for tp, position in tps.items())

    async def _compare(self, tp: TopicPartition, mark: RecordMark) -> str | None:
        """As `differs`, for one partition."""
        where = f"offset {mark.offset} of partition {tp.partition}"
        try:
            fetched = await self._consumer.getmany(tp, timeout_ms=_FETCH_MS, max_records=1)
        except OffsetOutOfRangeError:
            return await self._dropped_or(tp, mark, f"{where} does not exist any more")
        for record in fetched.get(tp, []):
            if record.offset == mark.offset:
                same = RecordMark.of(record.offset, record.timestamp, record.value or b"") == mark
                return "" if same else f"{where} holds another record"
        end = self._fetched_end(tp)
        if await self._consumer.position(tp) > mark.offset:
            return await self._dropped_or(tp, mark, f"{where} holds no record any more")
        return None if end is None or end > mark.offset else f"{where} does not exist any more"

    async def _dropped_or(self, tp: TopicPartition, mark: RecordMark, difference: str) -> str:
        """A difference, unless retention has dropped the record."""
        return "" if mark.offset < (await self._consumer.beginning_offsets([tp]))[tp] else difference

    def _fetched_end(self, tp: TopicPartition) -> int | None:
        """The end of what can be read of a partition, as of the last fetch; None without an answer."""
        if tp not in self._consumer.assignment():
            return None
        stable: int | None = self._consumer.last_stable_offset(tp)
        end: int | None = self._consumer.highwater(tp)
        return end if stable is None or stable < 0 else stable
