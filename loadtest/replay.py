"""Replays recorded lines into the topic, byte for byte, at a chosen pace.

A line's Kafka time is the time in the line itself; a line without a time gets the time of the line before it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from stream.grammar import LineRefused, parse_time
from stream.kafka import Writer
from stream.zone import Zone

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
