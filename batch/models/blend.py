"""A weighted sum of the scores of other models, each divided by its spread: the deviation of its scores over movies.

The spread is measured once, over some users. The linear parts are then a single weighted sum over the user's history,
so a list of a blend costs little more than one of its largest part.
"""

import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from batch.models import tuning
from batch.models.als import ALS
from batch.models.folded import no_data
from batch.models.linear import EASE, Order
from batch.models.model import rank_scores
from batch.settings import BatchSettings

_ALS_SHARES = (0.0, 1 / 3, 0.15, 0.5)
_SPREAD_USERS = 200
_LEAST_SPREAD = 1e-9


class BlendParts(NamedTuple):
    """The models that a blend mixes."""

    als: ALS
    ease: EASE
    order: Order

    @classmethod
    def make(cls, settings: BatchSettings, parameters: dict[str, float]) -> "BlendParts":
        """Make the parts with their parameters, `<part>.<name>` in those of a blend."""
        own: dict[str, dict[str, float]] = {part: {} for part in cls._fields}
        for key, value in parameters.items():
            part, _, name = key.partition(".")
            if name:
                own[part][name] = value
        return cls(ALS(settings, own["als"]), EASE(settings, own["ease"]), Order(settings, own["order"]))

    @property
    def by_name(self) -> dict[str, ALS | EASE | Order]:
        """The parts by name of the model."""
        return {part.name: part for part in self}


class BlendScores(NamedTuple):
    """The scores of a blend for k users."""

    total: np.ndarray
    """float32 [k, m]: of all movies; the caller may write to it."""
    linear: dict[str, np.ndarray]
    """By name of a linear part in the mix, at least one: its share of the dense movies' scores, float32 [k, d]."""
    is_empty: np.ndarray
    """bool [k]: users about whom the blend knows nothing; their scores are those of the popular list."""


class Blend:
    """Mixes ALS, EASE and the order-aware ridge regression; the mix is tuned after the parts.

    The parts may also compete on their own: each is fitted and tuned once for the same data.
    """

    name = "blend"
    personal = True
    learned = b""

    def __init__(self, settings: BatchSettings, parameters: dict[str, float], parts: BlendParts | None = None) -> None:
        self._models = parts or BlendParts.make(settings, parameters)
        self._parts = self._models.by_name
        self._tuned: Callable[[], Interactions | None] = no_data
        self._mix = {name: parameters.get(name, 0.5 if name != "als" else 0.0) for name in self._parts}

    @property
    def parameters(self) -> dict[str, float]:
        """The share of each part, and the parameters of the parts as `<part>.<name>`."""
        own = {f"{name}.{key}": value for name, part in self._parts.items() for key, value in part.parameters.items()}
        return {**self._mix, **own}

    @property
    def parts(self) -> BlendParts:
        """The models that it mixes."""
        return self._models

    def fit(self, data: Interactions) -> None:
        for part in self._parts.values():
            part.fit(data)
        self._popular = rank_scores(data.popularity)
        self._measure_spread(data)

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        if self._tuned() is data:
            return
        for part in self._parts.values():
            part.tune(data, relevant, users)
        self._measure_spread(data)
        # one part alone first, then equal shares, which are hard to beat (Clemen, Combining forecasts, 1989)
        trials = [{"als": 0.0, "ease": 1 - order, "order": order} for order in (0.0, 1.0, 0.5, 0.25, 0.75)]
        mix = tuning.choose(self, self._set_mix, trials, data, relevant, users)
        trials = [
            {"als": share, **{name: mix[name] * (1 - share) for name in ("ease", "order")}} for share in _ALS_SHARES
        ]
        tuning.choose(self, self._set_mix, trials, data, relevant, users)
        self._tuned = weakref.ref(data)

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        return self.score_parts(data, users).total

    def score_parts(self, data: Interactions, users: np.ndarray) -> BlendScores:
        """As `score`, with the scores of the linear parts beside their sum."""
        factors = {name: np.float32(share / self._spread[name]) for name, share in self._mix.items() if share}
        linear, others, is_empty = self._linear_scores(data, users, factors)
        first, *more = linear.values()
        dense = first.copy()
        for part_scores in more:
            dense += part_scores
        scores = self._models.ease.merge_scores(dense, others)
        if "als" in factors:
            als = self._models.als
            embeddings = als.user_embeddings(als.histories(data, users)) * factors["als"]
            scores += embeddings @ als.item_embeddings.T
            is_empty = data.indptr[users + 1] == data.indptr[users]
        scores[is_empty] = self._popular
        return BlendScores(scores, linear, is_empty)

    def _linear_scores(
        self, data: Interactions, users: np.ndarray, factors: dict[str, np.float32]
    ) -> tuple[dict[str, np.ndarray], sp.csr_matrix, np.ndarray]:
        """The linear parts' scores of the dense movies (float32 [k, d], by part), the sum of those of the others
        ([k, m]), and which histories say nothing to them (bool [k]). There is at least one."""
        parts = [part for part in (self._models.ease, self._models.order) if part.name in factors]
        dense: dict[str, np.ndarray] = {}
        others: list[sp.csr_matrix] = []
        is_empty = np.ones(len(users), bool)
        for part in parts or [self._models.ease]:
            histories = part.histories(data, users)
            histories.data *= factors.get(part.name, np.float32(0))
            dense[part.name], own_others = part.partial_scores(histories)
            others.append(own_others)
            is_empty &= np.diff(histories.indptr) == 0
        return dense, sum(others[1:], others[0]), is_empty

    def _measure_spread(self, data: Interactions) -> None:
        """The spread of each part's scores: the mean over some users who have a history."""
        users = np.flatnonzero(np.diff(data.indptr))
        users = users[np.linspace(0, len(users) - 1, min(_SPREAD_USERS, len(users))).astype(np.int64)]
        self._spread = {}
        for name, part in self._parts.items():
            deviations = part.score_histories(part.histories(data, users)).std(axis=1)
            self._spread[name] = max(float(deviations.mean()) if len(users) else 0.0, _LEAST_SPREAD)

    @property
    def item_embeddings(self) -> np.ndarray:
        return self._models.als.item_embeddings

    def _set_mix(self, mix: dict[str, float]) -> None:
        self._mix = mix
