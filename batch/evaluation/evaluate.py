"""Offline evaluation: split by time, full ranking of the whole catalogue minus what the user saw before the split.

Two slices of `test_hours` each are cut off the history's end. The first, the choice slice, chooses: models are tuned on
one half of its users and compared on the other half, so that a model with much to tune has no advantage over one with
nothing. The second, the test slice, measures: the models keep their tuned parameters and are refitted to the history
before it. It has no part in the choice, except that a chosen model which ranks below the popular list there gives way
to it. Lists that are scored are made by the same function as the lists of a release.

The choice is the best mean among the models that beat the popular list beyond noise. Only the popular list, which
cannot fail, has this privilege: between two other models the better mean is the better guess, however close they are.
Where few users are measured an interval says little about noise, and the popular list is chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET

from batch import models
from batch.errors import NotEnoughData
from batch.evaluation.figures import MeasuredLists, figures_of, measure_lists, score_difference
from batch.evaluation.incumbent import Incumbent, compare_with_incumbent
from batch.evaluation.splits import Slice, Splits, by_time
from batch.evaluation_file import (
    CHOICE_METRIC,
    LEAST_USERS,
    AgainstCurrent,
    Evaluation,
    MeasuredSlices,
    ScoreDifference,
    SliceFigures,
)
from batch.history.interactions import Requests, TrainingHistory
from batch.models import Model
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings
from quality.metrics.intervals import Interval, mean_difference_interval

POPULAR = "popular"
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Contest:
    """All models, measured on the same users of one slice."""

    users: np.ndarray
    """int64: rows of the users that are measured, ascending."""
    results: dict[str, MeasuredLists]
    """By model, the popular list first."""

    def gain(self, model: str) -> Interval:
        """NDCG@20 of a model less that of the popular list, mean over the users."""
        return mean_difference_interval(self.results[model].scores.ndcg, self.results[POPULAR].scores.ndcg)

    def figures(self, part: Slice, seed: int) -> SliceFigures:
        """The figures of all models."""
        popular = self.results[POPULAR]
        by_model = {name: figures_of(part, self.users, lists, popular, seed) for name, lists in self.results.items()}
        return SliceFigures(part.from_ms, part.until_ms, by_model)


def steps(settings: BatchSettings) -> int:
    """How often `evaluate` advances."""
    return 2 * len(models.candidates(settings))


def evaluate(
    history: TrainingHistory,
    settings: BatchSettings,
    advance: Advance,
    incumbent: Incumbent | None = None,
    requests: Requests | None = None,
) -> Evaluation:
    """Choose a model on one slice of a history, and measure all models on the next."""
    return measure_models(by_time(history, settings), settings, advance, incumbent, requests)


def measure_models(
    splits: Splits,
    settings: BatchSettings,
    advance: Advance,
    incumbent: Incumbent | None = None,
    requests: Requests | None = None,
) -> Evaluation:
    """As `evaluate`, on any two slices.

    A history too short to hold anything out is no reason to have no release: the popular list is then chosen, unless
    the settings pin another model, and the evaluation says why there are no figures.
    """
    competing = models.candidates(settings)
    try:
        choice, choice_figures = _on_choice(splits.choice(), competing, settings, advance)
        part = splits.test()
    except NotEnoughData as error:
        return _without_figures(settings, str(error))
    parameters = {model.name: dict(model.parameters) for model in competing}
    learned = {model.name: model.learned for model in competing}
    test = _on_test(part, competing, settings, advance)
    chosen, chosen_by = _chosen(choice, test, settings)
    lists, popular = test.results[chosen], test.results[POPULAR]
    return Evaluation(
        chosen=chosen,
        chosen_by=chosen_by,
        parameters=parameters,
        learned=learned.get(chosen) or UNSET,
        slices=MeasuredSlices(choice_figures, test.figures(part, settings.seed)),
        against_popular=score_difference(lists.scores.ndcg, popular.scores.ndcg),
        against_current=compare_with_incumbent(incumbent, part, test.users, lists, requests),
    )


def _on_choice(
    part: Slice, competing: list[Model], settings: BatchSettings, advance: Advance
) -> tuple[Contest, SliceFigures]:
    """Tune every model on one half of the users, and measure it on the other half."""
    users = np.random.default_rng(settings.seed).permutation(_drawn_users(part, settings))
    tuning, measuring = np.sort(users[: len(users) // 2]), np.sort(users[len(users) // 2 :])
    contest = Contest(measuring, {})
    for model in competing:
        model.fit(part.known)
        if len(tuning):
            model.tune(part.known, part.relevant, tuning)
        _measure(contest, part, model)
        advance(1)
    return contest, contest.figures(part, settings.seed)


def _on_test(part: Slice, competing: list[Model], settings: BatchSettings, advance: Advance) -> Contest:
    """Refit the same models with their tuned parameters, and measure them.

    `competing` is emptied: what a model has learned is large, and is freed as soon as the model is measured.
    """
    contest = Contest(_drawn_users(part, settings), {})
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


def _drawn_users(part: Slice, settings: BatchSettings) -> np.ndarray:
    """At most `evaluation_users` users of a slice, drawn at random: int64, ascending."""
    users = part.users
    if len(users) <= settings.evaluation_users:
        return users
    rng = np.random.default_rng([settings.seed, 1])
    return np.sort(rng.choice(users, settings.evaluation_users, replace=False))


def _chosen(choice: Contest, test: Contest, settings: BatchSettings) -> tuple[str, str]:
    """The name of the chosen model, and why it was chosen."""
    if settings.model != "best":
        return settings.model, "settings"
    if len(choice.users) < LEAST_USERS:
        return (
            POPULAR,
            f"models were compared on {len(choice.users)} users of the choice slice, {LEAST_USERS} are needed",
        )
    means = {name: float(lists.scores.ndcg.mean()) for name, lists in choice.results.items() if name != POPULAR}
    winners = [name for name in means if _number(choice.gain(name).low) > 0]
    if not winners:
        return POPULAR, f"no model beats it beyond noise by {CHOICE_METRIC} on the choice slice"
    best = max(winners, key=lambda name: means[name])  # the first of equal ones, which is the simplest
    if _number(test.gain(best).high) < 0:
        return POPULAR, f"{best} won on the choice slice, but ranks below the popular list on the test slice"
    return best, f"{CHOICE_METRIC} on the choice slice"


def _number(end: float | None) -> float:
    """An interval's end."""
    assert end is not None  # a slice has users
    return end


def _without_figures(settings: BatchSettings, why: str) -> Evaluation:
    is_pinned = settings.model != "best"
    reason = f"nothing could be held out: {why}"
    return Evaluation(
        chosen=settings.model if is_pinned else POPULAR,
        chosen_by="settings" if is_pinned else reason,
        parameters={},
        slices=MeasuredSlices(),
        against_popular=ScoreDifference(CHOICE_METRIC, None, None, None),
        against_current=AgainstCurrent(reason=reason),
    )
