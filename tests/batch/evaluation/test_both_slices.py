"""Whether a model beats the popular list is decided on the choice slice, or by the users of both slices together."""

import numpy as np
import pytest

from batch.evaluation.contest import POPULAR, Contest, choose
from batch.evaluation.figures import MeasuredLists
from batch.settings import BatchSettings
from quality.metrics.ranking import RankingScores


def contest(users: int, gain: float, spread: float) -> Contest:
    """A model `als` that gains so much over the popular list, by turns more and less."""
    rows, popular = np.arange(users), np.full(users, 0.4)
    own = popular + gain + spread * np.where(rows % 2, 1, -1)
    results = {
        name: MeasuredLists(np.zeros((users, 20), np.int32), RankingScores(rows, ndcg, ndcg, ndcg, ndcg))
        for name, ndcg in ((POPULAR, popular), ("als", own))
    }
    return Contest(rows, np.full(users, 60), rows[:0], results=results, own_rankings={"als": 1.0})


@pytest.mark.parametrize(
    ("of_choice", "of_test", "chosen"),
    [
        ((40, 0.05, 0.2), (40, 0.05, 0.2), "als"),  # 0.05 ± 0.064 on each, ± 0.045 on both
        ((40, 0.05, 0.2), (40, 0.0, 0.2), POPULAR),
        ((40, 0.05, 0.2), (40, -0.05, 0.2), POPULAR),
        ((40, 0.0, 0.2), (400, 0.05, 0.2), "als"),
        ((40, 0.1, 0.2), (400, -0.01, 0.2), "als"),  # the choice slice suffices
        ((40, 0.1, 0.2), (400, -0.05, 0.2), POPULAR),  # but on the test slice the model must not rank below
    ],
)
def test_few_users_of_one_slice_are_joined_by_those_of_the_other(
    of_choice: tuple[int, float, float], of_test: tuple[int, float, float], chosen: str
) -> None:
    name, why = choose(contest(*of_choice), contest(*of_test), BatchSettings(), "time")
    assert name == chosen
    suffices = of_choice[1] == 0.1
    if chosen == "als":
        assert why == f"ndcg@20 on the choice slice{'' if suffices else ', and beyond noise on both together'}"
