"""New movies in lists: those that too few users have started for a model to know, shown to the users whom they suit.

Without this nobody might ever start them. New is an announced movie that few have started, and any other movie of the
catalogue that nobody has. They have a budget, so that lists stay about as good: `places` of each list,
and each is put into the lists of a share of the users at most, those whom it suits most by its content. A night tries a
few of them, the latest announced first. A movie leaves this budget once enough users have started it, for then the
models know it, or once it was shown often and hardly anyone started it; the next one takes its place.

How well a movie suits a user is how much more often than others the user has watched movies of its genres, its decade,
its language and its collection: the sum over these four kinds of the logarithm of the ratio, with a prior of a few
movies of everyone's taste. Within a kind, as for several genres, it is the logarithm of the mean ratio. This is a naive
Bayes classifier with a Dirichlet prior (Pazzani & Billsus, Learning and revising user profiles, 1997). Nothing is drawn
at random.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from batch.history.interactions import Interactions
from batch.history.movie_content import KINDS, MovieContent, feature_matrix
from batch.models.content_regression import ContentRegression
from batch.models.list_caps import ListCaps
from batch.settings import BatchSettings
from stream.event import LIST_LENGTH

_FIRST_PLACE = LIST_LENGTH // 2
"""New movies stand in the lower half of a list: the higher they stand, the fewer users look at the others."""
_PRIOR = 10.0
"""Finished movies of everyone's taste that are added to those of a user."""
_AT_ONCE = 2
"""New movies that a night tries, as a multiple of those that would fill all places: each user gets the best of some."""
_BLOCK_USERS = 1 << 16
_ANY_GAIN = 1000
"""More than a score can be above the mean, in standard deviations of 1,000,000 users."""


@dataclass(frozen=True)
class NewMovieBudget:
    """What new movies may take of the lists, see the settings `new_movie_…`."""

    places: int
    """Of each list."""
    reach: float
    """Share of the users who may get a movie in one night."""
    starts: int
    """Users who have started a movie that is not new any more."""
    trials: int
    """Lists with a movie that are shown before it must have been started, and again for each user who started it."""

    @staticmethod
    def of(settings: BatchSettings) -> "NewMovieBudget":
        """The budget of the settings."""
        places = int(settings.new_movie_share * LIST_LENGTH + 1e-9)
        return NewMovieBudget(places, settings.new_movie_reach, settings.new_movie_starts, settings.new_movie_trials)

    def users_of_one(self, users: int) -> int:
        """How many of so many users may get one movie in one night."""
        return max(1, int(self.reach * users + 1e-9)) if self.reach else 0

    def is_given_up(self, shown: np.ndarray, users: np.ndarray) -> np.ndarray:
        """Which movies were shown in so many lists, and started by so few users, that they leave: bool [m]."""
        return shown > self.trials * (users + 1)


def tried_movies(
    contents: Sequence[MovieContent],
    users: np.ndarray,
    left_out: Collection[str],
    regression: ContentRegression,
    budget: NewMovieBudget,
) -> np.ndarray:
    """The new movies that a night tries, the first in the queue first: int64.

    `users` (int64 [w]) says how many users started each of the first w movies; the other ones have none. `left_out`
    are hidden movies, and those that cost too much. The latest announced movies go first, then those whose content
    promises most users.
    """
    if not budget.places or not budget.reach or not len(users):
        return np.zeros(0, np.int64)
    counts = np.zeros(len(contents), np.int64)
    counts[: len(users)] = users
    shown = np.array([content.shown for content in contents])
    is_left_out = np.array([content.id in left_out for content in contents], bool)
    announced = np.array([content.announced for content in contents])
    is_new = np.where(announced > 0, counts < budget.starts, counts == 0)
    is_open = is_new & ~is_left_out & ~budget.is_given_up(shown, counts)
    promise = regression.predict(np.log1p(users)[:, None])[:, 0]
    queue = np.lexsort((-promise, -announced))  # stable: equals stay in the order of movies
    return queue[is_open[queue]][: int(np.ceil(_AT_ONCE * budget.places / budget.reach))]


def suitability(data: Interactions, contents: Sequence[MovieContent], movies: np.ndarray) -> np.ndarray:
    """How well some movies (int64 [k]) suit each user: float32 [n, k]; all 0 for a movie of which nothing is known.

    `contents` begin with those of the movies in `data`.
    """
    own = [contents[movie] for movie in movies.tolist()]
    scores = np.zeros((data.shape[0], len(movies)), np.float32)
    watched_as_usual = np.asarray(data.matrix.sum(axis=0, dtype=np.float64)).ravel()
    for kind in KINDS:
        names = sorted({name for content in own for name in content.features if name.startswith(kind)})
        of_watched = feature_matrix(contents[: data.shape[1]], names)
        usual = watched_as_usual @ of_watched / max(float(watched_as_usual.sum()), 1e-9)
        is_known = usual > 0  # content that nobody has ever watched says nothing
        of_watched, usual = of_watched[:, is_known], usual[is_known]
        features = feature_matrix(own, names)[:, is_known].T.toarray()
        features /= np.maximum(features.sum(axis=0), 1e-9)
        for first in range(0, data.shape[0], _BLOCK_USERS):
            block = data.matrix[first : first + _BLOCK_USERS]
            watched, length = (block @ of_watched).toarray(), np.asarray(block.sum(axis=1))
            mean_ratio = ((watched + _PRIOR * usual) / ((length + _PRIOR) * usual)) @ features
            scores[first : first + _BLOCK_USERS] += np.log(np.where(features.any(axis=0), mean_ratio, 1))
    return scores


def with_new_movies(
    lists: np.ndarray,
    data: Interactions,
    contents: Sequence[MovieContent],
    movies: np.ndarray,
    least_events: int,
    budget: NewMovieBudget,
    caps: ListCaps | None = None,
) -> np.ndarray:
    """The lists (int32 [n, 20], -1 for none) with some new movies (int64 [k]) in their places.

    A user gets those that suit best among the movies for which the user is one of the best suited. Users with fewer
    than `least_events` events keep their lists, and so do those whom no movie suits more than most others. With `caps`,
    minors get no adult movie.
    """
    scores = _open_scores(lists, data, contents, movies, least_events)
    if caps is not None:
        scores[np.ix_(caps.minors, caps.adult[movies])] = -np.inf
    is_announced = np.array([contents[movie].announced > 0 for movie in movies.tolist()], bool)
    chosen = _choose(scores, is_announced, budget)
    for number in range(chosen.shape[1]):
        rows = np.flatnonzero(chosen[:, number] >= 0)
        place = _FIRST_PLACE + (LIST_LENGTH - _FIRST_PLACE) * number // budget.places
        lists[rows] = _inserted(lists[rows], movies[chosen[rows, number]], place)
    return lists


def _open_scores(
    lists: np.ndarray, data: Interactions, contents: Sequence[MovieContent], movies: np.ndarray, least_events: int
) -> np.ndarray:
    """`suitability`, but -inf where a movie may not be put into a list: seen, listed already, or no personal list."""
    scores = suitability(data, contents, movies)
    lengths = np.diff(data.indptr)
    scores[(lengths < max(least_events, 1)) | (lists[:, 0] < 0)] = -np.inf
    user = np.repeat(np.arange(len(lengths)), lengths)
    for column, movie in enumerate(movies.tolist()):
        scores[user[data.movies == movie], column] = -np.inf
        scores[(lists == movie).any(axis=1), column] = -np.inf
    return scores


def _choose(scores: np.ndarray, is_announced: np.ndarray, budget: NewMovieBudget) -> np.ndarray:
    """The columns of `scores` (float32 [n, k]) that each user gets, the best first: int64 [n, places], -1 for none.

    Announced movies (bool [k]) go before the others.
    """
    users, movies = scores.shape
    gain = np.full((users, movies), -np.inf, np.float32)
    most = budget.users_of_one(int(np.isfinite(scores).any(axis=1).sum()))
    for column in range(movies):
        own = np.flatnonzero(np.isfinite(scores[:, column]))
        values = scores[own, column]
        if not len(own) or not (spread := values.std()):
            continue
        best = np.argsort(-values, kind="stable")[:most]
        best = best[values[best] > values.mean()]
        gain[own[best], column] = (values[best] - values.mean()) / spread
    places = min(budget.places, movies)
    first = np.where(is_announced, np.float32(_ANY_GAIN), np.float32(0))
    order = np.argsort(-(gain + first), axis=1, kind="stable")[:, :places]
    return np.where(np.isfinite(np.take_along_axis(gain, order, axis=1)), order, -1)


def _inserted(lists: np.ndarray, movies: np.ndarray, place: int) -> np.ndarray:
    """The lists with a movie each (int64 [k]) at a place, or at the end of a short list; a full one loses its last."""
    at = np.minimum((lists >= 0).sum(axis=1), place)[:, None]
    column = np.arange(lists.shape[1])
    moved = np.roll(lists, 1, axis=1)
    return np.where(column < at, lists, np.where(column == at, movies[:, None], moved))
