"""Writes batches of records to a topic."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from stream.errors import StreamError


class Writer:
    """Writes records to a topic, in order within a partition, with the caller's Kafka times. See `kafka.writing`."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def write(
        self, values: list[bytes], times: list[int], partition: int = 0, keys: Sequence[bytes | None] | None = None
    ) -> None:
        """Append records with their times (ms UTC) and keys, and wait until the broker has acknowledged them."""
        pending = []
        batch = self._producer.create_batch()
        for key, value, time_ms in zip(keys or [None] * len(values), values, times, strict=True):
            if batch.append(key=key, value=value, timestamp=time_ms) is None:
                pending.append(await self._send(batch, partition))
                batch = self._producer.create_batch()
                if batch.append(key=key, value=value, timestamp=time_ms) is None:
                    raise StreamError(f"kafka: a line of {len(value)} bytes is larger than a batch")
        pending.append(await self._send(batch, partition))
        for delivered in pending:
            await delivered

    async def _send(self, batch: object, partition: int) -> "asyncio.Future[object]":
        batch.close()  # type: ignore[attr-defined]
        return await self._producer.send_batch(batch, self._topic, partition=partition)
