"""Replays: every line with its recorded time, and none that Kafka would delete at once."""

import asyncio
import time
from pathlib import Path

import pytest

from loadtest import replay
from loadtest.demo.processes import free_port
from loadtest.errors import LoadtestError
from loadtest.replay import oldest_time, require_kept
from stream import broker, kafka
from stream.kafka_topic import retention_ms
from stream.settings import StreamSettings
from stream.zone import DAY_MS, zone_named

UTC = zone_named("UTC")
NOON_MS = 1_665_144_000_000  # 2022-10-07T12:00Z


@pytest.mark.parametrize(
    ("lines", "oldest_ms"),
    [
        (["2022-10-07T12:00:01,1,x", "2022-10-07T12:00,1,x", "2022-10-07T12:00:02,1,x"], NOON_MS),
        (["no time", "2022-10-07T12:00:05,1,x", "no time"], NOON_MS + 5_000),
        (["no time"], 0),
        ([], 0),
    ],
)
def test_the_oldest_time_is_that_of_any_line(tmp_path: Path, lines: list[str], oldest_ms: int) -> None:
    (tmp_path / "lines").write_text("".join(f"{line}\n" for line in lines))
    assert oldest_time(tmp_path / "lines", UTC) == oldest_ms


@pytest.mark.parametrize("kept_ms", [None, 7 * DAY_MS])
def test_lines_older_than_the_retention_are_refused(monkeypatch: pytest.MonkeyPatch, kept_ms: int | None) -> None:
    async def keeps(settings: StreamSettings) -> int | None:
        return kept_ms

    monkeypatch.setattr(replay, "retention_ms", keeps)
    settings = StreamSettings(topic="log")
    now_ms = int(time.time() * 1000)
    asyncio.run(require_kept(settings, now_ms - 6 * DAY_MS))
    if kept_ms is None:
        asyncio.run(require_kept(settings, 0))
        return
    with pytest.raises(LoadtestError, match=r"topic 'log' keeps records for 7 days, .* lines of 2022-10-07T12:00Z"):
        asyncio.run(require_kept(settings, NOON_MS))


def test_the_embedded_broker_keeps_everything() -> None:
    port = free_port()

    async def asked() -> int | None:
        settings = StreamSettings(bootstrap=f"127.0.0.1:{port}", topic="log")
        async with kafka.writing(settings) as writer:
            await writer.write([b"old"], [NOON_MS])
            return await retention_ms(settings)

    with broker.running("127.0.0.1", port):
        assert asyncio.run(asked()) is None
