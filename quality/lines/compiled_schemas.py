"""Compiled schemas: each Cerberus schema in three fast forms, compiled when first needed.

*Columns*: every rule over an Arrow table (`column_rules.py`). *One document*: the first rule that an event or a mapping
breaks (`rule_functions.py`). *Records*: normalisation (defaults, coercion) as Cerberus does it, then the rules of one
document; this form can only accept a record, and leaves all others to Cerberus.

Each form gives the same verdict and reason as `Validator` row by row, which property tests check. A rule
that a form does not support raises a `NotImplementedError` that names it.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from quality.catalog import Record
from quality.lines.column_rules import ColumnRules
from quality.lines.rule_functions import (
    BREAKS,
    Rules,
    Schema,
    Validator,
    first_broken_rule,
    is_required,
    require_known_rules,
)
from stream.event import Event, Kind

_MISSING: Any = object()
"""Stands for a missing field; None is a value."""

NormalizeField = Callable[[Record], bool]
"""Normalizes one field of a record in place; returns whether the field is then valid."""


class CompiledSchema:
    """A schema, compiled. The schema must not change afterwards."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def breaches(self, table: pa.Table) -> list[tuple[str, np.ndarray]]:
        """For each broken rule, in the schema's order: `<field>_<rule>` and which rows break it (bool).

        A field's `required`, `nullable` and `type` come before its other rules, and hide them. A column that the
        table lacks is missing in every row; columns that the schema does not name are ignored.
        """
        names, reasons = frozenset(table.column_names), []
        for field, column in self._columns.items():
            broken = column.broken(table.column(field)) if field in names else column.missing(len(table))
            reasons += [(f"{field}_{rule}", rows) for rule, rows in broken.items()]
        return reasons

    def breach(self, document: Mapping[str, Any] | Event) -> str | None:
        """The first rule that one document breaks, named and ordered as by `breaches`; None if it breaks none."""
        value_of = partial(getattr, document) if isinstance(document, Event) else document.get
        for field, required, first in self._fields:
            value = value_of(field, _MISSING)
            rule = first(value) if value is not _MISSING else "required" if required else None
            if rule is not None:
                return f"{field}_{rule}"
        return None

    def checked(self, record: object) -> tuple[Record | None, str]:
        """An API record, normalized, and ""; or None and the reason. Fields without rules stay as they are."""
        if not isinstance(record, dict):
            return None, f"not an object but {type(record).__name__}"
        normalized = self.accepted(record)
        if normalized is not None:
            return normalized, ""
        validator = Validator(self.schema, allow_unknown=True)
        if validator.validate(record):
            return validator.document, ""
        return None, "; ".join(f"{field}: {reasons[0]}" for field, reasons in sorted(validator.errors.items(), key=str))

    def usable(self, record: object) -> tuple[Record | None, str]:
        """Like `checked`, but where only fields that a record may lack are wrong: the record without their values, and
        the reason. Such a field is None where the schema allows it, else its default, or left out."""
        normalized, reason = self.checked(record)
        if normalized is not None or not isinstance(record, dict):
            return normalized, reason
        validator = Validator(self.schema, allow_unknown=True)
        validator.validate(record)
        wrong = set(validator.errors)
        if any(is_required(self.schema[field]) for field in wrong):
            return None, reason
        unknown = {field: None for field in record if field in wrong and self.schema[field].get("nullable")}
        others = {field: value for field, value in record.items() if field not in wrong}
        normalized, still = self.checked({**others, **unknown})
        return normalized, reason if normalized is not None else still

    def accepted(self, record: Record) -> Record | None:
        """The record, normalized without Cerberus; None if Cerberus must decide."""
        normalize_fields = self._normalize_fields
        if type(record) is not dict:
            return None
        normalized = record.copy()
        try:
            return normalized if all(normalize(normalized) for normalize in normalize_fields) else None
        except Exception:  # noqa: BLE001 – a coercer may raise anything; Cerberus catches it too, and names the field
            return None

    @cached_property
    def _columns(self) -> dict[str, ColumnRules]:
        return {field: ColumnRules(rules) for field, rules in require_known_rules(self.schema, *BREAKS).items()}

    @cached_property
    def _fields(self) -> list[tuple[str, bool, Callable[[Any], str | None]]]:
        fields = require_known_rules(self.schema, *BREAKS).items()
        return [(field, is_required(rules), first_broken_rule(rules)) for field, rules in fields]

    @cached_property
    def _normalize_fields(self) -> list[NormalizeField]:
        # no `schema`: Cerberus itself raises an error for an object instead of a list of items
        fields = require_known_rules(self.schema, "coerce", "default", *(BREAKS.keys() - {"schema"})).items()
        return [_normalizer(field, rules) for field, rules in fields]


def _normalizer(field: str, rules: Rules) -> NormalizeField:
    """Like Cerberus: the default, then the coercers, then the rules. Fields are independent of each other."""
    coercers, first = _coercers(rules.get("coerce", ())), first_broken_rule(rules)
    default, required, nullable = rules.get("default", _MISSING), is_required(rules), bool(rules.get("nullable"))

    def normalize(record: Record) -> bool:
        value = original = record.get(field, _MISSING)
        if default is not _MISSING and (value is _MISSING or (value is None and not nullable)):
            value = default
        if value is _MISSING:
            return not required
        for coerce in coercers:
            value = coerce(value)
        if value is not original:
            record[field] = value
        return first(value) is None

    return normalize


def _coercers(coerce: Any) -> list[Callable[[Any], Any]]:
    """The coercers of a rule, which may be one function or nested lists of them."""
    return [coercer for nested in coerce for coercer in _coercers(nested)] if isinstance(coerce, Iterable) else [coerce]


class _Identity:
    """A schema as the key of a cache, compared by identity: comparing contents would take longer than the work."""

    __slots__ = ("schema",)

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.schema is other.schema


@lru_cache(maxsize=64)
def _compiled(identity: _Identity) -> CompiledSchema:
    return CompiledSchema(identity.schema)


def breaches(table: pa.Table, schema: Schema) -> list[tuple[str, np.ndarray]]:
    """`CompiledSchema.breaches` of a schema, which is compiled once and must not change."""
    return _compiled(_Identity(schema)).breaches(table)


def event_breach(kind: Kind, event: Event, schemas: Mapping[Kind, Schema]) -> str | None:
    """`CompiledSchema.breach` of an event by the schema of a kind, which is compiled once and must not change."""
    return _compiled(_Identity(schemas[kind])).breach(event)


def checked(record: object, schema: Schema) -> tuple[Record | None, str]:
    """`CompiledSchema.checked` of a schema, which is compiled once and must not change."""
    return _compiled(_Identity(schema)).checked(record)


def usable(record: object, schema: Schema) -> tuple[Record | None, str]:
    """`CompiledSchema.usable` of a schema, which is compiled once and must not change."""
    return _compiled(_Identity(schema)).usable(record)
