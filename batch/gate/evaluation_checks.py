"""Is an evaluation credible? Looks for signs of a broken measurement or of a leak."""

import datetime as dt
from collections.abc import Iterable, Iterator

from batch.evaluation_file import (
    CHOICE_METRIC,
    HISTORY_LENGTHS,
    LEAST_USERS,
    CountedStarts,
    Evaluation,
    ModelFigures,
    SliceFigures,
    Split,
)
from quality.metrics.intervals import Interval

_FEW_USERS, _FEW_MOVIES = 100, 100
"""With fewer, the best figures may be chance, or come from lists that hold a large part of the catalogue."""
_TOO_GOOD = 0.9
"""No model reaches this NDCG@20 unless the held-out data leaked into it."""
_ROUNDING = 1e-9
_LEAP, _LEAP_FROM = 3, 0.2
"""A model has seen the answers if it ranks so many times better on the test slice than on the choice slice, beyond both
intervals, and reaches at least this NDCG@20 there."""


def evaluation_problems(evaluation: Evaluation, movies: int, until: int) -> str:
    """Why an evaluation over so many movies is not credible, in words; "" if there is no reason.

    `until` is where the history ends, ms UTC.
    """
    choice, test = evaluation.slices.choice, evaluation.slices.test
    if choice is None or test is None:
        return f"the {'test' if choice else 'choice'} slice is missing"
    problems = [_time_problem(evaluation.split, choice, test, until)]
    measured = choice.models.keys() & test.models.keys()
    problems += [f"{name} was not measured" for name in (evaluation.chosen, "popular") if name not in measured]
    for slice_name, part in (("choice", choice), ("test", test)):
        for name, figures in part.models.items():
            problems += [f"{figure} of {name} on the {slice_name} slice" for figure in _impossible_figures(figures)]
            if figures.users >= _FEW_USERS and movies >= _FEW_MOVIES and _is_too_good(figures):
                problems.append(f"{name} is too good to be true on the {slice_name} slice")
        if part.counted and not _is_possible(part.counted, part.models.values()):
            problems.append(f"the counted starts of the {slice_name} slice are impossible")
        if evaluation.chosen in part.models and not _adds_up(part, evaluation.chosen):
            problems.append(f"the lengths of history on the {slice_name} slice do not add up")
    if movies >= _FEW_MOVIES:
        problems += [f"{name} leaps from slice to slice" for name in sorted(measured) if _leaps(name, evaluation)]
    problems.append(_difference_problem(evaluation, test.models))
    return "; ".join(filter(None, problems))


def day_ms(day: str) -> int:
    """When a day (YYYY-MM-DD) begins in UTC, ms since 1970."""
    return int(dt.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 1000


def badly_served(evaluation: Evaluation) -> list[str]:
    """Lengths of history for which the chosen model, where it was chosen, ranks below the popular list beyond noise,
    although users with so many events get its lists.
    """
    choice, chosen = evaluation.slices.choice, evaluation.chosen
    least = evaluation.popular_below.get(chosen, 0)
    lengths = choice.history_lengths if choice else {}
    return [
        name
        for name, figures in lengths.items()
        if HISTORY_LENGTHS[name][0] >= max(least, 1)  # users without a history get no list of a model
        and figures.users >= LEAST_USERS
        and (figures.models[chosen].against_popular.high or 0) < 0
    ]


def _is_possible(counted: CountedStarts, figures: Iterable[ModelFigures]) -> bool:
    """Whether there are enough users for the figures, a start for each, and a share that may be left out."""
    shares = 0 <= counted.exposed_share <= 1
    return shares and max(one.users for one in figures) <= counted.users <= counted.starts


def _adds_up(part: SliceFigures, model: str) -> bool:
    """Whether each measured user with a history is in the figures of one length of history."""
    lengths = part.history_lengths.items()
    known = [figures.users for name, figures in lengths if name in HISTORY_LENGTHS and HISTORY_LENGTHS[name][0] > 0]
    is_complete = all(model in figures.models for _, figures in lengths)
    return is_complete and sum(known) == part.models[model].users


def _time_problem(split: Split, choice: SliceFigures, test: SliceFigures, until: int) -> str:
    """The slices follow each other, or are of all hours if they are by order; the last one ends with the history."""
    if split == "last":
        if not choice.from_ms == test.from_ms < choice.until_ms == test.until_ms:
            return "the slices by order are not of all hours"
    elif not choice.from_ms < choice.until_ms <= test.from_ms < test.until_ms:
        return "the slices are not one after the other"
    if test.until_ms != until:
        return "the test slice does not end with the history"
    return ""


def _difference_problem(evaluation: Evaluation, models: dict[str, ModelFigures]) -> str:
    """The difference from the popular list is that of the figures."""
    if not {evaluation.chosen, "popular"} <= models.keys():
        return ""
    chosen, popular = (models[name].ndcg.mean for name in (evaluation.chosen, "popular"))
    ahead = evaluation.against_popular
    if (
        ahead.metric != CHOICE_METRIC
        or chosen is None
        or popular is None
        or ahead.mean is None
        or not abs(chosen - popular - ahead.mean) <= _ROUNDING
    ):
        return "the difference from the popular list is not that of the figures"
    return ""


def _impossible_figures(figures: ModelFigures) -> Iterator[str]:
    """The names of the impossible figures."""
    if not figures.users > 0:
        yield "users"
    for name, interval in figures.intervals.items():
        if not _is_interval_of_share(interval):
            yield name
    for name, share in {"coverage": figures.coverage, "personal": figures.personal}.items():
        if share is None or not 0 <= share <= 1:
            yield name


def _is_interval_of_share(interval: Interval) -> bool:
    if interval.mean is None or interval.low is None or interval.high is None:
        return False
    return all(0 <= share <= 1 for share in (interval.low, interval.mean, interval.high)) and (
        interval.low <= interval.high
    )


def _is_too_good(figures: ModelFigures) -> bool:
    ndcg, hit_rate = figures.ndcg.mean, figures.hit_rate.mean
    return (ndcg is not None and ndcg > _TOO_GOOD) or (hit_rate is not None and hit_rate >= 1)


def _leaps(name: str, evaluation: Evaluation) -> bool:
    """Whether a measured model leaps. On the test slice short histories may have the popular list instead of its own;
    then it must also have left behind the popular list: a mixture is at most twice as good as the better of the two.
    """
    choice, test = evaluation.slices.choice, evaluation.slices.test
    assert choice is not None  # the model was measured on both
    assert test is not None
    after = test.models[name]
    mixed = {name, "popular"} if name in evaluation.popular_below else {name}
    return all(_is_leap(choice.models[own], after) for own in mixed & choice.models.keys())


def _is_leap(before: ModelFigures, after: ModelFigures) -> bool:
    if min(before.users, after.users) < _FEW_USERS or after.ndcg.mean is None or after.ndcg.mean < _LEAP_FROM:
        return False
    return after.ndcg.low is not None and before.ndcg.high is not None and after.ndcg.low > _LEAP * before.ndcg.high
