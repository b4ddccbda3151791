"""The OpenAPI 3.1 description of the operator's port."""

from server.exposition import CONTENT_TYPE
from server.openapi import JsonObject, json_response, text_response


def _unready(description: str) -> JsonObject:
    return text_response(description, headers={"retry-after": {"schema": {"type": "integer"}}})


def _get(summary: str, responses: JsonObject) -> JsonObject:
    heads = {status: {"description": response["description"]} for status, response in responses.items()}
    return {"get": {"summary": summary, "responses": responses}, "head": {"summary": summary, "responses": heads}}


DESCRIPTION: JsonObject = {
    "openapi": "3.1.0",
    "info": {"title": "Marquee, the operator's port", "version": "1", "description": "The workers of this host."},
    "paths": {
        "/healthz": _get(
            "Whether a worker lives.", {"200": text_response("One does."), "503": _unready("None says that it does.")}
        ),
        "/readyz": _get(
            "Whether a worker can answer; how each is, a line a worker.",
            {"200": text_response("One can."), "503": _unready("None can.")},
        ),
        "/release": _get(
            "Which release answers, and what it was made of.",
            {
                "200": json_response(
                    "The manifest.",
                    {
                        "release": {"type": "string"},
                        "refused": {"type": ["string", "null"]},
                        "hidden": {"type": "array", "items": {"type": "string"}},
                        "manifest": {"type": "object"},
                    },
                ),
                "503": _unready("No worker has a release."),
            },
        ),
        "/metrics": _get(
            "Metrics of all workers, for Prometheus.",
            {"200": text_response("Metrics.", CONTENT_TYPE), "503": _unready("They cannot be read.")},
        ),
        "/docs/openapi.json": _get(
            "This description.", {"200": json_response("OpenAPI.", {"openapi": {"type": "string"}})}
        ),
    },
}
