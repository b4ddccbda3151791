"""All models on the same users of one slice, and which of them makes the lists."""

from dataclasses import dataclass, field

import numpy as np

from batch import models
from batch.evaluation import history_lengths
from batch.evaluation.figures import MeasuredLists, figures_of, measure_lists
from batch.evaluation.splits import Slice
from batch.evaluation_file import CHOICE_METRIC, LEAST_USERS, SliceFigures, Split
from batch.models.list_caps import ListCaps
from batch.models.own_rankings import personal_share
from batch.models.top_lists import Scorer, top_lists
from batch.settings import BatchSettings
from quality.metrics.intervals import Interval, interval_text, mean_difference_interval

POPULAR = "popular"
_OWN_RANKINGS = 0.1
"""Least `Contest.own_rankings` of a personal model that is chosen: the gate asks half as much of its release."""
_MOST_STRANGERS = 1_000
"""Users without a history that are measured: a model can tell them apart by their segment at most."""


@dataclass(frozen=True)
class Contest:
    """All models, measured on the same users of one slice."""

    users: np.ndarray
    """int64: rows of the users that are measured, ascending; something is known of each."""
    lengths: np.ndarray
    """int64 [users]: how many events are known of each."""
    strangers: np.ndarray
    """int64: rows of measured users of whom nothing is known, ascending."""
    caps: ListCaps | None = None
    """Of all lists; None for none."""
    results: dict[str, MeasuredLists] = field(default_factory=dict)
    """By model, the popular list first: the lists of `users`."""
    stranger_scores: dict[str, np.ndarray] = field(default_factory=dict)
    """By model: NDCG@20 of the strangers."""
    own_rankings: dict[str, float] = field(default_factory=dict)
    """By model: share of pairs of users who have different rankings, not one."""

    @staticmethod
    def of(part: Slice, users: np.ndarray, settings: BatchSettings, caps: ListCaps | None = None) -> "Contest":
        """A contest of no model yet, on some users (int64) of a slice and a sample of its strangers."""
        strangers = drawn(part.strangers, min(settings.evaluation_users, _MOST_STRANGERS), settings.seed)
        return Contest(users, part.lengths[users], strangers, caps)

    def measure(self, part: Slice, model: Scorer) -> None:
        """Measure a model that was fitted to what is known before the slice."""
        lists = top_lists(model, part.known, self.users, caps=self.caps)
        self.results[model.name] = measure_lists(part, self.users, lists)
        if len(lists) > 1:
            unlisted = part.unlisted[self.users]
            out_of_reach = self.caps.out_of_reach(unlisted, self.users) if self.caps else unlisted
            self.own_rankings[model.name] = personal_share(lists, out_of_reach)
        lists = top_lists(model, part.known, self.strangers, caps=self.caps)
        self.stranger_scores[model.name] = measure_lists(part, self.strangers, lists).scores.ndcg

    def ndcg(self, model: str) -> np.ndarray:
        """NDCG@20 of each user with a model: float64 [users]."""
        return self.results[model].scores.ndcg

    def popular_below(self, model: str) -> float:
        """With how few events users are better off with the popular list than with a model's, see `history_lengths`."""
        if not models.is_personal(model):
            return 0.0
        return history_lengths.popular_below(self.lengths, self.ndcg(model), self.ndcg(POPULAR))

    def shown_ndcg(self, model: str) -> np.ndarray:
        """NDCG@20 of each user with a model, if short histories get the popular list: float64 [users]."""
        return np.where(self.lengths < self.popular_below(model), self.ndcg(POPULAR), self.ndcg(model))

    def figures(self, part: Slice, seed: int) -> SliceFigures:
        """The figures of all models."""
        popular = self.results[POPULAR]
        by_model = {name: figures_of(part, self.users, lists, popular, seed) for name, lists in self.results.items()}
        lengths = np.concatenate([self.lengths, np.zeros(len(self.strangers), np.int64)])
        scores = {name: np.concatenate([self.ndcg(name), self.stranger_scores[name]]) for name in self.results}
        by_length = history_lengths.figures_by_length(lengths, scores, POPULAR)
        return SliceFigures(part.from_ms, part.until_ms, by_model, by_length, part.counted)


def drawn(users: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many users, drawn at random: int64, ascending."""
    if len(users) <= most:
        return users
    return np.sort(np.random.default_rng([seed, 1]).choice(users, most, replace=False))


def choose(choice: Contest, test: Contest, settings: BatchSettings, split: Split) -> tuple[str, str]:
    """The name of the chosen model, and why it was chosen, in one sentence; if it is the popular list although others
    competed, the sentence also says what would change it.
    """
    if settings.model != "best":
        return settings.model, "settings"
    if len(choice.users) < LEAST_USERS:
        return POPULAR, (
            f"models were compared on {len(choice.users)} users with a history on the choice slice, {LEAST_USERS} are"
            " needed: a personal model can win once more users come back"
        )
    rivals = {name: choice.shown_ndcg(name) for name in choice.results if name != POPULAR}
    gains = {name: mean_difference_interval(scores, choice.ndcg(POPULAR)) for name, scores in rivals.items()}
    together = {name: _gain_on_both(choice, test, name) for name in rivals}
    better = [
        name
        for name in rivals
        if max(number(gains[name].low), number(together[name].low)) > 0 and np.isfinite(choice.popular_below(name))
    ]
    if not better:
        return POPULAR, _why_none(choice, list(rivals))
    winners = [name for name in better if not models.is_personal(name) or choice.own_rankings[name] >= _OWN_RANKINGS]
    if not winners:
        return POPULAR, (
            f"{' and '.join(better)} would give nearly all users one ranking, if a better one: it stays until histories"
            " say more about what users watch next than the charts do"
        )
    best = max(winners, key=lambda name: float(rivals[name].mean()))  # the first of equal ones, which is the simplest
    on_test = mean_difference_interval(test.ndcg(best), test.ndcg(POPULAR))
    if number(on_test.high) < 0:
        return POPULAR, (
            f"{best} won on the choice slice, but ranks below the popular list on the test slice by {CHOICE_METRIC}"
            f" ({interval_text(on_test, '+.4f')}): it can win again once these agree, on other hours or more users"
        )
    slices = (
        "the choice slice" if number(gains[best].low) > 0 else "the choice slice, and beyond noise on both together"
    )
    return best, f"{CHOICE_METRIC} on {slices}{_how_held_out(split)}{_except_short(choice.popular_below(best))}"


def _gain_on_both(choice: Contest, test: Contest, model: str) -> Interval:
    """How much better a model ranks than the popular list, over the users of both slices."""
    own = np.concatenate([choice.shown_ndcg(model), test.ndcg(model)])
    return mean_difference_interval(own, np.concatenate([choice.ndcg(POPULAR), test.ndcg(POPULAR)]))


def _why_none(choice: Contest, rivals: list[str]) -> str:
    """Why no model was better than the popular list, by its own lists alone, and what would change it."""
    if not rivals:
        return "no other model competes"
    gains = {name: mean_difference_interval(choice.ndcg(name), choice.ndcg(POPULAR)) for name in rivals}
    users = len(choice.users)
    best = max(gains, key=lambda name: number(gains[name].mean))
    mean, low = number(gains[best].mean), number(gains[best].low)
    if mean > 0 and low > -1:
        needed = int(np.ceil(users * ((mean - low) / mean) ** 2))
        remedy = f"so small a lead would need some {needed:,} users with a history"
    else:
        remedy = "it stays the best until histories say more about what users watch next than the charts do"
    return (
        f"no model beats it beyond noise by {CHOICE_METRIC} on the choice slice: {best}, the best, differs by"
        f" {interval_text(gains[best], '+.4f')} for {users:,} users; {remedy}"
    )


def _how_held_out(split: Split) -> str:
    if split == "time":
        return ""
    return ", which holds the last events of each user, since too few users with a history come back in any hours"


def _except_short(below: float) -> str:
    return f"; users with fewer than {below:.0f} events get the popular list" if below else ""


def number(end: float | None) -> float:
    """An interval's end."""
    assert end is not None  # a slice has users
    return end
