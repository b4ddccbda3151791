"""The locust file sees what is lost: held against a server that drops on purpose, and against an honest one."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from loadtest.demo.processes import ROOT
from tests.loadtest.faulty_proxy import Harm, drops, faulty_proxy, spoils
from tests.server.sample_releases import write_release
from tests.server.worker_processes import serving

RUNS_S = (2, 10, 60)
"""How long locust runs: longer where a busy machine had it ask too little."""


def swarm(port: int, seconds: int) -> tuple[int, list[dict[str, Any]]]:
    """So many seconds of locust, and then until what was begun is done; its exit code, and its counts by name."""
    how = ["--headless", "--users", "4", "--spawn-rate", "4", "--run-time", f"{seconds}s", "--stop-timeout", "60"]
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        "loadtest/locustfile.py",
        "-H",
        f"http://127.0.0.1:{port}",
        *how,
        "--json",
    ]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "LOCUST_"))}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)
    try:
        return done.returncode, orjson.loads(done.stdout[done.stdout.index("[") :])
    except ValueError:
        pytest.fail(done.stderr)


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    write_release(tmp_path / "var" / "releases", "one")
    (tmp_path / "var" / "releases" / "current").symlink_to("one")
    with serving(tmp_path / "var") as worker:
        yield worker


def test_an_honest_worker_fails_nobody(worker: Any) -> None:
    for seconds in RUNS_S:
        with faulty_proxy(worker.port) as server:
            code, found = swarm(server.port, seconds)
        if server.requests:
            break
    assert code == 0
    assert sum(one["num_failures"] for one in found) == 0
    asked = Counter({one["name"]: one["num_requests"] for one in found})
    assert asked.total() == server.requests > 0
    assert asked["known"] > 0.9 * asked.total() - 5
    assert set(asked) <= {"known", "unknown", "invalid"}


@pytest.mark.parametrize(
    "harm",
    [drops(5), spoils(5, lambda answer: b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na,a")],
    ids=["dropped", "a movie twice"],
)
def test_what_is_not_answered_is_counted_exactly(worker: Any, harm: Harm) -> None:
    for seconds in RUNS_S:
        with faulty_proxy(worker.port, harm) as server:
            code, found = swarm(server.port, seconds)
        if server.harmed:
            break
    assert code == 1
    assert sum(one["num_failures"] for one in found) == server.harmed > 0
    assert sum(one["num_requests"] for one in found) == server.requests
