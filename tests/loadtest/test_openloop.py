"""The open-loop client of the benchmark `serving` sees what goes wrong, and counts it once. No speeds are asserted."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from loadtest.bench.serving import openloop
from loadtest.bench.serving.bench_processes import HOST
from loadtest.bench.serving.openloop import LoadPlan, LoadResult
from loadtest.errors import LoadtestError
from tests.loadtest.faulty_proxy import Harm, drops, faulty_proxy, spoils, stalls
from tests.server.sample_releases import write_release
from tests.server.worker_processes import WorkerProcess, serving


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    var: Path = tmp_path_factory.mktemp("stage") / "var"
    write_release(var / "releases", "one")
    (var / "releases" / "current").symlink_to("one")
    with serving(var) as worker:
        worker.get("/recommend/1")  # from here on it answers at once
        yield worker


PATIENCE_S = 600.0
"""No machine keeps an answer back for so long that was sent."""


def asked(port: int, rate: float = 500, seconds: float = 1.0, patience_s: float = PATIENCE_S) -> LoadResult:
    plan = LoadPlan(port=port, rate=rate, seconds=seconds, users=12, connections=8, patience_s=patience_s)
    return openloop.measure(plan)


def harmed(
    worker: WorkerProcess, harm: Harm, rate: float, seconds: float, due: Callable[[LoadResult], bool]
) -> LoadResult:
    """What came of it, with more patience where that was not what was due: a busy machine takes its time."""
    for patience_s in (0.3, 3.0, 30.0):
        with faulty_proxy(worker.port, harm) as server, suppress(LoadtestError):
            if due(found := asked(server.port, rate, seconds, patience_s)):
                break
    return found


def good(found: LoadResult) -> int:
    return sum(found.releases.values())


def test_a_worker_that_answers_has_no_errors(worker: WorkerProcess) -> None:
    found = asked(worker.port, rate=1_000)
    assert (found.requests, found.errors, found.connections_lost) == (1_000, {}, 0)
    assert found.releases == {"one": 1_000}
    assert list(found.latency_ms) == list(found.late_ms) == ["50", "90", "99", "99.9", "100"]
    assert sorted(found.latency_ms.values()) == list(found.latency_ms.values())
    assert found.latency_ms["50"] >= 0 <= found.late_ms["50"]


def test_a_stall_is_seen_by_all_that_fell_due_in_it(worker: WorkerProcess) -> None:
    with faulty_proxy(worker.port, stalls(at=200, seconds=0.2)) as server:
        found = asked(server.port, rate=500, seconds=2.0)
    assert found.errors == {}
    assert found.latency_ms["99.9"] >= 190
    # a hundred of the thousand fell due while it stood, and of those a closed loop would have asked eight
    assert found.latency_ms["99"] >= 150
    assert found.waited >= 50


def test_what_is_dropped_is_counted_and_not_tried_again(worker: WorkerProcess) -> None:
    with faulty_proxy(worker.port, drops(50)) as server:
        found = asked(server.port)
    assert found.errors == {"dropped": server.harmed}
    assert server.harmed == 10
    assert server.requests == found.requests == good(found) + found.failed
    assert found.connections_lost == server.harmed


REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda answer: REFUSAL, "not 200: HTTP/1.1 503 Service Unavailable"),
        (lambda answer: answer + b"x", "longer than it says"),
        (lambda answer: answer[:-1], "unanswered"),
        (lambda answer: answer[:40], "unanswered"),
        (lambda answer: b"HTTP/1.1 200 OK\r\n\r\na,b", "no length"),
        (lambda answer: b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "no length"),
        (lambda answer: b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "empty"),
    ],
    ids=["refused", "too long", "too short", "half a head", "no length", "bad length", "empty"],
)
def test_an_answer_that_is_no_good_is_an_error(
    worker: WorkerProcess, harm: Callable[[bytes], bytes], error: str
) -> None:
    found = harmed(worker, spoils(100, harm), 1_000, 0.4, lambda found: found.errors == {error: 4})
    assert found.errors == {error: 4}
    assert good(found) == found.requests - 4


def test_an_answer_may_end_its_connection(worker: WorkerProcess) -> None:
    def closing(answer: bytes) -> bytes:
        return answer.replace(b"connection: keep-alive", b"connection: close")

    with faulty_proxy(worker.port, spoils(10, closing)) as server:
        found = asked(server.port, seconds=0.4)
    assert (found.errors, found.connections_lost, good(found)) == ({}, 0, 200)


def test_requests_that_nobody_takes_are_errors(worker: WorkerProcess) -> None:
    def never(number: int, answer: bytes) -> bytes:
        return b"" if number > 10 else answer

    found = harmed(worker, never, 200, 0.5, lambda found: good(found) == 10)
    assert good(found) == 10
    assert found.failed == 90


def test_where_nobody_listens_it_is_said() -> None:
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(LoadtestError, match=rf"nobody accepts 8 connections on {port}"):
        asked(port, patience_s=0.1)


def test_percentiles_are_values_that_were_seen() -> None:
    found = openloop.percentiles_ms([one / 1000 for one in range(1000, 0, -1)])
    assert found == {"50": 500, "90": 900, "99": 990, "99.9": 999, "100": 1000}
    assert openloop.percentiles_ms([0.002]) == dict.fromkeys(found, 2)
    assert openloop.percentiles_ms([]) == {}
