"""Commits offsets to Kafka for lag monitors, in the background: nothing waits for a Kafka that does not answer."""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stream.errors import StreamError


class OffsetCommits:
    """The offsets of one topic. Only the latest of each partition matter; while one commit runs, others gather."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer, self._topic = consumer, topic
        self._pending: dict[TopicPartition, int] = {}
        self._task: asyncio.Task[None] | None = None

    def put(self, positions: Mapping[int, int]) -> None:
        """Commit positions by partition, soon. Raises `StreamError` if Kafka refused an earlier commit."""
        self._pending |= {TopicPartition(self._topic, partition): offset for partition, offset in positions.items()}
        if self._task is not None and self._task.done():
            self._task.result()
            self._task = None
        if self._task is None:
            self._task = asyncio.create_task(self._commit())

    async def finish(self, seconds: float) -> None:
        """Give what is left some seconds, then give it up. Raises `StreamError` if Kafka refuses it."""
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=seconds)
        if not self._task.cancel():  # it is over
            self._task.result()

    async def _commit(self) -> None:
        while self._pending:
            offsets, self._pending = self._pending, {}
            try:
                await self._consumer.commit(offsets)
            except KafkaError as error:
                raise StreamError(f"kafka: cannot commit offsets of {self._topic}: {error!r}") from error
