"""The locust file counts exactly what a server drops or spoils on purpose, and nothing with an honest one."""

import os
import subprocess
import sys
from collections import Counter

import msgspec
import pytest

from loadtest.demo.processes import ROOT
from stream.errors import SettingsError
from tests.loadtest.faulty_proxy import Harm, drops, faulty_proxy, spoils
from tests.server.worker_processes import WorkerProcess

RUNS_S = (2, 10, 60)
"""Lengths of a run, tried in turn: on a busy machine locust may send too few requests in a short one."""


class LocustCounts(msgspec.Struct, frozen=True):
    """What locust counted of the requests with one name."""

    name: str
    num_requests: int
    num_failures: int


def swarm(port: int, seconds: int) -> tuple[int, list[LocustCounts]]:
    """Run locust so many seconds and let it finish its requests; returns its exit code and its counts by name."""
    options = ["--headless", "--users", "4", "--spawn-rate", "4", "--run-time", f"{seconds}s", "--stop-timeout", "60"]
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        "loadtest/locustfile.py",
        "-H",
        f"http://127.0.0.1:{port}",
        *options,
        "--json",
    ]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "LOCUST_"))}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)
    try:
        counts = done.stdout[done.stdout.index("[") :]
        return done.returncode, msgspec.json.decode(counts, type=list[LocustCounts])
    except (ValueError, msgspec.DecodeError):
        pytest.fail(done.stderr)


def test_wrong_settings_are_one_line() -> None:
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "-H", "http://127.0.0.1:1", "--headless"]
    environ = {**os.environ, "MARQUEE_LOADTEST_USERS": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == SettingsError.exit_code
    assert "error: settings: [loadtest] users = 0 is out of range" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_honest_worker_has_no_failures(worker: WorkerProcess) -> None:
    for seconds in RUNS_S:
        with faulty_proxy(worker.port) as server:
            code, counts = swarm(server.port, seconds)
        if server.requests:
            break
    assert code == 0
    assert sum(count.num_failures for count in counts) == 0
    requests = Counter({count.name: count.num_requests for count in counts})
    assert requests.total() == server.requests > 0
    assert requests["known"] > 0.9 * requests.total() - 5
    assert set(requests) <= {"known", "unknown", "invalid"}


@pytest.mark.parametrize(
    "harm",
    [drops(5), spoils(5, lambda answer: b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na,a")],
    ids=["dropped", "a movie twice"],
)
def test_bad_answers_are_counted_exactly(worker: WorkerProcess, harm: Harm) -> None:
    for seconds in RUNS_S:
        with faulty_proxy(worker.port, harm) as server:
            code, counts = swarm(server.port, seconds)
        if server.harmed:
            break
    assert code == 1
    assert sum(count.num_failures for count in counts) == server.harmed > 0
    assert sum(count.num_requests for count in counts) == server.requests
