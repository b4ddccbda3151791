"""Checks of all lists of a release, block by block, in little memory.

n users, m movies; `lists` is int32 [n, 20], best first, -1 for none; `seen` [n, m] is nonzero where a user has seen a
movie; `gone` is bool [m], the movies that are hidden.
"""

import numpy as np
import scipy.sparse as sp

from stream.event import LIST_LENGTH

_CELLS = 1 << 26
"""Users times movies that are marked at once: 64 MB."""


def count_short_lists(lists: np.ndarray, seen: sp.csr_matrix, gone: np.ndarray) -> int:
    """How many lists are not as long as they could be. Who has seen nothing may have none at all."""
    users, movies = seen.shape
    watched = np.diff(seen.indptr)
    watched_gone = np.bincount(np.repeat(np.arange(users), watched)[gone[seen.indices]], minlength=users)
    left = np.minimum(movies - int(gone.sum()) - watched + watched_gone, lists.shape[1])
    lengths = (lists >= 0).sum(axis=1)
    return int(((lengths != left) & ((lengths > 0) | (watched > 0))).sum())


def repeated_offers(lists: np.ndarray, seen: sp.csr_matrix, gone: np.ndarray) -> tuple[int, int]:
    """How many entries of lists their user has seen, and how many are hidden."""
    users, movies = seen.shape
    size = max(1, _CELLS // max(movies, 1))
    marked = np.zeros(size * movies, bool)
    stale = hidden = 0
    for at in range(0, users, size):
        block = lists[at : at + size]
        begin, end = seen.indptr[at], seen.indptr[at + len(block)]
        rows = np.repeat(np.arange(len(block)), np.diff(seen.indptr[at : at + len(block) + 1]))
        cells = rows * movies + seen.indices[begin:end]
        marked[cells] = True
        row, place = np.nonzero(block >= 0)
        offered = block[row, place]
        stale += int(marked[row * movies + offered].sum())
        hidden += int(gone[offered].sum())
        marked[cells] = False
    return stale, hidden


def personal_share(lists: np.ndarray, seen: sp.csr_matrix) -> float:
    """Share of pairs of users, each row and the next, that get different rankings and not only have seen other movies.

    There are two users at least. Of two lists cut from one ranking, each without what its user has seen, at least one
    holds nothing but what the other holds or its user has seen: what else it held would be ranked above the other's
    last, and the other way round.
    """
    even = len(lists) // 2 * 2
    one, two = (_has_more(lists[a:even:2], lists[b:even:2], seen[b:even:2]) for a, b in ((0, 1), (1, 0)))
    return float((one & two).mean())


def unlike_ranking(lists: np.ndarray, seen: sp.csr_matrix, ranking: np.ndarray) -> int:
    """How many lists are not the beginning of a ranking (movies, best first) without what their user has seen."""
    ranking = ranking[ranking < seen.shape[1]].astype(np.int64)
    known = seen[:, ranking].toarray() != 0
    fresh = np.argsort(known, axis=1, kind="stable")[:, : lists.shape[1]]
    due = np.where(np.take_along_axis(known, fresh, axis=1), -1, ranking[fresh])
    return int(((lists[:, : due.shape[1]] != due) & (due >= 0)).any(axis=1).sum())


def unlike_segments(seen: sp.csr_matrix, segments: np.ndarray, popular: np.ndarray, gone: np.ndarray) -> list[int]:
    """The segments of whose popular lists (`popular`, row 0 is everyone's) the first 20 are not those seen by most."""
    movies, found = seen.shape[1], []
    for segment in range(1, len(popular)):
        counts = np.bincount(seen[np.flatnonzero(segments == segment)].indices, minlength=movies)
        shown = popular[segment, :LIST_LENGTH].astype(np.int64)
        shown = shown[shown < movies]
        due = np.sort(counts[~gone])[::-1][: len(shown)]
        if not np.array_equal(counts[shown], due):
            found.append(segment)
    return found


def _has_more(lists: np.ndarray, others: np.ndarray, seen: sp.csr_matrix) -> np.ndarray:
    """Which lists hold a movie that the other list does not, and whose user has not seen: bool [k]."""
    listed = (lists[:, :, None] == others[:, None, :]).any(axis=2)
    rows = np.repeat(np.arange(len(lists)), lists.shape[1])
    known = np.asarray(seen[rows, np.maximum(lists, 0).ravel()] != 0).reshape(lists.shape)
    return ((lists >= 0) & ~listed & ~known).any(axis=1)
