"""What the tests of the benchmarks share: a small world, and a file of recorded lines."""

from pathlib import Path

import pytest

from loadtest.bench.lines import Played, Recorded
from tests.loadtest.bench_lines import LINES


@pytest.fixture(scope="module")
def source() -> Played:
    return Played(20_000, 500, 1)


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    (tmp_path / "lines").write_bytes(b"\n".join([LINES["watch"], b"no line", LINES["rate"]]) + b"\n")
    (tmp_path / "movies.csv").write_text("id,year,runtime\nghostbusters+1984,1984,107.0\nalien+1979,1979,\n")
    return Recorded(tmp_path / "lines", tmp_path / "movies.csv", 1)
