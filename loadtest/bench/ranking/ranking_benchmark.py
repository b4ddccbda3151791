"""The benchmark `ranking`: every model of the night on one split, compared with textbook EASE and implicit ALS.

| part | data set | split |
|---|---|---|
| `world` | sessions of the simulated world | the last day tests; the day before chooses |
| `sequences` | long sequences with order in them | each user's last tenth tests; that of the rest chooses |
| `shuffled` | the same without order | the same |
| `movielens` | with `--data`: an archive of MovieLens | the same |

See `sequences.py`. The night's own code fits and tunes all models on the choice slice, chooses one there, refits all
and measures them on the test slice (`batch.evaluation`), which is not used for any choice. The two rivals, see
`reference_models.py`, have the same data, and the penalty of EASE is chosen on the same slice. All are measured by full
ranking of the whole catalogue minus the movies that the user had seen, over all users with a new movie.

`ranking_figures.py` describes the figures: `<part>` is a `RankedSet`, `<part>_…` are those of `SetComparison`.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from msgspec import UNSET, convert, to_builtins

from batch.evaluation.evaluate import measure_models, shown_model
from batch.evaluation.figures import measure_lists
from batch.evaluation.splits import Slice, Splits, by_order, by_time
from batch.evaluation_file import Evaluation
from batch.history.interactions import TrainingHistory
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings
from loadtest.bench.benchmark import Benchmark, BenchmarkRun
from loadtest.bench.ranking import ranking_plot, reference_models, sequences
from loadtest.bench.ranking.ranking_figures import MetricIntervals, RankedSet, SetComparison
from loadtest.bench.ranking.reference_models import ALS, EASE
from loadtest.bench.result import Figures, as_figures
from loadtest.errors import LoadtestError
from quality.metrics.intervals import mean_difference_interval, mean_interval
from quality.metrics.ranking import HIT_RATE, NDCG, RECALL, RankingScores

SETS = ("world", "sequences", "shuffled", "movielens")
_METRICS = (NDCG.name, RECALL.name, HIT_RATE.name)
_ONE_MILLION = (950_000, 1_050_000)
"""Ratings of MovieLens-1M, and of no other MovieLens archive."""


@dataclass(frozen=True)
class RankingSize:
    """The size of the generated sets."""

    world: tuple[int, int, int]
    """Users, movies, days."""
    sequences: tuple[int, int, int]
    """Users, movies, median of movies a user."""


class RankingRun(BenchmarkRun[RankingSize]):
    """One run of `ranking`."""

    def history(self, name: str) -> TrainingHistory:
        """One of `SETS`. Raises `MovieLensError` if the archive cannot be read."""
        match name:
            case "world":
                return sequences.world(*self.size.world, self.seed)
            case "sequences":
                return sequences.sequences(*self.size.sequences, self.seed)
            case "shuffled":
                return sequences.shuffled(self.history("sequences"), self.seed)
        assert self.inputs.data  # `Benchmark.needs`
        return sequences.movielens(self.inputs.data, self.folder / "movielens")


def measure(name: str, history: TrainingHistory, seed: int) -> tuple[RankedSet, SetComparison]:
    """Measure one set. Raises `LoadtestError` if it has too many movies, or is too small to hold anything out."""
    if history.shape[1] > reference_models.MOST_MOVIES:
        limit = f"EASE allows {reference_models.MOST_MOVIES:,} movies at most"
        raise LoadtestError(f"bench: {name} has {history.shape[1]:,} movies, {limit}; give a smaller archive")
    settings = BatchSettings(seed=seed, evaluation_users=len(history.users))
    splits = by_time(history, settings) if name == "world" else by_order(history)
    evaluation = measure_models(splits, settings, lambda done: None)
    if not evaluation.is_measured:
        raise LoadtestError(f"bench: {name} is too small to hold anything out: {evaluation.chosen_by}")
    test, chosen = splits.test(), evaluation.chosen
    parameters = evaluation.parameters.get(chosen, {})
    rivals, penalty = textbook_scores(splits, test, seed)
    chosen_scores = _scores(test, _chosen_lists(evaluation, test, settings))
    table = {
        model: convert(figures, MetricIntervals, from_attributes=True)
        for model, figures in evaluation.test_models.items()
    }
    table |= {rival: _intervals(scores) for rival, scores in rivals.items()}
    ranked = RankedSet(
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
    return ranked, compare(name, ranked, less, evaluation.against_popular.low)


def compare(name: str, ranked: RankedSet, less: dict[str, MetricIntervals], popular_low: float | None) -> SetComparison:
    """What is claimed of a set; `less` is the chosen model minus each rival."""
    low = _number(popular_low)
    ratio = round(_number(ranked.models[ranked.chosen].ndcg.mean) / _number(ranked.models[EASE].ndcg.mean), 3)
    is_1m = name == "movielens" and _ONE_MILLION[0] < ranked.sessions < _ONE_MILLION[1]
    return SetComparison(
        chosen_less=less,
        ndcg_less_best_rival_high=min(_number(rival.ndcg.high) for rival in less.values()),
        recall_less_best_rival_high=min(_number(rival.recall.high) for rival in less.values()),
        hit_rate_less_best_rival_high=min(_number(rival.hit_rate.high) for rival in less.values()),
        chosen_less_popular_low=low,
        above_popular=low > 0,
        chosen_less_ease_high=_number(less[EASE].ndcg.high) if name == "shuffled" else UNSET,
        ease_ratio=ratio if name != "shuffled" else UNSET,
        ease_ratio_1m=ratio if is_1m else UNSET,
    )


def textbook_scores(splits: Splits, test: Slice, seed: int) -> tuple[dict[str, RankingScores], float]:
    """By rival: its scores on the test slice; and EASE's penalty, which the other slice chose."""
    choice = splits.choice()
    fit = reference_models.ease(choice.known)
    ndcg = {
        penalty: float(_rival_scores(choice, fit(penalty)).ndcg.mean()) for penalty in reference_models.PENALTIES
    }
    best = max(ndcg, key=lambda penalty: ndcg[penalty])
    rivals = {EASE: reference_models.ease(test.known)(best), ALS: reference_models.als(test.known, seed)}
    return {name: _rival_scores(test, model) for name, model in rivals.items()}, best


def _rival_scores(data: Slice, model: reference_models.Scores) -> RankingScores:
    return _scores(data, reference_models.top_lists(model, data.known, data.users))


def _chosen_lists(evaluation: Evaluation, test: Slice, settings: BatchSettings) -> np.ndarray:
    """The chosen model's lists once more, for the scores of each user: int32 [users, 20]."""
    return top_lists(shown_model(evaluation, test.known, settings), test.known, test.users)


def _scores(data: Slice, lists: np.ndarray) -> RankingScores:
    return measure_lists(data, data.users, lists).scores


def _intervals(scores: RankingScores) -> MetricIntervals:
    return MetricIntervals(
        ndcg=mean_interval(scores.ndcg),
        recall=mean_interval(scores.recall),
        hit_rate=mean_interval(scores.hit),
    )


def _less(ours: RankingScores, theirs: RankingScores) -> MetricIntervals:
    """By how much ours are better, paired user by user."""
    return MetricIntervals(
        ndcg=mean_difference_interval(ours.ndcg, theirs.ndcg),
        recall=mean_difference_interval(ours.recall, theirs.recall),
        hit_rate=mean_difference_interval(ours.hit, theirs.hit),
    )


def _number(end: float | None) -> float:
    """An interval's mean, low or high end."""
    assert end is not None  # a slice has users
    return end


def _measure_set(name: str, run: RankingRun) -> Figures:
    ranked, comparison = measure(name, run.history(name), run.seed)
    return {name: to_builtins(ranked), **as_figures(comparison, name)}


RANKING = Benchmark(
    name="ranking",
    full=RankingSize(world=(10_000, 2_000, 28), sequences=(4_000, 1_500, 100)),
    quick=RankingSize(world=(2_000, 500, 14), sequences=(2_000, 500, 60)),
    parts={name: partial(_measure_set, name) for name in SETS},
    targets={
        **{f"{name}_{metric}_less_best_rival_high": (">=", 0.0) for name in SETS for metric in _METRICS},
        **{f"{name}_above_popular": ("==", True) for name in SETS},
        "shuffled_chosen_less_ease_high": (">=", 0.0),
        "movielens_1m_ease_ratio": (">=", 1.7),
    },
    begin=RankingRun,
    plot=ranking_plot.draw,
    needs={"movielens": "data"},
)
