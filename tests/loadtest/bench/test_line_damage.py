"""The damage that benchmarks do to lines: stray characters, and bad lines of all kinds."""

import random
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest

from loadtest.bench.lines import damage
from loadtest.bench.lines.judged_lines import context_of, judged, rows_by_fate
from loadtest.bench.lines.line_sources import SimulatedLines
from tests.loadtest.sample_lines import LINES


def test_a_stray_character_is_one_that_can_be_taken_out_again() -> None:
    rng = np.random.default_rng(1)
    for line in LINES.values():
        for _ in range(50):
            damaged, index = damage.with_stray(line, rng)
            assert damaged[:index] + damaged[index + 1 :] == line
            assert damaged[index] in damage.STRAY


@pytest.mark.parametrize(
    ("kind", "before", "field"),
    [
        ("watch", b"2022", "time"),
        ("watch", b",3263", "time"),
        ("watch", b"326332", "user"),
        ("watch", b",GET", "user"),
        ("watch", b"GET", "rest"),
        ("watch", b"ghost", "movie"),
        ("watch", b"/54", "movie"),
        ("watch", b"54.", "minute"),
        ("watch", b"mpg", "rest"),
        ("rate", b"old+men", "movie"),
        ("rate", b"3", "rating"),
        ("recommend", b"example", "host"),
        ("recommend", b"00, result", "status"),
        ("recommend", b"helena", "movies"),
        ("recommend", b"33 ms", "latency"),
        ("failed", b"1 not found", "rest"),
        ("failed", b"400", "status"),
        ("account", b"GET", "rest"),
    ],
)
def test_field_of_a_stray_character(kind: str, before: bytes, field: str) -> None:
    line = LINES[kind]
    index = line.rindex(before) if kind == "rate" else line.index(before)
    assert damage.field_at(line, index) == field
    assert field in damage.FIELDS


def test_the_given_share_is_corrupted(source: SimulatedLines) -> None:
    sample = source.sample(2_000)
    damaged = damage.corrupted(sample, 0.1, np.random.default_rng(1))
    longer = [len(after) - len(before) for before, after in zip(sample.lines, damaged.lines, strict=True)]
    assert set(longer) == {0, 1}
    assert 120 < sum(longer) < 280


def test_bad_lines_are_of_all_kinds_and_the_same_for_a_seed() -> None:
    good = list(LINES.values())
    bad = list(islice(damage.bad_lines(good, random.Random(3)), 20_000))
    assert bad == list(islice(damage.bad_lines(good, random.Random(3)), 20_000))
    assert bad != list(islice(damage.bad_lines(good, random.Random(4)), 20_000))
    assert b"" in bad
    assert any(b"\x00" in line for line in bad)
    assert any(b"\xff" in line for line in bad)
    assert sum(line in good for line in bad) < 1_000


def test_the_longest_bad_lines_are_judged(source: SimulatedLines) -> None:
    dice = random.Random(1)
    lines = [lengthen(LINES["watch"], dice) for lengthen in damage._LONG]
    assert min(map(len, lines)) >= 1 << 20
    verdicts = judged(pa.array(lines, pa.binary()), np.zeros(3, np.int64), context_of(source.runtimes))
    assert rows_by_fate(verdicts)["quarantined"].tolist() == [0, 1, 2]
