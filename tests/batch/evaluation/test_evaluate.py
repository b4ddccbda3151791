"""Evaluation: the figures of a model are of hours that it had not seen, and nothing of these hours leaks."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from batch.errors import NotEnoughData
from batch.evaluation.evaluate import evaluate, measure_models, steps
from batch.evaluation.figures import largest_gap
from batch.evaluation.splits import Splits, by_last_event, by_order, by_time
from batch.evaluation_file import AgainstCurrent, MeasuredSlices
from batch.history.interactions import Interactions, TrainingHistory
from batch.history.segments import NAMES
from batch.settings import BatchSettings
from stream.zone import HOUR_MS
from tests.batch.evaluation.planted_tastes import (
    HOURS,
    MOVIES,
    SETTINGS,
    USERS,
    Starts,
    Taste,
    evaluated,
    figures_of,
    history,
    number,
    part_of,
    planted,
)

pytestmark = pytest.mark.blas


def test_a_planted_taste_is_found_and_has_all_its_figures(made_models: list[Taste]) -> None:
    segments = (1 + np.arange(USERS) % 2).astype(np.uint8)
    done: list[int] = []
    evaluation = evaluate(history(planted(), segments=segments), SETTINGS, done.append)
    models_on_test, test = evaluation.test_models, part_of(evaluation, "test")
    assert (evaluation.chosen, evaluation.chosen_by) == ("taste", "ndcg@20 on the choice slice")
    assert list(models_on_test) == ["popular", "taste", "contrary"]
    assert number(models_on_test["taste"].ndcg.mean) > 1.3 * number(models_on_test["popular"].ndcg.mean)
    assert number(evaluation.against_popular.low) > 0
    assert evaluation.against_current == AgainstCurrent(reason="there is no current release")
    assert sum(done) == steps(SETTINGS) == 6
    assert part_of(evaluation, "choice").until_ms == test.from_ms
    assert test.until_ms - test.from_ms == 24 * HOUR_MS
    assert set(models_on_test["taste"].segments) == {NAMES[1], NAMES[2]}
    for figures in models_on_test.values():
        assert sum(segment.users for segment in figures.segments.values()) == figures.users
        for interval in (figures.ndcg, *(segment.ndcg for segment in figures.segments.values())):
            assert number(interval.low) <= number(interval.mean) <= number(interval.high)
    assert models_on_test["popular"].personal == 0.0
    assert models_on_test["contrary"].personal == 1.0


def test_models_are_tuned_on_one_half_of_the_choice_and_measured_on_the_other(made_models: list[Taste]) -> None:
    past = history(planted())
    evaluation = evaluate(past, SETTINGS, lambda _: None)
    taste = made_models[0]
    choice, test = part_of(evaluation, "choice").from_ms, part_of(evaluation, "test").from_ms
    assert [call[:2] for call in taste.calls] == [("fit", choice), ("tune", choice), ("fit", test)]
    users = taste.calls[1][2]
    eligible = by_time(past, SETTINGS).choice().users
    assert set(users.tolist()) < set(eligible.tolist())
    assert len(users) == len(eligible) // 2
    assert figures_of(evaluation, "choice", "taste").users == len(eligible) - len(users)
    assert taste.parameters == {"strength": 1e6} == evaluation.parameters["taste"]
    assert evaluation.parameters["popular"] == {}
    assert evaluation.learned == b"of %d users\xff" % len(users)


def test_no_user_is_both_tuned_on_and_measured_on_the_choice_slice(
    made_models: list[Taste], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[set[int]] = []

    def score(self: Taste, data: Interactions, users: np.ndarray) -> np.ndarray:
        measured.append(set(users.tolist()))
        return np.zeros((len(users), MOVIES), np.float32)

    monkeypatch.setattr(Taste, "score", score)
    evaluated(planted())
    tuned = next(set(call[2].tolist()) for model in made_models for call in model.calls if call[0] == "tune")
    assert tuned
    assert not tuned & measured[0]


def test_without_taste_the_popular_list_is_chosen(made_models: list[Taste]) -> None:
    evaluation = evaluated(planted(by_taste=False))
    assert evaluation.chosen == "popular"
    assert evaluation.chosen_by.startswith("no model beats it beyond noise")
    assert f" for {figures_of(evaluation, 'choice', 'taste').users} users; " in evaluation.chosen_by
    assert evaluation.chosen_by.endswith(("users with a history", "than the charts do"))
    assert evaluation.against_popular.mean == 0.0
    popular = evaluation.test_models["popular"]
    assert set(popular.segments) == {"no segment"}
    assert popular.largest_gap is None


@pytest.mark.parametrize(("users", "measured", "chosen"), [(58, 29, "popular"), (60, 30, "taste")])
def test_with_too_few_users_the_popular_list_is_chosen(
    users: int, measured: int, chosen: str, made_models: list[Taste]
) -> None:
    known = [row for row in planted() if row[0] < users and row[2] < 190]
    seen = {row[:2] for row in known}
    new = [(user, movie) for user in range(users) for movie in range(user % 2 * 30, user % 2 * 30 + 30)]
    new = [pair for pair in new if pair not in seen]
    evaluation = evaluated([*known, *((user, movie, 239 if movie % 3 else 200) for user, movie in new)])
    assert figures_of(evaluation, "choice", "taste").users == measured
    assert evaluation.chosen == chosen
    assert ("30 are needed" in evaluation.chosen_by) is (chosen == "popular")


@pytest.mark.parametrize("model", ["popular", "taste"])
def test_a_pinned_model_is_chosen_and_measured_beside_the_popular_list(model: str, made_models: list[Taste]) -> None:
    evaluation = evaluated(planted(), BatchSettings(model=cast(Any, model)))
    assert (evaluation.chosen, evaluation.chosen_by) == (model, "settings")
    assert set(evaluation.test_models) == {"popular", model}
    gain = evaluation.against_popular
    assert (number(gain.low) > 0, gain.high == 0) == (model == "taste", model == "popular")


def test_the_same_history_gives_the_same_evaluation(made_models: list[Taste]) -> None:
    settings = BatchSettings(evaluation_users=40)
    assert evaluated(planted(), settings) == evaluated(planted(), settings)


def test_at_most_so_many_users_are_measured_and_others_are_drawn_with_another_seed(made_models: list[Taste]) -> None:
    first, second = (evaluated(planted(), BatchSettings(evaluation_users=40, seed=seed)) for seed in (1, 2))
    assert figures_of(first, "test", "taste").users == 40
    assert figures_of(first, "choice", "taste").users == 20
    assert figures_of(first, "test", "taste").ndcg != figures_of(second, "test", "taste").ndcg
    assert (
        len({user for model in made_models[:1] for what, _, users in model.calls if what == "tune" for user in users})
        == 20
    )


def test_a_single_user_is_measured_and_nothing_is_tuned(made_models: list[Taste]) -> None:
    evaluated([(1, 0, 1), (0, 0, 1), (0, 1, 200), (0, 2, 230)], BatchSettings(model=cast(Any, "taste")))
    assert [call[0] for call in made_models[0].calls] == ["fit", "fit"]


def test_the_last_two_quarters_of_a_short_history_are_held_out() -> None:
    splits = by_time(history([(user, movie, 10 * movie) for user in range(3) for movie in range(5)]), SETTINGS)
    quarter = 10 * HOUR_MS
    assert (splits.choice().from_ms, splits.test().from_ms) == (2 * quarter + 1, 3 * quarter + 1)
    assert splits.test().until_ms == 4 * quarter + 1


def test_a_slice_knows_only_what_came_before_it() -> None:
    starts = planted()
    whole = by_time(history([*starts, (0, 59, 239)]), SETTINGS).test()
    since = whole.from_ms // HOUR_MS + 1
    upset = [row if row[2] < since else (row[0], (row[1] + 7) % MOVIES, row[2]) for row in starts]
    other = by_time(history([*upset, (0, 59, 239)]), SETTINGS).test()
    assert np.array_equal(whole.known.movies, other.known.movies)
    assert np.array_equal(whole.known.weights, other.known.weights)
    assert np.array_equal(whole.known.popularity, other.known.popularity)
    assert not np.array_equal(whole.relevant.toarray(), other.relevant.toarray())


def test_the_choice_does_not_see_the_hours_that_measure_it(made_models: list[Taste]) -> None:
    starts = [*planted(), (0, 59, 239)]
    upset = [row if row[2] < 216 else (row[0], MOVIES - 1 - row[1], row[2]) for row in starts]
    first, second = evaluated(starts), evaluated(upset)
    assert first.slices.choice == second.slices.choice
    assert first.parameters == second.parameters
    assert first.slices.test != second.slices.test


def test_a_movie_seen_before_is_not_relevant_again() -> None:
    starts = [(0, 5, 1), (0, 5, 230), (0, 6, 230), (0, 6, 231), (1, 5, 230), (1, 7, 10), (2, 8, 9), (2, 8, 239)]
    slice_ = by_time(history(starts), SETTINGS).test()
    assert sorted(zip(*(part.tolist() for part in slice_.relevant.nonzero()), strict=True)) == [(0, 6), (1, 5)]
    assert slice_.users.tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_slices_by_order_are_those_of_the_naive_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts = [
        (user, int(rng.integers(MOVIES)), int(hour))
        for user in range(20)
        for hour in rng.permutation(HOURS)[: rng.integers(0, 45)]
    ]
    past = history(starts, users=20)
    own = {
        user: sorted((hour, movie) for starter, movie, hour in starts if starter == user) for user in range(20)
    }  # in the order of time
    for name in ("choice", "test"):
        known, held = set(), set()
        for user, events in own.items():
            test = events[: len(events) - len(events) // 10]
            choice = test[: len(test) - len(test) // 10]
            before, after = (choice, test[len(choice) :]) if name == "choice" else (test, events[len(test) :])
            known |= {(user, movie) for _, movie in before}
            held |= {(user, movie) for _, movie in after} - {(user, movie) for _, movie in before}
        part = getattr(by_order(past), name)()
        assert set(zip(*(axis.tolist() for axis in part.known.matrix.nonzero()), strict=True)) == known
        assert set(zip(*(axis.tolist() for axis in part.relevant.nonzero()), strict=True)) == held


@pytest.mark.parametrize("split", [by_order, by_last_event])
def test_of_events_at_the_same_time_any_may_be_the_last(split: Callable[[TrainingHistory], Splits]) -> None:
    part = split(history([(user, movie, 5) for user in range(USERS) for movie in range(20)])).test()
    held = np.bincount(part.relevant.indices, minlength=20)
    assert held.sum() == USERS * (2 if split is by_order else 1)
    assert held.max() < 3 * held.mean()


def test_a_split_by_order_counts_every_start_alike_for_the_popular_list() -> None:
    starts = [(user, (user + hour) // 10, hour) for user in range(30) for hour in range(0, 200, 10)]
    known = by_order(history(starts)).test().known
    kept = [movie for _, movie, hour in starts if hour < 180]
    assert known.popularity.tolist() == np.bincount(kept, minlength=MOVIES).tolist()


def test_evaluation_runs_on_any_split(made_models: list[Taste]) -> None:
    evaluation = measure_models(by_order(history(planted())), SETTINGS, lambda _: None)
    assert evaluation.chosen == "taste"
    assert evaluation.test_models["taste"].users == USERS


TOO_SHORT: list[Starts] = [
    [(0, 1, 1)],
    [(0, 1, 1), (0, 1, 230)],  # the same again
    [(0, 1, 1), (0, 2, 100)],  # nothing in the slice before the last
    [(0, 1, 1), (0, 2, 190), (0, 1, 230)],  # nothing new in the last
    [(0, 1, 230), (1, 2, 230)],  # all at once
]


@pytest.mark.parametrize("starts", TOO_SHORT)
@pytest.mark.parametrize(("model", "chosen"), [("best", "popular"), ("popular", "popular"), ("taste", "taste")])
def test_without_held_out_data_there_are_no_figures_but_a_reason(
    starts: Starts, model: str, chosen: str, made_models: list[Taste]
) -> None:
    evaluation = evaluated(starts, BatchSettings(model=cast(Any, model)))
    assert (evaluation.chosen, evaluation.against_popular.mean, evaluation.is_measured) == (chosen, None, False)
    assert evaluation.slices == MeasuredSlices()
    assert ("nothing could be held out" in evaluation.chosen_by) is (model == "best")
    assert evaluation.parameters == {}
    assert "nothing could be held out" in str(evaluation.against_current.reason)


def test_an_empty_slice_is_an_error() -> None:
    for starts in TOO_SHORT:
        with pytest.raises(NotEnoughData):
            (by_time(history(starts), SETTINGS).choice(), by_time(history(starts), SETTINGS).test())
        with pytest.raises(NotEnoughData):
            by_order(history(starts)).test()


def test_a_model_that_turns_out_worse_than_the_popular_list_gives_way_to_it(made_models: list[Taste]) -> None:
    starts = [row for row in planted() if row[2] < 216]
    count = np.bincount([movie for _, movie, _ in starts], minlength=MOVIES)
    order = np.argsort(-count, kind="stable").tolist()
    for user in range(USERS):
        seen = {movie for starter, movie, _ in starts if starter == user}
        starts += [(user, movie, 239) for movie in order if movie not in seen and movie // 30 != user % 2][:3]
    evaluation = evaluated(starts)
    assert evaluation.chosen == "popular"
    assert "taste won on the choice slice" in evaluation.chosen_by
    assert evaluation.against_popular.mean == 0.0


def test_the_figures_of_one_user_are_those_worked_out_by_hand() -> None:
    # known before both slices: movie 0 three times, movie 1 twice, movie 2 once, all by others; user 0 has seen movie 3
    known = [(1, 0, 1), (2, 0, 1), (3, 0, 1), (1, 1, 1), (2, 1, 1), (1, 2, 1), (0, 3, 0)]
    starts = [*known, (0, 1, 200), (0, 2, 230)]  # user 0: rank 2 of 60 on the choice slice, on the test slice again
    evaluation = evaluated(starts, BatchSettings(model="popular"))
    choice, test = figures_of(evaluation, "choice", "popular"), figures_of(evaluation, "test", "popular")
    assert choice.users == test.users == 1
    assert choice.mrr.mean == test.mrr.mean == 0.5
    assert choice.ndcg.mean == test.ndcg.mean == pytest.approx(1 / np.log2(3))
    assert (choice.hit_rate.mean, choice.recall.mean) == (1.0, 1.0)
    assert choice.coverage == pytest.approx(20 / MOVIES)
    # 18 of the 20 were seen by at most one of 200 users, movie 0 by three, movie 1 by two
    assert choice.novelty_bits == pytest.approx((18 * np.log2(200) + np.log2(200 / 3) + np.log2(200 / 2)) / 20)


def test_the_largest_gap_is_between_segments_with_enough_users_and_noise_is_called_noise() -> None:
    rng = np.random.default_rng(1)
    segments = np.repeat(np.array([0, 1, 2, 3, 4, 5], np.uint8), [500, 400, 400, 400, 400, 50])
    scores = rng.random(len(segments)) * 0.2
    scores[segments == 3] += 0.2
    scores[segments == 0] += 0.9  # no segment
    scores[segments == 5] += 0.9  # too few
    gap = largest_gap(scores, segments, 1)
    assert gap is not None
    assert (gap.high, gap.beyond_noise) == (NAMES[3], True)
    assert gap.ndcg == pytest.approx(0.2, abs=0.02)
    noise = [largest_gap(np.random.default_rng(seed).random(len(segments)), segments, 1) for seed in range(200)]
    false_alarms = sum(bool(gap and gap.beyond_noise) for gap in noise)
    assert 2 <= false_alarms <= 20  # 5 % of 200
    assert largest_gap(scores[segments == 1], segments[segments == 1], 1) is None
