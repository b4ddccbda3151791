"""Schema rules over an Arrow column: the same verdicts as `rule_functions.py`, for a million values.

What repeats, the words of a dictionary, is judged once and looked up. Numbers are judged by numpy, text and lists by
Arrow. A rule whose limit could mean another thing to a column than to Python (an inexact number, a regex that Arrow
reads otherwise) is refused when it is compiled.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.lines.rule_functions import Rules, is_one_of, is_required, types_of, without_form

Values = Any
"""Values of one array: a numpy array of integers or float64 for numbers (true is 1), else an Arrow array of text or
lists. What stands where a value is null means nothing."""
Breaks = Callable[[Values], np.ndarray | None]
"""Which values break a rule: bool. None: the rule says nothing of such values."""


class ColumnRules:
    """The rules of a field over its column. Answers are: by rule, in order, the rows that break it, where any does."""

    def __init__(self, rules: Rules) -> None:
        self.required = is_required(rules)
        self._nullable, self._types = bool(rules.get("nullable")), types_of(rules)
        self._breaks = {rule: _BREAKS[rule](limit) for rule, limit in rules.items() if rule in _BREAKS}

    def missing(self, rows: int) -> dict[str, np.ndarray]:
        """The answer where the table does not have the column."""
        return {"required": np.ones(rows, bool)} if self.required and rows else {}

    def broken(self, column: pa.ChunkedArray) -> dict[str, np.ndarray]:
        """The answer for a column."""
        parts = [(len(chunk), self.broken_in(chunk)) for chunk in column.chunks]
        if len(parts) == 1:
            return parts[0][1]
        return {
            rule: np.concatenate([part.get(rule, np.zeros(rows, bool)) for rows, part in parts])
            for rule in ("nullable", "type", *self._breaks)
            if any(rule in part for _, part in parts)
        }

    def broken_in(self, array: pa.Array) -> dict[str, np.ndarray]:
        """The answer for one array."""
        if pa.types.is_dictionary(array.type):
            few = len(array) < len(array.dictionary)
            return self.broken_in(array.dictionary.take(array.indices)) if few else self._looked_up(array)
        null = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
        found = {} if null is None or self._nullable else {"nullable": null}
        if array.null_count < len(array):
            found |= self._broken_values(array, np.ones(len(array), bool) if null is None else ~null)
        return found

    def _broken_values(self, array: pa.Array, valid: np.ndarray) -> dict[str, np.ndarray]:
        if self._types and not is_one_of(self._types, _class_of(array.type)):
            return {"type": valid}
        values, found = _values(array), {}
        for rule, breaks in self._breaks.items():
            rows = breaks(values)
            if rows is not None and (rows := rows & valid).any():
                found[rule] = rows
        return found

    def _looked_up(self, array: pa.DictionaryArray) -> dict[str, np.ndarray]:
        """Each word is judged once. A row that has no word looks up one place more, behind the words."""
        words = len(array.dictionary)
        by_word = self.broken_in(array.dictionary)
        if array.null_count and not self._nullable:
            by_word = {"nullable": np.zeros(words, bool), **by_word}
        if not by_word:
            return {}
        places = array.indices.cast(pa.int64()).fill_null(words).to_numpy()
        found = {rule: np.append(broken, rule == "nullable")[places] for rule, broken in by_word.items()}
        return {rule: rows for rule, rows in found.items() if rows.any()}


def _class_of(kind: pa.DataType) -> type:
    """The Python class of a column's values; times are integers, ms."""
    if pa.types.is_integer(kind) or (pa.types.is_timestamp(kind) and kind.unit == "ms"):
        return int
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return str
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return list
    if pa.types.is_floating(kind):
        return float
    if pa.types.is_boolean(kind):
        return bool
    raise NotImplementedError(f"schema rules on a column of {kind}")


def _values(array: pa.Array) -> Values:
    kind = _class_of(array.type)
    if kind in (str, list):
        return array
    if not pa.types.is_integer(array.type):
        array = array.cast({int: pa.int64(), float: pa.float64(), bool: pa.uint8()}[kind])
    return (array.fill_null(0) if array.null_count else array).to_numpy()


def _is_text(values: Values) -> bool:
    return isinstance(values, pa.StringArray | pa.LargeStringArray)


def _bits(verdicts: pa.BooleanArray) -> np.ndarray:
    """Arrow's verdicts as numpy's; null, the verdict on a null value, as False."""
    bits: np.ndarray = verdicts.fill_null(False).to_numpy(zero_copy_only=False)
    return bits


def _exact(rule: str, limit: Any) -> int | float:
    """A limit that is compared with integers and floats without rounding."""
    if type(limit) not in (int, float) or not abs(limit) < 2**63 or float(limit) != limit:
        raise without_form(rule, limit, "is no number that columns compare exactly")
    return int(limit) if float(limit).is_integer() else limit


def _below(limit: Any) -> Breaks:
    exact = _exact("min", limit)
    return lambda values: values < exact if isinstance(values, np.ndarray) else None


def _above(limit: Any) -> Breaks:
    exact = _exact("max", limit)
    return lambda values: values > exact if isinstance(values, np.ndarray) else None


_ESCAPED = r"\\[dw\\.+*?()\[\]{}|^$/\-]"
_CLASS = rf"\[\^?(?:[\w .,:;+*?/()]|-(?!-)|{_ESCAPED})+\]"
_QUANTIFIER = r"(?:[*+?]|\{\d+(?:,\d*)?\})\??"
_PORTABLE = re.compile(rf"(?:[\w ,:;=@%/<>'\"&!#~.|)\-]|{_ESCAPED}|{_CLASS}|\((?!\?)|\(\?:|{_QUANTIFIER})*", re.ASCII)
"""Regexes that mean the same to Python (ASCII) and to Arrow's RE2: no anchors, flags, `\\s`, references or such."""


def _not_matched(pattern: str) -> Breaks:
    whole = rf"\A(?:{pattern})\z"
    if not _PORTABLE.fullmatch(pattern):
        raise without_form("regex", pattern, "may mean another thing to columns")
    try:
        re.compile(pattern)
        pc.match_substring_regex(pa.array([""]), whole)
    except (re.error, pa.ArrowInvalid) as error:
        raise without_form("regex", pattern, "is no regex of columns") from error
    return lambda values: ~_bits(pc.match_substring_regex(values, whole)) if _is_text(values) else None


def _too_long(limit: int) -> Breaks:
    def breaks(values: Values) -> np.ndarray | None:
        if isinstance(values, np.ndarray):
            return None
        length = pc.utf8_length if _is_text(values) else pc.list_value_length
        return _bits(pc.greater(length(values), limit))

    return breaks


def _not_allowed(allowed: Any) -> Breaks:
    words = [one for one in allowed if isinstance(one, str)]
    numbers = [_exact("allowed", one) for one in allowed if not isinstance(one, str)]

    def breaks(values: Values) -> np.ndarray | None:
        if isinstance(values, np.ndarray):
            strange = np.ones(len(values), bool)
            for one in numbers:  # few are allowed, and `isin` would compare uint64 with int64 as floats
                strange &= values != one
            return strange
        if _is_text(values):
            return ~_bits(pc.is_in(values, value_set=pa.array(words, values.type)))
        return _bad_items({"type": ["string", "number", "boolean"], "allowed": allowed})(values)

    return breaks


def _bad_items(rules: Rules) -> Breaks:
    items = ColumnRules(rules)

    def breaks(values: Values) -> np.ndarray | None:
        if _is_text(values) or isinstance(values, np.ndarray):
            return None
        # not `list_parent_indices`: it counts the items that a null list may have, `list_flatten` does not
        list_of = np.repeat(np.arange(len(values)), pc.list_value_length(values).fill_null(0).to_numpy())
        bad = np.zeros(len(values), bool)
        for broken in items.broken_in(pc.list_flatten(values)).values():
            bad[list_of[broken]] = True
        return bad

    return breaks


_BREAKS: dict[str, Callable[[Any], Breaks]] = {
    "min": _below,
    "max": _above,
    "regex": _not_matched,
    "maxlength": _too_long,
    "allowed": _not_allowed,
    "schema": _bad_items,
}
"""By rule, the same as of `rule_functions.BREAKS`: what makes the function of its limit."""
