"""Estimators of how much better one model ranks than another, while one of the two is shown.

| estimator | the starts that count |
|---|---|
| `all` | all of them |
| `unexposed` | those that no list suggested within the window: the estimator of a night |
| `unbarred` | the same, but what a list suggested in the slice keeps its place in the lists |
| `washout` | those that no list suggested within three windows |

The last day is measured by each as a night measures it. What cannot be known of a service is known of a simulated one:
the `truth` is what users would choose now if no list was shown to them any more.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from batch import models
from batch.evaluation.figures import measure_lists
from batch.evaluation.splits import Slice, by_time
from batch.history.exposure import with_exposure
from batch.history.interactions import Interactions, Requests, TrainingHistory
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings
from loadtest.bench.exposure.shown_world import ShownWorld
from quality.settings import QualitySettings

WINDOW_MS = QualitySettings().window_ms
_WASHOUT = 3
_CHOICES = 4
"""Drawn of each user for the truth."""


@dataclass(frozen=True)
class Difference:
    """How much better the first of two models ranks, by an estimator."""

    mean: float
    """In NDCG@20."""
    error: float
    """Its standard error."""
    users: int


def _all(history: TrainingHistory, requests: Requests, settings: BatchSettings) -> Slice:
    return by_time(history, settings).test()


def _unexposed(history: TrainingHistory, requests: Requests, settings: BatchSettings) -> Slice:
    return by_time(with_exposure(history, requests, WINDOW_MS), settings).test()


def _unbarred(history: TrainingHistory, requests: Requests, settings: BatchSettings) -> Slice:
    part = _unexposed(history, requests, settings)
    return replace(part, known=replace(part.known, barred=None))


def _washout(history: TrainingHistory, requests: Requests, settings: BatchSettings) -> Slice:
    return by_time(with_exposure(history, requests, _WASHOUT * WINDOW_MS), settings).test()


ESTIMATORS: Mapping[str, Callable[[TrainingHistory, Requests, BatchSettings], Slice]] = {
    "all": _all,
    "unexposed": _unexposed,
    "unbarred": _unbarred,
    "washout": _washout,
}
"""By name: the slice that is measured."""


def lists_of(name: str, data: Interactions, settings: BatchSettings) -> np.ndarray:
    """The lists of a model, untuned, for all users: int32 [users, 20]."""
    model = models.make(name, settings, {})
    model.fit(data)
    return top_lists(model, data, np.arange(data.shape[0]))


def estimate(name: str, world: ShownWorld, pair: tuple[str, str], settings: BatchSettings) -> Difference:
    """How much better the first of two models ranks than the second, by one of `ESTIMATORS`."""
    part = ESTIMATORS[name](world.history(), world.requests(), settings)
    users = part.users
    first, second = (measure_lists(part, users, lists_of(model, part.known, settings)[users]) for model in pair)
    return _difference(first.scores.ndcg - second.scores.ndcg)


def truth(world: ShownWorld, pair: tuple[str, str], settings: BatchSettings, seed: int) -> Difference:
    """How much better the first ranks what users would choose now without any list."""
    history = world.history()
    data = history.before(world.now_ms, settings.half_life_days)
    rng, users = np.random.default_rng(seed), np.flatnonzero(np.diff(data.indptr))
    first, second = (lists_of(model, data, settings)[users] for model in pair)
    gains = np.zeros(len(users))
    for _ in range(_CHOICES):
        chosen = world.world.choose(users, world.people.seen, rng)[:, None]
        gains += _gain(first, chosen) - _gain(second, chosen)
    return _difference(gains / _CHOICES)


def _gain(lists: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """NDCG@20 of lists where one movie (int [users, 1]) is relevant: float64 [users]."""
    return np.asarray(((lists == chosen) / np.log2(np.arange(lists.shape[1]) + 2)).sum(axis=1))


def _difference(gains: np.ndarray) -> Difference:
    return Difference(float(gains.mean()), float(gains.std(ddof=1)) / len(gains) ** 0.5, len(gains))
