"""A second stage: gradient boosted trees put the blend's candidates into a better order.

The blend adds up what is known of a movie with the same weights for everyone. The trees see each part on its own, with
counts of what follows what, popularity and the length of the history, and learn from the next movies of the users whom
models are tuned on when to trust which (learning to rank over the candidates of a first stage: Covington, Adams &
Sargin, RecSys 2016).

Trees are learned once, by `tune`, and kept over later fits, when the first stage has learned more: `learned` has them.
"""

import hashlib

import msgspec
import numpy as np
import scipy.sparse as sp

from batch.errors import NightFilesDamaged
from batch.history.interactions import Interactions
from batch.models.blend import Blend
from batch.models.correction import Correction
from batch.models.rerank_candidates import FirstStage, Named
from batch.models.rerank_examples import Examples, cut_examples, examples_of, joined
from batch.models.rerank_features import FEATURES
from batch.settings import BatchSettings

LEAST_EXAMPLES = 200
"""With fewer users to learn from, the order of the blend stays."""
_MOST_USERS = 4_000
"""Users of the choice slice that are learned from."""
_USERS = 128
"""Users who are ranked at once: what is known of their candidates fits into the cache."""
_DIGEST = 64
"""Length of the SHA-256 of the rest, in hexadecimal, that `learned` begins with."""


class Reranker:
    """The blend, with its first candidates put into a better order."""

    name = "reranker"
    personal = True

    def __init__(self, settings: BatchSettings, parameters: dict[str, float], blend: Blend | None = None) -> None:
        self._settings = settings
        self._blend = blend or Blend(settings, parameters)
        self._correction: Correction | None = None
        self._stage: FirstStage | None = None

    @property
    def parameters(self) -> dict[str, float]:
        """Those of the blend."""
        return self._blend.parameters

    @property
    def learned(self) -> bytes:
        """The trees. Raises `NightFilesDamaged` when it is set to what is damaged, or of another version."""
        if self._correction is None:
            return b""
        text = msgspec.json.encode(self._correction)
        return hashlib.sha256(text).hexdigest().encode() + text

    @learned.setter
    def learned(self, learned: bytes) -> None:
        self._correction = _correction_of(learned) if learned else None

    def fit(self, data: Interactions) -> None:
        self._blend.fit(data)
        self._stage = FirstStage(self._blend, data, self._settings) if self._correction else None

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        self._blend.tune(data, relevant, users)
        self._correction = None
        users = users[np.linspace(0, len(users) - 1, min(_MOST_USERS, len(users))).astype(np.int64)]
        if len(users) >= LEAST_EXAMPLES:
            self._stage = FirstStage(self._blend, data, self._settings)
            examples = examples_of(self._stage, data, relevant, users)
            if len(examples) >= LEAST_EXAMPLES:
                self._learn(examples, cut_examples(self._blend.parameters, data, self._settings))

    def _learn(self, examples: Examples, cut: list[Examples]) -> None:
        from batch.models.growing import grow  # LightGBM takes seconds to import, and only tuning needs it

        self._correction = grow(joined([examples, *cut]), self._settings.seed)

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        if self._correction is None or self._stage is None:
            return self._blend.score(data, users)
        named = self._stage.name(data, users)
        for first in range(0, len(users), _USERS):
            rows = slice(first, first + _USERS)
            block = named.of(rows)
            if not block.is_empty.all():
                lengths = data.indptr[users[rows] + 1] - data.indptr[users[rows]]
                features = self._stage.describe(data, users[rows], block)
                _put_first(block, self._correction.rank(features, lengths))
        return named.scores

    @property
    def item_embeddings(self) -> np.ndarray:
        return self._blend.item_embeddings


def _put_first(named: Named, ranking: np.ndarray) -> None:
    """Raise the scores of candidates above all others, in the order of a ranking: float32 [k, c]."""
    ranking[(named.movies < 0)] = -np.inf
    place = np.argsort(np.argsort(-ranking, axis=1, kind="stable"), axis=1)
    row, column = np.nonzero((named.movies >= 0) & ~named.is_empty[:, None])
    best = named.scores.max(axis=1)
    step = np.maximum(1, 2 * np.spacing(np.abs(best)))  # so that no two scores are equal
    count = ranking.shape[1]
    named.scores[row, named.movies[row, column]] = best[row] + step[row] * (count - place[row, column])


def _correction_of(learned: bytes) -> Correction:
    digest, text = learned[:_DIGEST], learned[_DIGEST:]
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise NightFilesDamaged("models: reranker: what it has learned is damaged")
    try:
        correction = msgspec.json.decode(text, type=Correction)
    except msgspec.DecodeError as error:
        raise NightFilesDamaged(f"models: reranker: what it has learned is of another version: {error}") from error
    if correction.features != [*FEATURES]:
        raise NightFilesDamaged("models: reranker: what it has learned is of another version, with other features")
    return correction
