"""A real Kafka is stopped for a minute and started again: the ledger equals what was committed, line by line."""

import signal
import time

import pytest

from tests.integration.kafka.apache_kafka import ApacheKafka
from tests.integration.marquee_processes import Start
from tests.integration.topics import Place, Topic
from tests.polling import until

pytestmark = pytest.mark.kafka

OUTAGE_S = 60.0


def test_after_an_outage_of_a_minute_every_line_is_there_once(
    environ: dict[str, str], start: Start, apache_kafka: ApacheKafka
) -> None:
    environ["MARQUEE_STREAM_BATCH_SECONDS"] = "5"
    topic, committed = Topic(environ), dict[Place, bytes]()
    topic.make(3)
    for partition in range(3):
        committed |= topic.write(100, partition)
    processes = [start(environ, "batch", "collect"), start(environ, "quality", "telemetry")]
    until(lambda: all("reading" in process.text() for process in processes))
    apache_kafka.stop()
    stopped = time.monotonic()
    until(lambda: topic.archived() == committed)  # read before the outage, archived in it
    until(lambda: time.monotonic() - stopped > OUTAGE_S)
    assert all(process.process.poll() is None for process in processes)
    apache_kafka.start()
    for partition in range(3):
        committed |= topic.write(50, partition, first=100)
    until(lambda: topic.archived() == committed)
    until(lambda: topic.stored() == dict.fromkeys(range(3), 150))
    for process in processes:
        process.process.send_signal(signal.SIGTERM)
        assert process.ends() == 0, process.text()
        log = process.text()
        assert (log.count("no answer from"), log.count("answers again after"), log.count("ERROR")) == (1, 1, 0), log
    assert sum(entry.lines for entry in topic.archive.entries()) == len(committed)
