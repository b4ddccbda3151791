"""Schema rules for one value: a corrected Cerberus validator, and the same rules as plain functions.

`Validator` is the Cerberus that everyone uses. `require_known_rules` refuses a schema with a rule, or a limit, that the
form that is asked for does not have, so that no rule is ever passed over. `first_broken_rule` makes of a field's rules
a function that says in a microsecond which of them a value breaks: what `Validator` says, by a property test.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import cerberus

Rules = dict[str, Any]
"""The rules of one field: by rule its limit."""
Schema = dict[str, Rules]


class Validator(cerberus.Validator):  # type: ignore[misc] # Cerberus ships no types
    """Cerberus without two faults: `true` is no number, and a regex matches the whole text, a last newline too.

    Regexes are ASCII: `\\d` is one of ten digits, as everywhere in the grammar.
    """

    types_mapping = {  # noqa: RUF012 – an attribute of the base class
        **cerberus.Validator.types_mapping,
        "integer": cerberus.TypeDefinition("integer", (int,), (bool,)),
        "float": cerberus.TypeDefinition("float", (float, int), (bool,)),
    }

    def _validate_regex(self, pattern: str, field: str, value: object) -> None:
        """{'type': 'string'}"""  # Cerberus reads here what the rule's limit must be
        if isinstance(value, str) and not re.fullmatch(pattern, value, re.ASCII):
            self._error(field, cerberus.errors.REGEX_MISMATCH)


def without_form(rule: str, limit: object, why: str) -> NotImplementedError:
    """The error of a rule that cannot be compiled."""
    return NotImplementedError(f"schema rule {rule}: {limit!r} {why}")


def require_known_rules(schema: Schema, *rules: str) -> Schema:
    """The schema, if its rules are among these or those of every field, and its limits such as Cerberus takes.

    Raises `NotImplementedError` for another rule, `cerberus.SchemaError` for another limit.
    """
    for field, own in schema.items():
        for rule, limit in own.items():
            if rule not in ("required", "nullable", "type", *rules):
                raise without_form(rule, limit, f"of {field} has no form here")
        if "schema" in own:
            if own.get("type") != "list":
                raise without_form("schema", own["schema"], f"of {field} has a form for the items of a list only")
            require_known_rules({f"an item of {field}": own["schema"]}, *rules)
    Validator(schema)
    return schema


def is_required(rules: Rules) -> bool:
    """Whether a document must have the field."""
    return rules.get("required") is True


def types_of(rules: Rules) -> tuple[str, ...]:
    """Names of the types that a field may have; none where it may have any."""
    named = rules.get("type") or ()
    return (named,) if isinstance(named, str) else tuple(named)


@cache
def is_one_of(types: tuple[str, ...], kind: type[object]) -> bool:
    """Whether values of a Python class are of one of the types: the class alone decides it."""
    definitions = [Validator.types_mapping[name] for name in types]
    return any(issubclass(kind, one.included_types) and not issubclass(kind, one.excluded_types) for one in definitions)


def first_broken_rule(rules: Rules) -> Callable[[Any], str | None]:
    """The function that says which rule, the first in order, a value breaks; None where it breaks none.

    `nullable` and `type` come first and hide the others.
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
"""Whether a value breaks a rule. It is not None and of the field's type; a rule that says nothing of it is kept."""


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
        has_length = type(value) is str or isinstance(value, Iterable)  # as Cerberus tells; most are text
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
"""By rule: what makes the function of its limit. `required`, `nullable` and `type` stand apart: they hide these."""
