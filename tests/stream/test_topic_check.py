"""Checks of a topic some of whose partitions do not answer, with a scripted client; integration tests use brokers."""

import asyncio
from typing import cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from stream.record_mark import RecordMark
from stream.topic_check import TopicCheck

TIME_MS = 1_700_000_000_000


class Leaderless:
    """A client for which only some partitions answer, each with the same record; notes who was asked, in order."""

    def __init__(self, *answering: int) -> None:
        self._answering, self._assigned, self.asked = set(answering), list[TopicPartition](), list[int]()

    def assign(self, tps: list[TopicPartition]) -> None:
        self._assigned = tps

    def assignment(self) -> list[TopicPartition]:
        return self._assigned

    def seek(self, tp: TopicPartition, offset: int) -> None:
        pass

    def pause(self, *tps: TopicPartition) -> None:
        pass

    async def getmany(
        self, tp: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        self.asked.append(tp.partition)
        record = ConsumerRecord(tp.topic, tp.partition, 7, TIME_MS, 0, None, b"line", None, -1, 4, ())
        return {tp: [record]} if tp.partition in self._answering else {}

    async def position(self, tp: TopicPartition) -> int:
        return 7

    def last_stable_offset(self, tp: TopicPartition) -> None:
        return None

    def highwater(self, tp: TopicPartition) -> None:
        return None


def mark(value: bytes = b"line") -> RecordMark:
    return RecordMark.of(7, TIME_MS, value)


def test_a_partition_that_answers_speaks_for_those_that_do_not_and_is_asked_first_the_next_time() -> None:
    client = Leaderless(2)
    check = TopicCheck(cast(AIOKafkaConsumer, client), "log")
    marks = {0: mark(), 1: mark(), 2: mark()}
    assert asyncio.run(check.differs(marks)) == asyncio.run(check.differs(marks)) == ""
    assert client.asked == [0, 1, 2, 2, 0, 1]
    assert asyncio.run(check.differs({**marks, 2: mark(b"other")})) == "offset 7 of partition 2 holds another record"


def test_without_any_answer_a_check_says_nothing() -> None:
    check = TopicCheck(cast(AIOKafkaConsumer, Leaderless()), "log")
    assert asyncio.run(check.differs({0: mark(), 1: mark()})) is None
    assert asyncio.run(check.differs({})) == ""
