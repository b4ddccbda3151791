"""Replay: recorded lines into the topic, byte for byte, at a pace.

A line's Kafka time is the time that the line itself tells, as when it was recorded; one that tells none gets that of
the line before it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from stream.grammar import Refused, parse_time
from stream.kafka import Writer
from stream.zone import Zone

_CHUNK = 1000


async def replay(
    file: Path, writer: Writer, zone: Zone, lines_per_s: float, advance: Callable[[int], object], start_ms: int = 0
) -> int:
    """Write a file's lines, at most `lines_per_s` a second (0: as fast as they are taken). Returns how many.

    `start_ms` is the Kafka time of lines before the first that tells one.
    """
    began, written, at = time.monotonic(), 0, start_ms
    for lines in _chunks(file):
        times = []
        for line in lines:
            at = _time(line, zone, at)
            times.append(at)
        await writer.write(lines, times)
        written += len(lines)
        advance(len(lines))
        if lines_per_s:
            await asyncio.sleep(max(0.0, began + written / lines_per_s - time.monotonic()))
    return written


def count(file: Path) -> int:
    """How many lines a file holds."""
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
    except Refused:
        return otherwise
