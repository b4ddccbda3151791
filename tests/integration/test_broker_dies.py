"""The broker dies below a collector: what was read is archived in time, the log says it once, and SIGTERM ends it."""

import signal

from loadtest.demo.processes import free_port
from stream import broker
from tests.integration.marquee_processes import Start
from tests.integration.topics import Topic
from tests.polling import until


def test_what_was_read_before_an_outage_is_archived_and_the_log_says_it_once(
    environ: dict[str, str], start: Start
) -> None:
    port = free_port()
    environ |= {"MARQUEE_STREAM_BOOTSTRAP": f"127.0.0.1:{port}", "MARQUEE_STREAM_BATCH_SECONDS": "15"}
    topic = Topic(environ)
    with broker.running("127.0.0.1", port) as process:
        topic.make(2)
        committed = topic.write(40, 0) | topic.write(30, 1)
        collector = start(environ, "batch", "collect")
        until(lambda: "partition 0 from 0 (40 behind), 1 from 0 (30 behind)" in collector.text())
        assert topic.archived() == {}
        process.kill()
        process.wait()
    until(lambda: "no answer from" in collector.text())
    until(lambda: topic.archived() == committed)
    until(lambda: collector.text().count("archived") == 2)
    collector.process.send_signal(signal.SIGTERM)
    assert collector.ends() == 0, collector.text()
    log = collector.text()
    assert (log.count("no answer from"), log.count("reading"), log.count("ERROR")) == (1, 1, 0)
    assert f"reading {topic.name} at 127.0.0.1:{port}: partition 0 from 0 (40 behind)" in log
