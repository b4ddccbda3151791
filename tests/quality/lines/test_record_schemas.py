"""Schemas of API records: good records of both generations pass, others do not."""

import copy
from typing import get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.settings import WorldSettings
from loadtest.simulation.record_api import world_records
from loadtest.simulation.world import World
from quality.catalog import Record
from quality.lines.compiled_schemas import CompiledSchema
from quality.lines.rule_functions import Validator
from quality.lines.schemas import (
    MOVIE_RECORD,
    USER,
    Schema,
    checked,
    usable,
)
from stream.settings import Generation

GENERATIONS: tuple[Generation, ...] = get_args(Generation)


@pytest.fixture(scope="module", params=GENERATIONS)
def world(request: pytest.FixtureRequest) -> World:
    return World(WorldSettings(users=300, movies=300, generation=request.param))


def test_every_record_of_a_simulated_world_is_good(world: World) -> None:
    records = world_records(world)
    for number in range(1, 301):
        record, why = checked(user := records.user(str(number)), USER)
        assert user is not None
        assert record is not None, why
        assert {name: record[name] for name in user if name not in TEXTS} == {
            name: value for name, value in user.items() if name not in TEXTS
        }
    for name in world.catalogue.ids:
        record, why = checked(orjson.loads(orjson.dumps(records.movie(name))), MOVIE_RECORD)
        assert record is not None, why
        assert record["id"] == name
        assert record["runtime"] is None or record["runtime"] >= 1


REAL_USER = {"user_id": 43575, "age": 28, "occupation": "executive/managerial", "gender": "M"}
TEXTS = {"self_description_likes": None, "self_description_dislikes": "long films"}
MOVIE: Record = {
    "id": "amlie+2001", "tmdb_id": 194, "imdb_id": "tt0211915", "title": "Amélie", "original_title": "Le Fabuleux",
    "adult": "False", "belongs_to_collection": {}, "budget": "10000000", "genres": [{"id": 35, "name": "Comedy"}],
    "homepage": "null", "original_language": "fr", "overview": "…", "popularity": "12.8794", "poster_path": "/x.jpg",
    "production_companies": [], "production_countries": [], "release_date": "2001-04-25", "revenue": "173921954",
    "runtime": 122, "spoken_languages": [], "status": "Released", "vote_average": "7.8", "vote_count": "3403",
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, TEXTS])
def test_a_user_of_either_generation_is_good(more: Record) -> None:
    assert checked({**REAL_USER, **more}, USER) == ({**REAL_USER, **more}, "")


@pytest.mark.parametrize("more", [{}, {"cost": "3.5"}])
def test_a_movie_of_either_generation_is_good_and_its_numbers_are_parsed(more: Record) -> None:
    record, why = checked({**MOVIE, **more}, MOVIE_RECORD)
    assert record is not None, why
    numbers = {"budget": 10_000_000, "popularity": 12.8794, "revenue": 173_921_954, "runtime": 122, "vote_count": 3403}
    assert {name: record[name] for name in numbers} == numbers
    assert (record["homepage"], record["belongs_to_collection"], record["adult"]) == (None, None, False)
    assert record.get("cost") == (3.5 if more else None)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("runtime", 95.0, 95), ("runtime", 0.0, None), ("runtime", "null", None), ("budget", "null", None),
        ("budget", 12.0, 12), ("revenue", "null", None), ("revenue", 0.0, None), ("popularity", "null", None),
        ("vote_average", "null", None), ("vote_count", "null", None), ("vote_count", 12.0, 12),
        ("cost", "null", None), ("cost", 3, 3), ("cost", "", None), ("cost", "0", 0.0), ("cost", " 1e2 ", 100.0),
        ("cost", 1_000_000, 1_000_000), ("adult", "True", True), ("adult", " false", False), ("adult", True, True),
        ("adult", "null", None), ("adult", "", None), ("adult", None, None),
        ("runtime", 0, None), ("runtime", None, None), ("runtime", "0", None), ("runtime", "95", 95),
        ("runtime", "95.0", 95), ("runtime", "", None), ("budget", "0", None), ("revenue", "0", None),
        ("homepage", "null", None), ("homepage", "", None), ("homepage", "http://a", "http://a"),
        ("release_date", "null", None), ("belongs_to_collection", {}, None), ("belongs_to_collection", "null", None),
        ("belongs_to_collection", {"id": "1"}, {"id": "1"}), ("genres", [], []), ("popularity", "", None),
        ("popularity", "0", 0.0), ("vote_average", 7.5, 7.5), ("vote_count", "0", 0), ("title", None, None),
    ],
)  # fmt: skip
def test_the_services_values_for_unknown_become_none(field: str, value: object, expected: object) -> None:
    record, why = checked({**MOVIE, field: value}, MOVIE_RECORD)
    assert record is not None, why
    assert record[field] == expected


def test_a_movie_with_only_an_id_is_good() -> None:
    assert checked({"id": "endeavour+"}, MOVIE_RECORD) == ({"id": "endeavour+", "genres": []}, "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_id", 0), ("user_id", "x"), ("user_id", None), ("user_id", 1.5), ("user_id", [1]),
        ("age", True), ("age", 7), ("age", 91), ("age", "old"), ("age", {}), ("age", "1e999"), ("age", "nan"),
        ("age", None),
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
        ("popularity", True), ("vote_count", True), ("id", "amlie+2001\n"), ("id", "amlie+٢٠٠١"),
    ],
)  # fmt: skip
def test_a_movie_with_a_wrong_value_is_refused_with_the_name_of_the_field(field: str, value: object) -> None:
    record, why = checked({**MOVIE, field: value}, MOVIE_RECORD)
    assert record is None
    assert why.startswith(f"{field}: ")


@pytest.mark.parametrize(("field", "number"), [("user_id", 43575), ("age", 28)])
def test_a_whole_float_is_a_number_of_a_user(field: str, number: int) -> None:
    for value in (float(number), f"{number}.0", str(number)):
        assert repr(checked({**REAL_USER, field: value}, USER)) == repr((REAL_USER, ""))
    assert checked({**REAL_USER, field: "null"}, USER) == (None, f"{field}: null value not allowed")


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        ("runtime", "long", None), ("runtime", 95.5, None), ("vote_average", [], None), ("vote_count", True, None),
        ("budget", "9" * 30, None), ("homepage", 5, None), ("genres", "Comedy", []), ("cost", "dear", None),
        ("cost", -0.01, None), ("cost", "-1", None), ("cost", "NaN", None), ("cost", "inf", None),
        ("cost", 1_000_001, None),
        ("cost", "2,99", None), ("cost", "$2.99", None), ("cost", True, None), ("cost", [2.99], None),
        ("adult", "maybe", None), ("adult", 1, None), ("adult", "1", None), ("adult", [], None),
        ("title", 5, None), ("belongs_to_collection", "a text", None),
    ],
)  # fmt: skip
def test_a_wrong_field_is_unknown_and_the_others_of_the_movie_stay(field: str, value: object, instead: object) -> None:
    record, why = usable({**MOVIE, field: value}, MOVIE_RECORD)
    good = checked(MOVIE, MOVIE_RECORD)[0]
    assert good is not None
    assert record == {**good, field: instead}
    assert why.startswith(f"{field}: ")


def test_several_wrong_fields_are_all_named() -> None:
    record, why = usable({**MOVIE, "runtime": "long", "vote_count": -1}, MOVIE_RECORD)
    assert record is not None
    assert (record["runtime"], record["vote_count"], record["revenue"]) == (None, None, 173_921_954)
    assert [part.partition(":")[0] for part in why.split("; ")] == ["runtime", "vote_count"]


@pytest.mark.parametrize(
    ("record", "schema"),
    [
        ({**MOVIE, "id": 5, "runtime": "long"}, MOVIE_RECORD), ({**REAL_USER, "age": 7}, USER), ([], USER),
        ({**REAL_USER, "gender": "X", "occupation": 7}, USER), ({"message": "user not found"}, USER),
    ],
)  # fmt: skip
def test_a_record_without_what_is_needed_is_of_no_use(record: object, schema: Schema) -> None:
    assert usable(record, schema) == checked(record, schema)
    assert usable(record, schema)[0] is None


def test_a_user_keeps_age_and_gender_beside_a_wrong_occupation() -> None:
    record, why = usable({**REAL_USER, "occupation": 7}, USER)
    assert record == {**REAL_USER, "occupation": None}
    assert why.startswith("occupation: ")


@pytest.mark.parametrize("missing", ["user_id", "age", "gender"])
def test_a_user_without_a_required_field_is_refused(missing: str) -> None:
    record, why = checked({name: value for name, value in REAL_USER.items() if name != missing}, USER)
    assert (record, why) == (None, f"{missing}: required field")


@pytest.mark.parametrize("record", [None, [], [REAL_USER], "user not found", 5, True])
def test_values_other_than_objects_are_refused(record: object) -> None:
    assert checked(record, USER)[0] is None
    assert "not an object" in checked(record, MOVIE_RECORD)[1]


@pytest.mark.parametrize("schema", [USER, MOVIE_RECORD])
def test_a_message_is_not_a_record(schema: Schema) -> None:
    assert checked({"message": "user not found"}, schema)[0] is None


json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@pytest.mark.parametrize(("schema", "good"), [(USER, REAL_USER), (MOVIE_RECORD, MOVIE)])
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_value_in_any_field_is_judged_as_by_cerberus_without_an_exception(
    schema: Schema, good: Record, data: st.DataObject
) -> None:
    values = st.one_of(
        json, st.sampled_from(["null", "", "0", "95", "7.5", "nan", "1e999", 0, 0.0, False, "M", {}, []])
    )
    changes = data.draw(st.dictionaries(st.sampled_from(sorted(schema)), values, max_size=3))
    without = data.draw(st.sets(st.sampled_from(sorted(schema)), max_size=2)) - changes.keys()
    given_record = {name: value for name, value in {**good, **changes}.items() if name not in without}
    before = repr(given_record)
    validator = Validator(schema, allow_unknown=True)
    is_good = validator.validate(copy.deepcopy(given_record))
    record, why = checked(given_record, schema)
    # as text: 1, 1.0 and True differ there, nan and nan do not
    assert (repr(record), why) == (repr(validator.document), "") if is_good else (record is None and why)
    if record is not None:
        assert repr(usable(given_record, schema)) == repr((record, ""))
    elif (kept := usable(given_record, schema)[0]) is not None:
        assert repr(checked(kept, {**schema, "genres": {}})[0]) == repr(kept)  # genres are names already
    assert repr(given_record) == before


@pytest.mark.parametrize("schema", [USER, MOVIE_RECORD])
def test_good_records_do_not_need_cerberus(schema: Schema, world: World) -> None:
    records, predicates = world_records(world), CompiledSchema(schema)
    if schema is USER:
        raw_records = [records.user(str(number)) for number in range(1, 301)]
    else:
        raw_records = [records.movie(name) for name in world.catalogue.ids]
    for record in (orjson.loads(orjson.dumps(raw)) for raw in raw_records):
        assert predicates.accepted(record) is not None


@pytest.mark.parametrize("field", ["budget", "revenue", "vote_count", "runtime"])
def test_a_good_record_can_be_stored_as_json(field: str) -> None:
    record, why = checked({**MOVIE, field: "9" * 30}, MOVIE_RECORD)
    assert why or orjson.dumps(record)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (None, None), ("", None), (" \n\x00\u200b", None), ("long films", "long films"),
        ("  a\x00\x1b[31m,\r\n<b>\u202eb\t ", "a [31m, <b> b"), ("x" * 10_000, "x" * 1_000),
        ("é\U0001f3ac", "é\U0001f3ac"), ("cut \ud83d", "cut ?"), ("\x00" * 10_000 + "late", None),
    ],
)  # fmt: skip
def test_a_self_description_is_one_short_line_without_control_characters(text: str | None, kept: str | None) -> None:
    assert checked({**REAL_USER, "self_description_likes": text}, USER) == (
        {**REAL_USER, "self_description_likes": kept},
        "",
    )


@given(st.text())
def test_what_is_kept_of_a_self_description_is_kept_again(text: str) -> None:
    record, _ = checked({**REAL_USER, "self_description_likes": text}, USER)
    assert record is not None
    assert checked(record, USER) == (record, "")
    orjson.dumps(record)


def test_a_self_description_of_another_type_is_dropped_and_not_named() -> None:
    record, why = usable({**REAL_USER, "self_description_dislikes": ["my secret"]}, USER)
    assert record == {**REAL_USER, "self_description_dislikes": None}
    assert why == "self_description_dislikes: must be of string type"
