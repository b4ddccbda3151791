"""Schema rules for one value: a corrected Cerberus validator, and the same rules as plain functions.

All rooms use this `Validator`. `require_known_rules` refuses a schema with a rule or limit that cannot be compiled, so
that no rule is ever skipped. `first_broken_rule` compiles a field's rules into a function that takes a microsecond; a
property test compares it with `Validator`.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import cerberus

Rules = dict[str, Any]  # Cerberus' own form: a limit is a number, a text, a list, a function or another schema
"""The rules of one field: by rule its limit."""
Schema = dict[str, Rules]
"""By field: its rules."""


class Validator(cerberus.Validator):  # type: ignore[misc] # Cerberus ships no types
    """Cerberus with two corrections: `true` is not a number, and a regex must match the whole text, final newline too.

    Regexes are ASCII: `\\d` is one of ten digits, as everywhere in the grammar.
    """

    types_mapping = {  # noqa: RUF012 – an attribute of the base class
        **cerberus.Validator.types_mapping,
        "integer": cerberus.TypeDefinition("integer", (int,), (bool,)),
        "float": cerberus.TypeDefinition("float", (float, int), (bool,)),
    }

    def _validate_regex(self, pattern: str, field: str, value: object) -> None:
        """{'type': 'string'}"""  # Cerberus reads the schema of the limit from the docstring
        if isinstance(value, str) and not re.fullmatch(pattern, value, re.ASCII):
            self._error(field, cerberus.errors.REGEX_MISMATCH)


def not_compilable(rule: str, limit: object, why: str) -> NotImplementedError:
    """The error for a rule that cannot be compiled."""
    return NotImplementedError(f"schema rule {rule}: {limit!r} {why}")


def require_known_rules(schema: Schema, *rules: str) -> Schema:
    """Return the schema if each rule is `required`, `nullable`, `type` or one of `rules`.

    Raises `NotImplementedError` for another rule, `cerberus.SchemaError` for a limit that Cerberus refuses.
    """
    for field, own in schema.items():
        for rule, limit in own.items():
            if rule not in ("required", "nullable", "type", *rules):
                raise not_compilable(rule, limit, f"of {field} cannot be compiled here")
        if "schema" in own:
            if own.get("type") != "list":
                raise not_compilable(
                    "schema", own["schema"], f"of {field} can be compiled for the items of a list only"
                )
            require_known_rules({f"an item of {field}": own["schema"]}, *rules)
    Validator(schema)
    return schema


def is_required(rules: Rules) -> bool:
    """Whether a document must have the field."""
    return rules.get("required") is True


def types_of(rules: Rules) -> tuple[str, ...]:
    """Names of the types that a field may have; empty if it may have any."""
    names = rules.get("type") or ()
    return (names,) if isinstance(names, str) else tuple(names)


@cache
def is_one_of(types: tuple[str, ...], kind: type[object]) -> bool:
    """Whether values of a Python class are of one of Cerberus' types."""
    types_allowed = [Validator.types_mapping[name] for name in types]
    return any(
        issubclass(kind, allowed.included_types) and not issubclass(kind, allowed.excluded_types)
        for allowed in types_allowed
    )


def first_broken_rule(rules: Rules) -> Callable[[Any], str | None]:
    """Compile rules into a function from a value to the first rule that it breaks, or None.

    `nullable` and `type` are checked first and hide the others.
    """
    nullable, types = bool(rules.get("nullable")), types_of(rules)
    breaks = [(rule, BREAKS[rule](limit)) for rule, limit in rules.items() if rule in BREAKS]

    def first(value: Any) -> str | None:
        if value is None:
            return None if nullable else "nullable"
        if types and not is_one_of(types, value.__class__):
            return "type"
        for rule, broken in breaks:
            if broken(value):
                return rule
        return None

    return first


Breaks = Callable[[Any], bool]
"""Whether a value, not None and of the field's type, breaks a rule; False if the rule does not apply to it."""


def _below(limit: Any) -> Breaks:
    def breaks(value: Any) -> bool:
        try:
            return bool(value < limit)
        except TypeError:
            return False

    return breaks


def _above(limit: Any) -> Breaks:
    def breaks(value: Any) -> bool:
        try:
            return bool(value > limit)
        except TypeError:
            return False

    return breaks


def _not_matched(pattern: str) -> Breaks:
    matches = re.compile(pattern, re.ASCII).fullmatch
    return lambda value: isinstance(value, str) and matches(value) is None


def _too_long(limit: int) -> Breaks:
    def breaks(value: Any) -> bool:
        has_length = type(value) is str or isinstance(value, Iterable)  # as in Cerberus; most values are text
        return has_length and len(value) > limit

    return breaks


def _not_allowed(allowed: Any) -> Breaks:
    def breaks(value: Any) -> bool:
        if isinstance(value, str) or not isinstance(value, Iterable):
            return value not in allowed
        return any(item not in allowed for item in value)

    return breaks


def _bad_items(rules: Rules) -> Breaks:
    first = first_broken_rule(rules)
    return lambda value: any(first(item) is not None for item in value)


BREAKS: dict[str, Callable[[Any], Breaks]] = {
    "min": _below,
    "max": _above,
    "regex": _not_matched,
    "maxlength": _too_long,
    "allowed": _not_allowed,
    "schema": _bad_items,
}
"""By rule: the function that compiles its limit. `required`, `nullable` and `type` are not here: they hide these."""
