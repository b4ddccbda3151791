"""Do the lists of users without a history go with what these have written?

Their users have nothing else that a list could be compared with. Two of one segment with similar texts should have more
movies in common than two with any texts: the text of each user is compared with those of others by the cosine of their
words, the words of dislikes counting as such, without the model that made the lists.
"""

import numpy as np
import scipy.sparse as sp

from batch.models.described_taste import SelfDescriptions
from batch.models.text_features import count_features

_MOST_USERS = 2_000
_LEAST_PAIRS = 100
_LEAST_ERRORS = 3.0
"""The lists of similar texts have more in common by more than so many standard errors."""


def lists_suit_texts(
    lists: np.ndarray, segments: np.ndarray, users: np.ndarray, descriptions: SelfDescriptions
) -> bool | None:
    """Whether lists (int32 [n, 20]) of some users (int64 rows) suit their texts; None if the data cannot tell."""
    users = np.random.default_rng(1).permutation(users)[:_MOST_USERS]
    likes, dislikes = (count_features(texts) for texts in descriptions.texts_of(users))
    words = likes - dislikes
    usual = np.sqrt(np.maximum(np.bincount(words.indices, minlength=words.shape[1]), 1))
    words = words.multiply(1 / usual).tocsr()  # a word that all use makes no texts similar
    gains = []
    for segment in np.unique(segments[users]):
        own = np.flatnonzero(segments[users] == segment)
        if len(own) > 2:
            gains.append(_gains(lists[users[own]], _cosines(words[own])))
    gain = np.concatenate(gains) if gains else np.zeros(0)
    if len(gain) < _LEAST_PAIRS or not gain.std():
        return None
    return bool(gain.mean() > _LEAST_ERRORS * gain.std(ddof=1) / np.sqrt(len(gain)))


def _gains(lists: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """How many more movies a list shares with that of the most similar text than with any: float64 [k or fewer].

    Users to whose texts no other is similar are left out.
    """
    others = lists[cosines.argmax(axis=1)]
    shared = ((lists[:, :, None] == others[:, None, :]) & (lists >= 0)[:, :, None]).any(axis=2).sum(axis=1)
    gains: np.ndarray = (shared - _mean_common(lists))[cosines.max(axis=1) > 0]
    return gains


def _cosines(words: sp.csr_matrix) -> np.ndarray:
    """Similarity of all texts, -1 of each with itself: float64 [k, k]."""
    products = (words @ words.T).toarray()
    lengths = np.sqrt(np.maximum(products.diagonal(), 1e-9))
    cosines = products / lengths / lengths[:, None]
    np.fill_diagonal(cosines, -1)
    return np.asarray(cosines)


def _mean_common(lists: np.ndarray) -> np.ndarray:
    """How many movies of each list are in the other lists on average: float64 [k]."""
    counts = np.bincount(lists[lists >= 0], minlength=int(lists.max(initial=0)) + 1)
    others = np.where(lists >= 0, counts[np.maximum(lists, 0)] - 1, 0).sum(axis=1)
    return np.asarray(others / (len(lists) - 1))
