"""The benchmark `serving`: what it measures with must see what goes wrong. No speeds are asserted."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from loadtest.bench import commands, plotting
from loadtest.bench.result import BenchmarkResult
from loadtest.bench.serving import (
    bench_processes,
    bench_releases,
    contestants,
    probes_under_flood,
    restarts,
    serving_benchmark,
    serving_plot,
    similar_recall,
    steady_load,
    wrk,
)
from loadtest.bench.serving.bench_processes import ProcessGroup, Reply
from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError
from server.answers import Answers
from server.release import Release
from tests.loadtest.faulty_proxy import faulty_proxy
from tests.polling import until
from tests.process_is_gone import is_gone
from tests.server.worker_processes import WorkerProcess
from tests.server.worker_processes import serving as worker_of

USERS, MOVIES = 3_000, 500
TINY = serving_benchmark.ServingSize(
    users=USERS, movies=MOVIES, rounds=1, seconds=1, starts=1, steady_s=1.0, steady_rounds=1,
    restarts=1, probes=5, queries=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> bench_releases.ReleaseStage:
    return bench_releases.make(tmp_path_factory.mktemp("stage"), USERS, MOVIES, 1)


@pytest.fixture(scope="module")
def worker(stage: bench_releases.ReleaseStage) -> Iterator[WorkerProcess]:
    with worker_of(stage.compact) as worker:
        worker.get("/recommend/1")  # from here on it answers at once
        yield worker


# Releases


@pytest.mark.parametrize("name", ["compact", "rendered"])
def test_a_release_is_one_that_a_worker_takes(stage: bench_releases.ReleaseStage, name: str) -> None:
    folder = (getattr(stage, name) / "releases" / "current").resolve()
    release = Release.open(folder)
    answers = Answers(release)
    answers.self_test()
    assert (len(release.users), len(release.movies)) == (USERS, MOVIES)
    assert release.items.shape == (MOVIES, bench_releases.DIMENSIONS)
    assert (release.rendered is not None) is (name == "rendered")
    assert len(set(map(tuple, release.lists.tolist()))) > USERS * 0.8


def test_both_releases_answer_the_same(stage: bench_releases.ReleaseStage) -> None:
    one, other = (Answers(Release.open(folder)) for folder in stage.releases)
    assert [one.find(user) for user in range(1, USERS + 1)] == [other.find(user) for user in range(1, USERS + 1)]


def test_lists_of_a_small_catalogue_hold_no_movie_twice() -> None:
    lists = bench_releases._arrays(np.random.default_rng(1), 2_000, 20)["lists"]
    assert {len(set(row)) for row in lists.tolist()} == {20}


# Processes and /proc


def test_time_of_the_processor_is_that_of_a_process_and_its_children(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with ProcessGroup(tmp_path) as crew:
        running = crew.start("parent) x (", [sys.executable, "-c", code], 1)
        until(lambda: running.cpu_s() > bench_processes.cpu_s(running.process.pid) + 0.3)
        children = bench_processes._with_children(running.process.pid)
        assert len(children) == 2
    until(lambda: all(map(is_gone, children)))


def test_time_of_the_processor_is_what_the_system_says() -> None:
    began, wanted = bench_processes.cpu_s(os.getpid()), time.process_time() + 0.2
    while time.process_time() < wanted:
        pass
    assert bench_processes.cpu_s(os.getpid()) - began == pytest.approx(0.2, abs=0.1)
    assert bench_processes.cpu_s(2**22 + 1) == 0


def test_what_is_written_to_is_private_and_a_file_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(40_000_000))
    code = f"""
import mmap, sys, time
file = open({str(tmp_path / "file")!r}, "rb")
view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
own = b"x" * 30_000_000
sum(view[::4096])
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = bench_processes.memory(process.pid)
        process.communicate()
    assert 30 <= found.private < 45
    assert 40 <= found.mapped < 65


def test_what_does_not_heed_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_processes, "_PATIENCE_S", 0.4)
    code = "trap '' TERM; sleep 1000 & while :; do wait; done"
    with ProcessGroup(tmp_path) as crew:
        running = crew.start("deaf", ["/bin/sh", "-c", code], 1)
        until(lambda: len(bench_processes._with_children(running.process.pid)) == 2)
        pids = bench_processes._with_children(running.process.pid)
    assert running.process.returncode == -signal.SIGKILL
    until(lambda: all(map(is_gone, pids)))


def test_a_process_that_ends_instead_of_answering_is_told(tmp_path: Path) -> None:
    with ProcessGroup(tmp_path) as crew:
        running = crew.start("broken", [sys.executable, "-c", "raise SystemExit('no such thing')"], 1)
        with pytest.raises(LoadtestError, match="broken ended with code 1: no such thing"):
            running.first_answer_s()


# wrk


REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"


@pytest.fixture
def tools() -> wrk.Tools:
    if shutil.which("wrk") is None or not (shutil.which("nginx") or wrk._in_sbin("nginx")):
        pytest.skip("wrk and nginx are not installed")
    return wrk.tools()


OUTPUT = """\
Running 1s test @ http://127.0.0.1:1
  9490 requests in 1.10s, 1.07MB read
  Socket errors: connect 0, read 2, write 0, timeout 1
  Non-2xx or 3xx responses: 4

{"requests": 9490, "seconds": 1.1, "p50_us": 382, "p99_us": 2569, "p99_9_us": 4683, "not_2xx": 4, "socket_errors": 3}
"""


def test_the_figures_of_wrk_are_read() -> None:
    found = wrk.parsed(OUTPUT)
    assert (found.requests, found.p99_9_us, found.errors) == (9490, 4683, 7)
    assert serving_benchmark._row([found, found], [10.0, 20.0]) == {
        "cpu_us": 15.0,
        "cpu_us_lowest": 10.0,
        "cpu_us_highest": 20.0,
        "requests_per_s": 8627,
        "p50_us": 382,
        "p99_us": 2569,
        "p99_9_us": 4683,
        "errors": 14,
    }


@pytest.mark.parametrize("output", ["", OUTPUT.partition("{")[0], '{"requests": 1}'])
def test_figures_that_are_not_there_are_told(output: str) -> None:
    with pytest.raises(LoadtestError, match="wrk told no figures"):
        wrk.parsed(output)


def test_wrk_counts_what_is_no_answer(tools: wrk.Tools, worker: WorkerProcess, tmp_path: Path) -> None:
    def some(number: int, answer: bytes) -> bytes | None:
        return REFUSAL if number % 3 == 0 else None if number % 10 == 0 else answer

    with faulty_proxy(worker.port, some) as server:
        found = wrk.run(tools.wrk, tmp_path, server.port, 1, USERS, 1)
    assert found.not_2xx > 0
    assert found.socket_errors > 0
    assert found.requests > 0
    assert 0 < found.p50_us <= found.p99_us <= found.p99_9_us


def test_without_tools_it_is_said_what_to_install(tmp_path: Path) -> None:
    code = """
from loadtest.__main__ import commands
from loadtest.bench.serving import wrk
from stream.cli import run
wrk._SBIN = ()
run(commands, "loadtest")
"""
    command = [sys.executable, "-c", code, "bench", "serving", "--quick"]
    environ = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("error: bench: wrk and nginx are missing: install with `apt-get install wrk nginx-light`\n")


# The parts


def test_contestants_answer_the_same_or_it_is_told(worker: WorkerProcess, tmp_path: Path) -> None:
    same, other = (FakeRunning(worker, change) for change in (bytes, bytes.upper))
    contestants.require_same({"compact": same, "granian": same}, USERS)  # type: ignore[dict-item]
    with pytest.raises(LoadtestError, match="granian answers user"):
        contestants.require_same({"compact": same, "granian": other}, USERS)  # type: ignore[dict-item]
    with pytest.raises(LoadtestError, match="nginx answers with"):
        contestants.require_same({"compact": same, "nginx": same}, USERS)  # type: ignore[dict-item]


class FakeRunning:
    """Asks a worker, and changes its bodies."""

    def __init__(self, worker: WorkerProcess, change: Callable[[bytes], bytes]) -> None:
        self._worker, self._change = worker, change

    def ask(self, path: str = "/recommend/1") -> Reply:
        answer = self._worker.get(path)
        return Reply(answer.status, b"", self._change(answer.body.encode()))


def test_all_contestants_are_compared(tools: wrk.Tools, tmp_path: Path) -> None:
    for name in contestants._MODULES:
        pytest.importorskip(name)
    figures = serving_benchmark.contestants(serving_benchmark.ServingRun(tmp_path, TINY, 1))
    assert list(figures["contestants"]) == list(contestants.NAMES)
    assert figures["wrk_errors"] == 0
    for row in figures["contestants"].values():
        assert row["cpu_us"] > 0 < row["requests_per_s"]
        assert row["mapped_mb"] > 0 < row["first_answer_s"]
    wanted = {name for name in serving_benchmark.TARGETS if name.startswith(("compact", "rendered", "wrk"))}
    assert wanted <= set(figures)
    # nothing is left: everybody's last word is in a log, and nobody writes into it any more
    assert not any(str(tmp_path) in command for command in environments())


def environments() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            yield path.read_bytes().decode("utf-8", "replace") if int(path.parent.name) != os.getpid() else ""
        except OSError:
            continue


def test_releases_are_swapped_under_load(tmp_path: Path) -> None:
    stage = bench_releases.make(tmp_path / "stage", USERS, MOVIES, 1)
    figures = steady_load.measure(stage, tmp_path, 3, rounds=2, rate=100, swap_s=1.2)
    assert figures["steady_errors"] == figures["swapping_errors"] == 0
    assert figures["steady_requests"] == figures["swapping_requests"] == 600
    assert figures["swapping_swaps"] >= 2
    assert set(figures["steady_releases"]) == {stage.releases[0].name}
    assert set(figures["swapping_releases"]) == {folder.name for folder in stage.releases}
    assert {name for name in serving_benchmark.TARGETS if name.startswith(("steady", "swapping"))} <= set(figures)


def test_restarts_under_load_lose_nothing(tmp_path: Path) -> None:
    stage = bench_releases.make(tmp_path / "stage", USERS, MOVIES, 1)
    figures = restarts.measure(stage, tmp_path, 1)
    assert figures["restarts"] == 1
    assert figures["restarts_errors"] == 0, figures["restarts_errors_by_kind"]
    assert figures["restarts_requests"] >= restarts.RATE
    assert {name for name in serving_benchmark.TARGETS if name.startswith("restarts")} <= set(figures)


def test_probes_are_answered_beside_a_crowd(tools: wrk.Tools, tmp_path: Path) -> None:
    stage = bench_releases.make(tmp_path / "stage", USERS, MOVIES, 1)
    figures = probes_under_flood.measure(stage, tmp_path, tools.wrk, 5)
    assert figures["probes_operator_kept_refused"] == figures["probes_operator_anew_refused"] == 0
    assert {name for name in serving_benchmark.TARGETS if name.startswith("probes")} <= set(figures)


def test_recall_is_of_the_nearest(tmp_path: Path) -> None:
    items = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    bench_releases.write_small(tmp_path / "one", items)
    answers = Answers(Release.open(tmp_path / "one"))
    chosen = np.arange(0, 60, 7)
    assert similar_recall.recall(answers, chosen) == 1.0
    angles = (items @ items[7]) / np.linalg.norm(items, axis=1)
    assert set(similar_recall.nearest(items, np.array([7]))[0].tolist()) == set(np.argsort(-angles)[1:21].tolist())

    class Half(Answers):
        def similar(self, movie: str, count: int) -> list[str] | None:
            return (super().similar(movie, count) or [])[: count // 2]

    assert similar_recall.recall(Half(answers.release), chosen) == pytest.approx(0.5)


# The benchmark, and how it is called


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small benchmark behind the command, and the folder that it works in."""
    monkeypatch.setattr(serving_benchmark, "QUICK", TINY)
    monkeypatch.setattr(serving_benchmark, "_WORK", tmp_path)
    return tmp_path


def test_the_object_is_the_last_line(small: Path) -> None:
    result = CliRunner().invoke(commands.bench, ["serving", "--quick", "--part", "meter", "--part", "similar"])
    assert result.exit_code == 0, result.exception
    found = orjson.loads(result.stdout.splitlines()[-1])
    assert found["bench"] == "serving"
    assert set(found["targets"]) == {"meter_us", "similar_recall_clustered", "similar_recall_scattered"}
    assert found["figures"]["similar_recall_clustered"] > 0.9
    assert str(ROOT) not in result.stdout
    assert list(small.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--part", "metre"], ["--part", "meter", "--keep", "somewhere"]])
def test_a_wrong_call_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(commands.bench, ["serving", *arguments]).exit_code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_benchmark_that_is_interrupted_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    code = f"""
from dataclasses import replace
from pathlib import Path
from loadtest.__main__ import commands
from loadtest.bench.serving import serving_benchmark
from stream.cli import run
serving_benchmark._WORK = Path({str(tmp_path)!r})
serving_benchmark.QUICK = replace(serving_benchmark.QUICK, users={USERS}, movies={MOVIES}, steady_s=300.0)
run(commands, "loadtest")
"""
    command = [sys.executable, "-c", code, "bench", "serving", "--quick", "--part", "steady"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: any("openloop" in command for command in children(process.pid)))
    assert len(of_folder(tmp_path)) == 2
    process.send_signal(number)
    _, told = process.communicate(timeout=600)
    assert process.returncode == 130
    assert told.endswith("interrupted\n")
    assert "Traceback" not in told
    assert of_folder(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def of_folder(folder: Path) -> list[str]:
    """Workers that answer from below a folder."""
    return [text for text in environments() if f"MARQUEE_STREAM_VAR={folder}" in text]


def children(pid: int) -> list[str]:
    found = []
    for one in bench_processes._with_children(pid):
        with suppress(OSError):  # it has ended meanwhile
            found.append(Path(f"/proc/{one}/cmdline").read_bytes().decode())
    return found


FOUND: dict[str, Any] = {
    "users": USERS,
    "movies": MOVIES,
    "contestants": {
        name: {"requests_per_s": 5_000 * number, "p50_us": 100, "p99_us": 300, "p99_9_us": 1_000 * number}
        | {"cpu_us": 10.0 * number, "cpu_us_lowest": 9.0 * number, "cpu_us_highest": 12.0 * number}
        for number, name in enumerate(contestants.NAMES, 1)
    },
    **{
        f"{name}_{kind}_ms": {"50": 0.1, "90": 0.2, "99": 1.0, "99.9": 2.0, "100": 9.0}
        for name, kind in (("steady", "latency"), ("swapping", "latency"), ("steady", "client_late"))
    },
}


def test_a_picture_is_drawn_and_always_the_same(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = BenchmarkResult("serving", FOUND, {}).as_object()
    for name in ("one.svg", "two.svg", "three.png"):
        serving_plot.draw(found, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn == (tmp_path / "two.svg").read_bytes()
    assert b"<svg" in drawn
    assert (tmp_path / "three.png").read_bytes().startswith(b"\x89PNG")


@contextmanager
def without(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda found: None if found == name else threading)
        yield


def test_without_the_contestants_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with without(monkeypatch, "granian"), pytest.raises(LoadtestError, match=r"without granian .* make bench"):
        contestants.Contestants(
            ProcessGroup(tmp_path), bench_releases.ReleaseStage(1, tmp_path, tmp_path, tmp_path), "nginx", tmp_path
        )
    with without(monkeypatch, "matplotlib"), pytest.raises(LoadtestError, match=r"without matplotlib .* make bench"):
        plotting.require_matplotlib()
