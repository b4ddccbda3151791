"""A topic and its copy by user: what the tests of `python -m stream repartition` write and find."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from stream import kafka
from stream.kafka_connection import client_arguments
from stream.kafka_topic import partitions_of
from stream.repartition import partition_of, user_key
from stream.settings import StreamSettings, load
from tests.integration.topics import NOON, Topic

BAD = [b"no fields ", b"2022-10-07T13:44,,GET ", b"2022-10-07T13:44,12345678901,GET ", b"2022-10-07T13:44,9x7,GET "]
"""What bad lines begin with; only the last one has a user."""


class CopiedTopic:
    """A topic of three partitions with different paces, and its copy of four."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ, self.source = environ, Topic(environ)
        self.settings = load("stream", StreamSettings, environ)
        self.target = f"{self.source.name}-by-user"
        self.written: dict[int, list[tuple[bytes, int]]] = {0: [], 1: [], 2: []}
        """By source partition: lines and their Kafka times."""
        self.source.make(partitions=3)

    def write(self, count: int) -> None:
        """Write so many lines into each partition, four of them bad; they are 1, 2 and 3 seconds apart."""

        async def writing() -> None:
            async with kafka.writing(self.settings) as writer:
                for partition, before in self.written.items():
                    values, _ = self.source.lines(count)
                    values[5:45:10] = [b"%s%d-%d" % (bad, partition, len(before)) for bad in BAD]
                    times = [NOON + (len(before) + row) * 1000 * (partition + 1) for row in range(count)]
                    await writer.write(values, times, partition)
                    before.extend(zip(values, times, strict=True))

        asyncio.run(writing())

    def make_target(self, partitions: int, configs: dict[str, str] | None = None) -> None:
        """Make the topic to copy to."""
        Topic({**self._environ, "MARQUEE_STREAM_TOPIC": self.target}).make(partitions, configs)

    def copied(self) -> list[ConsumerRecord]:
        """The committed records of the copy, in the order of each partition."""
        return asyncio.run(self._read())

    async def _read(self) -> list[ConsumerRecord]:
        consumer = AIOKafkaConsumer(
            **client_arguments(self.settings), isolation_level="read_committed", auto_offset_reset="earliest"
        )
        copy = StreamSettings(bootstrap=self.settings.bootstrap, topic=self.target)
        await consumer.start()
        try:
            partitions = [TopicPartition(self.target, number) for number in await partitions_of(copy)]
            consumer.assign(partitions)
            ends, records = await consumer.end_offsets(partitions), list[ConsumerRecord]()
            for tp in partitions:
                while await consumer.position(tp) < ends[tp]:
                    for polled in (await consumer.getmany(tp, timeout_ms=200)).values():
                        records += polled
            return records
        finally:
            await consumer.stop()

    def check(self, records: Sequence[ConsumerRecord]) -> None:
        """Each line is in the copy once, with its bytes, time and key, in its user's partition, in order."""
        sources = {line: partition for partition, lines in self.written.items() for line, _ in lines}
        in_order = defaultdict[tuple[int, int], list[tuple[bytes, int]]](list)
        for record in records:
            source, key = sources[record.value], user_key(record.value)
            assert record.key == key
            assert record.partition == (source % 4 if key is None else partition_of(key, 4))
            in_order[source, record.partition].append((record.value, record.timestamp))
        expected = defaultdict[tuple[int, int], list[tuple[bytes, int]]](list)
        for source, lines in self.written.items():
            for line, time_ms in lines:
                key = user_key(line)
                expected[source, source % 4 if key is None else partition_of(key, 4)].append((line, time_ms))
        assert in_order == expected
