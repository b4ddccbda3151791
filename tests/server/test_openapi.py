"""The description of the HTTP face is valid, and a worker does what it says, whatever schemathesis thinks up."""

from collections.abc import Iterator

import jsonschema_rs
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from server.openapi import DESCRIPTION
from stream import durable
from tests.server.processes import HOST, Worker, serving
from tests.server.releases import write_release

PATHS = sorted(DESCRIPTION["paths"])


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    var = tmp_path_factory.mktemp("openapi") / "var"
    write_release(var / "releases", "one")
    durable.point(var / "releases" / "current", "one")
    with serving(var) as made:
        yield made


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker without a release."""
    with serving(tmp_path_factory.mktemp("openapi") / "empty") as made:
        yield made


def test_the_worker_tells_the_description(worker: Worker) -> None:
    answer = worker.get("/docs/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert orjson.loads(answer.body) == orjson.loads(orjson.dumps(DESCRIPTION))


def test_the_description_is_valid() -> None:
    schema = schemathesis.openapi.from_dict(DESCRIPTION)
    schema.validate()
    for path in DESCRIPTION["paths"].values():
        for answer in path["get"]["responses"].values():
            for content in answer["content"].values():
                assert jsonschema_rs.meta.is_valid(content["schema"])


def test_every_route_is_described(worker: Worker) -> None:
    for path in ("/recommend/5", "/similar/movie+3+2000", "/healthz", "/readyz"):
        assert worker.get(path).status == 200
        assert [one for one in PATHS if one.split("/")[1] == path.split("/")[1]], path


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", list(GenerationMode))
@settings(
    deadline=None,
    max_examples=15,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_the_worker_does_what_the_description_says(
    worker: Worker, path: str, mode: GenerationMode, data: st.DataObject
) -> None:
    operation = schemathesis.openapi.from_dict(DESCRIPTION)[path]["GET"]
    if mode is GenerationMode.NEGATIVE and not DESCRIPTION["paths"][path]["get"]["parameters"]:
        return
    case = data.draw(operation.as_strategy(generation_mode=mode))
    case.call_and_validate(base_url=f"http://{HOST}:{worker.port}")


@pytest.mark.parametrize("path", PATHS)
def test_it_also_does_so_without_a_release(empty: Worker, path: str) -> None:
    operation = schemathesis.openapi.from_dict(DESCRIPTION)[path]["GET"]
    named = {"user": "5", "movie": "movie+3+2000"}
    case = operation.Case(path_parameters={name: value for name, value in named.items() if f"{{{name}}}" in path})
    answer = case.call(base_url=f"http://{HOST}:{empty.port}")
    assert answer.status_code in (200, 503)
    case.validate_response(answer, excluded_checks=[not_a_server_error])
