"""Lines that Kafka has not confirmed to be of the topic: they wait, or are archived without a mark in an outage."""

import asyncio
from pathlib import Path
from typing import cast

from batch.collecting.collector import Collector, _flush_and_commit
from stream import kafka
from stream.archive import Archive
from stream.record_mark import RecordMark
from tests.batch.collecting.collected_lines import LINES, TOPIC, collector_of, fetched, rows_of


class ScriptedChecks:
    """A reader of whose checks a test says whether Kafka answers them."""

    def __init__(self, *confirms: bool, out_of_reach: bool = False) -> None:
        self._confirms, self.out_of_reach = list(confirms), out_of_reach
        self.committed: dict[int, int] = {}

    async def verify(self) -> bool:
        return self._confirms.pop(0)

    async def commit(self, positions: dict[int, int]) -> None:
        self.committed |= positions


def flushed(collector: Collector, reader: ScriptedChecks, *polled: kafka.FetchedRecords, ends: bool = False) -> None:
    async def flush() -> None:
        await collector.take([*polled])
        await _flush_and_commit(collector, cast(kafka.Reader, reader), only_due=not ends)

    asyncio.run(flush())


def marks(var: Path) -> dict[int, RecordMark]:
    return Archive(var).marks(TOPIC)


def test_lines_wait_until_kafka_confirms_them(tmp_path: Path) -> None:
    collector, reader = collector_of(tmp_path, batch_seconds=1e-9), ScriptedChecks(False)
    flushed(collector, reader, fetched(LINES[:3]))
    assert (Archive(tmp_path).entries(), reader.committed) == ([], {})
    flushed(collector, ScriptedChecks(True), fetched(LINES[3:5], 3))
    [entry] = Archive(tmp_path).entries()
    assert (entry.last, len(rows_of(tmp_path, entry)), marks(tmp_path)) == (4, 5, {0: entry.mark})


def test_lines_of_an_outage_are_archived_and_the_mark_stays_the_old_one(tmp_path: Path) -> None:
    collector, outage = collector_of(tmp_path, batch_seconds=1e-9), ScriptedChecks(False, out_of_reach=True)
    flushed(collector, ScriptedChecks(True), fetched(LINES[:3]))
    before = marks(tmp_path)
    flushed(collector, outage, fetched(LINES[3:5], 3))
    assert (outage.committed, marks(tmp_path)) == ({0: 5}, before)
    assert collector_of(tmp_path).resume() == {0: 5}
    flushed(collector, ScriptedChecks(True), fetched(LINES[5:7], 5))
    assert marks(tmp_path)[0].offset == 6


def test_at_its_end_the_collector_asks_until_kafka_answers(tmp_path: Path) -> None:
    collector, reader = collector_of(tmp_path), ScriptedChecks(False, False, True)
    flushed(collector, reader, fetched(LINES[:3]), ends=True)
    [entry] = Archive(tmp_path).entries()
    assert (entry.last, reader.committed, marks(tmp_path)) == (2, {0: 3}, {0: entry.mark})
