"""The contestants of `serving` answer the same, all of them are measured, and none is left running."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtest.bench import plotting
from loadtest.bench.result import as_figures
from loadtest.bench.serving import contestant_costs, contestants, wrk
from loadtest.bench.serving.bench_processes import ProcessGroup, Reply
from loadtest.bench.serving.bench_releases import ReleaseStage
from loadtest.bench.serving.serving_benchmark import SERVING
from loadtest.errors import LoadtestError
from tests.loadtest.running_processes import environments
from tests.loadtest.serving_size import TINY, USERS
from tests.server.worker_processes import WorkerProcess


def test_contestants_that_answer_differently_are_an_error(stage_worker: WorkerProcess, tmp_path: Path) -> None:
    same, other = (ChangedAnswers(stage_worker, change) for change in (bytes, bytes.upper))
    contestants.require_same({"compact": same, "granian": same}, USERS)  # type: ignore[dict-item]
    with pytest.raises(LoadtestError, match="granian answers user"):
        contestants.require_same({"compact": same, "granian": other}, USERS)  # type: ignore[dict-item]
    with pytest.raises(LoadtestError, match="nginx answers with"):
        contestants.require_same({"compact": same, "nginx": same}, USERS)  # type: ignore[dict-item]


class ChangedAnswers:
    """A contestant that answers as a worker does, with changed bodies."""

    def __init__(self, worker: WorkerProcess, change: Callable[[bytes], bytes]) -> None:
        self._worker, self._change = worker, change

    def ask(self, path: str = "/recommend/1") -> Reply:
        answer = self._worker.get(path)
        return Reply(answer.status, b"", self._change(answer.body.encode()))


def test_all_contestants_are_compared(tools: wrk.Tools, stage: ReleaseStage, tmp_path: Path) -> None:
    for name in contestants._MODULES:
        pytest.importorskip(name)
    figures = contestant_costs.measure(stage, tmp_path, TINY.costs)
    assert list(figures.contestants) == list(contestants.NAMES)
    assert figures.wrk_errors == 0
    for row in figures.contestants.values():
        assert row.cpu_us > 0 < row.requests_per_s
        assert row.mapped_mb > 0 < row.first_answer_s
    targets = {name for name in SERVING.targets if name.startswith(("compact", "rendered", "wrk"))}
    assert targets <= set(as_figures(figures))
    assert not any(str(tmp_path) in environ for environ in environments())


@contextmanager
def without(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda module: None if module == name else threading)
        yield


def test_missing_packages_are_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage = ReleaseStage(1, tmp_path, tmp_path, tmp_path)
    with without(monkeypatch, "granian"), pytest.raises(LoadtestError, match=r"without granian: make bench"):
        contestants.Contestants(ProcessGroup(tmp_path), stage, "nginx", tmp_path)
    with without(monkeypatch, "matplotlib"), pytest.raises(LoadtestError, match=r"without matplotlib .* make bench"):
        plotting.require_matplotlib()
