"""Checks of all lists of a release, block by block, in little memory.

n users, m movies; `lists` is int32 [n, 20], best first, -1 for none; `seen` [n, m] is nonzero where a user has seen a
movie; `is_hidden` is bool [m].
"""

import numpy as np
import scipy.sparse as sp

from batch.models.list_caps import ListCaps

_CELLS = 1 << 26
"""Cells of users times movies that are marked at once: 64 MB."""


def are_short(lists: np.ndarray, seen: sp.csr_matrix, is_hidden: np.ndarray, caps: ListCaps) -> np.ndarray:
    """Which lists are shorter than they could be without hidden movies: bool [n]. A user who has seen nothing may have
    an empty list.
    """
    watched = np.diff(seen.indptr)
    adult = _count_unseen(seen, ~is_hidden & caps.adult)
    out_of_reach = np.where(caps.minors, np.maximum(adult - caps.most_adult, 0), 0)
    possible = np.minimum(_count_unseen(seen, ~is_hidden) - out_of_reach, lists.shape[1])
    lengths = (lists >= 0).sum(axis=1)
    return np.asarray((lengths < possible) & ((lengths > 0) | (watched > 0)))


def _count_unseen(seen: sp.csr_matrix, movies: np.ndarray) -> np.ndarray:
    """How many of some movies (bool [m]) each user has not seen: int64 [n]."""
    users = seen.shape[0]
    row = np.repeat(np.arange(users), np.diff(seen.indptr))
    return int(movies.sum()) - np.bincount(row[movies[seen.indices]], minlength=users)


def count_repeats(lists: np.ndarray, seen: sp.csr_matrix, is_hidden: np.ndarray) -> tuple[int, int]:
    """How many entries of lists their user has seen, and how many are hidden."""
    users, movies = seen.shape
    size = max(1, _CELLS // max(movies, 1))
    is_seen = np.zeros(size * movies, bool)
    seen_count = hidden_count = 0
    for start in range(0, users, size):
        block = lists[start : start + size]
        begin, end = seen.indptr[start], seen.indptr[start + len(block)]
        rows = np.repeat(np.arange(len(block)), np.diff(seen.indptr[start : start + len(block) + 1]))
        cells = rows * movies + seen.indices[begin:end]
        is_seen[cells] = True
        row, rank = np.nonzero(block >= 0)
        listed = block[row, rank]
        seen_count += int(is_seen[row * movies + listed].sum())
        hidden_count += int(is_hidden[listed].sum())
        is_seen[cells] = False
    return seen_count, hidden_count


def has_other_orders(lists: np.ndarray) -> bool:
    """Whether any two lists in a row have movies in common that stand in another order."""
    first, second = lists[:-1], lists[1:]
    is_same = (first[:, :, None] == second[:, None, :]) & (first >= 0)[:, :, None]
    place = np.where(is_same.any(axis=2), is_same.argmax(axis=2), -1)
    return bool(((place >= 0) & (place < np.maximum.accumulate(place, axis=1))).any())


def count_off_ranking(
    lists: np.ndarray,
    seen: sp.csr_matrix,
    ranking: np.ndarray,
    caps: ListCaps | None = None,
    rows: np.ndarray | None = None,
) -> int:
    """How many lists are not the beginning of a ranking (movies, best first) without what their user has seen.

    With `caps`, for which the users are the `rows` (int64 [n]), lists of minors also lack adult movies beyond those
    that they may have.
    """
    ranking = ranking[ranking < seen.shape[1]].astype(np.int64)
    is_seen = seen[:, ranking].toarray() != 0
    if caps is not None and rows is not None:
        capped = caps.minors[rows][:, None] & caps.adult[ranking] & ~is_seen
        is_seen |= capped & (capped.cumsum(axis=1) > caps.most_adult)
    unseen_first = np.argsort(is_seen, axis=1, kind="stable")[:, : lists.shape[1]]
    expected = np.where(np.take_along_axis(is_seen, unseen_first, axis=1), -1, ranking[unseen_first])
    return int(((lists[:, : expected.shape[1]] != expected) & (expected >= 0)).any(axis=1).sum())


def wrong_segments(
    seen: sp.csr_matrix, segments: np.ndarray, popular: np.ndarray, popularity: np.ndarray, is_hidden: np.ndarray
) -> list[int]:
    """Segments whose popular list (`popular`, row 0 is everyone's) is not what most of its users have seen, in order.

    Among equals the order is that of everyone's `popularity` (float64 [m]). Each list may have its own hidden movies
    (`is_hidden` [s + 1, m]).
    """
    wrong, hidden = [], np.broadcast_to(is_hidden, (len(popular), seen.shape[1]))
    for segment in range(1, len(popular)):
        counts = np.bincount(seen[np.flatnonzero(segments == segment)].indices, minlength=seen.shape[1])
        if is_out_of_order(popular[segment], [counts, popularity], hidden[segment]):
            wrong.append(segment)
    return wrong


def is_out_of_order(ranking: np.ndarray, keys: list[np.ndarray], is_hidden: np.ndarray) -> bool:
    """Whether a ranking (movies, m or more for none) does not begin with the largest keys, in descending order.

    Of several keys ([m] each) a later one decides among equals. Hidden movies do not count.
    """
    shown = ranking[ranking < len(is_hidden)].astype(np.int64)
    shown = shown[~is_hidden[shown]]
    allowed = np.flatnonzero(~is_hidden)
    best = allowed[np.lexsort([-key[allowed] for key in reversed(keys)])][: len(shown)]
    return any(not np.array_equal(key[shown], key[best]) for key in keys)
