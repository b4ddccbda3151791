"""Chooses a model's parameters by NDCG@20 on what users did next: the simplest within one standard error of the best.

Every trial ranks the same users, so two are compared user by user. A trial must be better than a simpler one by more
than one standard error of that difference, or the simpler one is kept (Breiman et al., CART, 1984): with few users, or
where a decay makes no difference, there is none.
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
"""At most so many users are asked, the same ones in every trial: the standard error is then a few thousandths."""


class Tunable(Model, Protocol):
    """A model whose parameters may be set."""

    parameters: dict[str, float]


def choose_decay(model: Tunable, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
    """Choose `items` and `floor` of `decay.recent` together, and then `days`; 0, for none, is always tried.

    Above a floor the rest may fade faster, so neither can be chosen without the other.
    """

    def put(parameters: dict[str, float]) -> None:
        model.parameters = {**model.parameters, **parameters}

    none = {"items": 0.0, "floor": 0.0, "days": 0.0}
    put(none)
    tries = [none, *({"items": items, "floor": floor} for floor in (*FLOORS, 0.0) for items in ITEMS)]
    choose(model, put, tries, data, relevant, users)
    choose(model, put, [{"days": value} for value in (0.0, *DAYS)], data, relevant, users)


def choose(
    model: Model,
    put: Callable[[dict[str, float]], None],
    tries: Sequence[dict[str, float]],
    data: Interactions,
    relevant: sp.csr_matrix,
    users: np.ndarray,
) -> dict[str, float]:
    """Try parameters, simplest first, and leave the model with (`put`) and return the ones that are chosen."""
    found = []
    for parameters in tries:
        put(parameters)
        found.append(trial(model, data, relevant, users))
    chosen = tries[simplest(found)]
    put(chosen)
    return chosen


def trial(model: Model, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> np.ndarray:
    """NDCG@20 of a model for at most `USERS` of some users, always the same ones: float64 [k]."""
    users = users[np.linspace(0, len(users) - 1, min(USERS, len(users))).astype(np.int64)]
    wanted = relevant[users]
    return ranking.rank_metrics(top_lists(model, data, users), wanted.indptr.astype(np.int64), wanted.indices).ndcg


def simplest(found: list[np.ndarray]) -> int:
    """The first of some trials (float64 [users] each) that is within one standard error of the best one."""
    best = found[int(np.argmax([scores.mean() if len(scores) else 0 for scores in found]))]
    for number, scores in enumerate(found):
        lost = best - scores
        if not len(lost) or lost.mean() <= lost.std() / np.sqrt(len(lost)):
            return number
    raise AssertionError("the best one is within an error of itself")
