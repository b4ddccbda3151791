"""What many a team writes instead of telemetry: a loop over the topic with dictionaries, by aiokafka or by FastStream.

    python -m loadtest.bench.telemetry.simple_join aiokafka|faststream BOOTSTRAP TOPIC LINES

It splits each line, remembers each user's last list, and counts a hit where a user starts a listed movie. It has no
store, no clock, no checks, no sessions and no reports: a lower bound for the work of any program in Python. It ends
after so many lines; with 0, as soon as it is connected.
"""

import asyncio
import sys
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition

_RESULT = "status 200, result: "


class SimpleJoin:
    """Hits by user, in dictionaries."""

    def __init__(self) -> None:
        self.lines = self.answers = self.hits = 0
        self._shown: dict[str, set[str]] = {}

    def take(self, lines: Iterable[bytes]) -> None:
        """Count some lines."""
        for line in lines:
            self.lines += 1
            _, user, rest = line.decode().split(",", 2)
            if rest.startswith("GET /data/m/"):
                movie, _, minute = rest[12:].rpartition("/")
                if minute == "0.mpg" and movie in self._shown.get(user, ()):
                    self.hits += 1
            elif _RESULT in rest:
                self.answers += 1
                listed = rest.partition(_RESULT)[2].rpartition(", ")[0]
                self._shown[user] = set(listed.split(", "))


async def read_with_aiokafka(bootstrap: str, topic: str, lines: int, join: SimpleJoin) -> None:
    """Read so many lines of partition 0 with aiokafka alone."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.start()
    try:
        while True:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                join.take(record.value for record in records)
            if join.lines >= lines:
                break
    finally:
        await consumer.stop()


async def read_with_faststream(bootstrap: str, topic: str, lines: int, join: SimpleJoin) -> None:
    """Read so many lines with FastStream, in batches."""
    from faststream import FastStream
    from faststream.kafka import KafkaBroker

    broker = KafkaBroker(bootstrap)
    app = FastStream(broker, logger=None)

    async def take(values: list[bytes]) -> None:
        join.take(values)
        if join.lines >= lines:
            app.exit()

    async def end_at_once() -> None:
        if not lines:
            app.exit()

    broker.subscriber(topic, batch=True, auto_offset_reset="earliest", batch_timeout_ms=200)(take)
    app.after_startup(end_at_once)
    await app.run()


READERS = {"aiokafka": read_with_aiokafka, "faststream": read_with_faststream}


def main(reader: str, bootstrap: str, topic: str, lines: str) -> None:
    """Read with one of `READERS`, and print what was counted."""
    join = SimpleJoin()
    asyncio.run(READERS[reader](bootstrap, topic, int(lines), join))
    print(f"{join.lines} lines, {join.answers} answers, {join.hits} hits")


if __name__ == "__main__":
    main(*sys.argv[1:])
