"""Grows the trees of the second stage with LightGBM (Ke et al., NeurIPS 2017), on one thread: the same bytes each time.

Whether a candidate was watched next is a logistic regression, boosted: it starts from the score of the blend, so that
trees learn what that lacks. Each user's share of movies to be found is a constant of their own, since only the order
within a user matters. One in five users is held out: growing stops when NDCG@20 of these does not rise any more, and
all is for nothing if it is not above that of the blend beyond noise.
"""

import lightgbm
import numpy as np

from batch.models.rerank_examples import Examples
from batch.models.trees import LEAVES, Tree, from_lightgbm, predict
from stream.event import LIST_LENGTH

_TREES, _PATIENCE = 120, 25
_HELD_OUT = 0.2
_STREAM = 8
"""Of random numbers."""
_PARAMETERS = {
    "objective": "binary",
    "boost_from_average": False,
    "num_leaves": LEAVES,
    "learning_rate": 0.1,
    "min_data_in_leaf": 100,
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


def grow(examples: Examples, seed: int) -> tuple[float, list[Tree]]:
    """The slope of the first feature, and trees that correct it; no trees if they would not help."""
    is_held = np.random.default_rng([seed, _STREAM]).random(len(examples)) < _HELD_OUT
    if not is_held.any() or is_held.all():
        return 1.0, []
    learning, held = examples.of(~is_held), examples.of(is_held)
    slope = _slope(learning)
    data = _dataset(learning, slope)
    booster = lightgbm.train(
        {**_PARAMETERS, "seed": seed % (1 << 31)},
        data,
        _TREES,
        valid_sets=[_dataset(held, slope, data)],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    trees = from_lightgbm(booster.dump_model(num_iteration=booster.best_iteration))
    gain = _ndcg(held, slope, trees) - _ndcg(held, slope, [])
    is_better = gain.mean() > gain.std() / np.sqrt(len(gain))
    return slope, trees if is_better else []


def _slope(examples: Examples) -> float:
    """Of the first feature, by maximum likelihood (Newton's method): float."""
    feature, own = examples.features[0].astype(np.float64), _own_constant(examples)
    slope = 0.0
    for _ in range(20):
        expected = 1 / (1 + np.exp(-own - slope * feature))
        ascent = ((examples.was_next - expected) * feature).sum() - slope
        slope += float(ascent / ((expected * (1 - expected) * feature**2).sum() + 1))
    return slope


def _own_constant(examples: Examples) -> np.ndarray:
    """The logit of the share of each user's candidates that were watched next: float64 [k, 1]."""
    share = examples.was_next.sum(axis=1, keepdims=True) / (examples.was_next.shape[1] + 1)
    return np.log(share / (1 - share))


def _dataset(examples: Examples, slope: float, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
    features, listed = examples.features, examples.movies >= 0
    start = _own_constant(examples) + slope * features[0].astype(np.float64)
    return lightgbm.Dataset(
        features[:, listed].T,
        examples.was_next[listed],
        group=listed.sum(axis=1),
        init_score=start[listed],
        reference=reference,
        params=_PARAMETERS,
    )


def _ndcg(examples: Examples, slope: float, trees: list[Tree]) -> np.ndarray:
    """NDCG@20 of each user: float64 [k]."""
    features = examples.features
    scores = slope * features[0] + predict(trees, features.reshape(len(features), -1)).reshape(examples.movies.shape)
    scores[examples.movies < 0] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :LIST_LENGTH]
    hits = np.take_along_axis(examples.was_next, order, axis=1)
    weights = 1 / np.log2(np.arange(LIST_LENGTH) + 2)
    ideal = weights.cumsum()[np.minimum(examples.found, LIST_LENGTH) - 1]
    return (hits * weights[: hits.shape[1]]).sum(axis=1) / ideal
