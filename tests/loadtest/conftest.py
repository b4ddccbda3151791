"""What the tests of the benchmarks share: a small world, and a file of recorded lines."""

from pathlib import Path

import pytest

from loadtest.bench.lines.line_sources import RecordedLines, SimulatedLines
from tests.loadtest.sample_lines import LINES


@pytest.fixture(scope="module")
def source() -> SimulatedLines:
    return SimulatedLines(20_000, 500, 1)


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedLines:
    (tmp_path / "lines").write_bytes(b"\n".join([LINES["watch"], b"no line", LINES["rate"]]) + b"\n")
    (tmp_path / "movies.csv").write_text("id,year,runtime\nghostbusters+1984,1984,107.0\nalien+1979,1979,\n")
    return RecordedLines(tmp_path / "lines", tmp_path / "movies.csv", 1)
