"""Damages lines: by one stray character, the stream's known fault, and far worse than in the real stream.

Equal generators give equal damage.
"""

import re
import string
from collections.abc import Callable, Iterator, Sequence
from random import Random

import numpy as np

from loadtest.bench.lines.line_sources import LineSample

STRAY = (string.ascii_letters + string.digits + " -").encode()
"""The characters that the stream's fault inserts."""

FIELDS = ("time", "user", "movie", "minute", "rating", "host", "status", "movies", "latency", "rest")
_PARTS = re.compile(
    rb"(?P<time>[^,]*),(?P<user>[^,]*),(?:"
    rb"GET /data/m/(?P<movie>.*)/(?P<minute>[^/]*)\.mpg|GET /rate/(?P<rated>[^=]*)=(?P<rating>.*)"
    rb"|recommendation request (?P<host>.*?), status (?P<status>\d+), result: (?P<result>.*), (?P<latency>\d+) ms)",
    re.DOTALL,
)
_MEGABYTE = 1 << 20


def with_stray(line: bytes, rng: np.random.Generator) -> tuple[bytes, int]:
    """The line with one random character inserted, and the index of that character."""
    index, stray = int(rng.integers(len(line) + 1)), int(rng.integers(len(STRAY)))
    return line[:index] + STRAY[stray : stray + 1] + line[index:], index


def corrupted(sample: LineSample, share: float, rng: np.random.Generator) -> LineSample:
    """The sample with a stray character in this share of its lines."""
    damaged_rows = set(np.flatnonzero(rng.random(len(sample)) < share).tolist())
    lines = [with_stray(line, rng)[0] if row in damaged_rows else line for row, line in enumerate(sample.lines)]
    return LineSample(lines, sample.kafka_times)


def field_at(line: bytes, index: int) -> str:
    """The field of a good line that a character inserted at an index falls into, edges included; `rest` for none."""
    match = _PARTS.fullmatch(line)
    if not match:
        return "rest"
    for name in ("time", "user", "movie", "rated", "minute", "rating", "host", "status", "result", "latency"):
        start, end = match.span(name)
        if start <= index <= end:
            return _field(name, match["status"])
    return "rest"


def _field(name: str, status: bytes | None) -> str:
    if name == "result":
        return "movies" if status == b"200" else "rest"
    return "movie" if name == "rated" else name


def bad_lines(good: Sequence[bytes], dice: Random) -> Iterator[bytes]:
    """Endless lines, hardly one of them good; about one in a hundred thousand is a megabyte long."""
    while True:
        kind = dice.random()
        if kind < 1e-5:
            yield dice.choice(_LONG)(dice.choice(good), dice)
        elif kind < 0.02:
            yield dice.choice((b"", b"\x00", b"\n", b",", b",,", b",,,"))
        else:
            yield dice.choices(_DAMAGES, _ODDS)[0](dice.choice(good), dice)


def _noise(line: bytes, dice: Random) -> bytes:
    return dice.randbytes(dice.randrange(200))


def _not_utf8(line: bytes, dice: Random) -> bytes:
    return _put(line, dice, dice.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80")))


def _nul(line: bytes, dice: Random) -> bytes:
    return _put(line, dice, b"\x00" * dice.randint(1, 3))


def _truncated(line: bytes, dice: Random) -> bytes:
    return line[: dice.randrange(len(line))] if dice.random() < 0.7 else line[dice.randrange(len(line)) :]


def _joined(line: bytes, dice: Random) -> bytes:
    return line + dice.choice((b"", b"\n", b",")) + line


def _edited(line: bytes, dice: Random) -> bytes:
    """One to three characters are inserted, deleted or replaced."""
    for _ in range(dice.randint(1, 3)):
        index, letter = dice.randrange(len(line)), bytes([dice.choice(STRAY)])
        inserted, deleted = dice.choice(((letter, 0), (b"", 1), (letter, 1)))
        line = line[:index] + inserted + line[index + deleted :]
    return line


def _put(line: bytes, dice: Random, piece: bytes) -> bytes:
    index = dice.randrange(len(line) + 1)
    return line[:index] + piece + line[index:]


_Damage = Callable[[bytes, Random], bytes]
_DAMAGES: tuple[_Damage, ...] = (_edited, _truncated, _noise, _not_utf8, _nul, _joined)
_ODDS = (60, 12, 10, 8, 8, 2)
_LONG: tuple[_Damage, ...] = (
    lambda line, dice: dice.randbytes(_MEGABYTE),
    lambda line, dice: _put(line, dice, b"x" * _MEGABYTE),
    lambda line, dice: _put(line, dice, b", " * (_MEGABYTE // 2)),
)
