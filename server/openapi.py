"""What the server answers, in the words of OpenAPI 3.1; a test lets schemathesis hold the worker against it."""

from typing import Any

from server.answers import SOURCES, TEXT
from server.release import LENGTH, MOVIE


def _line(description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, "content": {TEXT: {"schema": {"type": "string"}}}, **more}


def _json(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_TEXT = {"type": "string"}
_MOVIES = {"type": "array", "items": {"type": "string"}, "maxItems": LENGTH}
_BUSY = _line("No release yet, or too much to do; ask again.", headers={"retry-after": {"schema": {"type": "integer"}}})
_N = {
    "name": "n",
    "in": "query",
    "description": "How many movies at most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": LENGTH},
}
_USER = {
    "name": "user",
    "in": "path",
    "required": True,
    "description": "A user id: 1 to 19 digits.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
}
_MOVIE_ID = {
    "name": "movie",
    "in": "path",
    "required": True,
    "description": "A movie id of the service.",
    "schema": {"type": "string", "pattern": f"^{MOVIE}$"},
}
_ANSWER = {
    "description": "Up to 20 movie ids separated by commas, best first.",
    "headers": {
        "x-marquee-release": {"schema": _TEXT},
        "x-marquee-source": {"schema": {"type": "string", "enum": list(SOURCES)}},
    },
    "content": {TEXT: {"schema": {"type": "string", "pattern": f"^{MOVIE}(,{MOVIE}){{0,{LENGTH - 1}}}$"}}},
}


def _get(summary: str, responses: dict[str, Any], parameters: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Marquee", "version": "1", "description": "Movie recommendations from the current release."},
    "paths": {
        "/recommend/{user}": _get(
            "What to show a user.",
            {"200": _ANSWER, "400": _line("No user id, or no number."), "503": _BUSY},
            (_USER, _N),
        ),
        "/similar/{movie}": _get(
            "The movies nearest to a movie.",
            {
                "200": _json("Nearest first.", {"movie": _TEXT, "similar": _MOVIES, "release": _TEXT}),
                "400": _line("No number."),
                "404": _line("The release does not know the movie."),
                "503": _BUSY,
            },
            (_MOVIE_ID, _N),
        ),
        "/healthz": _get("Whether the worker lives.", {"200": _line("It does.")}),
        "/readyz": _get("Whether it can answer.", {"200": _line("It can."), "503": _BUSY}),
        "/docs/openapi.json": _get("This description.", {"200": _json("OpenAPI.", {"openapi": _TEXT}), "503": _BUSY}),
    },
}
