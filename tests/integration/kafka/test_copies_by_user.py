"""`python -m stream repartition` on a real Kafka: each line is in the copy once, whatever happens to the process."""

import random

import pytest

from tests.integration.copied_topic import CopiedTopic
from tests.integration.kafka.secured_kafka import PASSWORD, SCRAM, SecuredKafka
from tests.integration.marquee_processes import Start
from tests.polling import until

pytestmark = pytest.mark.kafka


def test_each_line_is_copied_once_after_kills(environ: dict[str, str], start: Start) -> None:
    topic = CopiedTopic(environ)
    topic.make_target(4)
    for turn in range(4):
        topic.write(8_000)
        copying = start(environ, "stream", "repartition", topic.target, "--follow")
        reached = random.Random(turn).randint(1, 20_000) + 24_000 * turn
        until(lambda: len(topic.copied()) >= reached or copying.process.poll() is not None)  # noqa: B023
        copying.process.kill()
        copying.process.wait()
    assert start(environ, "stream", "repartition", topic.target).ends() == 0
    topic.check(topic.copied())


def test_a_second_process_ends_the_first(environ: dict[str, str], start: Start) -> None:
    topic = CopiedTopic(environ)
    topic.write(100)
    first = start(environ, "stream", "repartition", topic.target, "--partitions", "4", "--follow")
    until(lambda: "reading" in first.text() and len(topic.copied()) == 300)
    topic.write(100)
    assert start(environ, "stream", "repartition", topic.target).ends() == 0
    topic.write(100)
    assert first.ends() == 1
    assert f"error: repartition: another process has begun to copy to {topic.target}" in first.text()
    assert start(environ, "stream", "repartition", topic.target).ends() == 0
    topic.check(topic.copied())


def test_what_would_spoil_a_copy_is_refused_in_one_line(environ: dict[str, str], start: Start) -> None:
    topic = CopiedTopic(environ)
    topic.write(50)
    stamped = CopiedTopic({**environ, "MARQUEE_STREAM_TOPIC": f"{topic.source.name}-stamped"})
    stamped.make_target(4, {"message.timestamp.type": "LogAppendTime"})
    short = CopiedTopic({**environ, "MARQUEE_STREAM_TOPIC": f"{topic.source.name}-short"})
    short.make_target(4, {"retention.ms": "1000"})
    refused = [
        ([stamped.target], "set its message.timestamp.type to CreateTime"),
        ([short.target], "set its retention.ms to that of the other, or to -1"),
        ([topic.target, "--from", "0:51"], "partition 0 ends before offset 51, the next to read; "),
        (["a/b"], "cannot create topic 'a/b'"),
    ]
    runs = [start(environ, "stream", "repartition", *arguments) for arguments, _ in refused]
    for run, (_, reason) in zip(runs, refused, strict=True):
        assert run.ends() == 1
        error = run.text().splitlines()[-1]
        assert error.startswith("error: ")
        assert reason in error
    assert stamped.copied() == short.copied() == []


def test_a_copy_by_a_user_who_logs_in_needs_rights(
    secured: SecuredKafka, environ: dict[str, str], start: Start
) -> None:
    topic = CopiedTopic({**environ, "MARQUEE_STREAM_BOOTSTRAP": secured.address["plain"]})
    topic.write(50)
    topic.make_target(4)
    authority = {"ssl_ca_file": secured.authority.certificate}
    way = environ | secured.environ("secure", security_protocol="SASL_SSL", **authority, **SCRAM)
    missing = start(way, "stream", "repartition", topic.target)
    assert missing.ends() == 1
    assert "TransactionalIdAuthorizationFailed" in missing.text().splitlines()[-1]
    secured.allow_copies(topic.target)
    allowed = start(way, "stream", "repartition", topic.target)
    assert allowed.ends() == 0, allowed.text()
    assert PASSWORD not in missing.text() + allowed.text()
    topic.check(topic.copied())
