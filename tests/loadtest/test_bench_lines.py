"""The lines that benchmarks measure with, and the damage that is done to them."""

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from loadtest.bench.lines import damage
from loadtest.bench.lines.judged_lines import context_of, judged, places
from loadtest.bench.lines.line_sources import CLOCK, LAG_MS, LineSample, RecordedLines, SimulatedLines
from loadtest.errors import LoadtestError
from stream.grammar import parse, parse_time
from stream.line_columns import read
from tests.loadtest.sample_lines import LINES


def test_played_lines_have_the_shape_of_the_stream(source: SimulatedLines) -> None:
    sample = source.sample(60_000)
    columns = read(pa.array(sample.lines, pa.binary()), CLOCK)
    kinds = {kind: table.num_rows for kind, table in columns.events.items()}
    assert kinds == {"watch": 59_040, "rate": 360, "recommend": 600, "account": 0}
    short = np.mean([line.index(b",") == len("2022-03-18T20:01") for line in sample.lines])
    assert 0.01 < short < 0.025
    assert {len(line.partition(b".")[2].partition(b",")[0]) for line in sample.lines if b"recomm" in line} == {3, 6, 9}
    assert (np.diff(sample.kafka_times) >= 0).all()
    lag = [at - parse(line, CLOCK).time for line, at in zip(sample.lines, sample.kafka_times.tolist(), strict=True)]
    assert min(lag) >= 0
    assert max(lag) < LAG_MS


def test_played_lines_are_good_and_the_same_each_time(source: SimulatedLines) -> None:
    sample, again = source.sample(2_000), SimulatedLines(20_000, 500, 1).sample(2_000)
    assert sample.lines == again.lines
    assert sample.kafka_times.tolist() == again.kafka_times.tolist()
    [(values, kafka_times)] = sample.batches(5_000)
    fates = places(judged(values, kafka_times, context_of(source.runtimes)))
    assert {fate: len(rows) for fate, rows in fates.items() if len(rows)} == {"accepted": 2_000}


def test_rare_lines_are_ratings_and_recommendations(source: SimulatedLines) -> None:
    kinds = Counter(parse(line, CLOCK).kind for line in source.sample(600, rare=True).lines)
    assert kinds == {"rate": 300, "recommend": 300}


def test_a_sample_is_cut_into_batches() -> None:
    sample = LineSample([b"a", b"b", b"c"], np.array([1, 2, 3]))
    assert [(values.to_pylist(), times.tolist()) for values, times in sample.batches(2)] == [
        ([b"a", b"b"], [1, 2]),
        ([b"c"], [3]),
    ]


def test_recorded_lines_are_repeated_a_day_later(recorded: RecordedLines) -> None:
    sample = recorded.sample(8)
    assert sample.lines[:3] == [LINES["watch"], b"no line", LINES["rate"]]
    assert sample.lines[3:] == [
        LINES["watch"].replace(b"03-18", b"03-19"),
        b"no line",
        LINES["rate"].replace(b"03-18", b"03-19"),
        LINES["watch"].replace(b"03-18", b"03-20"),
        b"no line",
    ]
    times = [parse_time(sample.lines[at].split(b",")[0].decode(), CLOCK) for at in (0, 0, 2, 3, 3, 5, 6, 6)]
    assert all(0 <= late < LAG_MS for late in (sample.kafka_times - times).tolist())
    assert recorded.runtimes == {"ghostbusters+1984": 107, "alien+1979": None}
    assert set(recorded.sample(2, rare=True).lines) == {b"no line", LINES["rate"]}


@pytest.mark.parametrize("table", ["name,runtime\n", "id,runtime\nalien+1979,long\n"])
def test_a_catalogue_that_is_none_is_told(tmp_path: Path, table: str) -> None:
    (tmp_path / "lines").write_bytes(LINES["watch"])
    (tmp_path / "movies.csv").write_text(table)
    with pytest.raises(LoadtestError, match=r"movies\.csv"):
        RecordedLines(tmp_path / "lines", tmp_path / "movies.csv", 1)


def test_a_file_without_rare_lines_is_told(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(LINES["watch"])
    with pytest.raises(LoadtestError, match="--lines"):
        RecordedLines(tmp_path / "lines", None, 1).sample(3, rare=True)


# Damage


def test_a_stray_character_is_one_that_can_be_taken_out_again() -> None:
    rng = np.random.default_rng(1)
    for line in LINES.values():
        for _ in range(50):
            damaged, place = damage.with_stray(line, rng)
            assert damaged[:place] + damaged[place + 1 :] == line
            assert damaged[place] in damage.STRAY


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
def test_the_field_that_was_hit(kind: str, before: bytes, field: str) -> None:
    line = LINES[kind]
    at = line.rindex(before) if kind == "rate" else line.index(before)
    assert damage.field_at(line, at) == field
    assert field in damage.FIELDS


def test_so_large_a_share_is_corrupted(source: SimulatedLines) -> None:
    sample = source.sample(2_000)
    damaged = damage.corrupted(sample, 0.1, np.random.default_rng(1))
    longer = [len(two) - len(one) for one, two in zip(sample.lines, damaged.lines, strict=True)]
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
    lines = [way(LINES["watch"], dice) for way in damage._LONG]
    assert min(map(len, lines)) >= 1 << 20
    fates = places(judged(pa.array(lines, pa.binary()), np.zeros(3, np.int64), context_of(source.runtimes)))
    assert fates["quarantined"].tolist() == [0, 1, 2]
