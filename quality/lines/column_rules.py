"""Schema rules over an Arrow column: the same verdicts as `rule_functions.py`, for a million values.

Each word of a dictionary is checked once and looked up. numpy checks numbers, Arrow text and lists. Compiling refuses a
rule whose limit Arrow or numpy might interpret differently from Python: an inexact number, an unusual regex.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.lines.rule_functions import Rules, is_one_of, is_required, not_compilable, types_of

Values = Any
"""Values of one array: a numpy array of integers or float64 for numbers (true is 1), else an Arrow array of text or
lists. Where a value is null the content is undefined."""
Breaks = Callable[[Values], np.ndarray | None]
"""Which values break a rule: bool. None if the rule does not apply to such values."""


class ColumnRules:
    """The rules of a field over its column. Results map each broken rule, in the schema's order, to its rows (bool)."""

    def __init__(self, rules: Rules) -> None:
        self.required = is_required(rules)
        self._nullable, self._types = bool(rules.get("nullable")), types_of(rules)
        self._breaks = {rule: _BREAKS[rule](limit) for rule, limit in rules.items() if rule in _BREAKS}

    def missing(self, rows: int) -> dict[str, np.ndarray]:
        """The result for a table without the column, given its number of rows."""
        return {"required": np.ones(rows, bool)} if self.required and rows else {}

    def broken(self, column: pa.ChunkedArray) -> dict[str, np.ndarray]:
        """The result for a column."""
        by_chunk = [(len(chunk), self.broken_in(chunk)) for chunk in column.chunks]
        if len(by_chunk) == 1:
            return by_chunk[0][1]
        return {
            rule: np.concatenate([broken.get(rule, np.zeros(rows, bool)) for rows, broken in by_chunk])
            for rule in ("nullable", "type", *self._breaks)
            if any(rule in broken for _, broken in by_chunk)
        }

    def broken_in(self, array: pa.Array) -> dict[str, np.ndarray]:
        """The result for one array."""
        if pa.types.is_dictionary(array.type):
            few = len(array) < len(array.dictionary)
            return self.broken_in(array.dictionary.take(array.indices)) if few else self._broken_words(array)
        null = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
        broken = {} if null is None or self._nullable else {"nullable": null}
        if array.null_count < len(array):
            broken |= self._broken_values(array, np.ones(len(array), bool) if null is None else ~null)
        return broken

    def _broken_values(self, array: pa.Array, valid: np.ndarray) -> dict[str, np.ndarray]:
        if self._types and not is_one_of(self._types, _class_of(array.type)):
            return {"type": valid}
        values, broken = _values(array), {}
        for rule, breaks in self._breaks.items():
            rows = breaks(values)
            if rows is not None and (rows := rows & valid).any():
                broken[rule] = rows
        return broken

    def _broken_words(self, array: pa.DictionaryArray) -> dict[str, np.ndarray]:
        """Check each word once. Rows without a word look up an extra entry after the last word."""
        words = len(array.dictionary)
        by_word = self.broken_in(array.dictionary)
        if array.null_count and not self._nullable:
            by_word = {"nullable": np.zeros(words, bool), **by_word}
        if not by_word:
            return {}
        word_of_row = array.indices.cast(pa.int64()).fill_null(words).to_numpy()
        by_row = {rule: np.append(broken, rule == "nullable")[word_of_row] for rule, broken in by_word.items()}
        return {rule: rows for rule, rows in by_row.items() if rows.any()}


def _class_of(kind: pa.DataType) -> type:
    """The Python class of a column's values; times are integers, ms. Raises `NotImplementedError` for other types."""
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
    """Arrow's verdicts as a numpy array; null, the verdict on a null value, becomes False."""
    bits: np.ndarray = verdicts.fill_null(False).to_numpy(zero_copy_only=False)
    return bits


def _exact(rule: str, limit: Any) -> int | float:
    """A limit that compares with integers and floats without rounding. Raises `NotImplementedError` for another."""
    if type(limit) not in (int, float) or not abs(limit) < 2**63 or float(limit) != limit:
        raise not_compilable(rule, limit, "is not a number that columns compare exactly")
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
"""Regexes with one meaning in Python (ASCII) and in Arrow's RE2: no anchors, flags, `\\s` or references."""


def _not_matched(pattern: str) -> Breaks:
    whole = rf"\A(?:{pattern})\z"
    if not _PORTABLE.fullmatch(pattern):
        raise not_compilable("regex", pattern, "may have another meaning for columns")
    try:
        re.compile(pattern)
        pc.match_substring_regex(pa.array([""]), whole)
    except (re.error, pa.ArrowInvalid) as error:
        raise not_compilable("regex", pattern, "is not a valid regex for columns") from error
    return lambda values: ~_bits(pc.match_substring_regex(values, whole)) if _is_text(values) else None


def _too_long(limit: int) -> Breaks:
    def breaks(values: Values) -> np.ndarray | None:
        if isinstance(values, np.ndarray):
            return None
        length = pc.utf8_length if _is_text(values) else pc.list_value_length
        return _bits(pc.greater(length(values), limit))

    return breaks


def _not_allowed(allowed: Any) -> Breaks:
    words = [value for value in allowed if isinstance(value, str)]
    numbers = [_exact("allowed", value) for value in allowed if not isinstance(value, str)]

    def breaks(values: Values) -> np.ndarray | None:
        if isinstance(values, np.ndarray):
            differs = np.ones(len(values), bool)
            for number in numbers:  # they are few, and `isin` would compare uint64 with int64 as floats
                differs &= values != number
            return differs
        if _is_text(values):
            return ~_bits(pc.is_in(values, value_set=pa.array(words, values.type)))
        return _bad_items({"type": ["string", "number", "boolean"], "allowed": allowed})(values)

    return breaks


def _bad_items(rules: Rules) -> Breaks:
    items = ColumnRules(rules)

    def breaks(values: Values) -> np.ndarray | None:
        if _is_text(values) or isinstance(values, np.ndarray):
            return None
        # not `list_parent_indices`: it counts the items of null lists as well, `list_flatten` does not
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
"""By rule: the function that compiles its limit. The rules are those of `rule_functions.BREAKS`."""
