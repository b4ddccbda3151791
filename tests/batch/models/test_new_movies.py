"""New movies in lists: within their budget, for those whom they suit, and never what a user has seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.history.interactions import Interactions
from batch.history.list_facts import ListFacts
from batch.history.movie_content import MovieContent
from batch.models.content_regression import ContentRegression
from batch.models.list_caps import ListCaps
from batch.models.new_movies import NewMovieBudget, suitability, tried_movies, with_new_movies
from batch.settings import BatchSettings

GENRES = ("Action", "Comedy", "Drama", "War")
WATCHED = 60
BUDGET = NewMovieBudget.of(BatchSettings())


def history(users: int, seed: int, unwatched: int = 8) -> tuple[Interactions, list[MovieContent], np.ndarray]:
    """Users who mostly watch one genre, movies whose number says the genre, and lists of the first unseen movies."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        weights = np.where(np.arange(WATCHED) % len(GENRES) == user % len(GENRES), 8.0, 1.0)
        rows.append(rng.choice(WATCHED, rng.integers(0, 12), replace=False, p=weights / weights.sum()))
    movies = np.concatenate(rows).astype(np.int32)
    lists = np.full((users, 20), -1, np.int32)
    for user, own in enumerate(rows):
        if len(own):
            lists[user] = np.setdiff1d(rng.permutation(WATCHED), own, assume_unique=True)[:20]
    data = Interactions(
        indptr=np.concatenate([[0], np.cumsum([len(own) for own in rows])]),
        movies=movies,
        starts=np.arange(len(movies)),
        weights=np.ones(len(movies), np.float32),
        popularity=np.bincount(movies, minlength=WATCHED).astype(float),
        segments=np.zeros(users, np.uint8),
        until=len(movies),
    )
    contents = [MovieContent(id=f"m{number}+", genres=[GENRES[number % len(GENRES)]], announced=max(0, number - 63))
                for number in range(WATCHED + unwatched)]  # fmt: skip
    return data, contents, lists


def filled(
    data: Interactions, contents: list[MovieContent], lists: np.ndarray, budget: NewMovieBudget, least: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The tried movies, and the lists with them."""
    users = np.bincount(data.movies, minlength=WATCHED)
    tried = tried_movies(contents, users, {"m62+"}, ContentRegression(contents, users), budget)
    return tried, with_new_movies(lists.copy(), data, contents, tried, least, budget)


@settings(max_examples=40, deadline=None)
@given(
    users=st.integers(1, 80),
    seed=st.integers(0, 1000),
    places=st.integers(0, 20),
    reach=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    starts=st.integers(1, 20),
    least=st.integers(0, 5),
)
def test_lists_stay_within_the_budget_and_else_as_they_were(
    users: int, seed: int, places: int, reach: float, starts: int, least: int
) -> None:
    data, contents, lists = history(users, seed)
    budget = NewMovieBudget(places, reach, starts, 500)
    tried, new_lists = filled(data, contents, lists, budget, least)
    assert 62 not in tried
    seen = data.matrix.toarray() > 0
    added = np.zeros(len(contents), np.int64)
    for user in range(users):
        before, after = lists[user].tolist(), [movie for movie in new_lists[user].tolist() if movie >= 0]
        own = [movie for movie in after if movie not in before]
        added[own] += 1
        assert len(after) == len(set(after)) == (20 if before[0] >= 0 else 0)
        assert len(own) <= places
        assert set(own) <= set(tried.tolist())
        assert [movie for movie in after if movie in before] == before[: len(after) - len(own)]
        assert not any(seen[user, movie] for movie in own if movie < WATCHED)
        if seen[user].sum() < max(least, 1):
            assert new_lists[user].tolist() == before
        assert after[:10] == before[: len(after[:10])]
    eligible = int((np.diff(data.indptr) >= max(least, 1)).sum())
    assert added.max(initial=0) <= budget.users_of_one(eligible)
    assert np.array_equal(filled(data, contents, lists, budget, least)[1], new_lists)


def test_a_movie_reaches_those_who_watch_its_genre() -> None:
    data, contents, lists = history(400, 1, unwatched=4)
    tried, new_lists = filled(data, contents, lists, NewMovieBudget(1, 0.1, 20, 500))
    assert {60, 61, 63} <= set(tried.tolist())
    for movie in (60, 61, 63):
        got = np.flatnonzero((new_lists == movie).any(axis=1))
        assert len(got) > 20
        assert (got % len(GENRES) == movie % len(GENRES)).mean() > 0.9


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_minors_get_no_new_movie_that_is_for_adults(share: float) -> None:
    data, contents, lists = history(400, 1, unwatched=4)
    ages, adult = np.tile(np.array([0, 15, 40], np.uint8), 134)[:400], np.zeros(len(contents), np.int8)
    adult[60:62] = 1
    facts = ListFacts(ages, adult, np.full(len(contents), np.nan))
    caps = ListCaps.of(facts, BatchSettings(adult_share_minors=share))
    made = with_new_movies(lists, data, contents, np.array([60, 61, 63]), 0, NewMovieBudget(1, 0.3, 20, 500), caps)
    assert not np.isin(made[ages < 18], [60, 61]).any()
    assert np.isin(made[ages >= 18], [60, 61]).any()
    assert (made[ages < 18] == 63).any()


def test_content_that_nobody_has_watched_suits_nobody() -> None:
    data, contents, lists = history(100, 1)
    contents[60] = MovieContent(id="m60+", genres=["Western"], language="is", announced=99)
    assert not suitability(data, contents, np.array([60])).any()
    tried, new_lists = filled(data, contents, lists, BUDGET)
    assert tried[0] == 60
    assert not (new_lists == 60).any()


def test_the_latest_announced_come_first_then_what_nobody_has_watched() -> None:
    data, contents, _ = history(100, 1)
    users = np.bincount(data.movies, minlength=WATCHED)
    contents = [*contents[:5], MovieContent(id="m5+", genres=["Drama"], announced=50), *contents[6:]]
    users[5] = 19
    budget = NewMovieBudget(1, 0.01, 20, 500)
    regression = ContentRegression(contents, users)
    queue = tried_movies(contents, users, set(), regression, budget).tolist()
    assert queue[:5] == [5, 67, 66, 65, 64]
    assert sorted(queue[5:]) == sorted([*np.flatnonzero(users == 0).tolist(), 60, 61, 62, 63])
    users[5] = 20
    assert tried_movies(contents, users, set(), regression, budget)[0] == 67
    first = tried_movies(contents, users, set(), regression, NewMovieBudget(1, 1.0, 20, 500))
    assert first.tolist() == [67, 66]


def test_what_is_shown_in_vain_leaves_and_each_start_keeps_it() -> None:
    shown, users = np.array([500, 501, 1000, 1001, 0]), np.array([0, 0, 1, 1, 0])
    assert BUDGET.is_given_up(shown, users).tolist() == [False, True, False, True, False]
    data, contents, _ = history(100, 1)
    counts = np.bincount(data.movies, minlength=WATCHED)
    contents[67] = MovieContent(id="m67+", genres=["War"], announced=4, shown=501)
    assert 67 not in tried_movies(contents, counts, set(), ContentRegression(contents, counts), BUDGET)


@pytest.mark.parametrize(("share", "places"), [(0.0, 0), (0.049, 0), (0.05, 1), (0.1, 2), (0.15, 3), (1.0, 20)])
def test_a_share_is_rounded_down_to_places(share: float, places: int) -> None:
    assert NewMovieBudget.of(BatchSettings(new_movie_share=share)).places == places


def test_nobody_gets_a_new_movie_that_they_have_seen() -> None:
    data, contents, lists = history(400, 1)
    contents[5] = MovieContent(id="m5+", genres=[GENRES[1]], announced=99)
    lists[(lists == 5).any(axis=1)] = -1  # the model lists it for some
    tried, new_lists = filled(data, contents, lists, NewMovieBudget(1, 1.0, 400, 500))
    got = (new_lists == 5).any(axis=1)
    assert tried[0] == 5
    assert got.sum() > 20
    assert not (got & (data.matrix[:, [5]].toarray().ravel() > 0)).any()
