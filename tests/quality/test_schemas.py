"""Schemas: over columns they say what Cerberus says row by row; records of both generations pass, others do not."""

from typing import Any, get_args

import cerberus
import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.api import world_records
from loadtest.settings import WorldSettings
from loadtest.world import World
from quality.schemas import (
    LONGEST_MINUTE,
    MOVIE_RECORD,
    USER,
    Schema,
    breaches,
    checked,
    event_breach,
    event_schemas,
)
from stream.columns import table_of
from stream.event import KINDS, Event, Kind
from stream.settings import Generation, StreamSettings

GENERATIONS: tuple[Generation, ...] = get_args(Generation)
users = st.one_of(st.integers(0, 3), st.integers(998, 1_002), st.integers(0, 2**32 - 1))
minutes = st.one_of(st.integers(-1, 1), st.integers(LONGEST_MINUTE - 1, LONGEST_MINUTE + 1))
numbers: dict[Kind, dict[str, st.SearchStrategy[int]]] = {
    "watch": {"minute": minutes},
    "rate": {"rating": st.integers(-1, 12)},
    "recommend": {"latency_ms": st.integers(-2, 2), "status": st.just(200)},
    "account": {},
}


def rows_of(kind: Kind) -> st.SearchStrategy[list[Event]]:
    own = {"movie": st.just("a+1984")} if kind in ("watch", "rate") else {}
    event = st.builds(Event, st.just(kind), st.just(0), users, **own, **numbers[kind])
    return st.lists(event, max_size=8)


def by_cerberus(event: Event, schema: Schema) -> set[str]:
    validator = cerberus.Validator(schema)
    validator.validate({field: getattr(event, field) for field in schema})
    return {f"{error.field}_{error.rule}" for error in validator._errors}


def rules_of(kind: Kind, schema: Schema, events: list[Event]) -> list[set[str]]:
    found: list[set[str]] = [set() for _ in events]
    for rule, broken in breaches(table_of(kind, events), schema):
        assert broken.dtype == bool
        assert broken.any()
        for row in np.flatnonzero(broken).tolist():
            found[row].add(rule)
    return found


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_columns_break_the_rules_that_their_rows_break(kind: Kind, generation: Generation, data: st.DataObject) -> None:
    events = data.draw(rows_of(kind))
    schemas = event_schemas(StreamSettings(generation=generation, max_user=1_000))
    expected = [by_cerberus(event, schemas[kind]) for event in events]
    assert rules_of(kind, schemas[kind], events) == expected
    for event, rules in zip(events, expected, strict=True):
        assert event_breach(kind, event, schemas) == next(
            (rule for rule in order(schemas[kind]) if rule in rules), None
        )


def order(schema: Schema) -> list[str]:
    return [f"{field}_{rule}" for field, rules in schema.items() for rule in rules]


@pytest.mark.parametrize(("generation", "best"), [("2022", 5), ("2026", 10)])
def test_the_scale_of_ratings_is_that_of_the_generation(generation: Generation, best: int) -> None:
    schemas = event_schemas(StreamSettings(generation=generation))
    wrong = [
        rating
        for rating in range(100)
        if event_breach("rate", Event("rate", 0, 1, "a+", rating=rating), schemas) is not None
    ]
    assert wrong == [0, *range(best + 1, 100)]


@pytest.mark.parametrize(
    "rules",
    [{"regex": "a"}, {"allowed": [1]}, {"type": "string"}, {"required": True}, {"min": 1, "coerce": int}],
)
def test_a_rule_without_a_column_form_is_an_error_and_never_passed_over(rules: dict[str, Any]) -> None:
    table = table_of("account", [Event("account", 0, 5)])
    with pytest.raises(NotImplementedError, match=r"schema rule"):
        breaches(table, {"user": rules})


def test_an_integer_rule_on_another_column_is_an_error() -> None:
    with pytest.raises(NotImplementedError):
        breaches(pa.table({"user": ["1"]}), {"user": {"type": "integer"}})


def test_a_value_that_is_missing_breaks_the_type() -> None:
    table = pa.table({"user": pa.array([None, 5], pa.uint32())})
    [(rule, broken)] = breaches(table, {"user": {"type": "integer"}})
    assert (rule, broken.tolist()) == ("user_type", [True, False])


@pytest.fixture(scope="module", params=GENERATIONS)
def world(request: pytest.FixtureRequest) -> World:
    return World(WorldSettings(users=300, movies=300, generation=request.param))


def test_every_record_of_a_world_is_good(world: World) -> None:
    records = world_records(world)
    for number in range(1, 301):
        assert checked(records.user(str(number)), USER) == (records.user(str(number)), "")
    for name in world.catalogue.ids:
        record, why = checked(orjson.loads(orjson.dumps(records.movie(name))), MOVIE_RECORD)
        assert record is not None, why
        assert record["id"] == name
        assert record["runtime"] is None or record["runtime"] >= 1


REAL_USER = {"user_id": 43575, "age": 28, "occupation": "executive/managerial", "gender": "M"}
TEXTS = {"self_description_likes": None, "self_description_dislikes": "long films"}
MOVIE: dict[str, Any] = {
    "id": "amlie+2001", "tmdb_id": 194, "imdb_id": "tt0211915", "title": "Amélie", "original_title": "Le Fabuleux",
    "adult": "False", "belongs_to_collection": {}, "budget": "10000000", "genres": [{"id": 35, "name": "Comedy"}],
    "homepage": "null", "original_language": "fr", "overview": "…", "popularity": "12.8794", "poster_path": "/x.jpg",
    "production_companies": [], "production_countries": [], "release_date": "2001-04-25", "revenue": "173921954",
    "runtime": 122, "spoken_languages": [], "status": "Released", "vote_average": "7.8", "vote_count": "3403",
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, TEXTS])
def test_a_user_of_either_generation_is_good(more: dict[str, Any]) -> None:
    assert checked({**REAL_USER, **more}, USER) == ({**REAL_USER, **more}, "")


@pytest.mark.parametrize("more", [{}, {"cost": "3.5"}])
def test_a_movie_of_either_generation_is_good_and_its_numbers_become_numbers(more: dict[str, Any]) -> None:
    record, why = checked({**MOVIE, **more}, MOVIE_RECORD)
    assert record is not None, why
    numbers = {"budget": 10_000_000, "popularity": 12.8794, "revenue": 173_921_954, "runtime": 122, "vote_count": 3403}
    assert {name: record[name] for name in numbers} == numbers
    assert (record["homepage"], record["belongs_to_collection"], record["adult"]) == (None, None, "False")
    assert record.get("cost") == (3.5 if more else None)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("runtime", 0, None), ("runtime", None, None), ("runtime", "0", None), ("runtime", "95", 95),
        ("runtime", "95.0", 95), ("runtime", "", None), ("budget", "0", None), ("revenue", "0", None),
        ("homepage", "null", None), ("homepage", "", None), ("homepage", "http://a", "http://a"),
        ("release_date", "null", None), ("belongs_to_collection", {}, None), ("belongs_to_collection", "null", None),
        ("belongs_to_collection", {"id": "1"}, {"id": "1"}), ("genres", [], []), ("popularity", "", None),
        ("popularity", "0", 0.0), ("vote_average", 7.5, 7.5), ("vote_count", "0", 0), ("title", None, None),
    ],
)  # fmt: skip
def test_what_the_service_says_for_unknown_becomes_none(field: str, value: object, expected: object) -> None:
    record, why = checked({**MOVIE, field: value}, MOVIE_RECORD)
    assert record is not None, why
    assert record[field] == expected


def test_a_movie_that_says_nothing_but_its_id_is_good() -> None:
    assert checked({"id": "endeavour+"}, MOVIE_RECORD) == ({"id": "endeavour+", "genres": []}, "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_id", 0), ("user_id", "x"), ("user_id", None), ("user_id", 1.5), ("user_id", [1]),
        ("age", 7), ("age", 91), ("age", "old"), ("age", {}), ("age", "1e999"), ("age", "nan"), ("age", None),
        ("gender", "X"), ("gender", "m"), ("gender", None), ("gender", 5), ("occupation", 7),
        ("self_description_likes", []),
    ],
)  # fmt: skip
def test_a_user_with_a_wrong_value_is_refused_with_the_name_of_the_field(field: str, value: object) -> None:
    record, why = checked({**REAL_USER, field: value}, USER)
    assert record is None
    assert why.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "Amélie 2001"), ("id", "amlie"), ("id", 5), ("id", "a" * 400 + "+2001"), ("id", None),
        ("runtime", -5), ("runtime", "long"), ("runtime", [90]), ("genres", "Comedy"), ("genres", [{"id": 1}]),
        ("genres", ["Comedy"]), ("genres", [{"id": 35, "name": None}]), ("popularity", "high"),
        ("budget", "ten"), ("belongs_to_collection", "a text"), ("homepage", 5), ("vote_count", {"a": 1}),
    ],
)  # fmt: skip
def test_a_movie_with_a_wrong_value_is_refused_with_the_name_of_the_field(field: str, value: object) -> None:
    record, why = checked({**MOVIE, field: value}, MOVIE_RECORD)
    assert record is None
    assert why.startswith(f"{field}: ")


@pytest.mark.parametrize("missing", ["user_id", "age", "gender"])
def test_a_user_without_what_is_needed_is_refused(missing: str) -> None:
    record, why = checked({name: value for name, value in REAL_USER.items() if name != missing}, USER)
    assert (record, why) == (None, f"{missing}: required field")


@pytest.mark.parametrize("record", [None, [], [REAL_USER], "user not found", 5, True])
def test_what_is_no_object_is_refused(record: object) -> None:
    assert checked(record, USER)[0] is None
    assert "not an object" in checked(record, MOVIE_RECORD)[1]


@pytest.mark.parametrize("schema", [USER, MOVIE_RECORD])
def test_a_message_is_no_record(schema: Schema) -> None:
    assert checked({"message": "user not found"}, schema)[0] is None


json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@pytest.mark.parametrize(("schema", "good"), [(USER, REAL_USER), (MOVIE_RECORD, MOVIE)])
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_no_value_in_any_field_is_an_exception(schema: Schema, good: dict[str, Any], data: st.DataObject) -> None:
    field, value = data.draw(st.sampled_from(sorted(schema))), data.draw(json)
    before = repr(value)
    record, why = checked({**good, field: value}, schema)
    assert (record is None) == bool(why)
    assert repr(value) == before


@pytest.mark.parametrize("field", ["budget", "revenue", "vote_count", "runtime"])
def test_a_good_record_can_be_stored_as_json(field: str) -> None:
    record, why = checked({**MOVIE, field: "9" * 30}, MOVIE_RECORD)
    assert why or orjson.dumps(record)
