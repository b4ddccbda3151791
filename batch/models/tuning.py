"""Chooses a model's parameters by NDCG@20 on what users watched next: the simplest within one standard error of the
best (Breiman et al., CART, 1984).

Every trial ranks the same users, so trials are compared user by user. With few users, or if a decay makes no
difference, no decay is chosen.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from batch.models.decay import DAYS, FLOORS, ITEMS
from batch.models.model import Model
from batch.models.top_lists import top_lists
from quality.metrics import ranking

USERS = 4_000
"""Most users that are ranked, the same ones in every trial: the standard error is then a few thousandths."""


class Tunable(Model, Protocol):
    """A model whose parameters may be set."""

    parameters: dict[str, float]


def choose_decay(model: Tunable, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
    """Choose `items` and `floor` of the decay together, and then `days`; 0, for none, is always tried.

    Above a floor the rest may fade faster, so neither can be chosen without the other.
    """

    def set_parameters(parameters: dict[str, float]) -> None:
        model.parameters = {**model.parameters, **parameters}

    no_decay = {"items": 0.0, "floor": 0.0, "days": 0.0}
    set_parameters(no_decay)
    trials = [no_decay, *({"items": items, "floor": floor} for floor in (*FLOORS, 0.0) for items in ITEMS)]
    choose(model, set_parameters, trials, data, relevant, users)
    choose(model, set_parameters, [{"days": value} for value in (0.0, *DAYS)], data, relevant, users)


def choose(
    model: Model,
    set_parameters: Callable[[dict[str, float]], None],
    trials: Sequence[dict[str, float]],
    data: Interactions,
    relevant: sp.csr_matrix,
    users: np.ndarray,
) -> dict[str, float]:
    """Try the parameters of all trials, simplest first; set (`set_parameters`) and return those that are chosen."""
    scores = []
    for parameters in trials:
        set_parameters(parameters)
        scores.append(trial_scores(model, data, relevant, users))
    chosen = trials[simplest_trial(scores)]
    set_parameters(chosen)
    return chosen


def trial_scores(model: Model, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> np.ndarray:
    """NDCG@20 of a model for at most `USERS` of some users, always the same ones: float64 [k]."""
    users = users[np.linspace(0, len(users) - 1, min(USERS, len(users))).astype(np.int64)]
    watched_next = relevant[users]
    lists = top_lists(model, data, users)
    return ranking.rank_metrics(lists, watched_next.indptr.astype(np.int64), watched_next.indices).ndcg


def simplest_trial(trials: list[np.ndarray]) -> int:
    """The index of the first trial (float64 [users] each) whose scores are within one standard error of the best."""
    best = trials[int(np.argmax([scores.mean() if len(scores) else 0 for scores in trials]))]
    for number, scores in enumerate(trials):
        lost = best - scores
        if not len(lost) or lost.mean() <= lost.std() / np.sqrt(len(lost)):
            return number
    raise AssertionError("the best one is within an error of itself")
