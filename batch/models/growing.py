"""Grows the trees of the second stage with LightGBM (Ke et al., NeurIPS 2017), on one thread: the same bytes each time.

Whether a candidate was watched next is a logistic regression, boosted: it starts from the scores of the blend and, for
short histories, of the popular list, and trees learn what these lack. Each user's share of movies to be found is a
constant of their own, since only the order within a user matters. One in five users is held out: growing stops when
NDCG@20 of these does not rise any more, and the order of the blend stays if it is not above that beyond noise. A level
of history lengths whose users the popular list serves better gets it in any case.
"""

import lightgbm
import numpy as np

from batch.models.correction import BLEND, LEVELS, POPULAR, Correction, Level, level_of
from batch.models.rerank_examples import Examples
from batch.models.rerank_features import FEATURES
from batch.models.trees import LEAVES, from_lightgbm
from quality.metrics.intervals import mean_difference_interval
from stream.event import LIST_LENGTH

_TREES, _PATIENCE = 150, 30
_HELD_OUT = 0.2
_SHORT, _LEAST_OF_LEVEL = 10, 50
"""Histories up to this length may lean on popularity, if there are so many examples of their level."""
_NEWTON_STEPS, _NEWTON_REACH = 25, 0.25
"""Short steps, since a long one may go far beyond the maximum, where nothing is curved any more."""
_STREAM = 8
"""Of random numbers."""
_PARAMETERS = {
    "objective": "binary",
    "boost_from_average": False,
    "num_leaves": LEAVES,
    "learning_rate": 0.1,
    "min_data_in_leaf": 50,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 127,
    "use_missing": False,
    "metric": "ndcg",
    "eval_at": [LIST_LENGTH],
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


def grow(examples: Examples, seed: int) -> Correction | None:
    """Learn a correction; None if it would not help."""
    is_held = (np.random.default_rng([seed, _STREAM]).random(examples.users.max() + 1) < _HELD_OUT)[examples.users]
    if not is_held.any() or is_held.all():
        return None
    learning, held = examples.of(~is_held), examples.of(is_held)
    start = Correction([*FEATURES], _slopes(learning), [])
    data = _dataset(learning, start)
    booster = lightgbm.train(
        {**_PARAMETERS, "seed": seed % (1 << 31)},
        data,
        _TREES,
        valid_sets=[_dataset(held, start, data)],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    trees = from_lightgbm(booster.dump_model(num_iteration=booster.best_iteration))
    grown = Correction(start.features, start.levels, trees)
    low = mean_difference_interval(ndcg(held, grown), ndcg(held, BLEND)).low
    best = _with_floors(grown if low is not None and low > 0 else BLEND, held)
    return best if best != BLEND else None


def _slopes(examples: Examples) -> list[Level]:
    """The slopes of each level; for long histories, and where there are few examples, that of the blend alone."""
    everyone = _fitted(examples, 1)
    level = level_of(examples.lengths)
    levels = []
    for number, bound in enumerate(LEVELS):
        rows = level == number
        blend, popularity = everyone[0], 0.0
        if bound <= _SHORT and rows.sum() >= _LEAST_OF_LEVEL:
            blend, popularity = _fitted(examples.of(rows), 2)
        levels.append(Level(blend, popularity, 1.0))
    return levels


def _fitted(examples: Examples, count: int) -> list[float]:
    """Slopes of the first `count` features, by maximum likelihood (Newton's method) with a weak penalty."""
    features, own = examples.features[:count].astype(np.float64), _own_constant(examples)
    slopes = np.zeros(count)
    for _ in range(_NEWTON_STEPS):
        expected = 1 / (1 + np.exp(-own - (slopes[:, None, None] * features).sum(axis=0)))
        ascent = ((examples.was_next - expected) * features).sum(axis=(1, 2)) - slopes
        curved = expected * (1 - expected) * features
        curvature = [[(one * other).sum() for one in curved] for other in features]
        step = np.linalg.solve(np.array(curvature) + np.eye(count), ascent)
        slopes += np.clip(step, -_NEWTON_REACH, _NEWTON_REACH)
    return slopes.tolist()


def _with_floors(correction: Correction, held: Examples) -> Correction:
    """Where the popular list ranks better for the held-out users of a level, the level gets it."""
    gain = ndcg(held, correction) - ndcg(held, POPULAR)
    level = level_of(held.lengths)
    levels = [
        POPULAR.levels[0] if (level == number).any() and gain[level == number].mean() < 0 else own
        for number, own in enumerate(correction.levels)
    ]
    return Correction(correction.features, levels, correction.trees)


def _own_constant(examples: Examples) -> np.ndarray:
    """The logit of the share of each user's candidates that were watched next: float64 [k, 1]."""
    share = examples.was_next.sum(axis=1, keepdims=True) / (examples.was_next.shape[1] + 1)
    return np.log(share / (1 - share))


def _dataset(examples: Examples, start: Correction, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
    is_listed = examples.movies >= 0
    return lightgbm.Dataset(
        examples.features[:, is_listed].T,
        examples.was_next[is_listed],
        group=is_listed.sum(axis=1),
        init_score=(_own_constant(examples) + start.rank(examples.features, examples.lengths))[is_listed],
        reference=reference,
        params=_PARAMETERS,
    )


def ndcg(examples: Examples, correction: Correction) -> np.ndarray:
    """NDCG@20 of each example, ranked by a correction: float64 [k]."""
    scores = correction.rank(examples.features, examples.lengths)
    scores[examples.movies < 0] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :LIST_LENGTH]
    hits = np.take_along_axis(examples.was_next, order, axis=1)
    weights = 1 / np.log2(np.arange(LIST_LENGTH) + 2)
    ideal = weights.cumsum()[np.minimum(examples.found, LIST_LENGTH) - 1]
    return (hits * weights[: hits.shape[1]]).sum(axis=1) / ideal
