"""Shared fixtures: lines to measure with, releases to serve from, a worker, and the tools of `serving`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.bench.lines.line_sources import RecordedLines, SimulatedLines
from loadtest.bench.serving import bench_releases, wrk
from loadtest.bench.serving.bench_releases import ReleaseStage
from tests.loadtest.sample_lines import LINES
from tests.loadtest.serving_size import MOVIES, USERS
from tests.server.sample_releases import write_release
from tests.server.worker_processes import WorkerProcess, serving


@pytest.fixture(scope="session")
def source() -> SimulatedLines:
    """Lines of a small simulated world."""
    return SimulatedLines(20_000, 500, 1)


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedLines:
    """A file of three recorded lines, of which the second has no form and the third names an unknown movie."""
    (tmp_path / "lines").write_bytes(b"\n".join([LINES["watch"], b"no line", LINES["rate"]]) + b"\n")
    (tmp_path / "movies.csv").write_text("id,year,runtime\nghostbusters+1984,1984,107.0\nalien+1979,1979,\n")
    return RecordedLines(tmp_path / "lines", tmp_path / "movies.csv", 1)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> ReleaseStage:
    """Small releases of the serving benchmark; tests that move `current` make their own."""
    return bench_releases.make(tmp_path_factory.mktemp("stage"), USERS, MOVIES, 1)


@pytest.fixture(scope="module")
def stage_worker(stage: ReleaseStage) -> Iterator[WorkerProcess]:
    """A worker that answers from `stage`."""
    with serving(stage.compact) as worker:
        worker.get("/recommend/1")  # from here on it answers at once
        yield worker


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker with the sample release `one`."""
    var: Path = tmp_path_factory.mktemp("worker") / "var"
    write_release(var / "releases", "one")
    (var / "releases" / "current").symlink_to("one")
    with serving(var) as worker:
        worker.get("/recommend/1")  # from here on it answers at once
        yield worker


@pytest.fixture
def tools() -> wrk.Tools:
    """Paths of wrk and nginx."""
    if shutil.which("wrk") is None or not (shutil.which("nginx") or wrk._in_sbin("nginx")):
        pytest.skip("wrk and nginx are not installed")
    return wrk.tools()
