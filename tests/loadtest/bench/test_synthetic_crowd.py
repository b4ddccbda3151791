"""The synthetic crowd of `night`: its visits, what it has seen, and how its taste changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from loadtest.bench.night.synthetic_crowd import AGAIN_SHARE, Marks
from stream.zone import DAY_MS
from tests.loadtest.small_crowd import BEGINS, make_crowd


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**20 - 1), st.integers(0, 26_999)), max_size=60))
def test_seen_movies_are_marked(pairs: list[tuple[int, int]]) -> None:
    users, movies = np.array(pairs, np.int64).reshape(-1, 2).T
    marks = Marks(27_000)
    assert not marks.seen(users, movies).any()
    marks.add(users, movies)
    assert marks.seen(users, movies).all()


def test_few_unseen_movies_are_marked() -> None:
    rng, marks = np.random.default_rng(1), Marks(27_000)
    marks.add(rng.integers(0, 10**6, 10**5), rng.integers(0, 27_000, 10**5))
    assert marks.seen(rng.integers(0, 10**6, 10**5), rng.integers(0, 27_000, 10**5)).mean() < 0.001


def test_days_of_a_crowd() -> None:
    people = make_crowd()
    days = [people.day(BEGINS + number * DAY_MS, 2_000) for number in range(6)]
    for number, visits in enumerate(days):
        assert len(visits.users) == pytest.approx(2_000, rel=0.1)
        assert (np.diff(visits.starts) >= 0).all()
        assert ((visits.starts - BEGINS) // DAY_MS == number).all()
        assert (visits.starts % 1000 == 0).all()
        assert (visits.minutes >= 1).all()
        assert (visits.minutes <= people.catalogue.length_min[visits.movies] * 1.05 + 5).all()
    users, movies = (np.concatenate([getattr(visits, name) for visits in days]) for name in ("users", "movies"))
    again = len(users) - len(set(zip(users.tolist(), movies.tolist(), strict=True)))
    assert 0 < again < 2 * AGAIN_SHARE * len(users)
    visits_a_user = np.sort(np.bincount(users, minlength=2_000))
    assert visits_a_user[-200:].sum() > 0.25 * len(users)  # a tenth of the users does more than a quarter
    top = [set(np.argsort(-np.bincount(visits.movies, minlength=400))[:40].tolist()) for visits in (days[0], days[5])]
    assert 4 < len(top[0] & top[1]) < 40  # what is popular changes, and not altogether


def test_nobody_sees_a_movie_twice_within_two_days() -> None:
    people = make_crowd(users=200, movies=60)
    days = [people.day(BEGINS + day * DAY_MS, 1_200) for day in range(2)]  # `again` looks two days back
    users, movies = (np.concatenate([getattr(visits, name) for visits in days]) for name in ("users", "movies"))
    assert np.unique(users.astype(np.int64) * 60 + movies).size == users.size > 1_500


def test_popularity_changes_from_day_to_day() -> None:
    people, charts = make_crowd(), []
    for day in range(4):
        people.day(BEGINS + day * DAY_MS, 100)
        charts.append(np.log(people._urns.share[:400]))
    moved = [charts[day] - charts[0] for day in (1, 3)]
    # movies that are talked about take from all others alike, which changes nothing among these
    spread = [float(np.median(np.abs(move - np.median(move)))) for move in moved]
    assert 0.05 < spread[0] < spread[1] < 1


def test_the_next_movie_is_often_related_to_the_last() -> None:
    people = make_crowd()
    order = np.concatenate([np.stack(people.day(BEGINS + day * DAY_MS, 4_000)[:2]) for day in range(4)], axis=1)
    users, movies = order[:, np.argsort(order[0], kind="stable")]
    same = users[1:] == users[:-1]
    last, following = movies[:-1][same], movies[1:][same]
    sequels = people.catalogue.successor[last]
    assert (sequels == following)[sequels >= 0].mean() > 0.15
    assert (people._related[last] == following[:, None]).any(axis=1).mean() > 0.12
    assert (people._related[last] == np.roll(following, 1)[:, None]).any(axis=1).mean() < 0.09
