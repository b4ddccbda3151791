"""Schemas of events: good events of every kind pass, others do not."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.catalog import Record
from quality.lines.rule_functions import Rules, Validator
from quality.lines.schemas import (
    LONGEST_MINUTE,
    Schema,
    breaches,
    event_breach,
    event_schemas,
)
from stream.event import KINDS, Event, Kind
from stream.grammar import LineRefused, parse
from stream.line_columns import table_of
from stream.settings import Generation, StreamSettings
from stream.tables import EVENT_SCHEMAS
from stream.zone import zone_named

GENERATIONS: tuple[Generation, ...] = get_args(Generation)
NOW = 1_665_150_000_000
FIRST, LAST = 946_684_800_000 - 86_400_000, 4_102_444_800_000 + 86_400_000 - 1
ids = st.sampled_from(["a+1984", "endeavour+", "a+198", "Amlie+2001", "a+1984\n", "a" * 299 + "+", "a" * 300 + "+"])
common = {
    "time": st.sampled_from([NOW, NOW, NOW, FIRST - 1, FIRST, LAST, LAST + 1]),
    "user": st.one_of(st.integers(0, 3), st.integers(998, 1_002), st.integers(0, 2**32 - 1)),
}
own: dict[Kind, dict[str, st.SearchStrategy[Any]]] = {
    "watch": {
        "movie": ids,
        "minute": st.one_of(st.none(), st.integers(-1, 1), st.integers(LONGEST_MINUTE - 1, LONGEST_MINUTE + 1)),
    },
    "rate": {"movie": st.none() | ids, "rating": st.integers(-1, 12)},
    "recommend": {
        "host": st.sampled_from([None, "a:1"]),
        "status": st.sampled_from([-1, 0, 200, 999, 1_000]),
        "movies": st.lists(ids, max_size=2).map(tuple) | st.sampled_from([("a+",) * 20, ("a+",) * 21]),
        "latency_ms": st.integers(-2, 2),
        "error": st.sampled_from([None, "", "movie 1 not found"]),
    },
    "account": {},
}


def rows_of(kind: Kind) -> st.SearchStrategy[list[Event]]:
    return st.lists(st.builds(Event, st.just(kind), **common, **own[kind]), max_size=8)


def by_cerberus(events: list[Event], schema: Schema) -> list[set[str]]:
    validator = Validator(schema)
    broken_rules = []
    for event in events:
        validator.validate({field: getattr(event, field) for field in schema})
        broken_rules.append({f"{error.field}_{error.rule}" for error in validator._errors})
    return broken_rules


def rules_of(kind: Kind, schema: Schema, events: list[Event]) -> list[set[str]]:
    broken_rules: list[set[str]] = [set() for _ in events]
    for rule, broken in breaches(table_of(kind, events), schema):
        assert broken.dtype == bool
        assert broken.any()
        for row in np.flatnonzero(broken).tolist():
            broken_rules[row].add(rule)
    return broken_rules


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_columns_break_the_rules_that_their_rows_break(kind: Kind, generation: Generation, data: st.DataObject) -> None:
    events = data.draw(rows_of(kind))
    schemas = event_schemas(StreamSettings(generation=generation))
    expected = by_cerberus(events, schemas[kind])
    assert rules_of(kind, schemas[kind], events) == expected
    for event, rules in zip(events, expected, strict=True):
        assert event_breach(kind, event, schemas) == next(
            (rule for rule in order(schemas[kind]) if rule in rules), None
        )


def order(schema: Schema) -> list[str]:
    return [f"{field}_{rule}" for field, rules in schema.items() for rule in ("nullable", *rules)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_kind_has_rules_and_is_required(kind: Kind) -> None:
    schema = event_schemas(StreamSettings())[kind]
    assert list(schema) == EVENT_SCHEMAS[kind].names
    assert all(rules["required"] and rules["type"] for rules in schema.values())
    assert [rule for rule, _ in breaches(pa.table({"raw": [b"x"]}), schema)] == [
        f"{field}_required" for field in schema
    ]


@pytest.mark.parametrize(
    "line",
    [
        "2000-01-01T00:00,1,GET /data/m/endeavour+/0.mpg",
        "2099-12-31T23:59:59,1000000,GET /data/m/m*a*s*h+1970/20000.mpg",
        "2022-03-18T05:55:11,118106,GET /rate/grumpier+old+men+1995=3", "2026-02-14T10:30:03,99999,GET /create_account",
        "2022-02-08T18:06:56.145104,284507,recommendation request 17645-team17.isri.cmu.edu:8082, status 200, "
        "result: boxing+helena+1993, aliens+1986, 133 ms",
        "2022-02-08T18:06:56,5,recommendation request a:1, status 0, result: java.net.ConnectException: no, 0 ms",
    ],
)  # fmt: skip
@pytest.mark.parametrize("clock", ["America/New_York", "Pacific/Kiritimati", "Etc/GMT+12", "UTC"])
def test_lines_of_the_service_break_no_rule(line: str, clock: str) -> None:
    event = parse(line.encode(), zone_named(clock))
    assert event_breach(event.kind, event, event_schemas(StreamSettings())) is None


GOOD: dict[Kind, Event] = {
    "watch": Event("watch", NOW, 5, "a+1984", minute=5),
    "rate": Event("rate", NOW, 5, "a+1984", rating=5),
    "recommend": Event("recommend", NOW, 5, host="a:1", status=200, movies=("a+1984",), latency_ms=5),
    "account": Event("account", NOW, 5),
}


@pytest.mark.parametrize(
    ("kind", "field", "good", "bad"),
    [
        *((kind, "time", [FIRST, LAST], {"min": FIRST - 1, "max": LAST + 1, "nullable": None}) for kind in KINDS),
        *((kind, "user", [1, 2**32 - 1], {"min": 0, "max": 2**32, "type": True, "nullable": None}) for kind in KINDS),
        ("watch", "movie", ["a" * 299 + "+"], {"maxlength": "a" * 300 + "+", "regex": "a", "type": 5}),
        ("rate", "movie", ["endeavour+"], {"maxlength": "a" * 300 + "+", "regex": "a+1984\n", "nullable": None}),
        ("watch", "minute", [0, 20_000], {"min": -1, "max": 20_001, "nullable": None, "type": 1.0}),
        ("rate", "rating", [1, 5], {"min": 0, "max": 6, "nullable": None, "type": "5"}),
        ("recommend", "host", ["a:1"], {"nullable": None, "type": 5}),
        ("recommend", "status", [0, 999], {"min": -1, "max": 1_000, "nullable": None}),
        ("recommend", "movies", [(), ("a+",) * 20], {"maxlength": ("a+",) * 21, "schema": ("a+", "b"), "type": 5}),
        ("recommend", "latency_ms", [0, 10**9], {"min": -1, "nullable": None}),
        ("recommend", "error", [None, "", "no, 5 ms"], {"type": 5}),
    ],
)  # fmt: skip
def test_the_limits_of_events(kind: Kind, field: str, good: list[Any], bad: Record) -> None:
    schemas = event_schemas(StreamSettings(generation="2022"))
    assert [event_breach(kind, replace(GOOD[kind], **{field: value}), schemas) for value in good] == [None] * len(good)
    reasons = {rule: event_breach(kind, replace(GOOD[kind], **{field: value}), schemas) for rule, value in bad.items()}
    assert reasons == {rule: f"{field}_{rule}" for rule in bad}


@settings(deadline=None)
@given(ids | st.from_regex(r"[a-z0-9+٣ \n]{0,6}\+\d{0,5}"))
def test_the_schema_and_the_grammar_accept_the_same_movies(movie: str) -> None:
    rules = event_schemas(StreamSettings())
    try:
        parse(f"2022-03-18T05:55:11,5,GET /rate/{movie}=3".encode(), zone_named("UTC"))
    except LineRefused:
        assert event_breach("rate", Event("rate", NOW, 5, movie, rating=3), rules) in ("movie_regex", "movie_maxlength")
    else:
        assert event_breach("rate", Event("rate", NOW, 5, movie, rating=3), rules) is None


@pytest.mark.parametrize(("generation", "best"), [("2022", 5), ("2026", 10)])
def test_the_rating_scale_follows_the_generation(generation: Generation, best: int) -> None:
    schemas = event_schemas(StreamSettings(generation=generation))
    wrong = [
        rating
        for rating in range(100)
        if event_breach("rate", Event("rate", NOW, 1, "a+", rating=rating), schemas) is not None
    ]
    assert wrong == [0, *range(best + 1, 100)]


@pytest.mark.parametrize(
    "rules",
    [{"anyof": [{"min": 1}]}, {"regex": r"a\s"}, {"allowed": [None]}, {"default": 1}, {"min": 1, "coerce": int}],
)
def test_a_rule_without_a_column_form_is_an_error_and_never_passed_over(rules: Rules) -> None:
    table = table_of("account", [Event("account", NOW, 5)])
    with pytest.raises(NotImplementedError, match=r"schema rule"):
        breaches(table, {"user": rules})


def test_an_integer_rule_on_another_column_is_broken_by_every_value() -> None:
    [(rule, broken)] = breaches(pa.table({"user": ["1", "x"]}), {"user": {"type": "integer", "min": 5}})
    assert (rule, broken.tolist()) == ("user_type", [True, True])


def test_a_missing_value_breaks_nullable_only() -> None:
    table = pa.table({"user": pa.array([None, 5], pa.uint32())})
    [(rule, broken)] = breaches(table, {"user": {"type": "integer", "min": 1, "required": True}})
    assert (rule, broken.tolist()) == ("user_nullable", [True, False])
