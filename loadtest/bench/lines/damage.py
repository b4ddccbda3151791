"""Damage: the fault of the stream, one stray character, and lines that are far worse than anything it has.

Equal generators give equal damage.
"""

import re
import string
from collections.abc import Callable, Iterator, Sequence
from random import Random

import numpy as np

from loadtest.bench.lines.line_sources import LineSample

STRAY = (string.ascii_letters + string.digits + " -").encode()
"""What the stream's fault inserts."""

FIELDS = ("time", "user", "movie", "minute", "rating", "host", "status", "movies", "latency", "rest")
_PARTS = re.compile(
    rb"(?P<time>[^,]*),(?P<user>[^,]*),(?:"
    rb"GET /data/m/(?P<movie>.*)/(?P<minute>[^/]*)\.mpg|GET /rate/(?P<rated>[^=]*)=(?P<rating>.*)"
    rb"|recommendation request (?P<host>.*?), status (?P<status>\d+), result: (?P<result>.*), (?P<latency>\d+) ms)",
    re.DOTALL,
)
_MEGABYTE = 1 << 20


def with_stray(line: bytes, rng: np.random.Generator) -> tuple[bytes, int]:
    """The line with one random character inserted, and the place in the line where it went in."""
    place, stray = int(rng.integers(len(line) + 1)), int(rng.integers(len(STRAY)))
    return line[:place] + STRAY[stray : stray + 1] + line[place:], place


def corrupted(sample: LineSample, share: float, rng: np.random.Generator) -> LineSample:
    """The sample with a stray character in so large a share of its lines."""
    hit = set(np.flatnonzero(rng.random(len(sample)) < share).tolist())
    lines = [with_stray(line, rng)[0] if at in hit else line for at, line in enumerate(sample.lines)]
    return LineSample(lines, sample.kafka_times)


def field_at(line: bytes, place: int) -> str:
    """The field of a good line that a character inserted at a place stands in, at its edges too; `rest` for none."""
    parts = _PARTS.fullmatch(line)
    if not parts:
        return "rest"
    for name in ("time", "user", "movie", "rated", "minute", "rating", "host", "status", "result", "latency"):
        start, end = parts.span(name)
        if start <= place <= end:
            return _field(name, parts["status"])
    return "rest"


def _field(name: str, status: bytes | None) -> str:
    if name == "result":
        return "movies" if status == b"200" else "rest"
    return "movie" if name == "rated" else name


def bad_lines(good: Sequence[bytes], dice: Random) -> Iterator[bytes]:
    """Lines without end of which hardly one is good; one in a hundred thousand or so is a megabyte long."""
    while True:
        kind = dice.random()
        if kind < 1e-5:
            yield dice.choice(_LONG)(dice.choice(good), dice)
        elif kind < 0.02:
            yield dice.choice((b"", b"\x00", b"\n", b",", b",,", b",,,"))
        else:
            yield dice.choices(_WAYS, _ODDS)[0](dice.choice(good), dice)


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
        place, letter = dice.randrange(len(line)), bytes([dice.choice(STRAY)])
        put, taken = dice.choice(((letter, 0), (b"", 1), (letter, 1)))
        line = line[:place] + put + line[place + taken :]
    return line


def _put(line: bytes, dice: Random, piece: bytes) -> bytes:
    place = dice.randrange(len(line) + 1)
    return line[:place] + piece + line[place:]


_Way = Callable[[bytes, Random], bytes]
_WAYS: tuple[_Way, ...] = (_edited, _truncated, _noise, _not_utf8, _nul, _joined)
_ODDS = (60, 12, 10, 8, 8, 2)
_LONG: tuple[_Way, ...] = (
    lambda line, dice: dice.randbytes(_MEGABYTE),
    lambda line, dice: _put(line, dice, b"x" * _MEGABYTE),
    lambda line, dice: _put(line, dice, b", " * (_MEGABYTE // 2)),
)
