"""Marquee's look-up behind other servers: Granian's raw interface, and FastAPI.

Both answer from the release that `BENCH_RELEASE` names, with the same bodies and the same `x-marquee-…` headers, made
beforehand where the server allows it. They do less than a worker: they count nothing, swap nothing and have no limits.
Loaded by the servers that they run on, in processes of their own.
"""

import os
from pathlib import Path
from typing import Any

from server.answers import SOURCES, TEXT, Answers
from server.release import Release


def _answers() -> tuple[Answers, list[dict[str, str]]]:
    """The answers of the release, and the headers by source."""
    release = Release.open(Path(os.environ["BENCH_RELEASE"]))
    return Answers(release), [{"x-marquee-release": release.id, "x-marquee-source": source} for source in SOURCES]


class Raw:
    """An application of Granian's interface RSGI."""

    def __init__(self) -> None:
        answers, headers = _answers()
        self._find = answers.find
        self._heads = [[*named.items(), ("content-type", TEXT)] for named in headers]

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answer one request."""
        body, source = self._find(int(scope.path.rpartition("/")[2]))
        protocol.response_bytes(200, self._heads[source], body)


def granian() -> Raw:
    """Make the application, in the process that answers."""
    return Raw()


def fastapi() -> Any:
    """Make an application of FastAPI as its own documentation recommends, with the ready answer as response."""
    from fastapi import FastAPI, Response

    answers, headers = _answers()
    app = FastAPI()

    async def recommend(user: int) -> Response:
        body, source = answers.find(user)
        return Response(body, headers=headers[source], media_type="text/plain")

    app.add_api_route("/recommend/{user}", recommend)
    return app
