"""The OpenAPI description is valid, and a worker conforms to it, whatever schemathesis sends."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema_rs
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sanic import Sanic
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from server.app import make_app
from server.openapi import DESCRIPTION
from server.release_watcher import ReleaseWatcher
from server.settings import ServerSettings
from server.worker_metrics import RequestMeter
from tests.polling import DEADLINE_S
from tests.server.worker_processes import HOST, ROOT, HttpAnswer, Wire, WorkerProcess, serving

PATHS = sorted(DESCRIPTION["paths"])


@pytest.fixture(scope="module")
def worker(module_var: Path) -> Iterator[WorkerProcess]:
    with serving(module_var) as running:
        yield running


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker without a release."""
    with serving(tmp_path_factory.mktemp("openapi") / "empty") as running:
        yield running


def test_the_worker_tells_the_description(worker: WorkerProcess) -> None:
    answer = worker.get("/docs/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert orjson.loads(answer.body) == orjson.loads(orjson.dumps(DESCRIPTION))


def test_the_description_is_valid() -> None:
    schema = schemathesis.openapi.from_dict(DESCRIPTION)
    schema.validate()
    own = [answer for path in DESCRIPTION["paths"].values() for answer in path["get"]["responses"].values()]
    for answer in [*own, *DESCRIPTION["components"]["responses"].values()]:
        for content in answer.get("content", {}).values():
            assert jsonschema_rs.meta.is_valid(content["schema"])


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The methods of every route of the application, by its path in OpenAPI's notation."""
    app = make_app(ReleaseWatcher(tmp_path_factory.mktemp("openapi")), ServerSettings(), RequestMeter(), None)
    try:
        methods: dict[str, set[str]] = {}
        for route in app.router.routes:
            if route.name != "marquee.recommend_nobody":  # a missing user id; not a path of its own
                methods.setdefault("/" + re.sub(r"<(\w+):\w+>", r"{\1}", route.path), set()).update(route.methods)
        return methods
    finally:
        Sanic.unregister_app(app)


def test_every_route_is_described_and_every_described_path_is_a_route(routes: dict[str, set[str]]) -> None:
    assert {path: {method.upper() for method in item} for path, item in DESCRIPTION["paths"].items()} == routes


def test_no_user_id_is_answered_as_a_bad_one_is(worker: WorkerProcess) -> None:
    assert worker.get("/recommend/").status == worker.get("/recommend/x").status == 400


EXAMPLE = {"user": "5", "movie": "movie+3+2000"}


def request(path: str, method: str, fields: str = "host: a", query: str = "") -> bytes:
    return f"{method} {path.format(**EXAMPLE)}{query} HTTP/1.1\r\n{fields}\r\n\r\n".encode()


WAYS: dict[str, Callable[[str, str], bytes]] = {
    "200": request,
    "400": lambda path, method: request(path, method, "host: a b"),
    "404": lambda path, method: request(path.replace("{movie}", "never+heard+of"), method),
    "405": lambda path, method: request(path, "PUT" if method == "GET" else "PATCH"),
    "408": lambda path, method: request(path, method)[:-2],
    "413": lambda path, method: request(path, method, "host: a\r\ncontent-length: 70000"),
    "414": lambda path, method: request(path, method, query="?x=" + "y" * 9_000),
    "417": lambda path, method: request(path, method, "host: a\r\nexpect: x"),
    "431": lambda path, method: request(path, method, "host: a\r\nx: " + "y" * 9_000),
    "501": lambda path, method: request(path, method, "host: a\r\ntransfer-encoding: gzip"),
    "500": lambda path, method: request(path, method, "host: a\r\nconnection: close"),
    "503": lambda path, method: request(path, method, "host: a\r\nconnection: close"),
}
"""By status: a request that provokes it on a route, of a worker in a suitable state.

The last two are not plain: a busy worker would answer a plain probe before Sanic sees it.
"""
SOUND = [status for status in WAYS if status not in ("408", "500", "503")]
"""Statuses of a worker in good order."""
FAULTS = """
import socket, sys
from pathlib import Path
from server.settings import ServerSettings
from server.worker import Worker
worker = Worker(Path(sys.argv[1]), ServerSettings())
async def fault(request):
    raise LookupError("a fault of the program")
worker._app.register_middleware(fault, "request")
worker.run(socket.socket(fileno=0))
"""


@pytest.fixture(scope="module")
def impatient(module_var: Path) -> Iterator[WorkerProcess]:
    """A worker with a low limit of time for requests."""
    with serving(module_var, request_s=0.2) as running:
        yield running


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker without room for connections."""
    var = tmp_path_factory.mktemp("openapi") / "full"
    with serving(var, max_connections=1, request_s=600) as running, running.wire() as busy:
        busy.send(request("/healthz", "GET") + request("/healthz", "GET")[:-2])
        assert busy.answer().status == 200
        yield running


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a worker whose handlers all fail."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", FAULTS, str(tmp_path_factory.mktemp("faulty"))]
        process = subprocess.Popen(command, cwd=ROOT, stdin=listener.fileno(), stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def provoked(port: int, status: str, path: str, method: str) -> HttpAnswer:
    with Wire(port) as wire:
        wire.send(WAYS[status](path, method))
        return wire.answer(no_body=method == "HEAD" and status not in ("405", "408"))


def test_each_way_provokes_its_status_on_some_route(worker: WorkerProcess, impatient: WorkerProcess) -> None:
    for status in [*SOUND, "408"]:
        asked = impatient if status == "408" else worker
        assert str(provoked(asked.port, status, "/similar/{movie}", "GET").status) == status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_the_statuses_of_a_route_are_those_that_are_described(
    worker: WorkerProcess,
    impatient: WorkerProcess,
    full: WorkerProcess,
    empty: WorkerProcess,
    faulty: int,
    path: str,
    method: str,
) -> None:
    got = {str(provoked(worker.port, status, path, method).status) for status in SOUND}
    got.add(str(provoked(impatient.port, "408", path, method).status))
    got.add(str(provoked(faulty, "500", path, method).status))
    got.add(str(provoked(empty.port, "503", path, method).status))
    got.add(str(provoked(full.port, "503", path, "GET").status))
    assert got == DESCRIPTION["paths"][path][method.lower()]["responses"].keys()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("mode", list(GenerationMode))
@settings(
    deadline=None,
    max_examples=15,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_the_worker_conforms_to_the_description(
    worker: WorkerProcess, path: str, method: str, mode: GenerationMode, data: st.DataObject
) -> None:
    operation = schemathesis.openapi.from_dict(DESCRIPTION)[path][method]
    if mode is GenerationMode.NEGATIVE and not DESCRIPTION["paths"][path]["get"]["parameters"]:
        return
    case = data.draw(operation.as_strategy(generation_mode=mode))
    case.call_and_validate(base_url=f"http://{HOST}:{worker.port}", timeout=DEADLINE_S)


@pytest.mark.parametrize("path", PATHS)
def test_it_also_does_so_without_a_release(empty: WorkerProcess, path: str) -> None:
    operation = schemathesis.openapi.from_dict(DESCRIPTION)[path]["GET"]
    case = operation.Case(path_parameters={name: value for name, value in EXAMPLE.items() if f"{{{name}}}" in path})
    # the default of 10 s is too short for the start of a worker on a busy machine
    answer = case.call(base_url=f"http://{HOST}:{empty.port}", timeout=DEADLINE_S)
    assert answer.status_code in (200, 503)
    case.validate_response(answer, excluded_checks=[not_a_server_error])
