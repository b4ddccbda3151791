"""The limits of what is believed of an evaluation, to the millisecond and the last digit."""

import msgspec
import pytest

from batch.evaluation_file import Evaluation
from batch.gate.evaluation_checks import day_ms, evaluation_problems
from stream.zone import DAY_MS
from tests.batch.gate.candidate_evaluations import NOW, JsonObject, evaluation, figures


@pytest.mark.parametrize(("off", "sound"), [(-1, False), (0, True), (1, False)])
def test_the_test_slice_ends_with_the_history(off: int, sound: bool) -> None:
    typed = msgspec.convert(evaluation(), Evaluation)
    assert (evaluation_problems(typed, 120, NOW + off) == "") is sound


@pytest.mark.parametrize(("low", "sound"), [(0.75, True), (0.7501, False)])
def test_a_model_leaps_if_it_is_more_than_three_times_as_good(low: float, sound: bool) -> None:
    raw = evaluation()
    models: list[JsonObject] = [raw["slices"][part]["models"] for part in ("choice", "test")]
    models[0]["als"] = {**figures(0.2), "ndcg@20": {"mean": 0.2, "low": 0.1, "high": 0.25}}
    models[1]["als"] = {**figures(0.2), "ndcg@20": {"mean": 0.8, "low": low, "high": 0.9}}
    raw["against_popular"]["mean"] = 0.8 - 0.09
    assert (evaluation_problems(msgspec.convert(raw, Evaluation), 120, NOW) == "") is sound


@pytest.mark.parametrize(("below", "popular", "sound"), [({}, 0.25, False), ({"als": 2}, 0.25, True),
                                                          ({"als": 2}, 0.05, False)])  # fmt: skip
def test_a_model_whose_short_histories_get_the_popular_list_does_not_leap_to_it(
    below: JsonObject, popular: float, sound: bool
) -> None:
    raw = evaluation()
    raw["popular_below"] = below
    for part, own, shown in (("choice", 0.03, popular), ("test", 0.26, popular)):
        raw["slices"][part]["models"] = {"popular": figures(shown), "als": figures(own)}
    raw["against_popular"]["mean"] = 0.26 - popular
    assert (evaluation_problems(msgspec.convert(raw, Evaluation), 120, NOW) == "") is sound


@pytest.mark.parametrize(
    ("counted", "sound"),
    [
        ({}, True),
        ({"users": 1}, False),
        ({"starts": 1}, False),
        ({"exposed_share": 1.01}, False),
        ({"exposed_share": 1.0}, True),
    ],
)
def test_counted_starts_are_at_least_as_many_as_the_users_that_are_measured(counted: JsonObject, sound: bool) -> None:
    raw = evaluation()
    for name, part in raw["slices"].items():
        usual = {"users": 10**6, "starts": 10**6, "exposed_share": 0.9, "window_hours": 24, "exposed_count": False}
        part["counted"] = {**usual, **(counted if name == "test" else {})}
    problems = evaluation_problems(msgspec.convert(raw, Evaluation), 120, NOW)
    assert problems == ("" if sound else "the counted starts of the test slice are impossible")


def test_days_begin_at_midnight_utc() -> None:
    assert day_ms("1970-01-02") == DAY_MS
