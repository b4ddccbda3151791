"""The benchmark `ranking`: every model of the night on one split, compared with textbook EASE and implicit ALS.

| part | data set | split |
|---|---|---|
| `world` | sessions of the simulated world, which half of its users join during these days | `time` |
| `charts` | a world in which users mostly follow the charts | `time` |
| `thin` | a world in which users have few sessions | `time` |
| `sequences` | long sequences with order in them | `last` |
| `shuffled` | the same without order | `last` |
| `movielens` | with `--data`: an archive of MovieLens | `last` |

| split | tests | chooses |
|---|---|---|
| `time` | the last day, or more where few users came | the day before |
| `last` | each user's last tenth | that of the rest |
| `loo` | each user's last event (leave-one-out) | the one before |

`--split` measures all sets by one split. See `sequences.py` for the sets.

The night's own code fits and tunes all models on the choice slice, chooses one there, refits all and measures them on
the test slice (`batch.evaluation`), which is not used for any choice. The two rivals, see `reference_models.py`, have
the same data, and the penalty of EASE is chosen on the same slice. All are measured by full ranking of the whole
catalogue minus the movies that the user had seen, over all users with a new movie.

`ranking_figures.py` describes the figures: `<part>` is a `RankedSet`, `<part>_…` are those of `SetComparison`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from msgspec import UNSET, convert, structs, to_builtins

from batch.evaluation.evaluate import measure_models, shown_model
from batch.evaluation.figures import measure_lists
from batch.evaluation.splits import Slice, Splits, by_last_event, by_order, by_time
from batch.evaluation_file import Evaluation, ScoreDifference
from batch.history.interactions import TrainingHistory
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings
from loadtest.bench.benchmark import Benchmark, BenchmarkRun, SplitName
from loadtest.bench.ranking import ranking_plot, reference_models, sequences
from loadtest.bench.ranking.ranking_figures import MetricIntervals, RankedSet, SetComparison
from loadtest.bench.ranking.reference_models import ALS, EASE
from loadtest.bench.result import Figures, as_figures
from loadtest.errors import LoadtestError
from loadtest.settings import WorldSettings
from quality.metrics.intervals import Interval, mean_difference_interval, mean_interval
from quality.metrics.ranking import HIT_RATE, HIT_RATE_10, NDCG, NDCG_10, RECALL, RankingScores
from stream.event import LIST_LENGTH

SETS: dict[str, SplitName] = {
    "world": "time",
    "charts": "time",
    "thin": "time",
    "sequences": "last",
    "shuffled": "last",
    "movielens": "last",
}
"""The data sets in the order of the plot, and how each is split unless `--split` says otherwise."""
_SPLITS: dict[SplitName, Callable[[TrainingHistory, BatchSettings], Splits]] = {
    "time": by_time,
    "last": lambda history, settings: by_order(history),
    "loo": lambda history, settings: by_last_event(history),
}
_NEWCOMERS = 0.5
"""Share of the users of the simulated worlds who join during the measured days, so that all lengths of history are in
the test slice."""
_CHART_SHARE = 0.9
"""Of the choices in `charts`: here the popular list is level with the best collaborative filter, as a published
measurement of the real service has it."""
_THIN_VISITS = 3
"""Mean visits in `thin` of a user who is there on all days."""
_METRICS = (NDCG.name, RECALL.name, HIT_RATE.name)
_ONE_MILLION = (950_000, 1_050_000)
"""Ratings of MovieLens-1M, and of no other MovieLens archive."""


@dataclass(frozen=True)
class RankingSize:
    """The size of the generated sets."""

    world: tuple[int, int, int]
    """Users, movies, days of each simulated world."""
    sequences: tuple[int, int, int]
    """Users, movies, median of movies a user."""


class RankingRun(BenchmarkRun[RankingSize]):
    """One run of `ranking`."""

    def history(self, name: str) -> TrainingHistory:
        """One of `SETS`. Raises `MovieLensError` if the archive cannot be read."""
        users, movies, days = self.size.world
        base = WorldSettings(users=users, movies=movies, seed=self.seed, newcomers=_NEWCOMERS, joining_days=days)
        match name:
            case "world":
                return sequences.world(base, days)
            case "charts":
                return sequences.world(structs.replace(base, chart_share=_CHART_SHARE), days)
            case "thin":
                return sequences.world(structs.replace(base, visits_per_day=_THIN_VISITS / days), days)
            case "sequences":
                return sequences.sequences(*self.size.sequences, self.seed)
            case "shuffled":
                return sequences.shuffled(self.history("sequences"), self.seed)
        assert self.inputs.data  # `Benchmark.needs`
        return sequences.movielens(self.inputs.data, self.folder / "movielens")


@dataclass(frozen=True)
class ListScores:
    """How good a model's lists are, by user; of the same users for every model."""

    at_20: RankingScores
    at_10: RankingScores | None
    """Of the first ten places; only where each user's last event is held out."""

    @classmethod
    def of(cls, data: Slice, lists: np.ndarray, split: SplitName) -> "ListScores":
        """The scores of lists (int32 [users, 20]) for all users of a slice."""
        at_20, at_10 = (measure_lists(data, data.users, lists[:, :length]).scores for length in (LIST_LENGTH, 10))
        return cls(at_20, at_10 if split == "loo" else None)


def measure(name: str, history: TrainingHistory, seed: int, split: SplitName) -> tuple[RankedSet, SetComparison]:
    """Measure one set. Raises `LoadtestError` if it has too many movies, or is too small to hold anything out."""
    if history.shape[1] > reference_models.MOST_MOVIES:
        limit = f"EASE allows {reference_models.MOST_MOVIES:,} movies at most"
        raise LoadtestError(f"bench: {name} has {history.shape[1]:,} movies, {limit}; give a smaller archive")
    settings = BatchSettings(seed=seed, evaluation_users=len(history.users))
    splits = _SPLITS[split](history, settings)
    evaluation = measure_models(splits, settings, lambda done: None)
    if not evaluation.is_measured:
        raise LoadtestError(f"bench: {name} is too small to hold anything out: {evaluation.chosen_by}")
    test, chosen = splits.test(), evaluation.chosen
    parameters = evaluation.parameters.get(chosen, {})
    rival_lists, penalty = textbook_lists(splits, test, seed)
    rivals = {rival: ListScores.of(test, lists, split) for rival, lists in rival_lists.items()}
    chosen_scores = ListScores.of(test, _chosen_lists(evaluation, test, settings), split)
    ours = evaluation.test_models.items()
    table = {model: convert(figures, MetricIntervals, from_attributes=True) for model, figures in ours}
    table |= {model: _intervals(scores) for model, scores in {chosen: chosen_scores, **rivals}.items()}
    ranked = RankedSet(
        split=split,
        users=history.shape[0],
        movies=history.shape[1],
        sessions=len(history.user),
        measured_users=len(test.users),
        chosen=chosen,
        chosen_by=evaluation.chosen_by,
        parameters=parameters,
        textbook_ease_penalty=penalty,
        models=table,
    )
    less = {rival: _less(chosen_scores, scores) for rival, scores in rivals.items()}
    return ranked, compare(name, ranked, less, evaluation.against_popular)


def compare(
    name: str, ranked: RankedSet, less: dict[str, MetricIntervals], against_popular: ScoreDifference
) -> SetComparison:
    """What is claimed of a set; `less` is the chosen model minus each rival, `against_popular` minus the popular list.

    By other splits than its own a set may have too few users, and in `charts` too little taste, to beat the popular
    list beyond noise.
    """
    low, high = _number(against_popular.low), _number(against_popular.high)
    is_above_claimed = ranked.split == SETS[name] and name != "charts"
    ratio = round(_number(ranked.models[ranked.chosen].ndcg.mean) / _number(ranked.models[EASE].ndcg.mean), 3)
    is_1m = name == "movielens" and ranked.split == "last" and _ONE_MILLION[0] < ranked.sessions < _ONE_MILLION[1]
    return SetComparison(
        chosen_less=less,
        ndcg_less_best_rival_high=min(_number(rival.ndcg.high) for rival in less.values()),
        recall_less_best_rival_high=min(_number(rival.recall.high) for rival in less.values()),
        hit_rate_less_best_rival_high=min(_number(rival.hit_rate.high) for rival in less.values()),
        chosen_less_popular_low=low,
        above_popular=low > 0 if is_above_claimed else UNSET,
        chosen_less_popular_high=UNSET if is_above_claimed else high,
        chosen_less_ease_high=_number(less[EASE].ndcg.high) if name == "shuffled" else UNSET,
        ease_ratio=ratio if name != "shuffled" else UNSET,
        ease_ratio_1m=ratio if is_1m else UNSET,
    )


def textbook_lists(splits: Splits, test: Slice, seed: int) -> tuple[dict[str, np.ndarray], float]:
    """By rival: its lists for the users of the test slice; and EASE's penalty, which the other slice chose."""
    penalty = _best_penalty(splits.choice())
    rivals = {EASE: reference_models.ease(test.known)(penalty), ALS: reference_models.als(test.known, seed)}
    return {name: reference_models.top_lists(model, test.known, test.users) for name, model in rivals.items()}, penalty


def _best_penalty(choice: Slice) -> float:
    fit = reference_models.ease(choice.known)

    def ndcg(penalty: float) -> float:
        lists = reference_models.top_lists(fit(penalty), choice.known, choice.users)
        return float(measure_lists(choice, choice.users, lists).scores.ndcg.mean())

    return max(reference_models.PENALTIES, key=ndcg)


def _chosen_lists(evaluation: Evaluation, test: Slice, settings: BatchSettings) -> np.ndarray:
    """The chosen model's lists once more, for the scores of each user: int32 [users, 20]."""
    return top_lists(shown_model(evaluation, test.known, settings), test.known, test.users)


def _intervals(scores: ListScores) -> MetricIntervals:
    return _of_metrics(mean_interval, scores)


def _less(ours: ListScores, theirs: ListScores) -> MetricIntervals:
    """By how much ours are better, paired user by user."""
    return _of_metrics(mean_difference_interval, ours, theirs)


def _of_metrics(interval: Callable[..., Interval], *models: ListScores) -> MetricIntervals:
    """An interval for each metric, from the models' scores of each user."""
    at_20, at_10 = [model.at_20 for model in models], [model.at_10 for model in models if model.at_10]
    return MetricIntervals(
        ndcg=interval(*map(NDCG.scores, at_20)),
        recall=interval(*map(RECALL.scores, at_20)),
        hit_rate=interval(*map(HIT_RATE.scores, at_20)),
        ndcg_10=interval(*map(NDCG_10.scores, at_10)) if at_10 else UNSET,
        hit_rate_10=interval(*map(HIT_RATE_10.scores, at_10)) if at_10 else UNSET,
    )


def _number(end: float | None) -> float:
    """An interval's mean, low or high end."""
    assert end is not None  # a slice has users
    return end


def _measure_set(name: str, run: RankingRun) -> Figures:
    ranked, comparison = measure(name, run.history(name), run.seed, run.inputs.split or SETS[name])
    return {name: to_builtins(ranked), **as_figures(comparison, name)}


RANKING = Benchmark(
    name="ranking",
    full=RankingSize(world=(10_000, 2_000, 28), sequences=(4_000, 1_500, 100)),
    quick=RankingSize(world=(1_200, 300, 14), sequences=(500, 300, 40)),
    parts={name: partial(_measure_set, name) for name in SETS},
    targets={
        **{f"{name}_{metric}_less_best_rival_high": (">=", 0.0) for name in SETS for metric in _METRICS},
        **{f"{name}_above_popular": ("==", True) for name in SETS if name != "charts"},
        **{f"{name}_chosen_less_popular_high": (">=", 0.0) for name in SETS},
        "shuffled_chosen_less_ease_high": (">=", 0.0),
        "movielens_1m_ease_ratio": (">=", 1.7),
    },
    begin=RankingRun,
    plot=ranking_plot.draw,
    needs={"movielens": "data"},
)
