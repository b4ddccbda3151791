"""Transactions on a real Kafka: what was aborted is never taken, and holds nothing up."""

import pytest

from tests.integration.marquee_processes import Start
from tests.integration.topics import Place, Topic

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
