"""Whether lists are of rankings of the users' own, or of one ranking without what each user has seen.

A personal model may come to one ranking for all, where histories say less than the charts do: then it is a popular list
by another name. The evaluation does not choose it, and the gate refuses it.
"""

import numpy as np
import scipy.sparse as sp


def personal_share(lists: np.ndarray, seen: sp.csr_matrix) -> float:
    """Share of pairs of users, each row and the next, whose lists cannot be cut from one ranking.

    There are two users at least. Of two lists cut from one ranking, each without what its user has seen, at least one
    holds only movies that the other list holds or the other user has seen: any further movie would be ranked above the
    last of the other list, and the other way round.
    """
    even = len(lists) // 2 * 2
    first, second = (_has_more(lists[a:even:2], lists[b:even:2], seen[b:even:2]) for a, b in ((0, 1), (1, 0)))
    return float((first & second).mean())


def _has_more(lists: np.ndarray, others: np.ndarray, others_seen: sp.csr_matrix) -> np.ndarray:
    """Which lists hold a movie that the other list lacks and the other user has not seen: bool [k]."""
    in_other = (lists[:, :, None] == others[:, None, :]).any(axis=2)
    rows = np.repeat(np.arange(len(lists)), lists.shape[1])
    is_seen = np.asarray(others_seen[rows, np.maximum(lists, 0).ravel()] != 0).reshape(lists.shape)
    return ((lists >= 0) & ~in_other & ~is_seen).any(axis=1)
