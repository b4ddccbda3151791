"""What both brokers show of a topic that is deleted and made anew."""

from pathlib import Path

import orjson

from tests.integration.marquee_processes import Start
from tests.integration.topics import Topic
from tests.polling import until


def alerts(var: Path) -> list[str]:
    return [orjson.loads(line)["alert"] for line in (var / "alerts.jsonl").read_bytes().splitlines()]


def read_both(environ: dict[str, str], start: Start, topic: Topic) -> None:
    """Let collector and telemetry read to the end of the topic."""
    assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    telemetry = start(environ, "quality", "telemetry")
    until(lambda: topic.is_stored() or telemetry.process.poll() is not None)
    telemetry.process.terminate()
    assert telemetry.ends() == 0, telemetry.text()


def check_remade(environ: dict[str, str], start: Start, lines: int) -> None:
    """A new topic of so many lines in place of one of 50 is an error to both readers, until one says to go on."""
    topic = Topic(environ)
    topic.make()
    old = topic.write(50)
    read_both(environ, start, topic)
    topic.delete()
    topic.make()
    new = topic.write(lines)

    for command in (("batch", "collect"), ("quality", "telemetry")):
        refused = start(environ, *command)
        assert refused.ends() == 1, refused.text()
        [error] = [line for line in refused.text().splitlines() if line.startswith("error: ")]
        assert f"{topic.name} was deleted and made anew" in error
        assert f"{min(lines, 50)} of its records lie where the old ones were read" in error
        assert "python -m stream new-topic" in error
        assert "unclean leader election" in error
        assert "Traceback" not in refused.text()
    assert alerts(topic.archive.var) == ["topic_remade"]
    assert topic.archived() == old
    assert topic.stored() == {0: 50}

    assert start(environ, "stream", "new-topic").ends() == 0
    read_both(environ, start, topic)
    assert (topic.archived(), topic.archived(f"{topic.name}~1")) == (old, new)
    begun = topic.archive.entries()[-2]
    assert (begun.topic, begun.lines, begun.last) == (f"{topic.name}~1", 0, -1)
    assert "where the old ones were read" in begun.remade

    again = start(environ, "stream", "new-topic")
    assert again.ends() == 1
    assert "is the topic that was read" in again.text()
