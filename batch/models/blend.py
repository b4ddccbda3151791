"""A weighted sum of what other models say, each by its own spread: the deviation of its scores over the movies.

The spread is taken once, over some users: a sum of sums over the user's history is then one sum, and a list of a blend
costs little more than one of its largest part.
"""

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from batch.models import tuning
from batch.models.als import ALS
from batch.models.linear import EASE, Order
from batch.models.model import ranks

Part = ALS | EASE | Order
_SHARES = (0.0, 1 / 3, 0.15, 0.5)
_USERS = 200
_LEAST = 1e-9


class Blend:
    """Mixes ALS, EASE and the order-aware ridge regression; the mix is tuned after the parts.

    The parts may compete on their own as well: they are fitted and tuned once for the same data, whoever comes first.
    """

    name = "blend"

    def __init__(self, als: ALS, ease: EASE, order: Order, parameters: dict[str, float]) -> None:
        self._parts: dict[str, Part] = {part.name: part for part in (als, ease, order)}
        self._als, self._linears = als, (ease, order)
        self._mix = {name: parameters.get(name, 0.5 if name != "als" else 0.0) for name in self._parts}

    @property
    def parameters(self) -> dict[str, float]:
        """The share of each part, and `<part>.<name>` for each part's own."""
        own = {f"{name}.{key}": value for name, part in self._parts.items() for key, value in part.parameters.items()}
        return {**self._mix, **own}

    def fit(self, data: Interactions) -> None:
        for part in self._parts.values():
            part.fit(data)
        self._popular = ranks(data.popularity)
        self._measure(data)

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        for part in self._parts.values():
            part.tune(data, relevant, users)
        self._measure(data)
        # one part alone first, then equal shares, which are hard to beat (Clemen, Combining forecasts, 1989)
        tries = [{"als": 0.0, "ease": 1 - order, "order": order} for order in (0.0, 1.0, 0.5, 0.25, 0.75)]
        mix = tuning.choose(self, self._put, tries, data, relevant, users)
        tries = [{"als": share, **{name: mix[name] * (1 - share) for name in ("ease", "order")}} for share in _SHARES]
        tuning.choose(self, self._put, tries, data, relevant, users)

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        factors = {name: np.float32(share / self._spread[name]) for name, share in self._mix.items() if share}
        scores, says_nothing = self._linear(data, users, factors)
        if "als" in factors:
            embedded = self._als.embedded(self._als.history(data, users)) * factors["als"]
            scores += embedded @ self._als.item_embeddings.T
            says_nothing = data.indptr[users + 1] == data.indptr[users]
        scores[says_nothing] = self._popular
        return scores

    def _linear(
        self, data: Interactions, users: np.ndarray, factors: dict[str, np.float32]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the linear parts say together (float32 [k, m]), and of whom they say nothing (bool [k])."""
        found: list[tuple[np.ndarray, sp.csr_matrix]] = []
        says_nothing = np.ones(len(users), bool)
        for part in self._linears:
            if part.name in factors:
                history = part.history(data, users)
                history.data *= factors[part.name]
                found.append(part.weighed(history))
                says_nothing &= np.diff(history.indptr) == 0
        if not found:
            return np.zeros((len(users), data.shape[1]), np.float32), says_nothing
        dense, others = found[0]
        for more, more_others in found[1:]:
            dense += more
            others = others + more_others
        return self._linears[0].placed(dense, others), says_nothing

    def _measure(self, data: Interactions) -> None:
        """How far the scores of each part are spread: the mean over some users who have a history."""
        users = np.flatnonzero(np.diff(data.indptr))
        users = users[np.linspace(0, len(users) - 1, min(_USERS, len(users))).astype(np.int64)]
        self._spread = {}
        for name, part in self._parts.items():
            deviations = part.weigh(part.history(data, users)).std(axis=1)
            self._spread[name] = max(float(deviations.mean()) if len(users) else 0.0, _LEAST)

    @property
    def item_embeddings(self) -> np.ndarray:
        return self._parts["als"].item_embeddings

    def _put(self, mix: dict[str, float]) -> None:
        self._mix = mix
