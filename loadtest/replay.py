"""Replays recorded lines into the topic, byte for byte, at a chosen pace.

A line's Kafka time is the time in the line itself; a line without a time gets the time of the line before it. Kafka
deletes records by these times, so `require_kept` must let them pass before anything is written.
"""

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from loadtest.errors import LoadtestError
from stream.grammar import LineRefused, parse_time
from stream.kafka_topic import retention_ms
from stream.kafka_writer import Writer
from stream.settings import StreamSettings
from stream.zone import DAY_MS, Zone

_CHUNK = 1000


async def replay_lines(
    file: Path, writer: Writer, zone: Zone, lines_per_s: float, partitions: int, advance: Callable[[int], object]
) -> int:
    """Write a file's lines, at most `lines_per_s` per second (0: no limit). Returns their number.

    They go to the topic's partitions in turn, a thousand at a time.
    """
    began, written, time_ms = time.monotonic(), 0, _first_time(file, zone)
    for number, lines in enumerate(_chunks(file)):
        times = []
        for line in lines:
            time_ms = _time(line, zone, time_ms)
            times.append(time_ms)
        await writer.write(lines, times, number % partitions)
        written += len(lines)
        advance(len(lines))
        if lines_per_s:
            await asyncio.sleep(max(0.0, began + written / lines_per_s - time.monotonic()))
    return written


async def require_kept(settings: StreamSettings, oldest_ms: int) -> None:
    """Raise `LoadtestError` if Kafka would delete records of a time (ms UTC) because of the topic's retention."""
    kept_ms = await retention_ms(settings)
    if kept_ms is None or oldest_ms >= time.time() * 1000 - kept_ms:
        return
    oldest = dt.datetime.fromtimestamp(oldest_ms / 1000, dt.UTC)
    raise LoadtestError(
        f"kafka: topic '{settings.topic}' keeps records for {kept_ms / DAY_MS:g} days, and Kafka would delete lines of"
        f" {oldest:%Y-%m-%dT%H:%MZ} at once; set the topic's retention.ms to -1, or give another [stream] topic, which"
        " is then created so"
    )


def oldest_time(file: Path, zone: Zone) -> int:
    """The least of the times that `replay_lines` gives to the lines of a file, ms UTC."""
    time_ms = oldest_ms = _first_time(file, zone)
    for line in (line for lines in _chunks(file) for line in lines):
        time_ms = _time(line, zone, time_ms)
        oldest_ms = min(oldest_ms, time_ms)
    return oldest_ms


def _first_time(file: Path, zone: Zone) -> int:
    """The first time in a file, for the lines before it; 1970 where the file has none."""
    times = (_time(line, zone, 0) for lines in _chunks(file) for line in lines)
    return next(filter(None, times), 0)


def count(file: Path) -> int:
    """The number of lines in a file."""
    return sum(map(len, _chunks(file)))


def _chunks(file: Path) -> Iterator[list[bytes]]:
    lines: list[bytes] = []
    with file.open("rb") as source:
        for line in source:
            lines.append(line.removesuffix(b"\n"))
            if len(lines) == _CHUNK:
                yield lines
                lines = []
    if lines:
        yield lines


def _time(line: bytes, zone: Zone, otherwise: int) -> int:
    try:
        return parse_time(line.partition(b",")[0].decode("ascii", "replace"), zone)
    except LineRefused:
        return otherwise
