"""What many users watched is a movie; a wrong spelling of it is none, however often it occurs."""

from collections import defaultdict

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.history.proven_movies import proven_movies

Rows = list[tuple[int, str]]


def table(rows: Rows) -> pa.Table:
    """Sessions of users (uint32) and movies."""
    users, movies = ([row[at] for row in rows] for at in (0, 1))
    columns = {"user": pa.array(users, pa.uint32()), "movie": pa.array(movies, pa.string()).dictionary_encode()}
    return pa.table(columns).combine_chunks()


def watched(movie: str, users: int) -> Rows:
    return [(2**32 - 1 - user, movie) for user in range(users)]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), max_size=30), st.sets(st.sampled_from("abc")))
def test_a_movie_is_proven_by_different_users_unless_the_api_has_answered(rows: Rows, answered: set[str]) -> None:
    users = defaultdict(set)
    for user, movie in rows:
        users[movie].add(user)
    expected = sorted(movie for movie, own in users.items() if len(own) >= 3 and movie not in answered)
    assert proven_movies(table(rows), answered, 3) == expected


def test_an_id_with_a_character_too_many_is_none_beside_a_hundred_times_as_many_users() -> None:
    wrong = ["xaliens+1986", "aliens+19986", "aliens+1986-"]
    rows = [*watched("aliens+1986", 1_001), *(row for name in wrong for row in watched(name, 10))]
    assert proven_movies(table(rows), set(), 10) == ["aliens+1986"]
    assert proven_movies(table(rows), {"aliens+1986"}, 10) == []  # it is the right one, whoever knows it
    assert proven_movies(table(rows[1:]), set(), 10) == sorted(["aliens+1986", *wrong])


def test_a_character_too_few_or_another_one_makes_another_movie() -> None:
    rows = [*watched("aliens+1986", 2_000), *watched("alien+1986", 10), *watched("alieny+1986", 10)]
    assert proven_movies(table(rows), set(), 10) == ["alien+1986", "aliens+1986", "alieny+1986"]


def test_nothing_proves_nothing() -> None:
    assert proven_movies(table([]), set(), 1) == []
