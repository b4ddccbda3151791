"""Models are chosen for users with a history, and users whose history is too short get the popular list."""

from typing import Any, cast

import numpy as np
import pytest

from batch.evaluation.splits import release_splits
from batch.settings import BatchSettings
from tests.batch.evaluation.planted_tastes import (
    MOVIES,
    SETTINGS,
    USERS,
    Taste,
    evaluated,
    figures_of,
    history,
    number,
    part_of,
    planted,
)

pytestmark = pytest.mark.blas


def with_strangers() -> list[tuple[int, int, int]]:
    """As `planted`, but users 150 to 169 begin on the day of the choice slice, and users from 170 on a day later."""
    starts = [row for row in planted() if row[0] < 150]
    starts += [(user, movie, 200) for user in range(150, 170) for movie in range(3)]
    return [*starts, *((user, user % MOVIES, 230) for user in range(170, USERS)), (0, 59, 239)]


def test_strangers_are_measured_apart(made_models: list[Taste]) -> None:
    evaluation = evaluated(with_strangers())
    for name, strangers in (("choice", 20), ("test", 30)):
        part = part_of(evaluation, cast(Any, name))
        assert part.history_lengths["0"].users == strangers
        known = sum(group.users for length, group in part.history_lengths.items() if length != "0")
        assert known == part.models["taste"].users == part.models["popular"].users <= 170
    tuned = next(call[2] for call in made_models[0].calls if call[0] == "tune")
    assert tuned.max() < 150
    assert evaluation.chosen == "taste"


def short_and_misled() -> list[tuple[int, int, int]]:
    """As `planted`, but of most users only two events are known before a slice, of the half that they dislike."""
    starts = [row for row in planted() if row[0] % 4 == 0 or row[0] % 8 == 3]
    for user in range(USERS):
        if user % 4 and user % 8 != 3:
            own, other = user % 2 * 30, 30 - user % 2 * 30
            starts += [(user, other + user % 7, 20), (user, other + 7 + user % 7, 30)]
            # most of them watch on the day before the last, the others on the last one, and have two events until then
            starts += [(user, own + movie, 205 if user % 3 else 230) for movie in range(12)]
    return [*starts, (0, 59, 239)]


def test_users_whose_history_is_too_short_for_a_model_get_the_popular_list(made_models: list[Taste]) -> None:
    evaluation = evaluated(short_and_misled())
    choice, test = part_of(evaluation, "choice"), part_of(evaluation, "test")
    assert (evaluation.chosen, evaluation.popular_below["taste"]) == ("taste", 3)
    assert "users with fewer than 3 events get the popular list" in evaluation.chosen_by
    misled, shown = (part.history_lengths["2"].models["taste"] for part in (choice, test))
    assert number(misled.against_popular.high) < 0
    assert (shown.against_popular.mean, shown.ndcg) == (0.0, test.history_lengths["2"].models["popular"].ndcg)
    assert number(evaluation.against_popular.low) > 0


@pytest.mark.usefixtures("made_models")
def test_a_model_that_gives_all_users_one_ranking_is_not_chosen() -> None:
    old = [row for row in planted(by_taste=False) if row[1] < 40]
    new = [(user, 40 + (user + movie) % 20, hour) for user in range(USERS) for movie in range(3) for hour in (200, 230)]
    evaluation = evaluated([*old, *new, (0, 59, 239)])
    contrary, popular = (figures_of(evaluation, "choice", name).ndcg for name in ("contrary", "popular"))
    assert number(contrary.low) > number(popular.high)
    assert evaluation.chosen == "popular"
    assert evaluation.chosen_by.startswith("contrary would give nearly all users one ranking")


def one_form_each(users: int = 100) -> list[tuple[int, int, int]]:
    """Users come one after the other, watch 20 movies of their taste within an hour or two, and never return."""
    rng = np.random.default_rng(3)
    return [
        (user, int(movie), 2 * user + position // 12)
        for user in range(users)
        for position, movie in enumerate(rng.permutation(30)[:20] + 30 * (user % 2))
    ]


def test_where_nobody_returns_the_last_events_of_each_user_are_held_out(made_models: list[Taste]) -> None:
    starts = one_form_each()
    evaluation = evaluated(starts)
    assert (evaluation.split, evaluation.chosen) == ("last", "taste")
    assert "the last events of each user" in evaluation.chosen_by
    assert figures_of(evaluation, "test", "taste").users == 100
    assert part_of(evaluation, "test").until_ms == history(starts).until
    of_latest = evaluated(starts, BatchSettings(evaluation_users=70))
    assert figures_of(of_latest, "test", "taste").users == 70
    assert release_splits(history(starts), BatchSettings(evaluation_users=70)).test().users.min() == 30


def test_the_split_is_by_time_where_users_return_or_by_order_would_be_no_better() -> None:
    assert release_splits(history(planted()), SETTINGS).kind == "time"
    assert release_splits(history(one_form_each(50)), SETTINGS).kind == "time"  # too few users for any choice
    short_forms = [row for row in one_form_each() if row[2] % 2 == 0][:900]
    assert release_splits(history([row for row in short_forms if row[1] % 3]), SETTINGS).kind == "time"
