"""Replays into a real Kafka: lines that its retention would delete at once are refused, and new topics keep them."""

import asyncio
import time
from pathlib import Path

import pytest

from stream import kafka
from stream.kafka_topic import retention_ms
from stream.settings import StreamSettings, load
from stream.zone import DAY_MS
from tests.integration.marquee_processes import Start
from tests.integration.topics import Topic

pytestmark = pytest.mark.kafka


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A file of lines from 2022."""
    path = tmp_path / "lines"
    path.write_text(
        "2022-10-07T12:00,1,GET /data/m/alien+1979/0.mpg\n2022-10-07T12:01,1,GET /data/m/alien+1979/1.mpg\n"
    )
    return path


def test_a_topic_that_would_delete_the_lines_gets_none(environ: dict[str, str], start: Start, recorded: Path) -> None:
    topic, settings = Topic(environ), load("stream", StreamSettings, environ)
    topic.make(configs={"retention.ms": str(7 * DAY_MS)})
    assert asyncio.run(retention_ms(settings)) == 7 * DAY_MS
    replay = start(environ, "loadtest", "replay", str(recorded))
    assert replay.ends() == 1
    [error] = [line for line in replay.text().splitlines() if line.startswith("error: ")]
    assert f"topic '{topic.name}' keeps records for 7 days" in error
    assert "Traceback" not in replay.text()

    async def first_offset_of_a_new_line() -> int:
        async with kafka.writing(settings) as writer:
            await writer.write([b"new"], [int(time.time() * 1000)])
        async with kafka.reading(settings, "marquee-test", {}) as reader:
            while not (polled := await reader.poll(10)):
                pass
        assert isinstance(polled[0], kafka.FetchedRecords)
        return int(polled[0].offsets[0])

    assert asyncio.run(first_offset_of_a_new_line()) == 0


def test_a_topic_that_the_replay_makes_keeps_the_lines(environ: dict[str, str], start: Start, recorded: Path) -> None:
    replay = start(environ, "loadtest", "replay", str(recorded))
    assert replay.ends() == 0, replay.text()
    assert "2 lines written" in replay.text()
    assert asyncio.run(retention_ms(load("stream", StreamSettings, environ))) is None
