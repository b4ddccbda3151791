"""What a shown list suggested has no part in the choice and the measurement."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from batch.evaluation import splits
from batch.evaluation.evaluate import evaluate
from batch.evaluation.splits import Slice, marked, release_splits
from batch.evaluation_file import LEAST_USERS, CountedStarts, Evaluation, enough_users
from batch.history.exposure import with_exposure
from batch.history.interactions import Requests, TrainingHistory
from batch.models.top_lists import top_lists
from stream.zone import HOUR_MS
from tests.batch.evaluation.planted_tastes import (
    HOURS,
    MOVIES,
    SETTINGS,
    USERS,
    Starts,
    Taste,
    history,
    part_of,
    planted,
)

pytestmark = pytest.mark.blas
WINDOW = 6


def shown(starts: Starts, lists: list[tuple[int, float]]) -> TrainingHistory:
    """A history in which users were shown lists at some hours."""
    return with_exposure(history(starts), requests_of(lists), WINDOW * HOUR_MS)


def requests_of(lists: list[tuple[int, float]]) -> Requests:
    """Users, and hours."""
    table = np.array(lists or np.zeros((0, 2)), np.float64).reshape(-1, 2)
    return Requests(table[:, 0].astype(np.int32), (table[:, 1] * HOUR_MS).astype(np.int64))


def slices(past: TrainingHistory) -> tuple[Slice, Slice]:
    parts = release_splits(past, SETTINGS)
    assert parts.kind == "time"
    return parts.choice(), parts.test()


def before_each(starts: Starts, users: range, since: int = 0) -> list[tuple[int, float]]:
    """A list half an hour before each start of some users."""
    return [(user, hour - 0.5) for user, _, hour in starts if user in users and hour >= since]


def evaluated(past: TrainingHistory) -> Evaluation:
    return evaluate(past, SETTINGS, lambda _: None)


def pairs(matrix: sp.csr_matrix | None) -> set[tuple[int, int]]:
    assert matrix is not None
    return set(zip(*(index.tolist() for index in matrix.nonzero()), strict=True))


def test_only_unexposed_starts_are_relevant_and_the_others_are_in_no_list() -> None:
    starts = [*planted(), (USERS - 2, 59, HOURS - 1)]
    for part in slices(shown(starts, before_each(starts, range(100)))):
        own = {(user, movie) for user, movie, hour in starts if part.from_ms <= hour * HOUR_MS < part.until_ms}
        assert pairs(part.relevant) == {(user, movie) for user, movie in own if user >= 100}
        assert pairs(part.known.barred) == {(user, movie) for user, movie in own if user < 100}
        assert part.exposed_share == pytest.approx(sum(user < 100 for user, _ in own) / len(own))
        assert not part.counts_exposed
        counted = sum(user >= 100 for user, _ in own)
        assert part.counted == CountedStarts(len(part.users), counted, part.exposed_share, WINDOW, exposed_count=False)


def test_a_movie_that_a_list_suggested_is_not_relevant_when_it_is_started_again() -> None:
    """A session is resumed the next day without another list."""
    user, movie, late = 150, 59, HOURS - 1
    again = [*planted(), (user, movie, HOURS - 20), (user, movie, late), (152, movie, late)]
    part = slices(shown(again, [(user, HOURS - 20.5)]))[1]
    assert not part.relevant[user, movie]
    assert part.relevant[152, movie]


def test_users_whose_list_is_barred_in_part_get_the_next_movies() -> None:
    starts = [*planted(), (USERS - 2, 59, HOURS - 1)]
    part = slices(shown(starts, before_each(starts, range(100))))[0]
    model = Taste({"strength": 1e6})
    model.fit(part.known)
    everyone = np.arange(USERS)
    lists, unbarred = (top_lists(model, data, everyone) for data in (part.known, replace(part.known, barred=None)))
    barred = part.known.barred
    assert barred is not None
    for user in everyone:
        kept = [movie for movie in unbarred[user] if not barred[user, movie]]
        assert lists[user, : len(kept)].tolist() == kept
    assert (lists[:, :5] >= 0).all()
    assert (lists != unbarred).any()


def test_slices_reach_back_until_they_have_enough_users_whom_no_list_steered() -> None:
    """Since a day ago only few users start anything unexposed, fewer than a slice needs."""
    starts = [*planted(), (USERS - 2, 59, HOURS - 1)]
    always = slices(shown(starts, []))
    lately = slices(shown(starts, before_each(starts, range(USERS - LEAST_USERS // 2), since=HOURS - 60)))
    for part, usual in zip(lately, always, strict=True):
        assert part.from_ms < usual.from_ms
    choice, test = lately
    assert len(test.users) >= LEAST_USERS
    assert len(choice.users) >= 2 * enough_users(USERS)


@pytest.mark.parametrize(
    ("hours", "window"),
    [
        (5, 3.0),  # the longest of 6, 3 and 1.5 hours that leaves enough starts
        (2, 1.5),
        (0.5, 6.0),  # none does
    ],
)
def test_where_too_few_starts_are_unexposed_the_window_is_halved(hours: float, window: float) -> None:
    starts = [*planted(), (USERS - 2, 59, HOURS - 1)]
    requests = requests_of([(user, hour - hours) for user, _, hour in starts])
    past = marked(history(starts), requests, WINDOW * HOUR_MS, SETTINGS)
    assert past.window_ms == window * HOUR_MS
    choice, test = slices(past)
    assert choice.counts_exposed == test.counts_exposed == (window == WINDOW)
    assert test.counted.window_hours == window


def test_of_windows_that_leave_too_few_the_shortest_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "enough_users", lambda users: 50)
    starts = [*planted(), (USERS - 2, 59, HOURS - 1)]
    exposed = range(2 * LEAST_USERS + 10, USERS)
    past = marked(history(starts), requests_of(before_each(starts, exposed)), WINDOW * HOUR_MS, SETTINGS)
    assert past.window_ms == WINDOW * HOUR_MS // 4
    assert not slices(past)[1].counts_exposed


@pytest.mark.parametrize("unexposed", [0, LEAST_USERS - 1])
def test_where_nearly_every_start_is_exposed_all_count_and_the_choice_says_so(
    made_models: list[Taste], unexposed: int
) -> None:
    starts = [*planted(), (USERS - 2, 59, HOURS - 1)]
    evaluation = evaluated(shown(starts, before_each(starts, range(unexposed, USERS))))
    for name in ("choice", "test"):
        counted = part_of(evaluation, name).counted
        assert counted is not None
        assert (counted.exposed_count, counted.users > 100) == (True, True)
    share = 1 - unexposed / USERS
    assert evaluation.chosen == "taste"
    words = evaluation.chosen_by.partition("; lists were shown before ")[2]
    assert abs(int(words.partition("%")[0]) / 100 - share) < 0.1
    assert words.endswith("since too few users have others: the model that was shown has an advantage")


@pytest.mark.parametrize("shows", ["taste", "contrary"])
def test_the_choice_does_not_follow_the_lists_that_were_shown(made_models: list[Taste], shows: str) -> None:
    """Half of the users take all that they start from lists; the others choose by their tastes."""
    starts = [*planted(), (USERS - 2, 59, HOURS - 1)]
    steered = range(90, USERS)
    contrary = [(user, (movie + 30) % MOVIES if user in steered else movie, hour) for user, movie, hour in starts]
    shown_starts = starts if shows == "taste" else contrary
    evaluation = evaluated(shown(shown_starts, before_each(shown_starts, steered)))
    counted = part_of(evaluation, "test").counted
    assert counted is not None
    assert (counted.exposed_count, counted.users <= 90) == (False, True)
    assert evaluation.chosen == "taste"
