"""Offline evaluation: split by time, full ranking over the whole catalogue minus what the user saw before the split.

Two slices of `test_hours` each are cut off the history's end. On the first, models are tuned on one half of its users
and compared on the other half, so that a model with much to tune has no start over one with nothing; that chooses.
The second has no part in the choice, but that a model which turns out worse there than the popular list gives way to
it: the models, with what was tuned, are fit anew to what was known before it, and measured. Lists that are scored come
out of the very function that makes a release's lists.

The choice is the best mean of those that beat the popular list beyond noise. Only the popular list, which cannot fail,
has this privilege: between two other models, the better mean is the better guess, however close they are. Where few
users are measured, an interval says little of noise, and the popular list is chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from batch import models
from batch.errors import NotEnoughData
from batch.evaluation.figures import CHOICE_METRIC, MeasuredLists, difference, figures_of, measure_lists
from batch.evaluation.incumbent import LEAST_USERS, Incumbent, compare_with_incumbent
from batch.evaluation.splits import Slice, Splits, by_time
from batch.history.interactions import Requests, TrainingHistory
from batch.models import Model
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings
from quality.metrics.bootstrap import mean_interval

POPULAR = "popular"
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Contest:
    """What the models came to on one slice."""

    users: np.ndarray
    """int64: who was measured, ascending."""
    results: dict[str, MeasuredLists]
    """By model, the popular list first."""

    def gain(self, model: str) -> np.ndarray:
        """By how much a model ranks better than the popular list: float64 [users]."""
        return self.results[model].scores.ndcg - self.results[POPULAR].scores.ndcg

    def told(self, part: Slice, seed: int) -> dict[str, Any]:
        popular = self.results[POPULAR]
        figures = {name: figures_of(part, self.users, one, popular, seed) for name, one in self.results.items()}
        return {"from_ms": part.from_ms, "until_ms": part.until_ms, "models": figures}


def steps(settings: BatchSettings) -> int:
    """How often `evaluate` advances."""
    return 2 * len(models.candidates(settings))


def evaluate(
    history: TrainingHistory,
    settings: BatchSettings,
    advance: Advance,
    incumbent: Incumbent | None = None,
    requests: Requests | None = None,
) -> dict[str, Any]:
    """Choose a model on one slice, measure all of them on the next: what `evaluation.json` holds."""
    return measure_models(by_time(history, settings), settings, advance, incumbent, requests)


def measure_models(
    splits: Splits,
    settings: BatchSettings,
    advance: Advance,
    incumbent: Incumbent | None = None,
    requests: Requests | None = None,
) -> dict[str, Any]:
    """As `evaluate`, on any two slices.

    A history too short to hold anything out is no reason to have no release: the popular list is then chosen, unless
    the settings pin another model, and the file says why there are no figures.
    """
    competing = models.candidates(settings)
    try:
        choice, choosing = _on_choice(splits.choice(), competing, settings, advance)
        part = splits.test()
    except NotEnoughData as error:
        return _without_figures(settings, str(error))
    parameters = {model.name: dict(model.parameters) for model in competing}
    test = _on_test(part, competing, settings, advance)
    chosen, chosen_by = _chosen(choice, test, settings)
    gain = test.results[chosen].scores.ndcg, test.results[POPULAR].scores.ndcg
    return {
        "chosen": chosen,
        "chosen_by": chosen_by,
        "parameters": parameters,
        "slices": {"choice": choosing, "test": test.told(part, settings.seed)},
        "against_popular": difference(*gain, settings.seed),
        "against_current": compare_with_incumbent(
            incumbent, part, test.users, test.results[chosen], requests, settings.seed
        ),
    }


def _on_choice(
    part: Slice, competing: list[Model], settings: BatchSettings, advance: Advance
) -> tuple[Contest, dict[str, Any]]:
    """Every model tuned on one half of the users, and measured on the other; and the figures of that."""
    users = np.random.default_rng(settings.seed).permutation(_drawn(part, settings))
    tuning, measuring = np.sort(users[: len(users) // 2]), np.sort(users[len(users) // 2 :])
    contest = Contest(measuring, {})
    for model in competing:
        model.fit(part.known)
        if len(tuning):
            model.tune(part.known, part.relevant, tuning)
        _measure(contest, part, model)
        advance(1)
    return contest, contest.told(part, settings.seed)


def _on_test(part: Slice, competing: list[Model], settings: BatchSettings, advance: Advance) -> Contest:
    """The same models fit anew, with what was tuned. They are let go one by one: what they have learned is large."""
    contest = Contest(_drawn(part, settings), {})
    competing.reverse()
    while competing:
        model = competing.pop()
        model.fit(part.known)
        _measure(contest, part, model)
        advance(1)
    return contest


def _measure(contest: Contest, part: Slice, model: Model) -> None:
    lists = top_lists(model, part.known, contest.users)
    contest.results[model.name] = measure_lists(part, contest.users, lists)


def _drawn(part: Slice, settings: BatchSettings) -> np.ndarray:
    """At most `evaluation_users` of those who started something new, ascending."""
    users = part.users
    if len(users) <= settings.evaluation_users:
        return users
    rng = np.random.default_rng([settings.seed, 1])
    return np.sort(rng.choice(users, settings.evaluation_users, replace=False))


def _chosen(choice: Contest, test: Contest, settings: BatchSettings) -> tuple[str, str]:
    """The model, and why."""
    if settings.model != "best":
        return settings.model, "settings"
    if len(choice.users) < LEAST_USERS:
        return (
            POPULAR,
            f"models were compared on {len(choice.users)} users of the choice slice, {LEAST_USERS} are needed",
        )
    means = {name: float(one.scores.ndcg.mean()) for name, one in choice.results.items() if name != POPULAR}
    winners = [name for name in means if _low(choice.gain(name), settings.seed) > 0]
    if not winners:
        return POPULAR, f"no model beats it beyond noise by {CHOICE_METRIC} on the choice slice"
    best = max(winners, key=lambda name: means[name])  # of equal ones the first, which is the simplest
    if _low(-test.gain(best), settings.seed) > 0:
        return POPULAR, f"{best} won on the choice slice, but ranks below the popular list on the test slice"
    return best, f"{CHOICE_METRIC} on the choice slice"


def _low(values: np.ndarray, seed: int) -> float:
    low = mean_interval(values, seed=seed).low
    assert low is not None  # a slice has users
    return low


def _without_figures(settings: BatchSettings, why: str) -> dict[str, Any]:
    pinned = settings.model != "best"
    none = {"mean": None, "low": None, "high": None}
    return {
        "chosen": settings.model if pinned else POPULAR,
        "chosen_by": "settings" if pinned else f"nothing could be held out: {why}",
        "parameters": {},
        "slices": {},
        "against_popular": {"metric": CHOICE_METRIC, **none},
        "against_current": {"none": f"nothing could be held out: {why}"},
    }
