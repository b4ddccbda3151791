"""Offline evaluation: split by time, full ranking of the whole catalogue minus what the user saw before the split.

Two slices are cut off the history's end (`splits.py`). The first, the choice slice, chooses: models are tuned on one
half of its known users and compared on the other half, so that a model with much to tune has no advantage over one with
nothing. The second, the test slice, measures: the models keep their tuned parameters and are refitted to the history
before it. It has no part in the choice between models, but in whether any is better than the popular list: one that
ranks below it there gives way to it, and where few users count, the users of both slices together may show what those
of the choice slice do not. Lists that are scored are made by the same function as the lists of a release.

The choice is the best mean among the models that beat the popular list beyond noise, on the choice slice or on both
slices together. Only the popular list, which
cannot fail, has this privilege: between two other models the better mean is the better guess, however close they are.
Where few users are measured an interval says little about noise, and the popular list is chosen. Users whose history is
too short for a model get the popular list (`history_lengths.py`), in the choice, on the test slice and in a release.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from batch import models
from batch.errors import NotEnoughData
from batch.evaluation.contest import POPULAR, Contest, choose, drawn
from batch.evaluation.figures import measure_lists, score_difference
from batch.evaluation.first_lists import decide, measure_first_lists
from batch.evaluation.incumbent import Incumbent, compare_with_incumbent
from batch.evaluation.splits import Slice, Splits, release_splits
from batch.evaluation_file import (
    CHOICE_METRIC,
    AgainstCurrent,
    Evaluation,
    FirstListFigures,
    MeasuredSlices,
    ScoreDifference,
    SliceFigures,
)
from batch.history.interactions import Interactions, TrainingHistory
from batch.history.self_descriptions import SelfDescriptions
from batch.models import Model
from batch.models.list_caps import ListCaps
from batch.models.short_histories import PopularForShort
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings

Advance = Callable[[int], object]


def steps(settings: BatchSettings) -> int:
    """How often `evaluate` advances."""
    return 2 * len(models.candidates(settings))


def evaluate(
    history: TrainingHistory,
    settings: BatchSettings,
    advance: Advance,
    incumbent: Incumbent | None = None,
    caps: ListCaps | None = None,
    descriptions: SelfDescriptions | None = None,
) -> Evaluation:
    """Choose a model on one slice of a history, and measure all models on the next; likewise the lists of strangers.

    All lists keep to the caps.
    """
    splits = release_splits(history, settings)
    return measure_models(splits, settings, advance, incumbent, caps, descriptions)


def measure_models(
    splits: Splits,
    settings: BatchSettings,
    advance: Advance,
    incumbent: Incumbent | None = None,
    caps: ListCaps | None = None,
    descriptions: SelfDescriptions | None = None,
) -> Evaluation:
    """As `evaluate`, on any two slices.

    A history too short to hold anything out is no reason to have no release: the popular list is then chosen, unless
    the settings pin another model, and the evaluation says why there are no figures.
    """
    competing = models.candidates(settings)
    try:
        first_on_choice, choice, choice_figures = _on_choice(
            splits.choice(), competing, settings, advance, caps, descriptions
        )
        part = splits.test()
    except NotEnoughData as error:
        return _without_figures(settings, str(error))
    parameters = {model.name: dict(model.parameters) for model in competing}
    learned = {model.name: model.learned for model in competing}
    below = {name: int(events) for name in parameters if 0 < (events := choice.popular_below(name)) < np.inf}
    test = _on_test(part, competing, below, settings, advance, caps)
    chosen, chosen_by = choose(choice, test, settings, splits.kind)
    lists, popular = test.results[chosen], test.results[POPULAR]
    first_on_test = measure_first_lists(part, descriptions, settings, caps)
    return Evaluation(
        chosen=chosen,
        chosen_by=chosen_by + _exposed_count(part, settings),
        parameters=parameters,
        learned=learned.get(chosen, b""),
        slices=MeasuredSlices(choice_figures, test.figures(part, settings.seed)),
        split=splits.kind,
        popular_below=below,
        against_popular=score_difference(lists.scores.ndcg, popular.scores.ndcg),
        against_current=compare_with_incumbent(incumbent, part, test.users, lists),
        first_lists=decide(first_on_choice, first_on_test, chosen),
    )


def _on_choice(
    part: Slice,
    competing: list[Model],
    settings: BatchSettings,
    advance: Advance,
    caps: ListCaps | None,
    descriptions: SelfDescriptions | None,
) -> tuple[FirstListFigures | None, Contest, SliceFigures]:
    """Tune every model on one half of the users, and measure it on the other half; and measure first lists."""
    users = drawn(part.users, settings.evaluation_users, settings.seed)
    users = np.random.default_rng(settings.seed).permutation(users)
    tuning, measuring = np.sort(users[: len(users) // 2]), np.sort(users[len(users) // 2 :])
    contest = Contest.of(part, measuring, settings, caps)
    for model in competing:
        model.fit(part.known)
        if len(tuning):
            model.tune(part.known, part.relevant, tuning)
        contest.measure(part, model)
        advance(1)
    return measure_first_lists(part, descriptions, settings, caps), contest, contest.figures(part, settings.seed)


def _on_test(
    part: Slice,
    competing: list[Model],
    below: dict[str, int],
    settings: BatchSettings,
    advance: Advance,
    caps: ListCaps | None,
) -> Contest:
    """Refit the same models with their tuned parameters, and measure what a release would show of them.

    `competing` is emptied: what a model has learned is large, and is freed as soon as the model is measured.
    """
    contest = Contest.of(part, drawn(part.users, settings.evaluation_users, settings.seed), settings, caps)
    competing.reverse()
    while competing:
        model = competing.pop()
        model.fit(part.known)
        contest.measure(part, PopularForShort(model, below.get(model.name, 0), part.known.popularity))
        advance(1)
    return contest


def _exposed_count(part: Slice, settings: BatchSettings) -> str:
    """What a choice owes to starts that lists suggested, to be added to its reason; "" for nothing."""
    if not part.counts_exposed or settings.model != "best":
        return ""
    return (
        f"; lists were shown before {part.exposed_share:.0%} of the new starts, which count all the same, since too few"
        " users have others: the model that was shown has an advantage"
    )


def _without_figures(settings: BatchSettings, why: str) -> Evaluation:
    is_pinned = settings.model != "best"
    reason = f"nothing could be held out: {why}; a personal model can win once more users come back"
    return Evaluation(
        chosen=settings.model if is_pinned else POPULAR,
        chosen_by="settings" if is_pinned else reason,
        parameters={},
        slices=MeasuredSlices(),
        against_popular=ScoreDifference(CHOICE_METRIC, None, None, None),
        against_current=AgainstCurrent(reason=reason),
    )


def compare_again(
    evaluation: Evaluation,
    history: TrainingHistory,
    settings: BatchSettings,
    incumbent: Incumbent | None,
    caps: ListCaps | None = None,
) -> Evaluation:
    """The same evaluation, compared with another incumbent: the chosen model's lists are made once more."""
    part = release_splits(history, settings).test()
    users = drawn(part.users, settings.evaluation_users, settings.seed)
    lists = top_lists(shown_model(evaluation, part.known, settings), part.known, users, caps=caps)
    against = compare_with_incumbent(incumbent, part, users, measure_lists(part, users, lists))
    return msgspec.structs.replace(evaluation, against_current=against)


def shown_model(evaluation: Evaluation, data: Interactions, settings: BatchSettings) -> PopularForShort:
    """What a release would show of the chosen model, fitted to other data with what tuning found."""
    chosen = evaluation.chosen
    model = models.make(chosen, settings, evaluation.parameters.get(chosen, {}), evaluation.learned)
    model.fit(data)
    return PopularForShort(model, evaluation.popular_below.get(chosen, 0), data.popularity)
