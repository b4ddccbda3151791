"""The JSON Schema of reports, for external readers: `report-schema.json`, generated from `DayReport`.

`python -m quality.telemetry.report_schema` rewrites the file; a test compares it with the type.
"""

import ast
import inspect
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import orjson

from quality.errors import ReportError
from quality.telemetry.day_report import DayReport

_FILE = resources.files("quality.telemetry") / "report-schema.json"


def validate_report(document: object) -> None:
    """Raise `ReportError` if a report, parsed from JSON, does not follow the schema."""
    try:
        _validator().validate(document)
    except jsonschema.ValidationError as error:
        raise ReportError(f"report: {error.json_path}: {error.message}") from error


@lru_cache(maxsize=1)
def _validator() -> jsonschema.Draft202012Validator:
    try:
        return jsonschema.Draft202012Validator(orjson.loads(_FILE.read_bytes()))
    except (OSError, orjson.JSONDecodeError) as error:
        raise ReportError(f"report: cannot read {_FILE}: {error}; install Marquee again") from error


def report_schema() -> dict[str, Any]:  # a JSON Schema
    """The schema of `DayReport`, with its docstrings as descriptions. No other fields are allowed."""
    _, components = msgspec.json.schema_components([DayReport], ref_template="#/$defs/{name}")
    structs = {struct.__name__: struct for struct in _structs_in(DayReport)}
    for type_name, component in components.items():
        component["additionalProperties"] = False
        for field, text in _field_docstrings(structs[type_name]).items():
            component["properties"][field]["description"] = text
    top = components.pop(DayReport.__name__)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top, "$defs": components}


def _structs_in(kind: object) -> Iterator[type[msgspec.Struct]]:
    """A type, if it is a struct, and all structs in its fields or arguments."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for field in msgspec.structs.fields(kind):
            yield from _structs_in(field.type)
    for argument in get_args(kind):
        yield from _structs_in(argument)


def _field_docstrings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The string below a field, by field."""
    (definition,) = ast.parse(inspect.getsource(struct)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


if __name__ == "__main__":
    schema = orjson.dumps(report_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    Path(str(_FILE)).write_bytes(schema)
