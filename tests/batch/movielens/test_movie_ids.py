"""Movie ids of titles: as the service makes them, and one for each movie."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch.movielens.archives import Movie
from batch.movielens.importing import ids_of, movie_id
from stream.grammar import MOVIE, is_movie


def test_ids_of_long_titles_are_short_enough_to_be_served() -> None:
    ids = ids_of([Movie(number, "a" * 500 + f" {number} (1999)", []) for number in range(3)])
    assert len({*ids}) == 3
    assert all(map(is_movie, ids))


def test_a_disambiguated_id_differs_from_every_title() -> None:
    movies = [Movie(1, "Chaos", []), Movie(2, "Chaos ml3", []), Movie(3, "Chaos", [])]
    assert ids_of(movies) == ["chaos+", "chaos+ml3+", "chaos+ml3+ml3+"]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Toy Story (1995)", "toy+story+1995"),
        ("Usual Suspects, The (1995)", "the+usual+suspects+1995"),
        ("City of Lost Children, The (Cité des enfants perdus, La) (1995)", "the+city+of+lost+children+1995"),
        ("M*A*S*H (a.k.a. MASH) (1970)", "m*a*s*h+1970"),
        ("(500) Days of Summer (2009)", "500+days+of+summer+2009"),
        ("You, the Living (2007)", "you_+the+living+2007"),
        ("Amélie (2001)", "amlie+2001"),
        ("À nos amours (1983)", "+nos+amours+1983"),
        ("101 Dalmatians II: Patch's London Adventure (2003)", "101+dalmatians+ii+patchs+london+adventure+2003"),
        ("10th & Wolf (2006)", "10th++wolf+2006"),
        ("Dr. Strangelove (1964) ", "dr.+strangelove+1964"),
        ("Endeavour", "endeavour+"),
        ("Fawlty Towers (1975-1979)", "fawlty+towers+1975"),
        ("The 100 (2014– )", "the+100+2014"),
        ("Avventura, L' (Adventure, The) (1960)", "lavventura+1960"),
        ("", "+"),
        ("(1995)", "+1995"),
    ],
)
def test_a_title_gets_the_id_that_the_service_would_give_it(title: str, expected: str) -> None:
    assert movie_id(title) == expected


@given(st.lists(st.text(st.sampled_from("aAé ,(')1952+-*&:"), max_size=12), max_size=12))
@hypothesis_settings(max_examples=300, deadline=None)
def test_ids_are_well_formed_and_all_different_and_the_first_of_a_title_has_the_plain_one(titles: list[str]) -> None:
    movies = [Movie(number, title, []) for number, title in enumerate(titles, 1)]
    ids = ids_of(movies)
    assert len(set(ids)) == len(ids) == len(titles)
    assert all(MOVIE.fullmatch(name) for name in ids)
    for place, movie in enumerate(movies):
        if movie_id(movie.title) not in ids[:place]:
            assert ids[place] == movie_id(movie.title)
