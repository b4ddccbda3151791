"""The Sanic application of a worker: public routes, headers and refusals.

Every answer to the service is one line of plain text. Errors never have status 200: the caller would take an error text
for a movie. Only the operator's port shows the state of the worker (`operator.py`).
"""

import asyncio
import logging
import re
import time
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
from sanic import HTTPResponse, Request, Sanic
from sanic.config import Config
from sanic.exceptions import BadRequest, MethodNotAllowed, SanicException
from sanic.response import raw, text

from server.access import AccessLog
from server.answers import SOURCES, TEXT
from server.openapi import DESCRIPTION
from server.probes import ALIVE, READY, RETRY_AFTER_S, UNREADY
from server.release_watcher import ReleaseWatcher
from server.settings import ServerSettings
from server.threads import run_in_daemon_thread
from server.worker_metrics import RequestMeter
from stream.event import LIST_LENGTH

log = logging.getLogger(__name__)

_USER = re.compile(r"[0-9]{1,19}")
_COUNT = re.compile(r"[0-9]{1,2}")
_ENCODED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_JSON = "application/json"
METHODS = ("GET", "HEAD")
"""Methods of every route. Handlers treat both alike: Sanic leaves out the body of an answer to HEAD."""

Application = Sanic[Config, SimpleNamespace]


def make_app(
    current: ReleaseWatcher, settings: ServerSettings, meter: RequestMeter, access: AccessLog | None
) -> Application:
    """The application of one worker; it answers from the release that `current` holds."""
    app = Sanic("marquee", configure_logging=False, dumps=orjson.dumps)
    _configure(app, settings)
    app.add_route(_recommend(current, meter), "/recommend/<user:str>", METHODS, name="recommend")
    app.add_route(_recommend(current, meter), "/recommend/", METHODS, name="recommend_nobody")
    app.add_route(_similar(current), "/similar/<movie:str>", METHODS, name="similar")
    _add_probes(app, current)
    app.error_handler.add(Exception, _refusal)
    app.register_middleware(_count_refusals(meter), "response")
    if access is not None:
        app.register_middleware(_log_requests(access), "response")
    return app


def _configure(app: Application, settings: ServerSettings) -> None:
    app.config.update(
        {
            "FALLBACK_ERROR_FORMAT": "text",
            "ACCESS_LOG": False,
            "MOTD": False,
            "REQUEST_TIMEOUT": settings.request_s,
            "RESPONSE_TIMEOUT": settings.request_s,
            "KEEP_ALIVE_TIMEOUT": settings.idle_s,
            "REQUEST_MAX_HEADER_SIZE": settings.max_header_bytes,
            "REQUEST_MAX_SIZE": settings.max_body_bytes,
        }
    )


def _recommend(current: ReleaseWatcher, meter: RequestMeter) -> Any:
    async def recommend(request: Request, user: str = "") -> HTTPResponse:
        user = _decoded(user)
        if not _USER.fullmatch(user):
            return _line("user id: 1 to 19 digits are expected", 400)
        count = _count(request, LIST_LENGTH)
        if count is None:
            return _line(f"n: a number from 1 to {LIST_LENGTH} is expected", 400)
        answers = current.ready
        if answers is None:
            return _unready(current.status().why_not())
        body, source = answers.find(int(user))
        if count < LIST_LENGTH:
            body = b",".join(body.split(b",")[:count])
        meter.took(source, _age(request))
        headers = {"x-marquee-release": answers.release.id, "x-marquee-source": SOURCES[source]}
        return raw(body, headers=headers, content_type=TEXT)

    return recommend


def _similar(current: ReleaseWatcher) -> Any:
    turn = asyncio.Lock()

    async def similar(request: Request, movie: str) -> HTTPResponse:
        movie, count = _decoded(movie), _count(request, 10)
        if count is None:
            return _line(f"n: a number from 1 to {LIST_LENGTH} is expected", 400)
        answers = current.answers
        if answers is None:
            return _unready("no release yet")
        if not current.searchable:
            return _unready("not searched just now")
        async with turn:  # a search takes milliseconds: run one at a time, in a thread
            similar_movies = await run_in_daemon_thread(partial(answers.similar, movie, count))
        if similar_movies is None:
            return _line("movie: the release does not know it", 404)
        return _json({"movie": movie, "similar": similar_movies, "release": answers.release.id})

    return similar


def _add_probes(app: Application, current: ReleaseWatcher) -> None:
    """Add the probes for load balancers, one word each, and the OpenAPI description."""

    async def healthz(request: Request) -> HTTPResponse:
        return _line(ALIVE, 200)

    async def readyz(request: Request) -> HTTPResponse:
        return _line(READY, 200) if current.ready is not None else _unready(UNREADY)

    async def openapi(request: Request) -> HTTPResponse:
        return _json(DESCRIPTION)

    app.add_route(healthz, "/healthz", METHODS)
    app.add_route(readyz, "/readyz", METHODS)
    app.add_route(openapi, "/docs/openapi.json", METHODS)


def _decoded(segment: str) -> str:
    """Decode the percent-encoding of a path segment, once; `+` is literal, not a blank (RFC 3986, 2.4).

    Raises `BadRequest` if `%` is not followed by two hexadecimal digits, or the bytes are not UTF-8.
    """
    if "%" not in segment:
        return segment
    try:
        if not _ENCODED.fullmatch(segment):
            raise ValueError
        return unquote_to_bytes(segment).decode()
    except ValueError as error:
        raise BadRequest("path: its percent-encoding is malformed") from error


def _count(request: Request, default: int) -> int | None:
    """The number of movies in the query (`n`); None if it is not a number from 1 to 20, or given twice."""
    values = request.get_args(keep_blank_values=True).getlist("n", [])
    if not values:
        return default
    count = int(values[0]) if len(values) == 1 and _COUNT.fullmatch(values[0]) else 0
    return count if 1 <= count <= LIST_LENGTH else None


def _count_refusals(meter: RequestMeter) -> Any:
    async def count(request: Request, response: HTTPResponse) -> None:
        # answers with a list are counted by source elsewhere
        if "x-marquee-source" not in response.headers:
            meter.refused(response.status)

    return count


def _log_requests(access: AccessLog) -> Any:
    async def log_request(request: Request, response: HTTPResponse) -> None:
        access.log_request(request.method, request.path, response.status, _age(request))

    return log_request


def _age(request: Request) -> float:
    """Seconds since the first byte of a request arrived."""
    protocol: Any = request.protocol  # a GuardedProtocol, or None if the client is gone
    return 0.0 if protocol is None else time.monotonic() - protocol.since


def _line(message: str, status: int, headers: dict[str, str] | None = None) -> HTTPResponse:
    return text(" ".join(message.split()).encode(errors="backslashreplace").decode(), status, headers, TEXT)


def _json(value: Any) -> HTTPResponse:
    return raw(orjson.dumps(value), content_type=_JSON)


def _unready(message: str) -> HTTPResponse:
    return _line(message, 503, {"retry-after": str(RETRY_AFTER_S)})


def _refusal(request: Request, error: Exception) -> HTTPResponse:
    if isinstance(error, MethodNotAllowed):
        return _line(str(error), 405, {"allow": ", ".join(METHODS)})
    if isinstance(error, SanicException):
        return _line(str(error) or "refused", error.status_code, dict(error.headers))
    log.error("%s %r", request.path if request else "?", error, exc_info=error)
    return _line("internal error", 500)
