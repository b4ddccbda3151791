"""How the second stage ranks candidates: a linear start from the first two features, and trees that correct it.

How much each counts depends on the length of the history, in levels: of a short one, less is known than of movies.
"""

from typing import Annotated

import msgspec
import numpy as np

from batch.models.rerank_features import FEATURES
from batch.models.trees import Tree, predict

LEVELS = (1, 2, 5, 10, 2**62)
"""The longest history of each level, in events."""


class Level(msgspec.Struct, frozen=True, array_like=True):
    """Factors for the histories of one level."""

    blend: float
    """Of the blend's standardised score, the first feature."""
    popularity: float
    """Of the standardised popularity, the second feature."""
    trees: float


class Correction(msgspec.Struct, frozen=True):
    """What the second stage has learned."""

    features: list[str]
    """`FEATURES` when it was learned."""
    levels: Annotated[list[Level], msgspec.Meta(min_length=len(LEVELS), max_length=len(LEVELS))]
    trees: list[Tree]

    def rank(self, features: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The scores of candidates, float32 [k, c], from features (float32 [f, k, c]) and lengths of histories."""
        factors = np.array([msgspec.structs.astuple(level) for level in self.levels], np.float32)
        blend, popularity, trees = factors[level_of(lengths)].T[:, :, None]
        scores = blend * features[0] + popularity * features[1]
        if self.trees:
            scores += trees * predict(self.trees, features.reshape(len(features), -1)).reshape(scores.shape)
        return scores


def level_of(lengths: np.ndarray) -> np.ndarray:
    """The level of histories by their lengths: int64."""
    return np.searchsorted(LEVELS, lengths)


BLEND = Correction([*FEATURES], [Level(1.0, 0.0, 0.0)] * len(LEVELS), [])
"""The order of the blend."""
POPULAR = Correction([*FEATURES], [Level(0.0, 1.0, 0.0)] * len(LEVELS), [])
"""The order of the popular list."""
