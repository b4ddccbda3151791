"""The operator's port shows all workers of the host, and the public port shows nothing of it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from loadtest.demo.processes import accepts, free_port
from server.operator import make_operator_app
from server.operator_openapi import DESCRIPTION
from server.settings import ServerSettings
from stream import durable
from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import seal, write_release
from tests.server.worker_processes import HOST, ROOT, HttpAnswer, Wire, WorkerProcess, serving, started


@contextmanager
def telling(var: Path) -> Iterator[int]:
    """The port of an operator process, which must end on SIGTERM without an error."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "operator", "--port", str(port)],
        cwd=ROOT, env={"MARQUEE_STREAM_VAR": str(var)}, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: accepts(HOST, port) or process.poll() is not None)
        yield port
        process.terminate()
        _, errors = process.communicate(timeout=DEADLINE_S)
        assert b"Traceback" not in errors, errors
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def ask(port: int, path: str) -> HttpAnswer:
    with Wire(port) as wire:
        return wire.get(path)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An operator's port without a worker."""
    with telling(tmp_path_factory.mktemp("operator") / "var") as port:
        yield port


@pytest.fixture(scope="module")
def port(module_var: Path) -> Iterator[int]:
    """An operator's port with one worker."""
    with serving(module_var) as worker, telling(module_var) as bound_port:
        assert worker.get("/readyz").status == 200
        yield bound_port


def test_it_tells_how_every_worker_is(var: Path, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0), backlog=64) as listener, telling(var) as port:
        workers = [started(listener, var, tmp_path / f"{number}.log") for number in range(2)]
        try:
            until(lambda: ask(port, "/readyz").body.startswith("2 of 2 workers are ready\n"))
            assert ask(port, "/healthz").body == "2 of 2 workers are alive\n"
            lines = ask(port, "/readyz").body.splitlines()[1:]
            pids = sorted(worker.process.pid for worker in workers)
            assert lines == [f"worker {pid} is serving: one answers" for pid in pids]
            (write_release(var / "releases", "broken") / "users.npy").write_bytes(b"x")
            durable.point(var / "releases" / "current", "broken")
            until(lambda: ask(port, "/readyz").body.count("; a newer one was refused: ") == 2)
            assert ask(port, "/readyz").status == 200
            workers[0].kill()
            until(lambda: ask(port, "/readyz").body.startswith("1 of 1 workers are ready\n"))
            workers[1].kill()
            until(lambda: ask(port, "/readyz").status == 503)
            assert ask(port, "/healthz").status == 503
        finally:
            for worker in workers:
                worker.kill()


def test_the_release_in_use_is_told_without_secrets(var: Path) -> None:
    manifest = var / "releases" / "one" / "manifest.json"
    settings = {"api": "http://user:secret@api.example:8080/v1?key=secret", "seed": 1}
    manifest.write_bytes(orjson.dumps({**orjson.loads(manifest.read_bytes()), "settings": settings}))
    seal(var / "releases" / "one")
    (var / "hidden.txt").write_text("movie+3+2000\n")
    with serving(var) as worker, telling(var) as port:
        assert worker.get("/readyz").status == 200
        answer = ask(port, "/release")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        body = orjson.loads(answer.body)
        assert (body["release"], body["refused"], body["hidden"]) == ("one", None, ["movie+3+2000"])
        assert body["manifest"]["settings"] == {"api": "http://***@api.example:8080/v1?***", "seed": 1}
        (var / "hidden.txt").write_text("movie+4+2000\n")
        until(lambda: orjson.loads(ask(port, "/release").body)["hidden"] == ["movie+4+2000"])


def test_a_manifest_that_cannot_be_shown_is_503_with_the_reason(var: Path) -> None:
    manifest = var / "releases" / "one" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"{", b'{"new": 1e999, ', 1))  # the worker ignores the field
    with serving(var) as worker, telling(var) as port:
        assert worker.get("/readyz").status == 200
        answer = ask(port, "/release")
        assert answer.status == 503
        assert "manifest.json cannot be read" in answer.body


def test_metrics_are_those_of_the_workers(var: Path) -> None:
    with serving(var) as worker, telling(var) as port:
        for _ in range(3):
            assert worker.get("/recommend/1").status == 200
        until(lambda: 'marquee_answers_total{source="personal"} 3.0' in ask(port, "/metrics").body)
        assert ask(port, "/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_nothing_of_it_is_told_to_the_public(var: Path) -> None:
    with serving(var) as worker:
        assert [worker.get(path).status for path in ("/release", "/metrics")] == [404, 404]
        (write_release(var / "releases", "broken") / "users.npy").write_bytes(b"x")
        durable.point(var / "releases" / "current", "broken")
        worker.until_status(lambda status: status.refused is not None)
        assert worker.get("/readyz").body == "ready"


def test_it_answers_only_on_loopback_by_default() -> None:
    assert ServerSettings().operator_host == "127.0.0.1"


def test_every_route_is_described_and_nothing_else(tmp_path: Path) -> None:
    app = make_operator_app(tmp_path, ServerSettings())
    routes = {f"/{route.path}": {method.lower() for method in route.methods} for route in app.router.routes}
    assert routes == {path: set(methods) for path, methods in DESCRIPTION["paths"].items()}


@pytest.mark.parametrize("path", sorted(DESCRIPTION["paths"]))
def test_head_is_answered_as_get_is_but_for_the_body(quiet: int, path: str) -> None:
    with Wire(quiet) as wire:
        answer, head = wire.get(path), wire.get(path, "HEAD")
        assert (head.status, head.body) == (answer.status, "")
        assert head.headers.keys() == answer.headers.keys()
        assert wire.get(path).status == answer.status


@pytest.mark.parametrize("path", sorted(DESCRIPTION["paths"]))
@settings(deadline=None, max_examples=5, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_it_conforms_to_its_description(port: int, quiet: int, path: str, data: st.DataObject) -> None:
    operation = schemathesis.openapi.from_dict(DESCRIPTION)[path]["GET"]
    case = data.draw(operation.as_strategy())
    case.call_and_validate(base_url=f"http://{HOST}:{port}", timeout=DEADLINE_S)
    answer = case.call(base_url=f"http://{HOST}:{quiet}", timeout=DEADLINE_S)
    case.validate_response(answer, excluded_checks=[not_a_server_error])


def test_a_port_that_is_taken_is_one_clear_error(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        command = [sys.executable, "-m", "server", "operator", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith("error: server: cannot listen on 127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


def workers_cpu_s(worker: WorkerProcess) -> float:
    """CPU seconds that a worker has used."""
    times = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, times[11:13])) / 100


def test_asking_for_the_release_again_and_again_costs_the_worker_next_to_nothing(var: Path) -> None:
    """With 10,000 hidden movies each request once took a worker 13.7 ms, and with 16 clients it was killed as hung."""
    (var / "hidden.txt").write_text("".join(f"movie+{number}+1999\n" for number in range(10_000)))
    with serving(var) as worker, telling(var) as port, Wire(port) as wire:
        assert worker.get("/readyz").status == 200
        before = workers_cpu_s(worker)
        for _ in range(300):
            assert wire.get("/release").status == 200
        # for 300 requests, rendering alone took four seconds
        assert workers_cpu_s(worker) - before < 2
