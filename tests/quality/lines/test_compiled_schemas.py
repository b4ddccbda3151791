"""Compiled schemas: the same verdicts and reasons as Cerberus, for every row and record."""

import copy
import re
from itertools import pairwise
from typing import Any

import cerberus
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quality.catalog import Record
from quality.lines.column_rules import ColumnRules
from quality.lines.compiled_schemas import CompiledSchema
from quality.lines.rule_functions import Rules, Schema, Validator
from quality.lines.schemas import event_schemas
from stream.event import KINDS, Event, Kind
from stream.settings import StreamSettings
from stream.tables import EVENT_SCHEMAS

MANY = settings(deadline=None, max_examples=150)

# schemas

TYPES = ["integer", "float", "number", "string", "list", "boolean", "dict", ["string", "integer"], ["list", "float"]]
PATTERNS = ["a*", "[a-c1]+|", r"\d{1,2}", r"a.b?", r"(?:a|ab)(?:c|bcd)?", r"[^a]*\+(?:\d{4})?", r"\w*"]
limits = st.one_of(st.integers(-2, 3), st.sampled_from([0.5, -1.5, 2.0, 2**53, -(2**53), 2**62, 255, float(2**60)]))
allowed = st.lists(st.one_of(st.sampled_from(["", "a", "ab", "1"]), st.sampled_from([0, 1, 2.0, -1.5])), max_size=4)
RULES: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(TYPES), "nullable": st.booleans(), "required": st.booleans(), "min": limits, "max": limits,
    "regex": st.sampled_from(PATTERNS), "allowed": allowed, "maxlength": st.integers(0, 3),
}  # fmt: skip


@st.composite
def rules_of_a_field(draw: st.DrawFn, depth: int = 2, more: tuple[str, ...] = ()) -> Rules:
    """Any rules, in any order; now and then a list with rules for its items."""
    names = draw(st.lists(st.sampled_from([*RULES, *more]), unique=True, max_size=5))
    rules = {name: draw(RULES[name] if name in RULES else NORMAL[name]) for name in names}
    if depth and not more and draw(st.integers(0, 3)) == 0:
        rules |= {"type": "list", "schema": draw(rules_of_a_field(depth - 1))}
    return {name: rules[name] for name in draw(st.permutations(list(rules)))}


schemas = st.dictionaries(st.sampled_from("abc"), rules_of_a_field(), max_size=3)

# tables

texts = st.sampled_from(["", "a", "ab", "1"]) | st.text("ab1c+\n ٣é", max_size=4)
TYPED: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-3, 3)),
    (pa.uint32(), st.integers(0, 3)),
    (pa.int64(), st.one_of(st.integers(-3, 3), st.sampled_from([2**53, 2**53 + 1, 2**62 + 1, -(2**63)]))),
    (pa.uint64(), st.one_of(st.integers(0, 3), st.sampled_from([2**62, 2**63, 2**64 - 1]))),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.one_of(st.floats(), *[st.sampled_from([0.5, 0.0, 1.0, 2.0, -1.5, 2.0**53, 2.0**60])] * 3)),
    (pa.bool_(), st.booleans()),
    (pa.string(), texts),
    (pa.large_string(), texts),
    (pa.timestamp("ms", tz="UTC"), st.integers(-3, 3)),
    (pa.timestamp("ms"), st.integers(-3, 3)),
    (pa.null(), st.none()),
    (pa.list_(pa.string()), st.lists(st.none() | texts, max_size=4)),
    (pa.large_list(pa.int64()), st.lists(st.none() | st.integers(-2, 2), max_size=4)),
    (pa.list_(pa.list_(pa.string())), st.lists(st.none() | st.lists(texts, max_size=2), max_size=2)),
]


@st.composite
def arrays(draw: st.DrawFn, kind: pa.DataType, values: list[Any], padding: st.SearchStrategy[Any]) -> pa.Array:
    """The values as an array, which may be cut out of a longer one."""
    before, after = draw(st.lists(padding, max_size=3)), draw(st.lists(padding, max_size=3))
    full = [*before, *values, *after]
    if pa.types.is_dictionary(kind):
        encoding = draw(st.sampled_from(["mask", "encode"]))  # a null index, or the index of a null
        array = pa.array(full, kind.value_type).dictionary_encode(encoding)
    else:
        array = pa.array(full, kind)
    return array.slice(len(before), len(values))


@st.composite
def columns(draw: st.DrawFn, rows: int, kinds: list[tuple[pa.DataType, st.SearchStrategy[Any]]]) -> pa.ChunkedArray:
    kind, value = draw(st.sampled_from(kinds))
    if kind in (pa.string(), pa.int64()) and draw(st.booleans()):
        kind = pa.dictionary(pa.int32(), kind)
    some = st.one_of(st.none(), value, value, value)
    values = draw(st.lists(some, min_size=rows, max_size=rows))
    cuts = [0, *sorted(draw(st.lists(st.integers(0, rows), max_size=2))), rows]
    chunks = [draw(arrays(kind, values[low:high], some)) for low, high in pairwise(cuts)]
    return pa.chunked_array(chunks if rows else [], kind)


@st.composite
def tables(draw: st.DrawFn, names: list[str]) -> pa.Table:
    rows = draw(st.integers(0, 6))
    names = draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    return pa.table({name: draw(columns(rows, TYPED)) for name in names})


def documents(table: pa.Table) -> list[Record]:
    """The rows; times are numbers."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.int64()))
    return list(table.to_pylist())


def by_cerberus(schema: Schema, *documents: Record) -> list[set[str]]:
    validator = Validator(schema, allow_unknown=True)
    broken_rules = []
    for document in documents:
        validator.validate(document, normalize=False)
        broken_rules.append({f"{error.field}_{error.rule}" for error in validator._errors})
    return broken_rules


def order(schema: Schema) -> list[str]:
    hiding = ("required", "nullable", "type")
    rules = {field: [*hiding, *(rule for rule in own if rule not in hiding)] for field, own in schema.items()}
    return [f"{field}_{rule}" for field in schema for rule in rules[field]]


def hold_equal(table: pa.Table, schema: Schema) -> None:
    """The columns, each row alone, and Cerberus agree on which rules are broken and which is the first."""
    predicates, rows = CompiledSchema(schema), documents(table)
    breaches = predicates.breaches(table)
    names = [name for name, _ in breaches]
    assert names == [name for name in order(schema) if name in names]
    assert all(broken.dtype == bool and broken.shape == (len(rows),) and broken.any() for _, broken in breaches)
    for row, (document, expected) in enumerate(zip(rows, by_cerberus(schema, *rows), strict=True)):
        assert {name for name, broken in breaches if broken[row]} == expected, document
        assert predicates.breach(document) == next((name for name in order(schema) if name in expected), None)


@MANY
@given(schemas, tables(["a", "b", "c", "d"]))
def test_compiled_schemas_of_any_table_agree_with_cerberus_by_row(schema: Schema, table: pa.Table) -> None:
    hold_equal(table, schema)


@pytest.mark.parametrize("rule", ["type", "min", "max", "regex", "allowed", "maxlength"])
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_each_rule_agrees_with_cerberus_on_columns_of_any_type(rule: str, data: st.DataObject) -> None:
    schema = {"a": {rule: data.draw(RULES[rule]), "nullable": data.draw(st.booleans())}}
    column = data.draw(columns(4, TYPED))
    hold_equal(pa.table({"a": column}), schema)


OWN: dict[str, st.SearchStrategy[Any]] = {
    "time": st.sampled_from([0, 946_598_399_999, 946_598_400_000, 4_102_531_199_999, 4_102_531_200_000]),
    "user": st.integers(0, 2) | st.integers(999, 1_001),
    "movie": st.sampled_from(
        ["a+1984", "a+198٤", "a+1984\n", "endeavour+", "A+", "", "a" * 299 + "+", "a" * 300 + "+"]
    ),
    "minute": st.sampled_from([-1, 0, 20_000, 20_001]),
    "rating": st.integers(-1, 12),
    "host": st.sampled_from(["", "a:1"]),
    "status": st.sampled_from([-1, 0, 200, 999, 1_000]),
    "latency_ms": st.integers(-1, 1),
    "error": texts,
}
OWN["movies"] = st.lists(st.none() | OWN["movie"], max_size=3) | st.sampled_from([["a+"] * 20, ["a+"] * 21])


@st.composite
def event_tables(draw: st.DrawFn, kind: Kind) -> pa.Table:
    """Tables of a kind with all that its types can hold; now and then a column is missing or of another type."""
    rows, own_columns = draw(st.integers(0, 5)), {}
    for field in EVENT_SCHEMAS[kind]:
        fate = draw(st.integers(0, 19))
        if fate:
            plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            own_columns[field.name] = draw(columns(rows, TYPED if fate == 1 else [(plain, OWN[field.name])]))
    return pa.table({**own_columns, "raw": pa.nulls(rows)})


@pytest.mark.parametrize("generation", ["2022", "2026"])
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_event_schemas_agree_with_cerberus_by_row(kind: Kind, generation: Any, data: st.DataObject) -> None:
    schema = event_schemas(StreamSettings(generation=generation))[kind]
    hold_equal(data.draw(event_tables(kind)), schema)


def test_unused_dictionary_words_break_no_rule() -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0, None], pa.int8()), pa.array(["a", "x" * 9, None]))
    table = pa.table({"a": words})
    assert CompiledSchema({"a": {"maxlength": 3, "nullable": True}}).breaches(table) == []
    [(rule, broken)] = CompiledSchema({"a": {"maxlength": 3}}).breaches(table)
    assert (rule, broken.tolist()) == ("a_nullable", [False, False, False, True])


def test_items_of_a_null_list_do_not_count() -> None:
    lists = pa.ListArray.from_arrays([0, 1, 3, 4], ["a", "x", "x", "x"], mask=pa.array([False, True, False]))
    schema: Schema = {"a": {"type": "list", "nullable": True, "schema": {"allowed": ["a"]}}}
    [(rule, broken)] = CompiledSchema(schema).breaches(pa.table({"a": lists}))
    assert (rule, broken.tolist()) == ("a_schema", [False, False, True])


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        (pa.array([0.5 + 2**-40, 0.5, 2.0**53 + 2]), {"max": 0.5}), (pa.array([2.0**53 - 1, 2.0**53]), {"min": 2**53}),
        (pa.array([2**53 + 1, 2**53]), {"max": 2**53}), (pa.array([2**53 + 1, 2**53]), {"allowed": [2.0**53]}),
        (pa.array([2**64 - 1, 2**62 + 1, 2**62], pa.uint64()), {"max": 2**62, "min": -1.5, "allowed": [-1, 2**62]}),
        (pa.array([-(2**63), -(2**62) - 1]), {"min": -(2.0**62)}), (pa.array([127, -128], pa.int8()), {"max": 126.5}),
        (pa.array([127, -128], pa.int8()), {"max": 300, "min": -300}), (pa.array([True, False]), {"allowed": [1.0]}),
    ],
)  # fmt: skip
def test_numbers_are_compared_without_rounding(values: pa.Array, rules: Rules) -> None:
    hold_equal(pa.table({"a": values}), {"a": rules})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_length_counts_characters(kind: pa.DataType) -> None:
    table = pa.table({"a": pa.array(["٣é😀", "aaaa", "😀😀😀😀"]).cast(kind)})
    hold_equal(table, {"a": {"maxlength": 3}})
    assert CompiledSchema({"a": {"maxlength": 3}}).breaches(table)[0][1].tolist() == [False, True, True]


# single documents

json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.integers(-(2**70), 2**70), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


@MANY
@given(schemas, st.dictionaries(st.sampled_from("abcd"), json))
def test_the_first_broken_rule_of_any_document_agrees_with_cerberus(schema: Schema, document: Record) -> None:
    [expected] = by_cerberus(schema, document)
    assert CompiledSchema(schema).breach(document) == next((name for name in order(schema) if name in expected), None)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.sampled_from(KINDS))
def test_an_event_breaks_the_rules_that_its_fields_break(data: st.DataObject, kind: Kind) -> None:
    schema = event_schemas(StreamSettings())[kind]
    fields = {field: data.draw(st.one_of(OWN[field], OWN[field], OWN[field], json)) for field in schema}
    if isinstance(fields.get("movies"), list):
        fields["movies"] = tuple(fields["movies"])
    [expected] = by_cerberus(schema, fields)
    first = CompiledSchema(schema).breach(Event(kind, **fields))
    assert first == next((name for name in order(schema) if name in expected), None)


# records


def halved(value: Any) -> Any:
    return value / 2


COERCERS = [int, float, str, halved, lambda value: value or None, lambda value: [value], lambda value: {"a": value}]
NORMAL: dict[str, st.SearchStrategy[Any]] = {
    "coerce": st.sampled_from(COERCERS) | st.lists(st.sampled_from(COERCERS), max_size=3).map(tuple),
    "default": st.sampled_from([None, 0, 1, 1.0, True, "", "a", [], {}]),
}
record_schemas = st.dictionaries(st.sampled_from("abc"), rules_of_a_field(more=("coerce", "default")), max_size=3)


@settings(deadline=None, max_examples=250)
@given(record_schemas, st.dictionaries(st.sampled_from("abcd"), json))
@example({"a": {"nullable": True, "coerce": int}}, {"a": None})
@example({"a": {"default": "a", "coerce": str}}, {"a": None})
@example({"a": {"coerce": float}}, {"a": 1})
@example({"a": {"default": 1}, "b": {"default": None}}, {"b": None, "a": None})
def test_a_record_is_checked_as_cerberus_checks_it(schema: Schema, record: Record) -> None:
    predicates, before = CompiledSchema(schema), repr(record)
    validator = Validator(schema, allow_unknown=True)
    is_good = validator.validate(copy.deepcopy(record))
    document, why = predicates.checked(record)
    # as text: 1, 1.0 and True are equal and different; nan is not equal and the same; and fields have an order
    assert repr(document) == (repr(validator.document) if is_good else "None")
    assert why == "; ".join(f"{field}: {reasons[0]}" for field, reasons in sorted(validator.errors.items(), key=str))
    accepted = predicates.accepted(record)
    assert accepted is None or (is_good and repr(accepted) == repr(document))
    assert repr(record) == before


@MANY
@given(
    st.dictionaries(st.sampled_from("abc"), rules_of_a_field(depth=0)), st.dictionaries(st.sampled_from("abc"), json)
)
def test_without_coercers_cerberus_is_asked_about_bad_records_only(schema: Schema, record: Record) -> None:
    assert (CompiledSchema(schema).accepted(record) is not None) is Validator(schema, allow_unknown=True).validate(
        record
    )


def test_a_record_keeps_its_class() -> None:
    class OwnDict(dict[str, object]):
        pass

    document, why = CompiledSchema({"a": {"coerce": int}}).checked(OwnDict(a="5"))
    assert (document, why, type(document)) == ({"a": 5}, "", OwnDict)


# what cannot be compiled, and what Cerberus gets wrong

UNKNOWN: list[Rules] = [
    {"anyof": [{"type": "string"}]}, {"min": 1, "check_with": print}, {"empty": False}, {"money": 1}, {"rename": "b"},
]  # fmt: skip
NORMALISING: list[Rules] = [{"coerce": int}, {"default": 1}]
ITEMS: list[Rules] = [
    {"schema": {"type": "string"}}, {"type": "dict", "schema": {"a": {"type": "string"}}},
    {"type": "list", "schema": {"minlength": 1}},
    {"type": "list", "schema": {"type": "list", "schema": {"coerce": int}}},
]  # fmt: skip
LIMITS: list[Rules] = [
    {"min": "a"}, {"max": True}, {"max": 2**53 + 1}, {"max": 2**63}, {"min": float("nan")}, {"max": float("inf")},
    {"allowed": [None]}, {"allowed": [1, b"a"]}, {"type": "list", "schema": {"max": "a"}},
    *({"regex": one} for one in (r"a\s", "^a", "a$", "(?i)k", "(a)\\1", r"a\b", "a{,3}", "a*+", "[[:alpha:]]", "é",
      "a{1001}", "(?=a)", "(", "a**", "[b-a]")),
]  # fmt: skip


@pytest.mark.parametrize("rules", [*UNKNOWN, *NORMALISING, *ITEMS, *LIMITS], ids=str)
def test_a_rule_without_a_column_form_is_an_error_and_never_passed_over(rules: Rules) -> None:
    with pytest.raises(NotImplementedError, match=r"schema rule \w+: "):
        CompiledSchema({"a": {"type": "integer"}, "b": rules}).breaches(pa.table({"a": [1]}))


@pytest.mark.parametrize("rules", [*UNKNOWN, *NORMALISING, *ITEMS], ids=str)
def test_a_rule_without_a_document_form_is_an_error(rules: Rules) -> None:
    with pytest.raises(NotImplementedError, match=r"schema rule \w+: "):
        CompiledSchema({"a": {"type": "integer"}, "b": rules}).breach({})


@pytest.mark.parametrize("rules", [*UNKNOWN, *ITEMS, {"type": "list", "schema": {}}], ids=str)
def test_a_rule_without_a_record_form_is_an_error(rules: Rules) -> None:
    with pytest.raises(NotImplementedError, match=r"schema rule \w+: "):
        CompiledSchema({"a": {"type": "integer"}, "b": rules}).checked({"a": 1})


@pytest.mark.parametrize("rules", [{"type": "money"}, {"maxlength": "a"}, {"nullable": "no"}, {"allowed": "abc"}])
def test_a_limit_that_cerberus_refuses_is_an_error(rules: Rules) -> None:
    predicates = CompiledSchema({"a": rules})
    with pytest.raises(cerberus.SchemaError):
        predicates.breaches(pa.table({}))
    with pytest.raises(cerberus.SchemaError):
        predicates.breach({})
    with pytest.raises(cerberus.SchemaError):
        predicates.checked({})


@pytest.mark.parametrize("values", [pa.array([b"a"]), pa.array([0], pa.timestamp("us")), pa.array([{"a": 1}])])
def test_a_column_that_no_rule_can_read_is_an_error(values: pa.Array) -> None:
    with pytest.raises(NotImplementedError, match="schema rules on a column of"):
        CompiledSchema({"a": {"type": "integer"}}).breaches(pa.table({"a": values}))


TOKENS = [
    "a", "b", "1", "_", "+", ".", "-", r"\d", r"\w", r"\.", r"\+", r"\-", "(", ")", "(?:", "(?", "|", "*", "+", "?",
    "{2}", "{1,}", "{0,1}", "{,2}", "{", "^", "$", r"\s", r"\b", "(?i)", "P<x>", "[", "]", "[^", "a-c", "\n",
]  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(TOKENS), max_size=7).map("".join), st.lists(st.text("abAB12_+.-\n٣ſ", max_size=5)))
def test_a_regex_matches_the_same_in_columns_or_is_refused(pattern: str, words: list[str]) -> None:
    try:
        column = ColumnRules({"regex": pattern})
    except NotImplementedError:
        return
    broken = column.broken_in(pa.array(words, pa.string())).get("regex", np.zeros(len(words), bool))
    assert broken.tolist() == [re.fullmatch(pattern, word, re.ASCII) is None for word in words]


@pytest.mark.parametrize(
    ("rules", "value"),
    [
        ({"type": "integer"}, True), ({"type": "integer"}, False), ({"type": "float"}, True),
        ({"type": "number"}, True), ({"type": ["integer", "string"]}, True), ({"regex": "a+"}, "a\n"),
        ({"regex": "a$"}, "a\n"), ({"regex": r"\d"}, "٣"), ({"regex": "a|b"}, "ax"),
        ({"type": "list", "schema": {"regex": "a"}}, ["a", "a\n"]),
        ({"type": "list", "schema": {"type": "integer"}}, [True]),
    ],
)  # fmt: skip
def test_values_that_cerberus_wrongly_accepts_are_refused(rules: Rules, value: object) -> None:
    assert not Validator({"a": rules}).validate({"a": value})
    assert CompiledSchema({"a": rules}).breach({"a": value}) is not None


def test_valid_numbers_and_texts_still_pass() -> None:
    validator = Validator(
        {"a": {"type": "integer"}, "b": {"type": "float"}, "c": {"regex": "a+"}, "d": {"type": "boolean"}}
    )
    assert validator.validate({"a": 1, "b": 1, "c": "aa", "d": True})
    assert validator.validate({"b": 1.5, "c": 5})
