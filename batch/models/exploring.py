"""Exploration: each night a few users get lists that are drawn by lot, so that the chance of every movie is known.

What a model shows is watched because it was shown, and what no model shows is watched by nobody, so histories speak for
whatever made the lists. A list that was drawn does not: weighted by the inverse of the chance with which each movie was
shown (its propensity), what its users take says how good any other lists would have been (Schnabel et al. 2016,
"Recommendations as Treatments"; Swaminathan & Joachims 2015, "The Self-Normalized Estimator").

A user explores in a night with the chance `[batch] explore_share`. The user's pool are the first 50 unseen movies of a
personal model and the first 50 of the popular list, without hidden ones and those that no list for everyone may hold.
The list is 20 movies of the pool, drawn uniformly without replacement, in random order: of n movies each is on it with
the chance 20 / n, and equally likely at every rank. Lots are hashes of night, user and movie, so a repeated night draws
the same, no two nights draw alike, and whoever knows the pool can check a draw.

k users, m movies; a night is named by the stream time that it has read to, ms UTC.
"""

import numpy as np

from batch.history.interactions import Interactions
from batch.models.model import rank_scores
from batch.models.top_lists import Scorer, top_lists
from stream.event import LIST_LENGTH

POOL = 50
"""Movies of a pool from each of the two rankings."""
_GAMMA = 0x9E3779B97F4A7C15
_MULTIPLIERS = (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)
_NO_MOVIE = -1


def explores(users: np.ndarray, night_ms: int, share: float) -> np.ndarray:
    """Which users (uint32 [k]) explore in a night: bool [k]."""
    return np.asarray(lots(users, np.full((len(users), 1), _NO_MOVIE), night_ms)[:, 0] < share)


def pools(model: Scorer, data: Interactions, rows: np.ndarray, is_hidden: np.ndarray) -> np.ndarray:
    """The movies that some users (int64 rows of `data`) may be shown: int32 [k, 100], ascending, -1 (first) for none.

    `is_hidden` is bool [m].
    """
    rankings = model, _PopularRanking(data.popularity)
    both = np.hstack([top_lists(ranking, data, rows, is_hidden, count=POOL) for ranking in rankings])
    both.sort(axis=1)
    both[:, 1:][both[:, 1:] == both[:, :-1]] = -1
    both.sort(axis=1)
    return both


def draw_lists(pool: np.ndarray, users: np.ndarray, night_ms: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a list for each user (uint32 [k]) from a pool (int [k, p], -1 for none).

    Returns the lists, int32 [k, 20], -1 for none, and the chance of each movie on them, float32 [k, 20], 0 for none.
    """
    lot = np.where(pool >= 0, lots(users, pool, night_ms), np.inf)
    order = np.argsort(lot, axis=1, kind="stable")[:, :LIST_LENGTH]
    lists = np.full((len(pool), LIST_LENGTH), -1, np.int32)
    lists[:, : order.shape[1]] = np.take_along_axis(pool, order, axis=1)
    size = (pool >= 0).sum(axis=1, keepdims=True)
    chance = np.minimum(LIST_LENGTH / np.maximum(size, 1), 1)
    return lists, np.where(lists >= 0, chance, 0).astype(np.float32)


def lots(users: np.ndarray, movies: np.ndarray, night_ms: int) -> np.ndarray:
    """A uniform number in [0, 1) for each user (uint32 [k]) and movie (int [k, p]) in a night: float64 [k, p].

    The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014), over night, user and movie one after the other.
    """
    state = _mixed(np.full((len(users), 1), night_ms % 2**64, np.uint64))
    for part in (users[:, None], movies):
        state = _mixed(state ^ part.astype(np.int64).astype(np.uint64))
    return np.asarray((state >> np.uint64(11)) * 2.0**-53)


def _mixed(state: np.ndarray) -> np.ndarray:
    """A bijection of uint64 in which every bit depends on all others; arithmetic is modulo 2^64."""
    state = state + np.uint64(_GAMMA)
    for shift, multiplier in _MULTIPLIERS:
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(multiplier)
    return state ^ (state >> np.uint64(31))


class _PopularRanking:
    """The popular list as a model."""

    name = "popular"

    def __init__(self, popularity: np.ndarray) -> None:
        self._scores = rank_scores(popularity)

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        """As `Model.score`."""
        return np.tile(self._scores, (len(users), 1))
