"""What good data is: Cerberus schemas of every input, the single source of the rules.

Events come by the million, so `breaches` runs a schema over Arrow columns; it knows the rules that the event schemas
use and refuses one it does not know, so that no rule is ever passed over. Records of the APIs, few and nested, are
validated by Cerberus itself, which also turns the service's numbers in strings into numbers.
"""

from collections.abc import Mapping
from typing import Any

import cerberus
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.event import Kind
from stream.grammar import MAX_MOVIE_CHARACTERS, MOVIE
from stream.settings import StreamSettings

Schema = dict[str, dict[str, Any]]

_MOVIE = {"type": "string", "regex": MOVIE.pattern, "maxlength": MAX_MOVIE_CHARACTERS, "required": True}
LONGEST_MINUTE = 20_000
"""No movie or series of the service is known to run longer than 14,000 minutes."""


def event_schemas(settings: StreamSettings) -> dict[Kind, Schema]:
    """The rules for events of each kind, beyond their form, which the grammar holds."""
    user = {"type": "integer", "min": 1, "max": settings.max_user}
    best = 5 if settings.generation == "2022" else 10
    return {
        "watch": {"user": user, "minute": {"type": "integer", "min": 0, "max": LONGEST_MINUTE}},
        "rate": {"user": user, "rating": {"type": "integer", "min": 1, "max": best}},
        "recommend": {"user": user, "latency_ms": {"type": "integer", "min": 0}},
        "account": {"user": user},
    }


def breaches(table: pa.Table, schema: Schema) -> list[tuple[str, np.ndarray]]:
    """For each rule of the schema that rows break, in the schema's order: `<field>_<rule>` and which rows (bool).

    Raises `NotImplementedError` for a rule that has no column form.
    """
    found = []
    for field, rules in schema.items():
        for rule, limit in rules.items():
            broken = _broken(table.column(field), rule, limit).to_numpy()
            if broken.any():
                found.append((f"{field}_{rule}", broken))
    return found


def _broken(column: pa.ChunkedArray, rule: str, limit: Any) -> pa.ChunkedArray:
    match rule:
        case "min":
            return pc.less(column, limit)
        case "max":
            return pc.greater(column, limit)
        case "type" if limit == "integer" and pa.types.is_integer(column.type):
            return pc.is_null(column)
    raise NotImplementedError(f"schema rule {rule}: {limit} on a column of {column.type}")


def event_breach(kind: Kind, event: object, schemas: Mapping[Kind, Schema]) -> str | None:
    """The first rule that one event breaks, named as by `breaches`; None where it breaks none."""
    for field, rules in schemas[kind].items():
        value = getattr(event, field)
        if value < rules.get("min", value):
            return f"{field}_min"
        if value > rules.get("max", value):
            return f"{field}_max"
    return None


_COUNT = {"type": "integer", "min": 0, "max": 2**63 - 1, "nullable": True}
"""A number that there is of something; what is larger is a fault, and fits into no column."""


def _number(value: object) -> object:
    return float(value) if isinstance(value, str) and value.strip() else value


def _whole(value: object) -> object:
    return int(float(value)) if isinstance(value, str) and value.strip() else value


def _unknown(*marks: object) -> Any:
    """Turn the service's ways of saying 'unknown' into None."""
    return lambda value: None if any(type(value) is type(mark) and value == mark for mark in marks) else value


USER: Schema = {
    "user_id": {"type": "integer", "min": 1, "required": True, "coerce": _whole},
    "age": {"type": "integer", "min": 8, "max": 90, "required": True, "coerce": _whole},
    "occupation": {"type": "string", "nullable": True},
    "gender": {"type": "string", "allowed": ["M", "F"], "required": True},
    "self_description_likes": {"type": "string", "nullable": True},
    "self_description_dislikes": {"type": "string", "nullable": True},
}


def _genre_names(value: object) -> list[str]:
    """`[{"id": 18, "name": "Drama"}]` to `["Drama"]`. Raises `ValueError` for another shape.

    A nested schema would say the same, at twenty times the price: Cerberus makes a validator for every item.
    """
    items = value if isinstance(value, list) else [None]
    names = [item["name"] for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)]
    if len(names) < len(items):
        raise ValueError("must be a list of {id, name}")
    return names


MOVIE_RECORD: Schema = {
    "id": _MOVIE,
    "title": {"type": "string", "nullable": True},
    "release_date": {"type": "string", "nullable": True, "coerce": _unknown("null", "")},
    "runtime": {**_COUNT, "min": 1, "max": LONGEST_MINUTE, "coerce": (_whole, _unknown(0, ""))},
    "genres": {"type": "list", "coerce": _genre_names, "default": []},
    "popularity": {"type": "float", "nullable": True, "coerce": (_number, _unknown(""))},
    "vote_average": {"type": "float", "nullable": True, "coerce": (_number, _unknown(""))},
    "vote_count": {**_COUNT, "coerce": (_whole, _unknown(""))},
    "budget": {**_COUNT, "coerce": (_whole, _unknown(0, ""))},
    "revenue": {**_COUNT, "coerce": (_whole, _unknown(0, ""))},
    "homepage": {"type": "string", "nullable": True, "coerce": _unknown("null", "")},
    "belongs_to_collection": {"type": "dict", "nullable": True, "coerce": _unknown({}, "null", "")},
    "cost": {"type": "float", "nullable": True, "coerce": (_number, _unknown(""))},
}


def checked(record: object, schema: Schema) -> tuple[dict[str, Any] | None, str]:
    """A record of an API as its schema wants it, or None and why not. Fields that no rule names stay as they are."""
    validator = cerberus.Validator(schema, allow_unknown=True)
    if not isinstance(record, dict):
        return None, f"not an object but {type(record).__name__}"
    if validator.validate(record):
        return validator.document, ""
    return None, "; ".join(f"{field}: {reasons[0]}" for field, reasons in sorted(validator.errors.items(), key=str))
