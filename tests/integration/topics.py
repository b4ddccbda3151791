"""What the tests write into a topic and find in the archive: topics made, deleted and grown, lines by their place."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing

import pyarrow as pa
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from stream import kafka
from stream.archive import Archive
from stream.event import Event
from stream.grammar import render
from stream.kafka_connection import client_arguments
from stream.settings import StreamSettings, load
from stream.zone import zone_named

NEW_YORK = zone_named("America/New_York")
NOON = NEW_YORK.bounds("2026-02-10")[0] + 12 * 3_600_000
Place = tuple[int, int]
"""Partition and offset."""


class Topic:
    """The topic of a test, with the lines that were committed to it."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._settings = load("stream", StreamSettings, environ)
        self.name = self._settings.topic
        self.archive = Archive(self._settings.var)
        self.written = 0
        """Lines written so far: each line is another one."""

    def lines(self, count: int) -> tuple[list[bytes], list[int]]:
        """New lines, one second apart, and their Kafka times."""
        times = [NOON + (self.written + number) * 1000 for number in range(count)]
        self.written += count
        events = [Event("watch", at, 1 + at // 1000 % 500, "alien+1979", minute=at // 1000 % 90) for at in times]
        return [render(event, NEW_YORK) for event in events], times

    def write(self, count: int, partition: int = 0, first: int = 0) -> dict[Place, bytes]:
        """Write lines; returns them by place, if `first` is the first one's offset."""
        values, times = self.lines(count)

        async def writing() -> None:
            async with kafka.writing(self._settings) as writer:
                await writer.write(values, times, partition)

        asyncio.run(writing())
        return {(partition, first + row): value for row, value in enumerate(values)}

    def transaction(
        self, count: int, *, commit: bool, partition: int = 0, before_the_end: Callable[[], None] = lambda: None
    ) -> list[bytes]:
        """Write lines in a transaction that is committed or aborted; it takes one more offset.

        `before_the_end` runs while the lines are written and the transaction is open.
        """
        values, times = self.lines(count)

        async def transact() -> None:
            producer = AIOKafkaProducer(**client_arguments(self._settings), transactional_id=f"of-{self.name}")
            await producer.start()
            try:
                await producer.begin_transaction()
                for value, time_ms in zip(values, times, strict=True):
                    await producer.send_and_wait(self.name, value, partition=partition, timestamp_ms=time_ms)
                await asyncio.to_thread(before_the_end)
                await (producer.commit_transaction() if commit else producer.abort_transaction())
            finally:
                await producer.stop()

        asyncio.run(transact())
        return values

    def make(self, partitions: int = 1, configs: dict[str, str] | None = None) -> None:
        """Make the topic; `configs` are Kafka's settings of a topic."""
        new = NewTopic(self.name, partitions, 1, topic_configs=configs)
        self._administer(lambda admin: admin.create_topics([new]))

    def delete(self) -> None:
        """Delete the topic with all its records."""
        self._administer(lambda admin: admin.delete_topics([self.name]))

    def grow(self, partitions: int) -> None:
        """Add partitions, up to a number of them."""
        self._administer(lambda admin: admin.create_partitions({self.name: NewPartitions(partitions)}))

    def archived(self, topic: str | None = None) -> dict[Place, bytes]:
        """The archived lines by place; `topic` is the name in the ledger, that of Kafka unless given."""
        entries = [entry for entry in self.archive.entries() if entry.topic == (topic or self.name)]
        tables = [self.archive.read(file) for entry in entries for file in entry.files if file.room == "watch"]
        return dict(each for table in tables for each in _rendered(table))

    def stored(self) -> dict[int, int]:
        """By partition: how far telemetry has read."""
        store = self.archive.var / "telemetry.db"
        if not store.exists():
            return {}
        with closing(sqlite3.connect(store, timeout=600)) as db:
            try:
                return dict(db.execute("SELECT partition, next FROM positions"))
            except sqlite3.OperationalError:  # not laid out yet
                return {}

    def is_stored(self) -> bool:
        """Whether telemetry has read the line that was written last."""
        with closing(sqlite3.connect(self.archive.var / "telemetry.db", timeout=600)) as db:
            try:
                last = NOON + (self.written - 1) * 1000
                return bool(db.execute("SELECT 1 FROM marks WHERE kafka_time = ?", (last,)).fetchone())
            except sqlite3.OperationalError:  # not laid out yet
                return False

    def _administer(self, does: Callable[[AIOKafkaAdminClient], Awaitable[object]]) -> None:
        async def administering() -> None:
            admin = AIOKafkaAdminClient(**client_arguments(self._settings))
            await admin.start()
            try:
                answer = await does(admin)
            finally:
                await admin.close()
            errors = [each[1] for each in getattr(answer, "topic_errors", getattr(answer, "topic_error_codes", []))]
            assert not any(errors), answer

        asyncio.run(administering())


def _rendered(table: pa.Table) -> Iterable[tuple[Place, bytes]]:
    times = table["time"].cast(pa.int64()).to_pylist()
    for row, time_ms in zip(table.to_pylist(), times, strict=True):
        event = Event("watch", time_ms, row["user"], row["movie"], minute=row["minute"])
        yield (row["partition"], row["offset"]), render(event, NEW_YORK)
