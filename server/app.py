"""The HTTP face of a worker: routes, headers, refusals. One Sanic application a process.

Every answer is plain text of one line. What goes wrong has a status of its own and never a 200: the caller would read
an error text as a movie.
"""

import logging
import re
from types import SimpleNamespace

from sanic import HTTPResponse, Request, Sanic
from sanic.config import Config
from sanic.exceptions import SanicException
from sanic.response import text

from server.current import Current

log = logging.getLogger("server")

_USER = re.compile(r"[0-9]{1,19}")
_TYPE = "text/plain; charset=utf-8"
RETRY_AFTER_S = 5

Application = Sanic[Config, SimpleNamespace]


def make_app(current: Current) -> Application:
    """The application of one worker, answering from the release that `current` holds."""
    app = Sanic("marquee", configure_logging=False)
    app.config.FALLBACK_ERROR_FORMAT = "text"
    app.config.ACCESS_LOG = app.config.MOTD = False

    async def recommend(request: Request, user: str = "") -> HTTPResponse:
        if not _USER.fullmatch(user):
            return _line("user id: 1 to 19 digits are expected", 400)
        release = current.release
        if release is None:
            return _unready("no release yet")
        answer, source = release.answer(int(user))
        headers = {"x-marquee-release": release.id, "x-marquee-source": source}
        return text(answer, headers=headers, content_type=_TYPE)

    async def healthz(request: Request) -> HTTPResponse:
        return _line("alive", 200)

    async def readyz(request: Request) -> HTTPResponse:
        if current.release is None:
            return _unready(current.refused or "no release yet")
        if current.refused:
            return _line(f"{current.release.id} answers; a newer one was refused: {current.refused}", 200)
        return _line(f"{current.release.id} answers", 200)

    app.add_route(recommend, "/recommend/<user:str>", name="recommend")
    app.add_route(recommend, "/recommend/", name="recommend_nobody")
    app.add_route(healthz, "/healthz")
    app.add_route(readyz, "/readyz")
    app.error_handler.add(Exception, _refusal)

    return app


def _line(message: str, status: int, headers: dict[str, str] | None = None) -> HTTPResponse:
    return text(" ".join(message.split()), status, headers, _TYPE)


def _unready(message: str) -> HTTPResponse:
    return _line(message, 503, {"retry-after": str(RETRY_AFTER_S)})


def _refusal(request: Request, error: Exception) -> HTTPResponse:
    if isinstance(error, SanicException):
        return _line(str(error) or "refused", error.status_code, dict(error.headers))
    log.error("%s %r", request.path if request else "?", error, exc_info=error)
    return _line("internal error", 500)
