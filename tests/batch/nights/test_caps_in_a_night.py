"""What a night publishes keeps to the caps for every user, whatever is hidden; the next night follows other records."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch.errors import BatchError
from batch.nights.runner import STEPS
from quality.catalog import Catalog, Record
from server.answers import Answers
from server.release import MINORS, Release
from tests.batch.nights.small_nights import night, run

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
STRANGER = 999_999


def keep(var: Path, subject: Any, records: dict[str, Record]) -> None:
    Catalog(var).keep(subject, [(name, "known", record, "") for name, record in records.items()])


def popular_movies(release: Release, count: int) -> list[str]:
    return [release.movies[item] for item in release.fallbacks[0, :count].tolist()]


def plant(var: Path, adult: Collection[str], dear: Collection[str] = ()) -> dict[int, int]:
    """Let some movies be adult, and some cost 9; every second user is 15. Returns the ages."""
    movies = Catalog(var).records("movie")
    facts = {name: {"adult": name in adult, "cost": 9.0 if name in dear else 1.0} for name in movies}
    keep(var, "movie", {name: {**record, **facts[name]} for name, record in movies.items()})
    users = Catalog(var).records("user")
    ages = {int(name): 15 if number % 2 else 40 for number, name in enumerate(sorted(users, key=int))}
    keep(var, "user", {name: {**record, "age": ages[int(name)]} for name, record in users.items()})
    return ages


def shown(release: Release, hidden: Collection[str] = ()) -> dict[int, set[str]]:
    """What each user, and a stranger, is answered."""
    answers = Answers(release, frozenset(hidden))
    return {user: set(answers.find(user)[0].decode().split(",")) for user in [*release.users.tolist(), STRANGER]}


@pytest.fixture
def first(var: Path) -> Release:
    """A release of a night that knows of no adult movie."""
    plant(var, ())
    run(night(var, model="popular"))
    return Release.open(var / "releases" / "current")


@pytest.mark.parametrize("model", ["popular", "segment", "als"])
def test_no_minor_gets_an_adult_movie_and_no_user_a_dear_one(first: Release, var: Path, model: str) -> None:
    popular = popular_movies(first, 60)
    adult, dear = popular[:60:3], popular[1:60:3]
    ages = plant(var, adult, dear)
    run(night(var, model=model, max_cost=5.0))
    release = Release.open(var / "releases" / "current")
    minors = {user for user in release.users.tolist() if ages[user] < 18}
    assert set(release.manifest.restricted) == {*adult, *dear}
    assert np.load(release.folder / MINORS).tolist() == [user in minors for user in release.users.tolist()]
    first_twenty = popular_movies(release, 20)
    for hidden in ((), first_twenty, popular_movies(release, 100)):
        answers = shown(release, hidden)
        assert all(movies.isdisjoint(hidden) for movies in answers.values())
        assert len(hidden) > 20 or all(len(movies) == 20 for movies in answers.values())
        assert all(movies.isdisjoint(dear) for movies in answers.values())
        assert all(answers[user].isdisjoint(adult) for user in (*minors, STRANGER))
    of_age = [movies for user, movies in shown(release).items() if ages.get(user, 0) >= 18]
    assert sum(not movies.isdisjoint(adult) for movies in of_age) > len(of_age) / 2
    similar = Answers(release).similar(adult[0], 20)
    assert similar is not None
    assert (len(similar), set(similar).isdisjoint([*adult, *dear])) == (20, True)


def test_the_next_night_follows_other_flags_and_ages(first: Release, var: Path) -> None:
    popular = popular_movies(first, 10)
    ages = plant(var, popular[:5])
    run(night(var, model="popular"))
    plant(var, popular[5:])
    users = Catalog(var).records("user")
    swapped = {user: 55 - age for user, age in ages.items()}
    keep(var, "user", {name: {**record, "age": swapped[int(name)]} for name, record in users.items()})
    run(night(var, model="popular"))
    answers = shown(Release.open(var / "releases" / "current"))
    for user, movies in answers.items():
        if swapped.get(user, 0) < 18:
            assert movies.isdisjoint(popular[5:])
    assert any(not movies.isdisjoint(popular[:5]) for user, movies in answers.items() if swapped.get(user, 0) < 18)
    assert any(not movies.isdisjoint(popular[5:]) for user, movies in answers.items() if swapped.get(user, 0) > 18)


def test_lists_that_were_made_under_other_settings_are_refused(first: Release, var: Path) -> None:
    plant(var, popular_movies(first, 10))
    run(night(var, model="popular", adult_share_minors=1.0), "sessions", "history", "evaluate", "train")
    with pytest.raises(Exception, match="lists_keep_to_caps"):
        STEPS["publish"](night(var, model="popular"))


def test_caps_that_leave_nothing_are_an_error_that_names_the_settings(first: Release, var: Path) -> None:
    plant(var, (), first.movies)
    run(night(var, model="popular"), "sessions", "history", "evaluate")
    with pytest.raises(BatchError, match=r"no movie is left for everyone: 0 are adult, \d+ cost too much; raise"):
        STEPS["train"](night(var, model="popular", max_cost=8.99))
