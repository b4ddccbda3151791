"""The lines that benchmarks measure with: of the simulated world, and recorded ones."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from loadtest.bench.lines.judged_lines import context_of, judged, rows_by_fate
from loadtest.bench.lines.line_sources import CLOCK, LAG_MS, LineSample, RecordedLines, SimulatedLines
from loadtest.errors import LoadtestError
from stream.grammar import parse, parse_time
from stream.line_columns import read
from tests.loadtest.sample_lines import LINES


def test_simulated_lines_have_the_shape_of_the_stream(source: SimulatedLines) -> None:
    sample = source.sample(60_000)
    columns = read(pa.array(sample.lines, pa.binary()), CLOCK)
    kinds = {kind: table.num_rows for kind, table in columns.events.items()}
    assert kinds == {"watch": 59_040, "rate": 360, "recommend": 600, "account": 0}
    short = np.mean([line.index(b",") == len("2022-03-18T20:01") for line in sample.lines])
    assert 0.01 < short < 0.025
    assert {len(line.partition(b".")[2].partition(b",")[0]) for line in sample.lines if b"recomm" in line} == {3, 6, 9}
    assert (np.diff(sample.kafka_times) >= 0).all()
    kafka_times = sample.kafka_times.tolist()
    lag = [time - parse(line, CLOCK).time for line, time in zip(sample.lines, kafka_times, strict=True)]
    assert min(lag) >= 0
    assert max(lag) < LAG_MS


def test_simulated_lines_are_good_and_the_same_each_time(source: SimulatedLines) -> None:
    sample, again = source.sample(2_000), SimulatedLines(20_000, 500, 1).sample(2_000)
    assert sample.lines == again.lines
    assert sample.kafka_times.tolist() == again.kafka_times.tolist()
    [(values, kafka_times)] = sample.batches(5_000)
    rows_of = rows_by_fate(judged(values, kafka_times, context_of(source.runtimes)))
    assert {fate: len(rows) for fate, rows in rows_of.items() if len(rows)} == {"accepted": 2_000}


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
    times = [parse_time(sample.lines[row].split(b",")[0].decode(), CLOCK) for row in (0, 0, 2, 3, 3, 5, 6, 6)]
    assert all(0 <= late < LAG_MS for late in (sample.kafka_times - times).tolist())
    assert recorded.runtimes == {"ghostbusters+1984": 107, "alien+1979": None}
    assert set(recorded.sample(2, rare=True).lines) == {b"no line", LINES["rate"]}


@pytest.mark.parametrize("table", ["name,runtime\n", "id,runtime\nalien+1979,long\n"])
def test_a_damaged_catalogue_is_an_error_with_its_name(tmp_path: Path, table: str) -> None:
    (tmp_path / "lines").write_bytes(LINES["watch"])
    (tmp_path / "movies.csv").write_text(table)
    with pytest.raises(LoadtestError, match=r"movies\.csv"):
        RecordedLines(tmp_path / "lines", tmp_path / "movies.csv", 1)


def test_a_file_without_rare_lines_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(LINES["watch"])
    with pytest.raises(LoadtestError, match="--lines"):
        RecordedLines(tmp_path / "lines", None, 1).sample(3, rare=True)
