"""Slices by time hold enough users, whatever the last hours of a history look like, and a few wrong times do not move
them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.evaluation.splits import by_time
from batch.evaluation_file import LEAST_USERS, enough_users
from batch.history.interactions import TrainingHistory
from batch.settings import BatchSettings
from stream.zone import DAY_MS, HOUR_MS

USERS, MOVIES, USUAL = 400, 300, 200
SETTINGS = BatchSettings(test_hours=24)
DAYS = 8
END = DAYS * DAY_MS
Rows = np.ndarray
"""int64 [s, 3]: user, movie, ms. Movies from `USUAL` on are not among the usual ones, and so new to everyone."""


def usual(users: int = USERS, days: int = DAYS, seed: int = 1) -> Rows:
    """Every user starts a movie a day, at any moment."""
    rng = np.random.default_rng(seed)
    user, day = np.repeat(np.arange(users), days), np.tile(np.arange(days), users)
    movie = (rng.permuted(np.tile(np.arange(USUAL), (users, 1)), axis=1)[:, :days]).ravel()
    return np.stack([user, movie, day * DAY_MS + rng.integers(0, DAY_MS, len(user))], axis=1)


def stray(users: int, at_ms: int) -> Rows:
    """So many users start a movie of their own at a moment."""
    user = np.arange(users)
    return np.stack([user, np.full(users, USUAL), np.full(users, at_ms)], axis=1)


def history(*rows: Rows) -> TrainingHistory:
    table = np.concatenate(rows)
    table = table[np.lexsort((table[:, 1], table[:, 2], table[:, 0]))]
    users = int(table[:, 0].max()) + 1
    return TrainingHistory(
        user=table[:, 0].astype(np.int32),
        movie=table[:, 1].astype(np.int32),
        start=table[:, 2],
        minutes=np.full(len(table), 90, np.int32),
        share=np.ones(len(table), np.float32),
        rating=np.full(len(table), np.nan, np.float32),
        rated=np.zeros(len(table), np.int64),
        users=np.arange(1, users + 1, dtype=np.uint32),
        movies=[f"movie+{number}+2000" for number in range(MOVIES)],
        segments=np.zeros(users, np.uint8),
    )


def slices(*rows: Rows) -> tuple[int, int, int, int, int]:
    """Where the choice slice begins, where the test slice begins and ends, and how many users each has."""
    parts = by_time(history(*rows), SETTINGS)
    choice, test = parts.choice(), parts.test()
    assert choice.until_ms == test.from_ms
    return choice.from_ms, test.from_ms, test.until_ms, len(choice.users), len(test.users)


def test_usual_hours_are_cut_to_the_millisecond() -> None:
    until = int(usual()[:, 2].max()) + 1
    assert slices(usual())[:3] == (until - 2 * DAY_MS, until - DAY_MS, until)


@pytest.mark.parametrize("ahead_ms", [60_000, HOUR_MS, 5_000 * 60_000, 80 * 365 * DAY_MS])
@pytest.mark.parametrize("users", [1, LEAST_USERS - 1])
def test_a_few_wrong_times_hold_out_the_last_day_all_the_same(users: int, ahead_ms: int) -> None:
    choice, test, until, of_choice, of_test = slices(usual(), stray(users, END + ahead_ms))
    assert until == END + ahead_ms + 1
    assert test == pytest.approx(END - DAY_MS, abs=4 * HOUR_MS)
    assert choice == pytest.approx(END - 2 * DAY_MS, abs=4 * HOUR_MS)
    assert min(of_choice, of_test) > 300


@given(st.lists(st.tuples(st.integers(0, LEAST_USERS - 2), st.integers(-DAY_MS, 400 * DAY_MS)), max_size=60))
@settings(deadline=None, max_examples=60)
def test_wrong_times_of_a_few_users_never_leave_too_few_to_measure(
    wrong: list[tuple[int, int]],
) -> None:
    rows = np.array([(user, USUAL, END + at) for user, at in wrong], np.int64).reshape(-1, 3)
    choice, test, until, of_choice, of_test = slices(usual(), rows)
    assert choice < test < until
    assert choice > END - 4 * DAY_MS
    assert of_test >= LEAST_USERS
    assert of_choice >= 2 * enough_users(USERS)


def test_after_days_without_a_line_the_slices_take_the_hours_before_them() -> None:
    resumed = usual(20, 1)
    resumed[:, 1:] += [USUAL // 2, END + 2 * DAY_MS]  # movies that are new to these users
    resumed[:, 2] -= resumed[:, 2] % DAY_MS // 24 * 23  # all within the first hour
    choice, test, until, _, of_test = slices(usual(), resumed)
    assert until - END <= 2 * DAY_MS + HOUR_MS
    assert test == pytest.approx(END - DAY_MS, abs=4 * HOUR_MS)
    assert test - choice == DAY_MS
    assert of_test > 300


def test_with_enough_users_after_days_without_a_line_only_the_choice_slice_grows() -> None:
    resumed = stray(LEAST_USERS, END + 2 * DAY_MS)
    choice, test, until, of_choice, of_test = slices(usual(), resumed)
    assert (until - test, of_test) == (DAY_MS, LEAST_USERS)
    assert choice == pytest.approx(END - DAY_MS, abs=6 * HOUR_MS)
    assert of_choice > 300


@pytest.mark.parametrize("users", [1, 10, LEAST_USERS - 1, LEAST_USERS, 40])
def test_a_sparse_last_day_is_measured_alone_only_if_it_has_enough_users(users: int) -> None:
    rows = usual()
    rows[DAYS - 1, 2] = END - 1  # the day is a whole one
    *_, of_choice, of_test = slices(rows[(rows[:, 2] < END - DAY_MS) | (rows[:, 0] < users)])
    assert of_choice >= 2 * enough_users(USERS)
    assert of_test > 300 if users < LEAST_USERS else of_test == users


def test_a_choice_slice_with_too_few_users_for_its_two_halves_grows() -> None:
    rows = usual()
    is_sparse = (rows[:, 2] >= END - 2 * DAY_MS) & (rows[:, 2] < END - DAY_MS)
    choice, test, until, of_choice, _ = slices(rows[~is_sparse | (rows[:, 0] < 70)])
    assert until - test == DAY_MS
    assert test - choice == pytest.approx(2 * DAY_MS, abs=HOUR_MS)
    assert of_choice > 300


def test_a_slice_does_not_grow_where_that_gains_no_user() -> None:
    once = stray(90, 0)  # most were seen in the first moment only, and have no history by then
    choice, test, until, of_choice, _ = slices(usual(LEAST_USERS), once)
    assert (until - test, test - choice) == (DAY_MS, DAY_MS)
    assert of_choice == LEAST_USERS


def first_day_and_another(users: int) -> Rows:
    """Everybody comes on the first of twelve days, and on one other."""
    rows = usual(users, 12)
    own_day = rows[:, 0] % 12 * DAY_MS
    return rows[(rows[:, 2] < DAY_MS) | (rows[:, 2] // DAY_MS * DAY_MS == own_day)]


def test_a_choice_slice_takes_most_of_the_users_that_the_later_half_of_the_history_has() -> None:
    choice, test, until, of_choice, _ = slices(first_day_and_another(USERS))
    assert until - test == DAY_MS
    assert until // 2 <= choice < until // 2 + DAY_MS
    assert of_choice == pytest.approx(0.9 * USERS * 5 / 12, abs=15)
    assert of_choice > 2 * enough_users(USERS)


def test_a_choice_slice_without_enough_users_in_the_later_half_goes_on_but_leaves_the_first_quarter() -> None:
    choice, test, until, of_choice, of_test = slices(first_day_and_another(90))
    assert choice == pytest.approx(until // 4, abs=DAY_MS)
    assert test >= until // 2
    assert (of_choice < 2 * LEAST_USERS, of_test >= LEAST_USERS) == (True, True)


@pytest.mark.parametrize(("users", "enough"), [(0, 30), (309, 30), (310, 31), (1_999, 199), (2_000, 200), (10**6, 200)])
def test_a_tenth_of_the_users_is_enough(users: int, enough: int) -> None:
    assert enough_users(users) == enough
