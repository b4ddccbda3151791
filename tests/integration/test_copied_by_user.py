"""`python -m stream repartition` on the embedded broker, which has no transactions; test-kafka copies with them."""

import signal

import orjson

from tests.integration.copied_topic import CopiedTopic
from tests.integration.marquee_processes import Command, Start
from tests.polling import until

LEAST = "--at-least-once"


def copy(environ: dict[str, str], start: Start, topic: CopiedTopic, *options: str) -> Command:
    return start(environ, "stream", "repartition", topic.target, *options)


def done(command: Command) -> dict[str, object]:
    """What a run prints when it has ended well."""
    assert command.ends() == 0, command.text()
    printed: dict[str, object] = orjson.loads(command.text()[command.text().index("{\n") :])
    return printed


def test_lines_are_copied_by_user_and_a_further_run_goes_on(environ: dict[str, str], start: Start) -> None:
    topic = CopiedTopic(environ)
    topic.write(500)
    first = done(copy(environ, start, topic, LEAST, "--partitions", "4"))
    assert first == {"lines": 1500, "without_user": 9, "positions": {"0": 500, "1": 500, "2": 500}}
    copied = topic.copied()
    topic.check(copied)
    for partition in range(4):
        times = [record.timestamp for record in copied if record.partition == partition]
        # 50 lines of the slowest partition last 150 s; one partition after the other would be 1000 s
        assert max(max(times[:row], default=0) - time for row, time in enumerate(times)) <= 300_000
    following = copy(environ, start, topic, LEAST, "--follow")
    until(lambda: "partition 0 from 500 (0 behind)" in following.text())
    topic.write(50)
    until(lambda: len(topic.copied()) == 1650)
    following.process.send_signal(signal.SIGTERM)
    assert done(following)["lines"] == 150
    topic.check(topic.copied())


def test_no_line_is_missing_after_a_kill(environ: dict[str, str], start: Start) -> None:
    topic = CopiedTopic(environ)
    topic.write(8_000)
    topic.make_target(4)
    killed = copy(environ, start, topic, LEAST)
    until(lambda: topic.copied() or killed.process.poll() is not None)
    killed.process.kill()
    killed.process.wait()
    done(copy(environ, start, topic, LEAST))
    once = dict.fromkeys((record.value, record.timestamp, record.partition) for record in topic.copied())
    assert {(value, time) for value, time, _ in once} == {line for lines in topic.written.values() for line in lines}
    assert len(once) == 24_000


def test_what_would_spoil_a_copy_is_refused_in_one_line(environ: dict[str, str], start: Start) -> None:
    topic = CopiedTopic(environ)
    topic.write(50)
    topic.make_target(4)
    refused = [
        ([topic.source.name], f"{topic.source.name} is the topic that is read"),
        ([topic.target, "--partitions", "5"], f"{topic.target} has 4 partitions, not 5"),
        ([topic.target, "--from", "3:0"], "has no partition 3; it has 3"),
        ([topic.target], "begins no transactions for marquee-repartition-"),
    ]
    runs = [start(environ, "stream", "repartition", *arguments) for arguments, _ in refused]
    for run, (_, reason) in zip(runs, refused, strict=True):
        assert run.ends() == 1
        [line] = run.text().splitlines()
        assert line.startswith("error: ")
        assert reason in line
    assert topic.copied() == []


def test_a_copy_of_unknown_extent_is_refused_unless_one_says_where_to_begin(
    environ: dict[str, str], start: Start
) -> None:
    topic = CopiedTopic(environ)
    topic.write(50)
    done(copy(environ, start, topic, LEAST, "--partitions", "4"))
    twice = copy(environ, start, topic, LEAST, "--from", "0:50")
    other = CopiedTopic({**environ, "MARQUEE_STREAM_TOPIC": f"{topic.source.name}-other"})
    other.write(50)
    into_both = {**environ, "MARQUEE_STREAM_TOPIC": other.source.name}
    unknown = start(into_both, "stream", "repartition", topic.target, LEAST)
    assert (twice.ends(), unknown.ends()) == (1, 1)
    assert "has a copy, which goes on by itself; leave out --from" in twice.text()
    assert f"{topic.target} has records, and Kafka does not know up to where they are of {other.source.name}" in (
        unknown.text()
    )
    assert len(topic.copied()) == 150
    starts = ["--from", "0:50", "--from", "1:49", "--from", "2:10"]
    assert done(start(into_both, "stream", "repartition", topic.target, LEAST, *starts))["lines"] == 41
