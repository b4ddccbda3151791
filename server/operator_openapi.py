"""The OpenAPI 3.1 description of the operator's port."""

from typing import Any

from server.exposition import CONTENT_TYPE


def _text(description: str, content_type: str = "text/plain; charset=utf-8") -> dict[str, Any]:
    return {"description": description, "content": {content_type: {"schema": {"type": "string"}}}}


def _json(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _unready(description: str) -> dict[str, Any]:
    return {**_text(description), "headers": {"retry-after": {"schema": {"type": "integer"}}}}


def _get(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    heads = {status: {"description": response["description"]} for status, response in responses.items()}
    return {"get": {"summary": summary, "responses": responses}, "head": {"summary": summary, "responses": heads}}


DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Marquee, the operator's port", "version": "1", "description": "The workers of this host."},
    "paths": {
        "/healthz": _get(
            "Whether a worker lives.", {"200": _text("One does."), "503": _unready("None says that it does.")}
        ),
        "/readyz": _get(
            "Whether a worker can answer; how each is, a line a worker.",
            {"200": _text("One can."), "503": _unready("None can.")},
        ),
        "/release": _get(
            "Which release answers, and what it was made of.",
            {
                "200": _json(
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
            {"200": _text("Metrics.", CONTENT_TYPE), "503": _unready("They cannot be read.")},
        ),
        "/docs/openapi.json": _get("This description.", {"200": _json("OpenAPI.", {"openapi": {"type": "string"}})}),
    },
}
