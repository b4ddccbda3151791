"""Offline evaluation: split by time, full ranking over the whole catalogue minus what the user saw before the split.

Two slices of `test_hours` each are cut off the archive's end. Models fit to what lies before the first of them are
compared on it, which chooses the model; models fit to what lies before the second are measured on that one, which has
no part in the choice, but that a model which turns out worse there than the popular list gives way to it. The lists
that are scored come out of the very function that makes the release's lists.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import scipy.sparse as sp

from batch.errors import NotEnoughData
from batch.interactions import History, Interactions
from batch.lists import top_lists
from batch.models import ALS, Model, Popular
from batch.segments import NAMES
from batch.settings import BatchSettings
from quality import ranking
from quality.bootstrap import mean_interval
from stream.zone import HOUR_MS

CHOICE_METRIC = "ndcg@20"
Advance = Callable[[int], object]
Scored = dict[str, ranking.Scores]
"""By model: its scores, the same users in the same order for all."""


@dataclass(frozen=True)
class Slice:
    """One slice of time: what was known before it, and what happened in it."""

    known: Interactions
    relevant: sp.csr_matrix
    """bool [n, m]: what each user started in the slice and had not seen before."""


def candidates(settings: BatchSettings) -> list[Model]:
    """The models that compete, or the one that the settings pin beside the popular list, which is always measured."""
    return [Popular()] if settings.model == "popular" else [ALS(settings), Popular()]


def cut(history: History, since_ms: int, until_ms: int, settings: BatchSettings) -> Slice:
    """The slice [since, until). Raises `NotEnoughData` where nothing was watched before it, or in it."""
    known = history.before(since_ms, settings.half_life_days)
    started = history.started(since_ms, until_ms)
    relevant = sp.csr_matrix(started > started.multiply(known.weights > 0))
    if not known.weights.nnz or not relevant.nnz:
        raise NotEnoughData("no sessions before one of the slices, or nothing new within it")
    return Slice(known, relevant)


def evaluate(history: History, segments: np.ndarray, settings: BatchSettings, advance: Advance) -> dict[str, Any]:
    """Choose a model on one slice, measure all of them on the next: what `evaluation.json` holds.

    A history too short to hold anything out is no reason to have no release: the popular list is then chosen, unless
    the settings pin another model, and the file says why there are no figures.
    """
    starts = history.sessions["start"]
    until_ms = int(starts.max()) + 1
    step = min(round(settings.test_hours * HOUR_MS), (until_ms - int(starts.min())) // 4)
    try:
        choice = cut(history, until_ms - 2 * step, until_ms - step, settings)
        test = cut(history, until_ms - step, until_ms, settings)
    except NotEnoughData as error:
        pinned = settings.model != "best"
        chosen_by = "settings" if pinned else f"nothing could be held out: {error}"
        return _evaluation(settings.model if pinned else Popular.name, chosen_by, {}, np.zeros(0), settings)
    on_choice, choosing = _measured(choice, segments, settings, advance)
    on_test, testing = _measured(test, segments, settings, advance)
    chosen, chosen_by = str(settings.model), "settings"
    if settings.model == "best":
        chosen, chosen_by = _chosen(choosing, testing, settings.seed)
    slices = {
        "choice": {"from_ms": until_ms - 2 * step, "until_ms": until_ms - step, "models": on_choice},
        "test": {"from_ms": until_ms - step, "until_ms": until_ms, "models": on_test},
    }
    return _evaluation(chosen, chosen_by, slices, testing[chosen].ndcg - testing[Popular.name].ndcg, settings)


def _chosen(choosing: Scored, testing: Scored, seed: int) -> tuple[str, str]:
    """The model that ranks best, and why: to be chosen, it must beat the popular list beyond noise."""
    popular = Popular.name
    best = max(choosing, key=lambda name: float(choosing[name].ndcg.mean()))
    won = mean_interval(choosing[best].ndcg - choosing[popular].ndcg, seed=seed).low
    if best == popular or won is None or won <= 0:
        return popular, f"no model beats it beyond noise by {CHOICE_METRIC} on the choice slice"
    held = mean_interval(testing[best].ndcg - testing[popular].ndcg, seed=seed).high
    if held is not None and held < 0:
        return popular, f"{best} won on the choice slice, but ranks below the popular list on the test slice"
    return best, f"{CHOICE_METRIC} on the choice slice"


def _evaluation(
    chosen: str, chosen_by: str, slices: dict[str, Any], gain: np.ndarray, settings: BatchSettings
) -> dict[str, Any]:
    """`gain` is the metric of the chosen model less that of the popular list, float64 [users of the test slice]."""
    against = {"metric": CHOICE_METRIC, **msgspec.to_builtins(mean_interval(gain, seed=settings.seed))}
    return {"chosen": chosen, "chosen_by": chosen_by, "slices": slices, "against_popular": against}


def _measured(
    part: Slice, segments: np.ndarray, settings: BatchSettings, advance: Advance
) -> tuple[dict[str, Any], Scored]:
    """Every model fit to what was known before a slice: its figures, and its scores user by user."""
    figures: dict[str, Any] = {}
    scores: Scored = {}
    users = np.flatnonzero(np.diff(part.relevant.indptr))
    relevant = part.relevant[users]
    for model in candidates(settings):
        model.fit(part.known)
        lists = top_lists(model, part.known.weights, users)
        scores[model.name] = ranking.score(lists, relevant.indptr.astype(np.int64), relevant.indices)
        figures[model.name] = _figures(part, lists, scores[model.name], segments[users], settings)
        advance(1)
    return figures, scores


def _figures(
    part: Slice, lists: np.ndarray, scores: ranking.Scores, segments: np.ndarray, settings: BatchSettings
) -> dict[str, Any]:
    watched = np.diff(part.known.weights.tocsc().indptr)
    return {
        "users": len(lists),
        **{name: msgspec.to_builtins(mean_interval(values, seed=settings.seed)) for name, values in _named(scores)},
        "coverage": ranking.coverage(lists, part.relevant.shape[1]),
        "novelty_bits": ranking.novelty(lists, watched, part.relevant.shape[0]),
        "segments": _by_segment(scores, segments),
    }


def _named(scores: ranking.Scores) -> list[tuple[str, np.ndarray]]:
    return [
        ("hr@20", scores.hit),
        ("recall@20", scores.recall),
        (CHOICE_METRIC, scores.ndcg),
        ("mrr", scores.reciprocal_rank),
    ]


def _by_segment(scores: ranking.Scores, segments: np.ndarray) -> dict[str, dict[str, float]]:
    found = {}
    for segment in np.unique(segments[scores.users]).tolist():
        rows = segments[scores.users] == segment
        name = NAMES[segment] if segment else "no segment"
        found[name] = {"users": int(rows.sum()), CHOICE_METRIC: float(scores.ndcg[rows].mean())}
    return found
