"""The first stage: a fitted blend that names candidates, and tables that describe them.

The candidates of a user are the first 100 unseen movies of the blend; among them are always the first 20 unseen ones of
the popular list, so that a user of whom little is known can fall back on it.
"""

from typing import NamedTuple

import numpy as np

from batch.history.interactions import Interactions
from batch.models.blend import Blend
from batch.models.model import sample_users
from batch.models.pair_table import PairTable
from batch.models.rerank_features import LATEST, Candidates, feature_matrix, sum_over_latest
from batch.models.top_lists import best_movies, popular_ranking
from batch.settings import BatchSettings

CANDIDATES = 100
_POPULAR = 20
"""Movies of the popular list among them."""
_POPULAR_HEAD = 200
"""Where these are looked for: who has seen so many of them has a long history."""
_PRIOR = 10.0
"""Starts that a segment's are joined by."""
_LEAST = 1e-3
"""Starts of a movie that nobody watched."""


class Named(NamedTuple):
    """The candidates of k users."""

    scores: np.ndarray
    """float32 [k, m]: the blend's scores of all movies; the caller may write to it."""
    movies: np.ndarray
    """int32 [k, c]: the candidates, ordered by the blend; -1 for none."""
    linear: np.ndarray
    """float32 [2, k, c]: what EASE and Order contribute to the candidates' scores."""
    is_empty: np.ndarray
    """bool [k]: users about whom the blend knows nothing."""

    def of(self, rows: slice) -> "Named":
        """Those of some users; arrays are views."""
        return Named(self.scores[rows], self.movies[rows], self.linear[:, rows], self.is_empty[rows])


class FirstStage:
    """Names and describes candidates. Does not change, so several threads may use it."""

    def __init__(self, blend: Blend, data: Interactions, settings: BatchSettings) -> None:
        """Count over the data that the blend is fitted to."""
        self._blend = blend
        ease, order = blend.parts.ease, blend.parts.order
        self._dense_index = np.full(data.shape[1], -1)
        self._dense_index[ease.dense] = np.arange(len(ease.dense))
        sample = sample_users(data, settings.fit_users, settings.seed)
        self._pairs = PairTable(sample, ease.dense, ease.weights, order.weights)
        self._popular = popular_ranking(data.popularity)[:_POPULAR_HEAD]
        self._popularity = np.log(data.popularity / max(data.popularity.sum(), _LEAST) + 1e-6).astype(np.float32)
        watched = np.bincount(data.movies, minlength=data.shape[1])
        shares = watched / max(1, watched.sum())
        self._trend = self._popularity - np.log(shares + 1e-6).astype(np.float32)
        segment = np.repeat(data.segments, np.diff(data.indptr)).astype(np.int64)
        count = int(data.segments.max(initial=0)) + 1
        starts = np.bincount(segment * len(shares) + data.movies, minlength=count * len(shares)).reshape(count, -1)
        expected = starts.sum(axis=1, keepdims=True) * shares
        self._segment_lift = np.log((starts + _PRIOR) / (expected + _PRIOR)).astype(np.float32)
        self._segment_lift[0] = 0  # users without a segment

    def name(self, data: Interactions, users: np.ndarray) -> Named:
        """The candidates of some users (int64 [k])."""
        blend = self._blend.score_parts(data, users)
        movies = self._movies(blend.total, data, users)
        scores = np.where(movies >= 0, np.take_along_axis(blend.total, np.maximum(movies, 0), axis=1), -np.inf)
        movies = np.take_along_axis(movies, np.lexsort((movies, -scores)), axis=1)
        dense = self._dense_of(movies)
        linear = np.zeros((2, *movies.shape), np.float32)
        for part, name in zip(linear, ("ease", "order"), strict=True):
            if name in blend.linear:
                part[:] = np.take_along_axis(blend.linear[name], np.maximum(dense, 0), axis=1) * (dense >= 0)
        return Named(blend.total, movies, linear, blend.is_empty)

    def describe(self, data: Interactions, users: np.ndarray, named: Named) -> np.ndarray:
        """The features of the candidates of some users: float32 [f, k, c]."""
        movies = np.maximum(named.movies, 0)
        events = data.indptr[users + 1][:, None] - 1 - np.arange(LATEST)
        is_event = events >= data.indptr[users][:, None]
        latest = np.where(is_event, self._dense_index[data.movies[np.maximum(events, 0)]], -1)
        dense = self._dense_of(named.movies)
        statistics = self._pairs.look_up(np.maximum(latest, 0), np.maximum(dense, 0))
        pairs = sum_over_latest(statistics, latest >= 0)
        pairs *= (dense >= 0)[:, None, :, None]
        segments = data.segments[users]
        segments = np.where(segments < len(self._segment_lift), segments, 0)
        return feature_matrix(
            Candidates(
                blend=np.take_along_axis(named.scores, movies, axis=1),
                ease=named.linear[0],
                order=named.linear[1],
                pairs=pairs,
                lengths=data.indptr[users + 1] - data.indptr[users],
                popularity=self._popularity[movies],
                trend=self._trend[movies],
                segment_lift=self._segment_lift[segments[:, None], movies],
            )
        )

    def _movies(self, scores: np.ndarray, data: Interactions, users: np.ndarray) -> np.ndarray:
        """The candidates: int32 [k, c]. Changes the scores (float32 [k, m]) and puts them back: a copy takes longer."""
        seen = data.unlisted(users)
        scores_of_seen = scores[seen]
        scores[seen] = -np.inf
        is_unseen = scores[:, self._popular] > -np.inf
        row, place = np.nonzero(is_unseen & (is_unseen.cumsum(axis=1) <= _POPULAR))
        fallback = row, self._popular[place]
        scores_of_fallback = scores[fallback]
        scores[fallback] = np.inf
        movies = best_movies(scores, min(CANDIDATES, scores.shape[1]), self._blend.name)
        scores[fallback] = scores_of_fallback
        scores[seen] = scores_of_seen
        return movies

    def _dense_of(self, movies: np.ndarray) -> np.ndarray:
        """The dense index of candidates, -1 for none: int64."""
        return np.where(movies >= 0, self._dense_index[movies], -1)
