"""What is known of a movie before anyone has watched it: from records of any shape, in the order of the release."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.history.day_store import day_table
from batch.history.movie_content import KINDS, MovieContent, content_of, contents_of, feature_matrix, shown_lists
from quality.catalog import Record

CONTENTS = st.builds(
    MovieContent,
    id=st.just("a+1999"),
    genres=st.lists(st.sampled_from(["Drama", "Comedy", "War"]), unique=True),
    language=st.none() | st.sampled_from(["en", "fr"]),
    year=st.none() | st.integers(1000, 9999),
    collection=st.none() | st.sampled_from(["1", "2"]),
)


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        ("a+1999", {}, {"year": 1999}),
        ("a+", {"release_date": "2021-05-03"}, {"year": 2021}),
        ("a+1999", {"release_date": "2021"}, {"year": 2021}),
        ("a+1999", {"release_date": "soon"}, {"year": 1999}),
        ("a+", {"release_date": None, "genres": ["War", "Drama", "War"]}, {"genres": ["Drama", "War"]}),
        ("a+", {"original_language": "fr"}, {"language": "fr"}),
        ("a+", {"original_language": 7}, {}),
        ("a+", {"belongs_to_collection": {"id": 5, "name": "All of A"}}, {"collection": "5"}),
        ("a+", {"belongs_to_collection": {"name": "All of A"}}, {}),
        ("a+", {"belongs_to_collection": None}, {}),
    ],
)
def test_content_comes_from_what_a_record_has(name: str, record: Record, expected: Record) -> None:
    assert content_of(name, record) == MovieContent(id=name, **expected)


def test_watched_movies_come_first_and_others_in_their_order() -> None:
    records: dict[str, Record] = {name: {"genres": []} for name in ("d+", "b+", "a+")}
    contents = contents_of(["b+", "c+"], records, {"d+": 4, "x+": 1}, {"b+": 7})
    assert [(each.id, each.announced, each.shown) for each in contents] == [
        ("b+", 0, 7), ("c+", 0, 0), ("a+", 0, 0), ("d+", 4, 0),
    ]  # fmt: skip


@given(contents=st.lists(CONTENTS, min_size=1))
def test_the_weights_of_each_kind_add_up_to_one_or_are_missing(contents: list[MovieContent]) -> None:
    names = sorted({name for content in contents for name in content.features})
    matrix = feature_matrix(contents).toarray()
    assert matrix.shape == (len(contents), len(names))
    for kind in KINDS:
        sums = matrix[:, [name.startswith(kind) for name in names]].sum(axis=1)
        assert np.all(np.isclose(sums, 1, atol=1e-6) | (sums == 0))
    for row, content in zip(matrix, contents, strict=True):
        assert {name: weight for name, weight in zip(names, row.tolist(), strict=True) if weight} == pytest.approx(
            content.features, rel=1e-6
        )


def test_only_the_named_features_are_columns() -> None:
    contents = [MovieContent(id="a+", genres=["Drama", "War"]), MovieContent(id="b+")]
    assert feature_matrix(contents, ["genre:War", "genre:Western"]).toarray().tolist() == [[0.5, 0], [0, 0]]


def test_lists_are_counted_over_days() -> None:
    rows = [{"movie": ["a+", "b+"], "lists": [3, 1]}, {"movie": ["b+"], "lists": [5]}]
    days = [day_table("shown", columns) for columns in rows]
    assert shown_lists(days[0]) == {"a+": 3, "b+": 1}
    assert shown_lists(pa.concat_tables(days).unify_dictionaries()) == {"a+": 3, "b+": 6}
    assert shown_lists(days[0].slice(0, 0)) == {}
