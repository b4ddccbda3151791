"""Cerberus schemas of events and of API records: the single source of the rules for valid data.

This module only states the rules. `rule_functions.Validator` applies them, and turns the service's numbers in strings
into numbers; `compiled_schemas.py` compiles them for the stream and for millions of records, with the same verdicts
and reasons. API records of both generations pass.
"""

import math
import re
from collections.abc import Callable

from quality.catalog import LARGEST_COST
from quality.lines.compiled_schemas import breaches, checked, event_breach, usable
from quality.lines.rule_functions import Rules, Schema
from stream.event import KINDS, LIST_LENGTH, Kind
from stream.grammar import MAX_MOVIE_CHARACTERS, MAX_USER, MOVIE
from stream.settings import BEST_RATING, StreamSettings
from stream.tables import EVENT_SCHEMAS
from stream.zone import DAY_MS, FIRST_YEAR, LAST_YEAR, day_number

__all__ = [
    "LONGEST_MINUTE",
    "MAX_DESCRIPTION",
    "MOVIE_RECORD",
    "USER",
    "Schema",
    "breaches",
    "checked",
    "event_breach",
    "event_schemas",
    "usable",
]

_MOVIE = {"type": "string", "regex": MOVIE.pattern, "maxlength": MAX_MOVIE_CHARACTERS, "required": True}
LONGEST_MINUTE = 20_000
"""A generous bound: the service's longest known series runs 14,000 minutes."""


def event_schemas(settings: StreamSettings) -> dict[Kind, Schema]:
    """By kind of event: the rules of its fields, in the order of its columns.

    `stream.grammar` checks the form of a line, these schemas the values in it. `context_checks.py` checks whether users
    and movies exist.
    """
    rules = field_rules(BEST_RATING[settings.generation])
    return {kind: {field: rules[field] for field in EVENT_SCHEMAS[kind].names} for kind in KINDS}


def field_rules(best_rating: int) -> dict[str, Rules]:
    """By field of `Event`: its rules, in every kind of event that has it."""
    return {
        "time": _whole_number(*_times()),
        "user": _whole_number(1, MAX_USER),
        "movie": _MOVIE,
        "minute": _whole_number(0, LONGEST_MINUTE),
        "rating": _whole_number(1, best_rating),
        "host": {"type": "string", "required": True},
        "status": _whole_number(0, 999),
        "movies": {"type": "list", "maxlength": LIST_LENGTH, "schema": _MOVIE, "required": True},
        "latency_ms": {"type": "integer", "min": 0, "required": True},
        "error": {"type": "string", "nullable": True, "required": True},
    }


def _whole_number(least: int, most: int) -> Rules:
    return {"type": "integer", "min": least, "max": most, "required": True}


def _times() -> tuple[int, int]:
    """First and last ms UTC of the grammar's years, extended by a day on each side for the offset of the zone."""
    first, end = (day_number(f"{year}-01-01") * DAY_MS for year in (FIRST_YEAR, LAST_YEAR + 1))
    return first - DAY_MS, end + DAY_MS - 1


_COUNT = {"type": "integer", "min": 0, "max": 2**63 - 1, "nullable": True}
"""A count; a larger number is a fault, and does not fit into a column."""


def _number(value: object) -> object:
    """Converts a text to the number in it; keeps other values. Raises `ValueError` if it has no finite number."""
    if not isinstance(value, str) or not value.strip():
        return value
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _whole(value: object) -> object:
    """Like `_number`, for whole numbers: `"95"`, `"95.0"` and the float 95.0 to 95; `"95.5"` is refused."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    number = _number(value)
    if isinstance(value, str) and isinstance(number, float):
        if not number.is_integer():
            raise ValueError("must be a whole number")
        return int(number)
    return number


def _unknown(*marks: object) -> Callable[[object], object]:
    """A coercer that turns the service's marks for "unknown" into None."""
    return lambda value: None if any(type(value) is type(mark) and value == mark for mark in marks) else value


def _flag(value: object) -> object:
    """`"True"` and `"False"`, in any case, to a flag; keeps other values. Raises `ValueError` for another text."""
    if not isinstance(value, str):
        return value
    if (word := value.strip().lower()) not in ("true", "false"):
        raise ValueError("must be True or False")
    return word == "true"


_WHOLE = (_unknown("null", ""), _whole)
_WHOLE_BUT_0 = (*_WHOLE, _unknown(0))
"""For numbers of which 0 says that the service does not know."""
_NUMBER = (_unknown("null", ""), _number)

MAX_DESCRIPTION = 1_000
"""Most characters that are kept of what a user writes about themself."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\s]+")
"""Control characters, invisible ones and those that turn the direction of writing, and white space."""


def _free_text(value: object) -> object:
    """A text on one line, of at most `MAX_DESCRIPTION` characters and without control characters; None if it is blank.

    Nothing is escaped: no process interprets these texts. Values of other types stay, and break the schema.
    """
    if not isinstance(value, str):
        return value
    begin = value[: 4 * MAX_DESCRIPTION].encode("utf-8", "replace").decode()
    return _CONTROLS.sub(" ", begin).strip()[:MAX_DESCRIPTION].strip() or None


_DESCRIPTION = {"type": "string", "nullable": True, "coerce": _free_text, "maxlength": MAX_DESCRIPTION}

USER: Schema = {
    "user_id": {"type": "integer", "min": 1, "required": True, "coerce": _WHOLE},
    "age": {"type": "integer", "min": 8, "max": 90, "required": True, "coerce": _WHOLE},
    "occupation": {"type": "string", "nullable": True},
    "gender": {"type": "string", "allowed": ["M", "F"], "required": True},
    "self_description_likes": _DESCRIPTION,
    "self_description_dislikes": _DESCRIPTION,
}


def _genre_names(value: object) -> list[str]:
    """`[{"id": 18, "name": "Drama"}]` to `["Drama"]`. Raises `ValueError` for another shape.

    A nested schema would be equivalent at twenty times the cost: Cerberus creates a validator for every item.
    """
    items = value if isinstance(value, list) else [None]
    names = [item["name"] for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)]
    if len(names) < len(items):
        raise ValueError("must be a list of {id, name}")
    return names


MOVIE_RECORD: Schema = {
    "id": _MOVIE,
    "title": {"type": "string", "nullable": True},
    "original_language": {"type": "string", "nullable": True, "coerce": _unknown("null", "")},
    "release_date": {"type": "string", "nullable": True, "coerce": _unknown("null", "")},
    "runtime": {**_COUNT, "min": 1, "max": LONGEST_MINUTE, "coerce": _WHOLE_BUT_0},
    "genres": {"type": "list", "coerce": _genre_names, "default": []},
    "popularity": {"type": "float", "nullable": True, "coerce": _NUMBER},
    "vote_average": {"type": "float", "nullable": True, "coerce": _NUMBER},
    "vote_count": {**_COUNT, "coerce": _WHOLE},
    "budget": {**_COUNT, "coerce": _WHOLE_BUT_0},
    "revenue": {**_COUNT, "coerce": _WHOLE_BUT_0},
    "homepage": {"type": "string", "nullable": True, "coerce": _unknown("null", "")},
    "belongs_to_collection": {"type": "dict", "nullable": True, "coerce": _unknown({}, "null", "")},
    "adult": {"type": "boolean", "nullable": True, "coerce": (_unknown("null", ""), _flag)},
    "cost": {"type": "float", "nullable": True, "min": 0, "max": LARGEST_COST, "coerce": _NUMBER},
}
