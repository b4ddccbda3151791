"""wrk: its figures are read, it counts what goes wrong, and a missing tool is an error that says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.bench.serving import wrk
from loadtest.bench.serving.bench_processes import RunningProcess
from loadtest.bench.serving.contestant_costs import contestant_figures
from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError
from tests.loadtest.faulty_proxy import faulty_proxy
from tests.loadtest.serving_size import USERS
from tests.server.worker_processes import WorkerProcess

REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"


OUTPUT = """\
Running 1s test @ http://127.0.0.1:1
  9490 requests in 1.10s, 1.07MB read
  Socket errors: connect 0, read 2, write 0, timeout 1
  Non-2xx or 3xx responses: 4

{"requests": 9490, "seconds": 1.1, "p50_us": 382, "p99_us": 2569, "p99_9_us": 4683, "not_2xx": 4, "socket_errors": 3}
"""


def test_the_figures_of_wrk_are_read() -> None:
    load = wrk.parsed(OUTPUT)
    assert (load.requests, load.p99_9_us, load.errors) == (9490, 4683, 7)


def test_figures_of_a_contestant_are_medians_of_its_rounds(stage_worker: WorkerProcess, tmp_path: Path) -> None:
    load = wrk.parsed(OUTPUT)
    process = RunningProcess(stage_worker.process, stage_worker.port, tmp_path / "x.log", 0.0)
    row = contestant_figures([load, load], [10.0, 20.0], process, 0.25)
    assert (row.cpu_us, row.cpu_us_lowest, row.cpu_us_highest) == (15.0, 10.0, 20.0)
    assert (row.requests_per_s, row.errors, row.first_answer_s) == (8627, 14, 0.25)
    assert (row.p50_us, row.p99_us, row.p99_9_us) == (382, 2569, 4683)
    assert row.private_mb > 1 < row.mapped_mb


@pytest.mark.parametrize("output", ["", OUTPUT.partition("{")[0], '{"requests": 1}'])
def test_missing_figures_are_an_error(output: str) -> None:
    with pytest.raises(LoadtestError, match="wrk printed no figures"):
        wrk.parsed(output)


def test_wrk_counts_refused_and_dropped_requests(tools: wrk.Tools, stage_worker: WorkerProcess, tmp_path: Path) -> None:
    def refuse_some(number: int, answer: bytes) -> bytes | None:
        return REFUSAL if number % 3 == 0 else None if number % 10 == 0 else answer

    with faulty_proxy(stage_worker.port, refuse_some) as server:
        load = wrk.run(tools.wrk, tmp_path, server.port, 1, USERS, 1)
    assert load.not_2xx > 0
    assert load.socket_errors > 0
    assert load.requests > 0
    assert 0 < load.p50_us <= load.p99_us <= load.p99_9_us


def test_missing_tools_are_an_error_that_says_what_to_install(tmp_path: Path) -> None:
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
