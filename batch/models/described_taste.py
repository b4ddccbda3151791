"""First lists: what users who have watched nothing yet will watch, from what they write about themselves.

A linear map from words to tastes is learned on users with both a text and a history, as in the attribute-to-feature
mapping of Gantner et al. (ICDM 2010). Words are hashed and weighted by TF-IDF; a dislike counts as the negative of a
like. A taste is how often a user watches movies of each genre and decade, compared with the user's segment: a few dozen
numbers, of which a user's few movies say more than of movies, and which hold for movies that few have seen. The map is
a ridge regression (Hoerl & Kennard 1970), whose penalty draws words that few users share to no difference from the
segment. A list is then the segment's, each movie's share multiplied by how much more the user will watch such movies.

Words nobody else has used are part of a text's length but have no weight: the fewer words of a text are known, the
closer is its list to the segment's. Users without a known word have no list of their own.
"""

import numpy as np
import scipy.sparse as sp
from scipy import linalg

from batch.history.interactions import Interactions
from batch.history.segments import NAMES
from batch.history.self_descriptions import SelfDescriptions as SelfDescriptions
from batch.models.text_features import BUCKETS, count_features
from batch.settings import BatchSettings
from stream.zone import DAY_MS

FIT_USERS = 50_000
"""Most users that the map is learned on."""
LEAST_WRITERS = 10
"""A word that fewer of them use is unknown."""
MOST_WORDS = 2_000
"""Most words that have a weight, the most frequent ones."""
PENALTY = 30.0
"""Ridge penalty: a word counts half of what its writers show if the squares of its weights in their texts add up to so
much, as if it were the only word of 30 texts. With less, words of nonsense that a few dozen users share cost them."""
SMOOTHING = 1_000.0
"""Starts that fall like everyone's and join those of a segment (a Dirichlet prior: Zhai & Lafferty, SIGIR 2001)."""
_LEAST_FACTOR = 0.02
"""A movie of a taste that a user is not expected to have at all keeps this share."""


class DescribedTaste:
    """Scores movies by segment and self-description alone; a user's history plays no part."""

    name = "self-description"

    def __init__(self, descriptions: SelfDescriptions, settings: BatchSettings) -> None:
        self._descriptions, self._settings = descriptions, settings

    def fit(self, data: Interactions, left_out: np.ndarray) -> None:
        """Learn from the users with a text and a history, but for some (int64 rows): they are to be measured.

        Deterministic, as `Model.fit`.
        """
        attributes = self._descriptions.attributes
        self._segment_shares = _segment_shares(data, self._settings.half_life_days)
        usual = self._segment_shares @ attributes
        users = self._fit_users(data, left_out)
        counts = self._counts(users)
        writers = np.bincount(sp.csr_matrix(counts[0] + counts[1]).indices, minlength=BUCKETS)
        self._idf = (np.log((1 + len(users)) / (1 + writers)) + 1).astype(np.float32)
        order = np.argsort(-writers, kind="stable")[:MOST_WORDS]
        self._words = np.sort(order[writers[order] >= LEAST_WRITERS])
        self._weights = np.zeros((len(self._words), attributes.shape[1]))
        if len(self._words):
            words = self._weigh(counts).astype(np.float64)
            tastes = _histories(data, users) @ attributes - usual[data.segments[users]]
            tastes -= tastes.mean(axis=0)
            gram = (words.T @ words).toarray() + PENALTY * np.eye(len(self._words))
            self._weights = linalg.solve(gram, words.T @ tastes, assume_a="pos")
        self._relative = attributes @ sp.diags_array(1 / np.maximum(usual[0], 1e-9))

    def known(self, users: np.ndarray) -> np.ndarray:
        """Which of some users (int64 rows) have written a word that has a weight: bool [len(users)]."""
        has_known: np.ndarray = np.diff(self._weigh(self._counts(users)).indptr) > 0
        return has_known

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        """As `Model.score`; for a user without a known word, the shares of the segment."""
        tastes = self._weigh(self._counts(users)) @ self._weights
        factors = 1 + (self._relative @ tastes.T).T
        shares = self._segment_shares[data.segments[users]]
        return (shares * np.maximum(factors, _LEAST_FACTOR)).astype(np.float32)

    def _fit_users(self, data: Interactions, left_out: np.ndarray) -> np.ndarray:
        """Rows of the users to learn from, ascending: int64."""
        may_learn = np.diff(data.indptr) > 0
        may_learn[left_out] = False
        users = self._descriptions.rows[may_learn[self._descriptions.rows]].astype(np.int64)
        if len(users) <= FIT_USERS:
            return users
        return np.sort(np.random.default_rng([self._settings.seed, 5]).choice(users, FIT_USERS, replace=False))

    def _counts(self, users: np.ndarray) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """How often the likes and the dislikes of some users have each word: float32 [len(users), BUCKETS] each."""
        likes, dislikes = self._descriptions.texts_of(users)
        return count_features(likes), count_features(dislikes)

    def _weigh(self, counts: tuple[sp.csr_matrix, sp.csr_matrix]) -> sp.csr_matrix:
        """The weights of the known words: those in likes minus those in dislikes, float32 [users, words]."""
        likes, dislikes = (self._tf_idf(own) for own in counts)
        weights = sp.csr_matrix(likes - dislikes)
        weights.eliminate_zeros()
        return weights

    def _tf_idf(self, counts: sp.csr_matrix) -> sp.csr_matrix:
        """TF-IDF of the known words in texts whose weights, with those of unknown words, have length 1."""
        weights = counts.copy()
        weights.data = 1 + np.log(weights.data)
        weights = sp.csr_matrix(weights @ sp.diags_array(self._idf))
        lengths = np.sqrt(np.asarray(weights.multiply(weights).sum(axis=1)).ravel())
        return sp.csr_matrix(sp.diags_array(1 / np.maximum(lengths, 1e-9)) @ weights[:, self._words])


def _segment_shares(data: Interactions, half_life_days: float) -> np.ndarray:
    """Share of each movie in the recent starts of each segment, smoothed towards everyone: float64 [segments, m]."""
    count, movies = len(NAMES), data.shape[1]
    segment = np.repeat(data.segments, np.diff(data.indptr)).astype(np.int64)
    recency = 0.5 ** ((data.until - data.starts) / DAY_MS / half_life_days)
    starts = np.bincount(segment * movies + data.movies, recency, count * movies).reshape(count, movies)
    everyone = data.popularity / max(data.popularity.sum(), 1e-9)
    starts[0] = 0
    mixed = starts + SMOOTHING * everyone
    shares: np.ndarray = mixed / np.maximum(mixed.sum(axis=1, keepdims=True), 1e-9)
    return shares


def _histories(data: Interactions, users: np.ndarray) -> sp.csr_matrix:
    """Share of each movie in the events of each user, all of whom have some: float64 [len(users), m]."""
    counts = data.indptr[users + 1] - data.indptr[users]
    indptr = np.concatenate([[0], np.cumsum(counts)])
    events = data.events_of(users)
    return sp.csr_matrix((np.repeat(1 / counts, counts), data.movies[events], indptr), (len(users), data.shape[1]))
