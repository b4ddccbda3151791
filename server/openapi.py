"""The OpenAPI 3.1 description of the public port; a test checks the worker against it with schemathesis.

Each operation lists every status that it can answer. The statuses that any request can get, whatever its route, are
shared components.
"""

from typing import Any

from server.answers import SOURCES, TEXT
from stream.event import LIST_LENGTH
from stream.grammar import MOVIE

JsonObject = dict[str, Any]
"""A part of an OpenAPI document, which can hold any JSON: OpenAPI itself describes it, schemathesis checks it."""


def text_response(description: str, content_type: str = TEXT, **more: Any) -> JsonObject:
    """A response whose body is text; `more` are further members, such as headers."""
    return {"description": description, "content": {content_type: {"schema": {"type": "string"}}}, **more}


def json_response(description: str, properties: JsonObject) -> JsonObject:
    """A response whose body is a JSON object with these members, all of them required."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_TEXT = {"type": "string"}
_MOVIE = MOVIE.pattern
_MOVIES = {"type": "array", "items": {"type": "string"}, "maxItems": LIST_LENGTH}
_BUSY = text_response(
    "No release yet, or too much to do; ask again.", headers={"retry-after": {"schema": {"type": "integer"}}}
)
_N = {
    "name": "n",
    "in": "query",
    "description": "How many movies at most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": LIST_LENGTH},
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
    "schema": {"type": "string", "pattern": f"^{_MOVIE}$"},
}
_ANSWER = {
    "description": "Up to 20 movie ids separated by commas, best first.",
    "headers": {
        "x-marquee-release": {"schema": _TEXT},
        "x-marquee-source": {"schema": {"type": "string", "enum": list(SOURCES)}},
    },
    "content": {TEXT: {"schema": {"type": "string", "pattern": f"^{_MOVIE}(,{_MOVIE}){{0,{LIST_LENGTH - 1}}}$"}}},
}


def _without_body(answer: JsonObject) -> JsonObject:
    return {name: value for name, value in answer.items() if name != "content"}


_ALLOW = {"allow": {"schema": _TEXT}}
_BAD_REQUEST = "no good HTTP, no or two `Host`, a malformed body, or a path whose percent-encoding is malformed"
_OF_ANY_ROUTE = {
    "400": text_response(f"What was sent is {_BAD_REQUEST}."),
    "405": text_response("The method is neither GET nor HEAD; `allow` names both.", headers=_ALLOW),
    "408": text_response("The request took longer than `request_s` to come."),
    "413": text_response("The body is longer than `max_body_bytes`; no route reads one."),
    "414": text_response("The request line is longer than `max_header_bytes`."),
    "417": text_response("An expectation other than `100-continue`."),
    "431": text_response("Request line and header lines are longer than `max_header_bytes`."),
    "500": text_response("A fault of the program; the log says which."),
    "501": text_response("A transfer coding other than `chunked`."),
    "503": _BUSY,
}
"""By status. The description that a route gives of a status replaces this one."""


def _get(summary: str, responses: JsonObject, parameters: tuple[JsonObject, ...] = ()) -> JsonObject:
    """A path that answers GET, and HEAD in the same way without the body."""
    shared = {status: {"$ref": f"#/components/responses/{status}"} for status in _OF_ANY_ROUTE}
    own = {status: answer for status, answer in responses.items() if answer is not _OF_ANY_ROUTE.get(status)}
    all_responses = dict(sorted({**shared, **own}.items()))
    named = {"summary": summary, "parameters": list(parameters)}
    heads = {status: _without_body(answer) for status, answer in own.items()}
    bodiless = {status: {"$ref": f"#/components/responses/{status}-without-body"} for status in _OF_ANY_ROUTE}
    return {
        "get": {**named, "responses": all_responses},
        "head": {**named, "responses": dict(sorted({**bodiless, **heads}.items()))},
    }


DESCRIPTION: JsonObject = {
    "openapi": "3.1.0",
    "info": {
        "title": "Marquee",
        "version": "1",
        "description": "Movie recommendations from the current release. Any other path is answered with 404.",
    },
    "paths": {
        "/recommend/{user}": _get(
            "What to show a user.",
            {
                "200": _ANSWER,
                "400": text_response(f"No user id, no count from 1 to {LIST_LENGTH}, or {_BAD_REQUEST}."),
                "503": _BUSY,
            },
            (_USER, _N),
        ),
        "/similar/{movie}": _get(
            "The movies nearest to a movie.",
            {
                "200": json_response("Nearest first.", {"movie": _TEXT, "similar": _MOVIES, "release": _TEXT}),
                "400": text_response(f"No count from 1 to {LIST_LENGTH}, or {_BAD_REQUEST}."),
                "404": text_response("The release does not know the movie."),
                "503": _BUSY,
            },
            (_MOVIE_ID, _N),
        ),
        "/healthz": _get("Whether the worker lives.", {"200": text_response("It does.")}),
        "/readyz": _get("Whether it can answer.", {"200": text_response("It can."), "503": _BUSY}),
        "/docs/openapi.json": _get(
            "This description.", {"200": json_response("OpenAPI.", {"openapi": _TEXT}), "503": _BUSY}
        ),
    },
    "components": {
        "responses": {
            **_OF_ANY_ROUTE,
            **{f"{status}-without-body": _without_body(answer) for status, answer in _OF_ANY_ROUTE.items()},
        }
    },
}
