"""Transactions on a real Kafka: what was aborted is never taken, and holds nothing up."""

import pytest

from tests.integration.marquee_processes import Start
from tests.integration.topics import Place, Topic
from tests.polling import until

pytestmark = pytest.mark.kafka


def test_aborted_records_are_never_taken_and_hold_nothing_up(environ: dict[str, str], start: Start) -> None:
    topic, offset = Topic(environ), 0
    committed: dict[Place, bytes] = {}
    topic.make()
    for turn in range(4):
        values = topic.transaction(25, commit=turn % 2 == 0)
        if turn % 2 == 0:
            committed |= {(0, offset + row): value for row, value in enumerate(values)}
        offset += 26  # the record that ends a transaction takes an offset as well
    # silent for longer than `stall_seconds`: what comes after the last committed line is nothing that waits
    environ["MARQUEE_STREAM_STALL_SECONDS"] = "4"
    collector = start(environ, "batch", "collect", "--until-idle", "10")
    assert collector.ends() == 0, collector.text()
    assert topic.archived() == committed
    assert [(entry.first, entry.last, entry.lines) for entry in topic.archive.entries()] == [(0, 76, 50)]

    committed |= {(0, offset + row): value for row, value in enumerate(topic.transaction(5, commit=True))}
    assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    assert topic.archived() == committed
    assert [(entry.first, entry.last) for entry in topic.archive.entries()] == [(0, 76), (77, 108)]


def test_an_open_transaction_holds_records_back_and_ends_no_process(environ: dict[str, str], start: Start) -> None:
    topic = Topic(environ)
    topic.make(partitions=2)
    environ["MARQUEE_STREAM_STALL_SECONDS"] = "2"
    collector = start(environ, "batch", "collect")
    committed: dict[Place, bytes] = {}

    def is_alive() -> bool:
        return collector.process.poll() is None

    def read_on() -> None:
        until(lambda: "partition 1 of" in collector.text() or not is_alive())
        assert f"partition 1 of {topic.name}: an open transaction holds 5 records back" in collector.text()
        committed.update(topic.write(20, 0))
        until(lambda: topic.archived() == committed or not is_alive())
        assert is_alive(), collector.text()

    values = topic.transaction(5, commit=True, partition=1, before_the_end=read_on)
    committed |= {(1, row): value for row, value in enumerate(values)}
    until(lambda: topic.archived() == committed or not is_alive())
    assert is_alive(), collector.text()
    assert "is fetched anew" not in collector.text()
