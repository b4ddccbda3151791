"""Partitions that are added on a real Kafka: running processes read them from their beginning, and miss no line."""

import signal

import pytest

from tests.integration.marquee_processes import Start
from tests.integration.topics import Topic
from tests.polling import until

pytestmark = pytest.mark.kafka


def test_added_partitions_are_read_by_running_processes(environ: dict[str, str], start: Start) -> None:
    topic = Topic(environ)
    topic.make(partitions=12)
    written = topic.write(50)
    processes = [start(environ, "batch", "collect"), start(environ, "quality", "telemetry")]
    until(lambda: topic.archived() == written and topic.stored().get(0) == 50)
    topic.grow(15)
    for partition in (12, 13, 14):
        written |= topic.write(100, partition)
    written |= topic.write(50, first=50)
    until(lambda: topic.archived() == written)
    until(lambda: topic.stored() == {**dict.fromkeys(range(12), 0), 0: 100, 12: 100, 13: 100, 14: 100})
    for process in processes:
        process.process.send_signal(signal.SIGTERM)
        assert process.ends() == 0, process.text()
    assert sum(entry.lines for entry in topic.archive.entries()) == len(written)
