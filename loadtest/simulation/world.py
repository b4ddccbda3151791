"""The simulated world: the movies that users choose themselves or take from a list, finish and rate.

`World` has the constant data, movies and people, and is a pure function of its settings. Changing state is in
`Seen`, and random numbers come from the caller's generator, so a caller can replay, fork and parallelise.

Users and movies are rows of the population and the catalogue, from 0; the service's ids are `row + 1` and
`catalogue.ids[row]`.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.settings import WorldSettings
from loadtest.simulation.catalogue import ERAS, Catalogue, make_catalogue
from loadtest.simulation.population import CIRCLES, Activity, make_population
from stream.event import LIST_LENGTH

Ints = npt.NDArray[np.int64] | npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CIRCLE_MOVIES = 25
REWATCHES = 0.03
"""Share of visits that watch one of the last movies again."""

BEST_LIST_ACCEPTANCE = 0.55
"""Chance that a user who has seen nothing yet takes something from the twenty movies they would like most. No
recommender knows these, and later the user has seen the best of them: a good list reaches 35–45 %."""

NEW_MOVIE_SUITS = 0.05
"""Share of the users whom a new movie suits."""
_SAMPLED_USERS = 500

_VISITS_TO_CALIBRATE = 12
"""Liking is scaled to what users choose after this many visits, when they have seen their most obvious movies."""

_REDRAWS = 8
_RECENT = 4
_STARS_SHARE = (0.02, 0.05, 0.27, 0.45, 0.21)
_FINISHED_BY_STARS = np.array([0.45, 0.72, 0.94, 0.99, 0.99])
_FINISHED_UNRATED = 0.83
"""Sessions without a rating are finished less often, by this factor; then 88 % of all sessions are finished."""


class Seen:
    """Which user has seen which movie, and each user's last few movies.

    Pairs are int64 keys, `user * movies + movie`, in two sorted arrays: a large one, and a small one that takes new
    pairs and is merged into the large one when it is full. That is 8 bytes per pair, so 20 M pairs of 1 M users and 27
    k movies take 160 MB, and adding a few pairs costs the copy of the small array only.
    """

    def __init__(self, users: int, movies: int) -> None:
        """Start with no user having seen a movie."""
        self.recent = np.full((users, _RECENT), -1, dtype=np.int32)
        """[users, 4] the last movies watched, the latest first, -1 for none."""
        self._movies = movies
        self._old: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._new: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Number of different pairs of a user and a movie."""
        return len(self._old) + len(self._new)

    def add(self, users: Ints, movies: Ints) -> None:
        """Note that these users watched these movies, in this order."""
        keys = self._keys(users, movies)
        fresh = np.unique(keys[~self._known(keys)])
        self._new = np.insert(self._new, np.searchsorted(self._new, fresh), fresh)
        if len(self._new) > 65_536:
            self._old = np.sort(np.concatenate((self._old, self._new)), kind="stable")
            self._new = self._new[:0]
        self._push_recent(users, movies)

    def contains(self, users: Ints, movies: Ints) -> Bools:
        """Whether `users[i]` has seen `movies[i]`; shapes broadcast."""
        return self._known(self._keys(users, movies))

    def _keys(self, users: Ints, movies: Ints) -> npt.NDArray[np.int64]:
        return np.asarray(users, dtype=np.int64) * self._movies + movies

    def _known(self, keys: npt.NDArray[np.int64]) -> Bools:
        return _is_in(keys, self._old) | _is_in(keys, self._new)

    def _push_recent(self, users: Ints, movies: Ints) -> None:
        """A user may occur in a batch several times: each round takes the first remaining row of every user."""
        while users.size:
            _, rows = np.unique(users, return_index=True)
            self.recent[users[rows], 1:] = self.recent[users[rows], :-1]
            self.recent[users[rows], 0] = movies[rows]
            left = np.ones(users.size, dtype=np.bool_)
            left[rows] = False
            users, movies = users[left], movies[left]


def _is_in(keys: npt.NDArray[np.int64], ordered: npt.NDArray[np.int64]) -> Bools:
    if not ordered.size:
        return np.zeros(keys.shape, dtype=np.bool_)
    indices = np.minimum(np.searchsorted(ordered, keys), ordered.size - 1)
    return np.asarray(ordered[indices] == keys)


class Urns:
    """Many urns of weighted movies, from each of which a draw costs one binary search.

    The urns' movies lie one after another in `members`, and `upto` runs from k to k + 1 within urn k, so a uniform
    number plus k finds its movie in one sorted array.
    """

    def __init__(self, urn: Ints, movies: Ints, weights: Floats, urns: int) -> None:
        """Row i puts `movies[i]` into urn `urn[i]` with weight `weights[i]`; an urn may stay empty."""
        order = np.argsort(urn, kind="stable")
        totals = np.bincount(urn, weights, urns)
        self.empty: Bools = totals == 0
        self.share: Floats = weights / totals[urn]
        """Chance of each row in a draw from its urn, in the order the rows were given."""
        self.members: npt.NDArray[np.int32] = movies[order].astype(np.int32)
        self._end = np.cumsum(np.bincount(urn, minlength=urns))
        within = [np.cumsum(shares) for shares in np.split(self.share[order], self._end[:-1])]
        self._upto: Floats = np.add(urn[order], np.concatenate(within), dtype=np.float64)

    def draw(self, urn: Ints, rng: np.random.Generator) -> npt.NDArray[np.int32]:
        """One movie out of each of these urns, none of which may be empty."""
        indices = np.searchsorted(self._upto, urn + rng.random(urn.size), side="right")
        # Rounding may carry a draw past the end of its urn.
        return np.asarray(self.members[np.minimum(indices, self._end[urn] - 1)])


class WatchPlan(NamedTuple):
    """The course of sessions; one row per session."""

    last_minute: npt.NDArray[np.int32]
    """The last minute that is played; a session plays the minutes 0..last_minute."""
    finished: Bools
    """Whether the movie was watched to its end, some 1.6 % past its runtime."""
    ratings: npt.NDArray[np.int8]
    """1..5, or 1..10 from 2026 on; 0 if the user does not rate."""


class World:
    """The movies, the people, and their behaviour."""

    def __init__(self, settings: WorldSettings) -> None:
        """The world of these settings."""
        self.settings = settings
        self.catalogue = make_catalogue(settings.movies, settings.seed, settings.generation)
        self.people = make_population(settings)
        rng = np.random.default_rng([settings.seed, 3])
        self._genre_upto = np.cumsum(self.people.genre_weights, axis=1)
        self._eras = self.catalogue.eras
        self._share_circles(rng)
        self._share_cells()
        self.new_movies = self._pick_new_movies()
        """int64 [settings.new_movies]: rows of the movies that are released while the service runs, in the order of
        their release. Users come to them from a list only: they are on no chart, in no circle and of no series."""
        self._fill_urns()
        self._calibrate(rng)

    @property
    def activity(self) -> Activity:
        """How often and when each user visits."""
        return self.people.activity

    def new_seen(self) -> Seen:
        """The record of a service that has just opened: no user has seen a movie."""
        return Seen(len(self.people), len(self.catalogue))

    def choose(self, users: Ints, seen: Seen, rng: np.random.Generator) -> npt.NDArray[np.int32]:
        """The movie that each of these users picks without a list: an unseen one, except for re-watches."""
        movies = self._walk_paths(users, rng)
        for _ in range(_REDRAWS):
            stale = np.flatnonzero(seen.contains(users, movies))
            if not stale.size:
                break
            movies[stale] = self._walk_paths(users[stale], rng)
        sequels = self._sequels(users, seen)
        movies = np.where((sequels >= 0) & (rng.random(users.size) < self.people.loyalty[users]), sequels, movies)
        last = seen.recent[users, rng.integers(0, _RECENT, users.size)]
        return np.where((last >= 0) & (rng.random(users.size) < REWATCHES), last, movies)

    def interest(self, users: Ints, movies: Ints) -> Floats:
        """Chance that a visit of `users[i]`, without history, goes to `movies[i]`; shapes broadcast.

        The sum over the paths to the movie, so it adds up to 1 over the catalogue, except for eras without a movie.
        """
        people, genres = self.people, self.catalogue.genres[movies]
        chart, circle = people.chart_odds[users], people.circle_odds[users]
        first, second = people.circles[users, 0], people.circles[users, 1]
        by_circle = 0.5 * (self._circle_share[first, movies] + self._circle_share[second, movies])
        by_genre = (people.genre_weights[np.asarray(users)[..., None], genres] * self._cell_share[movies]).sum(axis=-1)
        by_genre *= _ERA_SHARE[people.favourite_era[users], self._eras[movies]]
        genre = np.maximum(1.0 - chart - circle, 0.0)
        return np.asarray(chart * self.catalogue.popularity[movies] + circle * by_circle + genre * by_genre)

    def react(self, user: int, movies: Ints, seen: Seen, rng: np.random.Generator) -> int | None:
        """The movie that the user takes from a list, best first; None for nothing.

        The cascade model of Craswell et al. (2008): ranks are examined from the top, an examined movie is taken with a
        chance per movie, and after each rank the user continues to the next with a chance that depends on the rank.
        """
        takes = np.flatnonzero(rng.random(movies.size) < self.take_odds(user, movies, seen))
        if not takes.size:
            return None
        leaves = np.flatnonzero(rng.random(movies.size) >= _continuation(movies.size))
        return int(movies[takes[0]]) if not leaves.size or takes[0] <= leaves[0] else None

    def react_all(self, users: Ints, lists: Ints, seen: Seen, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """As `react` for many users at once: [users] what each takes from a list, -1 for nothing.

        `lists` are [users, ranks], best first; -1 at the end of a shorter one.
        """
        shape = lists.shape
        takes = rng.random(shape) < self.take_odds(users[:, None], np.maximum(lists, 0), seen) * (lists >= 0)
        leaves = rng.random(shape) >= _continuation(shape[1])
        first = takes.argmax(axis=1)
        stays = (leaves.cumsum(axis=1) - leaves)[np.arange(len(users)), first] == 0
        taken = lists[np.arange(len(users)), first].astype(np.int64)
        return np.where(takes.any(axis=1) & stays, taken, -1)

    def take_odds(self, users: Ints | int, movies: Ints, seen: Seen) -> Floats:
        """Chance that users take each movie of a list once it is examined, 0 for seen ones; shapes broadcast."""
        users = np.broadcast_to(np.asarray(users, np.int64), movies.shape)
        interest = self.interest(users, movies)
        shown_to, row = np.unique(users, return_inverse=True)
        sequel = self._sequels(shown_to, seen)[row].reshape(movies.shape)
        interest = np.where(movies == sequel, np.maximum(interest, 0.2 * self.people.loyalty[users]), interest)
        interest[seen.contains(users, movies)] = 0.0
        return _odds_by_interest(interest, self._appetite)

    def watch_plan(self, users: Ints, movies: Ints, rng: np.random.Generator) -> WatchPlan:
        """How these sessions proceed. The caller drops the ratings of re-watches, which are not known here."""
        n = users.size
        stars = 1 + np.searchsorted(_STARS_UPTO, self._liking(users, movies, rng))
        rated = rng.random(n) < self.people.rating_odds[users]
        finish_odds = _FINISHED_BY_STARS[stars - 1] * np.where(rated, 1.0, _FINISHED_UNRATED)
        finished = rng.random(n) < finish_odds
        fraction = np.where(finished, rng.normal(1.016, 0.004, n), rng.beta(1.2, 2.2, n))
        if self.settings.generation == "2026":
            stars = 2 * stars - rng.integers(0, 2, n)
        return WatchPlan(
            last_minute=np.rint(fraction * self.catalogue.length_min[movies]).astype(np.int32),
            finished=finished,
            ratings=np.where(rated, stars, 0).astype(np.int8),
        )

    def _walk_paths(self, users: Ints, rng: np.random.Generator) -> npt.NDArray[np.int32]:
        """One movie each by chart, circle or genre."""
        people, n = self.people, users.size
        path = rng.random(n) - people.chart_odds[users]
        genre = (self._genre_upto[users] < rng.random((n, 1))).sum(axis=1)
        era = (_ERA_UPTO[people.favourite_era[users]] < rng.random((n, 1))).sum(axis=1)
        # The last column of either may lie a rounding below 1.
        urn = _FIRST_CELL + np.minimum(genre, self._genre_upto.shape[1] - 1) * ERAS + np.minimum(era, ERAS - 1)
        circle = people.circles[users, rng.integers(0, 2, n)]
        urn = np.where(path < people.circle_odds[users], _FIRST_CIRCLE + circle.astype(np.int64), urn)
        urn[(path < 0) | self._urns.empty[urn]] = _CHART
        return self._urns.draw(urn, rng)

    def _sequels(self, users: Ints, seen: Seen) -> npt.NDArray[np.int32]:
        """The unseen next part to the latest movie that has one, among the last few of each user; -1 for none."""
        recent = seen.recent[users]
        sequels = np.where(recent >= 0, self.catalogue.successor[recent], -1)
        sequels[seen.contains(users[:, None], sequels)] = -1
        latest = np.argmax(sequels >= 0, axis=1)
        return np.asarray(sequels[np.arange(users.size), latest])

    def _liking(self, users: Ints, movies: Ints, rng: np.random.Generator) -> Floats:
        """How much each user likes the movie: mean 0, standard deviation 1 over what users choose themselves."""
        known = (self._raw_liking(users, movies) - self._liking_mean) / self._liking_deviation
        return 0.75 * known + 0.66 * rng.standard_normal(users.size)

    def _raw_liking(self, users: Ints, movies: Ints) -> Floats:
        """Quality, the user's mood, and the user's interest relative to the movie's popularity."""
        popularity = self.catalogue.popularity[movies]
        lift = np.log((self.interest(users, movies) + 0.1 * popularity) / popularity)
        return np.asarray(0.6 * self.catalogue.quality[movies] + 0.4 * lift + self.people.mood[users])

    def _share_circles(self, rng: np.random.Generator) -> None:
        """Each circle's favourites, and their shares."""
        self._favourites = _favourites(rng, self.catalogue)
        weights = (np.arange(self._favourites.shape[1]) + 4.0) ** -0.6
        self._circle_share = np.zeros((CIRCLES, len(self.catalogue)), dtype=np.float32)
        np.put_along_axis(self._circle_share, self._favourites, weights / weights.sum(), axis=1)

    def _share_cells(self) -> None:
        """Each movie's share of the cells of its genres in its era."""
        catalogue = self.catalogue
        movie, slot = np.nonzero(catalogue.genres >= 0)
        self._cell_movies = movie
        self._cells = catalogue.genres[movie, slot].astype(np.int64) * ERAS + self._eras[movie]
        self._appeal = (catalogue.popularity**0.85 * np.exp(0.25 * catalogue.quality))[movie]
        self._cell_share = np.zeros(catalogue.genres.shape, dtype=np.float32)
        self._cell_share[movie, slot] = self._appeal / np.bincount(self._cells, self._appeal)[self._cells]

    def _pick_new_movies(self) -> npt.NDArray[np.int64]:
        """The movies that suit nearest to one in twenty users, among those of no series and no circle."""
        alone = np.flatnonzero((self.catalogue.series < 0) & ~self._circle_share.any(axis=0))
        users = np.arange(min(len(self.people), _SAMPLED_USERS))
        away = np.abs(self.suits(users)[:, alone].mean(axis=0) - NEW_MOVIE_SUITS)
        return np.asarray(alone[np.argsort(away, kind="stable")[: self.settings.new_movies]])

    def suits(self, users: Ints) -> Bools:
        """[users, movies]: whether a movie is among the twenty that a user would like most, seen or not."""
        interest = self.interest(users[:, None], np.arange(len(self.catalogue))[None, :])
        best = min(LIST_LENGTH, interest.shape[1])
        return np.asarray(interest >= -np.partition(-interest, best - 1, axis=1)[:, best - 1 : best])

    def _fill_urns(self) -> None:
        """The chart, the circles' favourites, and a cell for each genre in each era, without the new movies."""
        catalogue, movies, favourites = self.catalogue, np.arange(len(self.catalogue)), self._favourites
        circle = np.repeat(np.arange(CIRCLES), favourites.shape[1])
        within_circle = np.tile((np.arange(favourites.shape[1]) + 4.0) ** -0.6, CIRCLES)
        urn = np.concatenate((np.full(movies.size, _CHART), _FIRST_CIRCLE + circle, _FIRST_CELL + self._cells))
        members = np.concatenate((movies, favourites.ravel(), self._cell_movies))
        weights = np.concatenate((catalogue.popularity, within_circle, self._appeal))
        drawn = ~np.isin(members, self.new_movies)
        urns = _FIRST_CELL + ERAS * self._genre_upto.shape[1]
        self._urns = Urns(urn[drawn], members[drawn], weights[drawn], urns)

    def _calibrate(self, rng: np.random.Generator) -> None:
        """Fit what depends on the size of the catalogue: the users' appetite, and the scale of their liking."""
        users, seen = rng.permutation(len(self.people))[:500], self.new_seen()
        for _ in range(_VISITS_TO_CALIBRATE):
            chosen = self.choose(users, seen, rng)
            seen.add(users, chosen)
        raw = self._raw_liking(users, chosen)
        self._liking_mean, self._liking_deviation = float(raw.mean()), float(raw.std()) or 1.0
        interest = self.interest(users[:100, None], np.arange(len(self.catalogue))[None, :])
        best = -np.sort(-interest, axis=1)[:, :20]
        low, high = 0.0, 64.0
        for _ in range(30):
            self._appetite = (low + high) / 2
            if list_acceptance(_odds_by_interest(best, self._appetite)).mean() < BEST_LIST_ACCEPTANCE:
                low = self._appetite
            else:
                high = self._appetite


def list_acceptance(take_odds: Floats) -> Floats:
    """[...] chance that `World.react` takes something from lists whose take odds are [..., ranks]."""
    passed = 1.0 - take_odds
    looked_at = 4.0 / (np.arange(take_odds.shape[-1]) + 4.0)
    return np.asarray((looked_at * np.cumprod(passed, axis=-1) / passed * take_odds).sum(axis=-1))


def _odds_by_interest(interest: Floats, appetite: float) -> Floats:
    """Chance to take an examined movie: grows with the interest and levels off at 0.6."""
    return np.asarray(0.6 * -np.expm1(-appetite * interest))


def _continuation(ranks: int) -> Floats:
    """[ranks] chance to go on after each rank; so rank r is reached with chance 4 / (r + 3), the 20th with 17 %."""
    return (np.arange(ranks) + 4.0) / (np.arange(ranks) + 5.0)


def _favourites(rng: np.random.Generator, catalogue: Catalogue) -> npt.NDArray[np.int64]:
    """int64 [circles, 25]: different movies of any genre, popular or not."""
    keys = 0.4 * np.log(catalogue.popularity) + rng.gumbel(size=(CIRCLES, len(catalogue)))
    return np.argsort(-keys, axis=1)[:, :CIRCLE_MOVIES]


def _era_share() -> Floats:
    """[eras, eras] chance of each era (column) for a user with a favourite era (row)."""
    away = np.abs(np.arange(ERAS)[:, None] - np.arange(ERAS))
    weights = np.exp(-away / 0.9)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_CHART = 0
_FIRST_CIRCLE = 1
_FIRST_CELL = _FIRST_CIRCLE + CIRCLES
_ERA_SHARE = _era_share()
_ERA_UPTO = np.cumsum(_ERA_SHARE, axis=1)
_STARS_UPTO = np.array([NormalDist().inv_cdf(share) for share in np.cumsum(_STARS_SHARE)[:-1]])
"""Liking up to which a session is worth 1, 2, 3 and 4 stars."""
