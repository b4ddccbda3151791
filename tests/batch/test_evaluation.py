"""Evaluation: what is told of a model is what it did on hours it had not seen, and nothing of these hours leaks."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from batch.errors import NotEnoughData
from batch.evaluate import candidates, cut, evaluate
from batch.interactions import History
from batch.segments import NAMES
from batch.sessions import SESSION_TYPES
from batch.settings import BatchSettings
from stream.zone import HOUR_MS

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")

USERS, MOVIES, HOURS = 200, 60, 240
SETTINGS = BatchSettings(factors=8, iterations=6, test_hours=24)
END = HOURS * HOUR_MS
Starts = Sequence[tuple[int, int, int]]
"""User index, movie, hour."""


def history(starts: Starts, users: int = USERS) -> History:
    table = np.array(list(starts), np.int64).reshape(-1, 3)
    frame = pd.DataFrame(
        {
            "user": table[:, 0] + 1,
            "movie": table[:, 1],
            "start": table[:, 2] * HOUR_MS,
            "last": table[:, 2] * HOUR_MS,
            "minutes": 90,
        }
    ).astype(SESSION_TYPES)
    ratings = pd.DataFrame({name: np.zeros(0, np.int64) for name in ("user", "movie", "time", "rating")})
    return History(frame, ratings, np.arange(1, users + 1, dtype=np.uint32), np.full(MOVIES, 90.0), 5)


def planted(seed: int = 2, by_taste: bool = True) -> list[tuple[int, int, int]]:
    """Every user starts 20 different movies, of one half of the catalogue if by taste, at any hour."""
    rng, found = np.random.default_rng(seed), []
    for user in range(USERS):
        movies = rng.permutation(30)[:20] + 30 * (user % 2) if by_taste else rng.permutation(MOVIES)[:20]
        found += [(user, int(movie), int(rng.integers(HOURS))) for movie in movies]
    return found


def test_a_planted_taste_is_worth_more_than_popularity() -> None:
    segments = (1 + np.arange(USERS) % 2).astype(np.uint8)
    told: list[int] = []
    found = evaluate(history(planted()), segments, SETTINGS, told.append)
    test = found["slices"]["test"]["models"]
    assert (found["chosen"], found["chosen_by"]) == ("als", "ndcg@20 on the choice slice")
    assert test["als"]["ndcg@20"]["mean"] > 1.3 * test["popular"]["ndcg@20"]["mean"]
    assert found["against_popular"]["low"] > 0
    assert sum(told) == 4
    assert found["slices"]["choice"]["until_ms"] == found["slices"]["test"]["from_ms"] == 215 * HOUR_MS + 1
    by_segment = test["als"]["segments"]
    assert set(by_segment) == {NAMES[1], NAMES[2]}
    assert sum(part["users"] for part in by_segment.values()) == test["als"]["users"]


def test_without_taste_the_difference_to_popularity_is_not_told_as_one() -> None:
    found = evaluate(history(planted(by_taste=False)), np.zeros(USERS, np.uint8), SETTINGS, lambda _: None)
    assert found["against_popular"]["low"] <= 0
    assert set(found["slices"]["test"]["models"]["popular"]["segments"]) == {"no segment"}


@pytest.mark.parametrize(("model", "measured"), [("popular", {"popular"}), ("als", {"als", "popular"})])
def test_a_pinned_model_is_chosen_and_measured_beside_the_popular_list(model: str, measured: set[str]) -> None:
    settings = BatchSettings(factors=4, iterations=2, model="popular" if model == "popular" else "als")
    found = evaluate(history(planted()), np.zeros(USERS, np.uint8), settings, lambda _: None)
    assert (found["chosen"], found["chosen_by"]) == (model, "settings")
    assert set(found["slices"]["test"]["models"]) == measured == {one.name for one in candidates(settings)}


def test_the_popular_list_against_itself_differs_by_nothing() -> None:
    settings = BatchSettings(model="popular")
    found = evaluate(history(planted()), np.zeros(USERS, np.uint8), settings, lambda _: None)
    assert {found["against_popular"][name] for name in ("mean", "low", "high")} == {0.0}


def test_the_same_history_is_told_the_same() -> None:
    one, two = (evaluate(history(planted()), np.zeros(USERS, np.uint8), SETTINGS, lambda _: None) for _ in range(2))
    assert one == two


def test_what_is_known_of_a_slice_is_what_came_before_it() -> None:
    starts = planted()
    since = 216
    whole = cut(history(starts), since * HOUR_MS, END, SETTINGS)
    for later in (
        [row for row in starts if row[2] < since] + [(0, 31, since)],
        [row if row[2] < since else (row[0], (row[1] + 7) % MOVIES, row[2]) for row in starts],
    ):
        other = cut(history(later), since * HOUR_MS, END, SETTINGS)
        assert np.array_equal(whole.known.weights.toarray(), other.known.weights.toarray())
        assert np.array_equal(whole.known.popularity, other.known.popularity)
        assert not np.array_equal(whole.relevant.toarray(), other.relevant.toarray())


def test_the_choice_does_not_see_the_hours_that_measure_it() -> None:
    starts = planted()
    upset = [row if row[2] < 216 else (row[0], MOVIES - 1 - row[1], row[2]) for row in starts]
    one, two = (
        evaluate(history(rows), np.zeros(USERS, np.uint8), SETTINGS, lambda _: None) for rows in (starts, upset)
    )
    assert one["slices"]["choice"] == two["slices"]["choice"]
    assert one["slices"]["test"] != two["slices"]["test"]


def test_what_was_seen_before_is_not_relevant_again() -> None:
    slice_ = cut(history([(0, 5, 1), (0, 5, 30), (0, 6, 30), (1, 5, 30), (1, 7, 10)]), 20 * HOUR_MS, END, SETTINGS)
    assert sorted(zip(*(part.tolist() for part in slice_.relevant.nonzero()), strict=True)) == [(0, 6), (1, 5)]


TOO_SHORT: list[Starts] = [
    [(0, 1, 1)],
    [(0, 1, 1), (0, 1, 230)],  # the same again
    [(0, 1, 1), (0, 2, 100)],  # nothing in the slice before the last
    [(0, 1, 230), (1, 2, 230)],  # all at once
]


@pytest.mark.parametrize("starts", TOO_SHORT)
@pytest.mark.parametrize(("model", "chosen"), [("best", "popular"), ("popular", "popular"), ("als", "als")])
def test_where_nothing_can_be_held_out_there_are_no_figures_and_it_says_why(
    starts: Starts, model: Literal["best", "als", "popular"], chosen: str
) -> None:
    found = evaluate(history(starts), np.zeros(USERS, np.uint8), BatchSettings(model=model), lambda _: None)
    assert (found["chosen"], found["slices"], found["against_popular"]["mean"]) == (chosen, {}, None)
    assert ("nothing could be held out" in found["chosen_by"]) is (model == "best")


def test_a_slice_of_nothing_is_not_cut() -> None:
    for since, until in ((0, 10), (100, 110), (230, 240)):
        with pytest.raises(NotEnoughData):
            cut(history([(0, 1, 1), (0, 1, 231)]), since * HOUR_MS, until * HOUR_MS, SETTINGS)


def test_a_model_that_turns_out_worse_than_the_popular_list_gives_way_to_it() -> None:
    starts = [row for row in planted() if row[2] < 216]
    count = np.bincount([movie for _, movie, _ in starts], minlength=MOVIES)
    order = np.argsort(-count, kind="stable").tolist()
    for user in range(USERS):
        seen = {movie for who, movie, _ in starts if who == user}
        starts += [(user, movie, 239) for movie in order if movie not in seen][:3]
    found = evaluate(history(starts), np.zeros(USERS, np.uint8), SETTINGS, lambda _: None)
    assert found["chosen"] == "popular"
    assert "als won on the choice slice" in found["chosen_by"]
    assert found["against_popular"]["mean"] == 0.0


def test_the_figures_of_one_user_are_those_worked_out_by_hand() -> None:
    # known before both slices: movie 0 three times, movie 1 twice, movie 2 once, all by others
    known = [(1, 0, 1), (2, 0, 1), (3, 0, 1), (1, 1, 1), (2, 1, 1), (1, 2, 1)]
    starts = [
        *known,
        (0, 1, 200),
        (0, 2, 230),
    ]  # user 0: rank 2 of 60 on the choice slice, on the test slice rank 2 again
    found = evaluate(history(starts), np.zeros(USERS, np.uint8), BatchSettings(model="popular"), lambda _: None)
    choice, test = (found["slices"][name]["models"]["popular"] for name in ("choice", "test"))
    assert choice["users"] == test["users"] == 1
    assert choice["mrr"]["mean"] == test["mrr"]["mean"] == 0.5
    assert choice["ndcg@20"]["mean"] == test["ndcg@20"]["mean"] == pytest.approx(1 / np.log2(3))
    assert (choice["hr@20"]["mean"], choice["recall@20"]["mean"]) == (1.0, 1.0)
    assert choice["coverage"] == pytest.approx(20 / MOVIES)
