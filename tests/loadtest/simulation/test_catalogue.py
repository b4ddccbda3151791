"""The made catalogue looks like the real one, and its ids are formed by the service's rule."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.simulation.catalogue import Catalogue, make_catalogue, movie_id

REAL_MOVIES = Path(__file__).parents[4] / "shared/real/movies.csv"
MOVIES = 4_000


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(MOVIES, seed=1)


@given(title=st.text(), year=st.none() | st.integers(1880, 2100))
def test_any_title_makes_a_legal_id(title: str, year: int | None) -> None:
    made_id = movie_id(title, year)
    assert re.fullmatch(r"[a-z0-9+\-._*]+", made_id)
    assert made_id.endswith("+" if year is None else f"+{year}")


@given(title=st.text(alphabet="abcXYZ '’:!,-.é"), year=st.integers(1880, 2100))
def test_an_id_is_one_word_for_each_word_of_the_title(title: str, year: int) -> None:
    assert movie_id(title, year).count("+") == title.count(" ") + 1
    assert movie_id(title, year).count("_") == title.count(",")
    assert movie_id(title.upper().replace("É", "é"), year) == movie_id(title, year)


@pytest.mark.parametrize(
    ("title", "year", "expected"),
    [
        ("You, the Living", 2007, "you_+the+living+2007"),
        ("M*A*S*H", 1970, "m*a*s*h+1970"),
        ("Amélie", 2001, "amlie+2001"),
        ("À nos amours", 1983, "+nos+amours+1983"),
        ("Flesh + Blood", 1985, "flesh++blood+1985"),
        ("Mr. Deeds Goes to Town", 1936, "mr.+deeds+goes+to+town+1936"),
        ("Star Wars: Episode III - Revenge of the Sith", 2005, "star+wars+episode+iii+-+revenge+of+the+sith+2005"),
        ("Endeavour", None, "endeavour+"),
        ("Το ξύλο βγήκε από τον παράδεισο", 1959, "++++++1959"),
    ],
)
def test_ids_that_the_service_was_seen_to_use(title: str, year: int | None, expected: str) -> None:
    assert movie_id(title, year) == expected


@pytest.mark.skipif(not REAL_MOVIES.exists(), reason=f"NO REAL RECORDS: {REAL_MOVIES} is missing")
def test_real_titles_make_real_ids() -> None:
    with REAL_MOVIES.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["title"]]
    right = sum(movie_id(row["title"], int(row["year"]) if row["year"] else None) == row["id"] for row in rows)
    # The other titles lost their commas before they came into the file.
    assert right / len(rows) > 0.996


def test_ids_are_unique_and_legal_and_as_odd_as_real_ones(catalogue: Catalogue) -> None:
    assert len(set(catalogue.ids)) == len(catalogue.ids) == len(catalogue) == MOVIES
    assert all(re.fullmatch(r"[a-z0-9+\-._*]+", name) for name in catalogue.ids)
    assert 0 < sum(name.endswith("+") for name in catalogue.ids) < 0.004 * MOVIES
    for odd in ("_", "*", "-", "."):
        assert any(odd in name for name in catalogue.ids), odd
    assert any(not title.isascii() for title in catalogue.titles)
    assert all(catalogue.ids[row] == name for name, row in catalogue.index.items())


def test_ids_follow_from_titles_and_years(catalogue: Catalogue) -> None:
    for title, year, name in zip(catalogue.titles, catalogue.years.tolist(), catalogue.ids, strict=True):
        assert name == movie_id(title, None if name.endswith("+") else year)


def test_a_catalogue_is_made_from_its_seed_alone() -> None:
    first, same, other = make_catalogue(300, seed=7), make_catalogue(300, seed=7), make_catalogue(300, seed=8)
    assert [first.record(i) for i in range(300)] == [same.record(i) for i in range(300)]
    assert np.array_equal(first.popularity, same.popularity)
    assert first.ids != other.ids
    assert not np.array_equal(first.popularity, other.popularity)


def test_a_sequel_follows_its_predecessor(catalogue: Catalogue) -> None:
    before = np.flatnonzero(catalogue.successor >= 0)
    after = catalogue.successor[before]
    assert 0.1 < before.size / MOVIES < 0.3
    assert np.array_equal(catalogue.series[before], catalogue.series[after])
    assert np.array_equal(catalogue.genres[before], catalogue.genres[after])
    assert (catalogue.years[after] >= catalogue.years[before]).all()
    assert (catalogue.years[after] > catalogue.years[before]).mean() > 0.8


def test_a_few_movies_draw_most_visits_but_not_all(catalogue: Catalogue) -> None:
    largest_first = np.sort(catalogue.popularity)[::-1]
    assert largest_first.sum() == pytest.approx(1.0)
    assert 0.1 < largest_first[:20].sum() < 0.35
    assert 0.4 < largest_first[: MOVIES // 10].sum() < 0.8


def test_genres_are_one_to_three_and_differ(catalogue: Catalogue) -> None:
    count = (catalogue.genres >= 0).sum(axis=1)
    assert set(count.tolist()) == {1, 2, 3}
    assert all(len(set(row[row >= 0])) == number for row, number in zip(catalogue.genres, count, strict=True))


def test_runtimes_may_be_unknown_while_the_movie_has_a_length(catalogue: Catalogue) -> None:
    assert {0, -1} < set(catalogue.listed_runtime.tolist())
    assert (catalogue.length_min > 0).all()
    known = catalogue.listed_runtime > 0
    assert np.array_equal(catalogue.listed_runtime[known], catalogue.length_min[known])
    assert 0.95 < known.mean() < 1.0
    assert 85 < np.median(catalogue.length_min) < 110
    assert 0 < (catalogue.length_min > 1_000).sum() < 0.005 * MOVIES


def test_records_are_shaped_as_the_service_shapes_them(catalogue: Catalogue) -> None:
    for i in range(0, MOVIES, 7):
        record = catalogue.record(i)
        assert len(record) == 24
        assert record["id"] == catalogue.ids[i]
        assert isinstance(record["tmdb_id"], int)
        assert record["runtime"] is None or isinstance(record["runtime"], int)
        assert record["adult"] in ("True", "False")
        for number in ("budget", "revenue", "popularity", "vote_average", "vote_count"):
            assert isinstance(record[number], str)
            assert float(record[number]) >= 0
        assert float(record["vote_average"]) <= 10
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["release_date"])
        assert all(set(genre) == {"id", "name"} for genre in record["genres"])
        assert (record["belongs_to_collection"] == {}) == (catalogue.series[i] < 0)


def test_movies_of_a_series_share_their_collection(catalogue: Catalogue) -> None:
    row = int(np.flatnonzero(catalogue.successor >= 0)[0])
    collections = [catalogue.record(i)["belongs_to_collection"] for i in (row, int(catalogue.successor[row]))]
    assert collections[0] == collections[1] != {}


def test_good_movies_have_good_votes(catalogue: Catalogue) -> None:
    votes = [float(catalogue.record(i)["vote_average"]) for i in range(1_000)]
    assert np.corrcoef(votes, catalogue.quality[:1_000])[0, 1] > 0.7


def test_records_of_2022_have_no_cost_and_no_adult_movie() -> None:
    old = make_catalogue(400, seed=1, generation="2022")
    assert "cost" not in old.record(0)
    assert {old.record(i)["adult"] for i in range(400)} == {"False"}


def test_one_movie_in_a_hundred_is_adult_and_what_is_watched_more_costs_more() -> None:
    catalogue = make_catalogue(3_000, seed=1)
    records = [catalogue.record(i) for i in range(3_000)]
    assert 0.005 < np.mean([record["adult"] == "True" for record in records]) < 0.02
    costs = np.array([np.nan if record["cost"] == "null" else float(record["cost"]) for record in records])
    assert (0.01 < np.isnan(costs).mean() < 0.03, 0.01 < (costs == 0).mean() < 0.06) == (True, True)
    known = ~np.isnan(costs)
    assert 1.0 < costs[known].mean() < np.average(costs[known], weights=catalogue.popularity[known]) < 6.0
    assert len(set(costs[known])) > 5
