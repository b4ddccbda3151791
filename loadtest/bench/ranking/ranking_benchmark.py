"""The benchmark `ranking`: every model of the night on one split, beside textbook EASE and implicit ALS.

| set | what | split |
|---|---|---|
| `world` | sessions of the simulated world | the last day; the day before chooses |
| `sequences` | long sequences with order in them | each user's last tenth; that of what is left chooses |
| `shuffled` | the same without order | the same |
| `movielens` | with `--data`: an archive of MovieLens | the same |

See `sequences.py`. The night's own code fits and tunes all models on the slice that chooses, chooses one there, fits
all anew and measures them on the test slice (`batch.evaluation`), on which nothing is chosen. The two others, see
`reference_models.py`, know what ours know, and the penalty of EASE is chosen on the same slice as ours. All are
measured by full ranking over the whole catalogue less what the user had seen, for every user who did something new.

| figure | what it is |
|---|---|
| `<set>` | its size, what was chosen, with what parameters, and `models` |
| `models` of it | by model: NDCG@20, recall@20, HR@20, each as mean, low and high: 95 % by bootstrap over users |
| `<set>_chosen_less` | figures of the chosen model less those of each of the two, paired by user, with intervals |
| `<set>_<metric>_less_best_rival_high` | the lowest high end of these: below 0, a rival is better beyond noise |
| `<set>_chosen_less_popular_low` | its low end against the popular list; `<set>_above_popular`: that is above 0 |
| `shuffled_chosen_less_ease_high` | NDCG@20 where there is no order: below 0, looking for it has done harm |
| `movielens_ease_ratio` | NDCG@20 of the chosen one by that of EASE, `movielens_1m_ease_ratio` if it is that archive |
"""

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from batch import models
from batch.evaluation.evaluate import measure_models
from batch.evaluation.figures import measure_lists
from batch.evaluation.splits import Slice, Splits, by_order, by_time
from batch.evaluation_file import HIT_RATE, NDCG, RECALL, ModelFigures
from batch.history.interactions import TrainingHistory
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings
from loadtest.bench.ranking import reference_models, sequences
from loadtest.bench.result import BenchmarkResult, Target
from loadtest.bench.serving.bench_processes import ends_on_sigterm
from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError
from quality.metrics.bootstrap import mean_interval
from quality.metrics.ranking import RankingScores

log = logging.getLogger(__name__)

SETS = ("world", "sequences", "shuffled", "movielens")
_METRICS = {NDCG: "ndcg", RECALL: "recall", HIT_RATE: "hit"}
TARGETS: dict[str, Target] = {
    **{f"{name}_{metric}_less_best_rival_high": (">=", 0.0) for name in SETS for metric in _METRICS},
    **{f"{name}_above_popular": ("==", True) for name in SETS},
    "shuffled_chosen_less_ease_high": (">=", 0.0),
    "movielens_1m_ease_ratio": (">=", 1.7),
}
EASE, ALS = "textbook EASE", "implicit ALS"
_ONE_MILLION = (950_000, 1_050_000)
"""Ratings of MovieLens-1M, and of no other archive of theirs."""
_WORK = ROOT / "var" / "bench"


@dataclass(frozen=True)
class RankingSize:
    """How large the sets are that are made."""

    world: tuple[int, int, int]
    """Users, movies, days."""
    sequences: tuple[int, int, int]
    """Users, movies, median of movies a user."""


FULL = RankingSize(world=(10_000, 2_000, 28), sequences=(4_000, 1_500, 100))
QUICK = RankingSize(world=(2_000, 500, 14), sequences=(2_000, 500, 60))


def run(size: RankingSize, seed: int, parts: tuple[str, ...] = (), data: Path | None = None) -> BenchmarkResult:
    """Measure the sets, all that there are where none is named. `data` is an archive of MovieLens.

    Raises `LoadtestError` where that has too many movies, and `MovieLensError` where it cannot be read.
    """
    figures: dict[str, Any] = {}
    _WORK.mkdir(parents=True, exist_ok=True)
    with ends_on_sigterm(), tempfile.TemporaryDirectory(dir=_WORK) as folder:
        for name, make in _makers(size, seed, data, Path(folder)).items():
            if not parts or name in parts:
                began = time.monotonic()
                history = make()
                log.info("%s: %d users, %d movies, %d sessions", name, *history.shape, len(history.user))
                figures |= measure(name, history, seed)
                log.info("%s: %.1f s", name, time.monotonic() - began)
    return BenchmarkResult("ranking", figures, TARGETS)


def _makers(size: RankingSize, seed: int, data: Path | None, folder: Path) -> dict[str, Callable[[], TrainingHistory]]:
    found: dict[str, Callable[[], TrainingHistory]] = {
        "world": lambda: sequences.world(*size.world, seed),
        "sequences": lambda: sequences.sequences(*size.sequences, seed),
        "shuffled": lambda: sequences.shuffled(sequences.sequences(*size.sequences, seed), seed),
    }
    if data is not None:
        found["movielens"] = lambda: sequences.movielens(data, folder / "movielens")
    return found


def measure(name: str, history: TrainingHistory, seed: int) -> dict[str, Any]:
    """All figures of a set."""
    if history.shape[1] > reference_models.MOST_MOVIES:
        most = f"{reference_models.MOST_MOVIES:,} movies at most, for EASE's sake"
        raise LoadtestError(f"bench: {name} has {history.shape[1]:,} movies; ranking is measured on {most}")
    settings = BatchSettings(seed=seed, evaluation_users=len(history.users))
    splits = by_time(history, settings) if name == "world" else by_order(history)
    evaluation = measure_models(splits, settings, lambda done: None)
    if not evaluation.is_measured:
        raise LoadtestError(f"bench: {name} is too small to hold anything out: {evaluation.chosen_by}")
    part, chosen = splits.test(), evaluation.chosen
    ours = _scores(part, _lists_of(chosen, evaluation.parameters, part, settings))
    rivals, penalty = textbook_scores(splits, part, seed)
    less = {rival: _less(ours, scores, seed) for rival, scores in rivals.items()}
    ahead_of_popular = evaluation.against_popular.low
    assert ahead_of_popular is not None  # something was measured
    table = {model: _figures_row(figures) for model, figures in evaluation.test_models.items()}
    table |= {rival: _row(scores, seed) for rival, scores in rivals.items()}
    return {
        name: {
            "users": history.shape[0],
            "movies": history.shape[1],
            "sessions": len(history.user),
            "measured_users": len(part.users),
            "chosen": chosen,
            "chosen_by": evaluation.chosen_by,
            "parameters": evaluation.parameters.get(chosen, {}),
            "textbook_ease_penalty": penalty,
            "models": table,
        },
        f"{name}_chosen_less": less,
        **{
            f"{name}_{metric}_less_best_rival_high": min(one[metric]["high"] for one in less.values())
            for metric in _METRICS
        },
        f"{name}_chosen_less_popular_low": ahead_of_popular,
        f"{name}_above_popular": ahead_of_popular > 0,
        **_of_this_set(name, len(history.user), table[chosen], table[EASE], less[EASE][NDCG]),
    }


def _of_this_set(
    name: str, sessions: int, ours: dict[str, Any], ease: dict[str, Any], less: dict[str, float]
) -> dict[str, float]:
    """What is claimed of one set only."""
    if name == "shuffled":
        return {"shuffled_chosen_less_ease_high": less["high"]}
    ratio = round(ours["ndcg@20"]["mean"] / ease["ndcg@20"]["mean"], 3)
    if name != "movielens":
        return {f"{name}_ease_ratio": ratio}
    of_1m = {"movielens_1m_ease_ratio": ratio} if _ONE_MILLION[0] < sessions < _ONE_MILLION[1] else {}
    return {"movielens_ease_ratio": ratio} | of_1m


def textbook_scores(splits: Splits, part: Slice, seed: int) -> tuple[dict[str, RankingScores], float]:
    """Scores of the two others on the test slice, and EASE's penalty, which the other slice chose."""
    choice = splits.choice()
    worth = {
        penalty: _scores(
            choice, reference_models.top_lists(reference_models.ease(choice.known, penalty), choice.known, choice.users)
        )
        for penalty in reference_models.PENALTIES
    }
    penalty = max(worth, key=lambda one: float(worth[one].ndcg.mean()))
    others = {EASE: reference_models.ease(part.known, penalty), ALS: reference_models.als(part.known, seed)}
    return {
        name: _scores(part, reference_models.top_lists(scores, part.known, part.users))
        for name, scores in others.items()
    }, penalty


def _lists_of(chosen: str, parameters: dict[str, dict[str, float]], part: Slice, settings: BatchSettings) -> np.ndarray:
    """The chosen model's lists once more, for the scores of each user: int32 [users, 20]."""
    model = models.make(chosen, settings, parameters.get(chosen, {}))
    model.fit(part.known)
    return top_lists(model, part.known, part.users)


def _scores(part: Slice, lists: np.ndarray) -> RankingScores:
    return measure_lists(part, part.users, lists).scores


def _figures_row(figures: ModelFigures) -> dict[str, Any]:
    return {metric: msgspec.to_builtins(figures.intervals[metric]) for metric in _METRICS}


def _row(scores: RankingScores, seed: int) -> dict[str, Any]:
    return {metric: _interval(getattr(scores, field), seed) for metric, field in _METRICS.items()}


def _less(ours: RankingScores, theirs: RankingScores, seed: int) -> dict[str, Any]:
    """By how much ours are better, paired user by user."""
    pairs = {metric: getattr(ours, field) - getattr(theirs, field) for metric, field in _METRICS.items()}
    return {metric: _interval(difference, seed) for metric, difference in pairs.items()}


def _interval(values: np.ndarray, seed: int) -> dict[str, Any]:
    return dict(msgspec.to_builtins(mean_interval(values, seed=seed)))
