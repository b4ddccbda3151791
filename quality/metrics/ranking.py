"""Offline ranking metrics: how well lists match what their users watched later. Pure functions of arrays.

Binary relevance, full lists, no sampled negatives (Krichene & Rendle 2020 show how those mislead). Every metric of
`rank_metrics` is one number per user, so that the caller can average it over any segment, with an interval; users
without a relevant item are not scored, since any list is as good for them. 100,000 lists of 20 take a fraction of a
second.

`METRICS` has their names for files, tables and plots.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quality.errors import MetricError

NONE = -1
"""The item index of an empty place in a list."""


@dataclass(frozen=True, slots=True)
class RankingScores:
    """One entry for each scored user, ascending by `users`; k is the width of the lists; all float64 lie in 0..1."""

    users: np.ndarray
    """int64: rows of `lists`."""
    hit: np.ndarray
    """HR@k: 1.0 if any listed item is relevant."""
    recall: np.ndarray
    """Recall@k: relevant items listed / relevant items."""
    ndcg: np.ndarray
    """NDCG@k, gain 1, discount 1 / log2(rank + 1) (Järvelin & Kekäläinen 2002), ideal cut at min(k, relevant)."""
    reciprocal_rank: np.ndarray
    """1 / rank of the first relevant item, 0.0 without one; its mean is MRR (Voorhees 1999)."""


@dataclass(frozen=True, slots=True)
class RankingMetric:
    """A metric: its names, and its field of `RankingScores`."""

    name: str
    """Its key in files, and its name in tables."""
    title: str
    """Its name in prose and plots."""
    scores: Callable[[RankingScores], np.ndarray]
    """One number per user: float64 [users]."""


NDCG = RankingMetric("ndcg@20", "NDCG@20", lambda scores: scores.ndcg)
RECALL = RankingMetric("recall@20", "recall@20", lambda scores: scores.recall)
HIT_RATE = RankingMetric("hr@20", "HR@20", lambda scores: scores.hit)
MRR = RankingMetric("mrr", "MRR", lambda scores: scores.reciprocal_rank)
METRICS = (NDCG, RECALL, HIT_RATE, MRR)
"""All metrics of a list, in the order of tables; NDCG@20 chooses between models."""
NDCG_10 = RankingMetric("ndcg@10", "NDCG@10", lambda scores: scores.ndcg)
HIT_RATE_10 = RankingMetric("hr@10", "HR@10", lambda scores: scores.hit)
"""Of the scores of lists cut at ten places, as published leave-one-out results are."""


def rank_metrics(lists: np.ndarray, indptr: np.ndarray, items: np.ndarray) -> RankingScores:
    """Score `lists` (int[users, k], best first, `NONE` for an empty place) against the relevant items.

    User u's relevant items are `items[indptr[u]:indptr[u + 1]]` (`indptr` int64[users + 1]), in any order. Raises
    `MetricError` if shapes do not match or a list repeats an item.
    """
    _check(lists, indptr, items)
    users = np.flatnonzero(np.diff(indptr))
    lists = lists[users]
    keys, width = _relevant_pairs(lists, indptr, items)
    is_relevant = _is_relevant(lists, users, keys, width)
    relevant = np.bincount(keys // width, minlength=len(indptr) - 1)[users]
    discounts = 1.0 / np.log2(np.arange(2, lists.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    hits = is_relevant.sum(axis=1)
    first = np.where(hits > 0, is_relevant.argmax(axis=1) + 1.0, np.inf)
    return RankingScores(
        users,
        (hits > 0).astype(np.float64),
        hits / relevant,
        # summed in the order of `ideal`, so that a perfect list is exactly 1 in every row
        np.cumsum(np.where(is_relevant, discounts, 0.0), axis=1)[:, -1] / ideal[np.minimum(relevant, len(discounts))],
        1.0 / first,
    )


def coverage(lists: np.ndarray, items: int) -> float:
    """Catalogue coverage: the share of `items` that any list shows (Ge et al. 2010)."""
    if items <= 0:
        raise MetricError(f"coverage: a catalogue of {items} items")
    shown = np.zeros(items, bool)
    shown[lists[lists >= 0]] = True
    return float(shown.mean())


def novelty(lists: np.ndarray, interactions: np.ndarray, users: int) -> float | None:
    """Mean self-information of the listed items in bits (Zhou et al. 2010); None if no items are listed.

    Popularity is that of training: arguments as of `self_information`.
    """
    listed = self_information(interactions, users)[lists[lists >= 0]]
    return float(listed.mean()) if len(listed) else None


def self_information(interactions: np.ndarray, users: int) -> np.ndarray:
    """Bits of each item, float64 [items]: -log2 of the share of users with the item, `interactions[item]` / `users`.

    Each pair of user and item counts once. An item without users counts as if it had one.
    """
    bits: np.ndarray = -np.log2(np.maximum(interactions, 1) / users)
    return bits


def gini(counts: np.ndarray) -> float | None:
    """Gini coefficient of how often items were shown: 0 if all equally often, towards 1 if one has everything.

    int [items], only those above 0 count, so it tells how even the shown items are and `coverage` how many they are;
    None if there are none (Gini 1912; Fleder & Hosanagar 2009 use it for recommendations).
    """
    ascending = np.sort(counts[counts > 0])
    items, total = len(ascending), int(ascending.sum())
    if not items:
        return None
    ranks = np.arange(1, items + 1)
    return int(((2 * ranks - items - 1) * ascending).sum()) / (items * total)


def _check(lists: np.ndarray, indptr: np.ndarray, items: np.ndarray) -> None:
    if lists.ndim != 2 or not lists.shape[1] or len(indptr) != len(lists) + 1 or indptr[-1] != len(items):
        raise MetricError(f"ranking: lists {lists.shape}, indptr {indptr.shape} and items {items.shape} do not fit")
    ordered = np.sort(lists, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NONE)).any():
        raise MetricError("ranking: a list holds an item more than once")


def _relevant_pairs(lists: np.ndarray, indptr: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, int]:
    """Relevant pairs as int64 `user * width + item`, ascending, each once; place width - 1 is never taken."""
    width = int(max(lists.max(initial=0), items.max(initial=0))) + 2
    owners = np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))
    keys = np.sort(owners * width + items)  # np.unique hashes since NumPy 2.3, at fifty times the cost
    return keys[np.diff(keys, prepend=-1) != 0], width


def _is_relevant(lists: np.ndarray, users: np.ndarray, keys: np.ndarray, width: int) -> np.ndarray:
    """bool[scored, k]: whether a place of a list holds a relevant item. `NONE` maps to the place never taken."""
    if not len(keys):
        return np.zeros(lists.shape, bool)
    wanted = (users[:, None] * width + lists).ravel()
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return (keys[places] == wanted).reshape(lists.shape)
