"""The open-loop client of the benchmark `serving` sees what goes wrong, and counts it once. No speeds are asserted."""

import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from loadtest.bench.serving import openloop
from loadtest.bench.serving.bench_processes import HOST
from loadtest.bench.serving.openloop import LoadPlan, LoadResult
from loadtest.errors import LoadtestError
from tests.loadtest.faulty_proxy import Harm, drops, faulty_proxy, spoils, stalls
from tests.server.worker_processes import WorkerProcess

PATIENCE_S = 600.0
"""Longer than any machine delays an answer that was sent."""


def send_load(port: int, rate: float = 500, seconds: float = 1.0, patience_s: float = PATIENCE_S) -> LoadResult:
    plan = LoadPlan(port=port, rate=rate, seconds=seconds, users=12, connections=8, patience_s=patience_s)
    return openloop.measure(plan)


def send_harmed_load(
    worker: WorkerProcess, harm: Harm, rate: float, seconds: float, expected: Callable[[LoadResult], bool]
) -> LoadResult:
    """The result of a load through a harmful server, repeated with more patience until it is as `expected`."""
    for patience_s in (0.3, 3.0, 30.0):  # a busy machine takes its time
        with faulty_proxy(worker.port, harm) as server, suppress(LoadtestError):
            if expected(load := send_load(server.port, rate, seconds, patience_s)):
                break
    return load


def good(load: LoadResult) -> int:
    return sum(load.releases.values())


def test_a_worker_that_answers_has_no_errors(worker: WorkerProcess) -> None:
    load = send_load(worker.port, rate=1_000)
    assert (load.requests, load.errors, load.connections_lost) == (1_000, {}, 0)
    assert load.releases == {"one": 1_000}
    assert list(load.latency_ms) == list(load.late_ms) == ["50", "90", "99", "99.9", "100"]
    assert sorted(load.latency_ms.values()) == list(load.latency_ms.values())
    assert load.latency_ms["50"] >= 0 <= load.late_ms["50"]


def test_a_stall_delays_all_requests_due_in_it(worker: WorkerProcess) -> None:
    with faulty_proxy(worker.port, stalls(before=200, seconds=0.2)) as server:
        load = send_load(server.port, rate=500, seconds=2.0)
    assert load.errors == {}
    assert load.latency_ms["99.9"] >= 190
    # a hundred of the thousand fell due in the stall; a closed loop would have sent eight of them
    assert load.latency_ms["99"] >= 150
    assert load.waited >= 50


def test_dropped_requests_are_counted_and_not_retried(worker: WorkerProcess) -> None:
    with faulty_proxy(worker.port, drops(50)) as server:
        load = send_load(server.port)
    assert load.errors == {"dropped": server.harmed}
    assert server.harmed == 10
    assert server.requests == load.requests == good(load) + load.failed
    assert load.connections_lost == server.harmed


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
def test_a_bad_answer_is_an_error(worker: WorkerProcess, harm: Callable[[bytes], bytes], error: str) -> None:
    load = send_harmed_load(worker, spoils(100, harm), 1_000, 0.4, lambda load: load.errors == {error: 4})
    assert load.errors == {error: 4}
    assert good(load) == load.requests - 4


def test_an_answer_may_end_its_connection(worker: WorkerProcess) -> None:
    def closing(answer: bytes) -> bytes:
        return answer.replace(b"connection: keep-alive", b"connection: close")

    with faulty_proxy(worker.port, spoils(10, closing)) as server:
        load = send_load(server.port, seconds=0.4)
    assert (load.errors, load.connections_lost, good(load)) == ({}, 0, 200)


def test_requests_that_are_never_answered_are_errors(worker: WorkerProcess) -> None:
    def never(number: int, answer: bytes) -> bytes:
        return b"" if number > 10 else answer

    load = send_harmed_load(worker, never, 200, 0.5, lambda load: good(load) == 10)
    assert good(load) == 10
    assert load.failed == 90


def test_a_port_that_refuses_is_an_error() -> None:
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(LoadtestError, match=rf"port {port} does not accept 8 connections"):
        send_load(port, patience_s=0.1)


def test_percentiles_are_values_that_occur() -> None:
    percentiles = openloop.percentiles_ms([ms / 1000 for ms in range(1000, 0, -1)])
    assert percentiles == {"50": 500, "90": 900, "99": 990, "99.9": 999, "100": 1000}
    assert openloop.percentiles_ms([0.002]) == dict.fromkeys(percentiles, 2)
    assert openloop.percentiles_ms([]) == {}
