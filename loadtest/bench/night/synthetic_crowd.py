"""A synthetic crowd of a million users and their choices: fast, and by a rule that is not the formula of any model.

`loadtest.simulation.world` walks a nested choice for one visit at a time to give ground truth; here a million visits a
day take a second. People, their hours and the movies come from the simulated service (`make_population`,
`make_catalogue`). Each visit takes one of these paths, tried in this order:

| path | share | what |
|---|---|---|
| sequel | `loyalty` of the user | the next part of the series watched last |
| related | 15 % | one of eight movies related to the one watched last, the first ones most often |
| again | 3 % | what was watched last two days ago or earlier |
| wander | 6 % | anything; popularity to the power of a half |
| chart | 10 % and `chart_odds` of the user, 20 % | what everybody watches today |
| cluster | the rest | the favourites of the user's own cluster, or now and then of a second one |

There are 200 clusters of all sizes (Zipf), each with 400 favourites that centre on two genres; a user's cluster
depends on age and gender. The days differ: each movie's popularity and each cluster's favourites drift, some movies
are talked about for a week, and every day one user in a hundred changes to another cluster. Only `again` repeats a
movie: a user who draws a seen one draws again, at most twice, and then leaves. The number of visits of a user is
log-normal, at most ten a day on average.

Guarantee: a seed gives the same days. Memory: 250 MB of marks for seen movies, and a few arrays over users.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from loadtest.simulation.catalogue import GENRES, Catalogue
from loadtest.simulation.population import HOUR_WEIGHTS, Population
from loadtest.simulation.world import Urns
from stream.zone import HOUR_MS

CLUSTERS, FAVOURITES, RELATED = 200, 400, 8
RELATED_SHARE, AGAIN_SHARE, WANDER_SHARE, CHART_SHARE = 0.15, 0.03, 0.06, 0.1
MOST_VISITS = 10.0
"""Mean visits a day of the most active users: more do not fit into a day."""
FINISHED = {"sequel": 0.95, "related": 0.92, "again": 0.9, "wander": 0.7, "chart": 0.86, "cluster": 0.9}
"""Share of sessions that are watched to the end, by path."""
PATHS = tuple(FINISHED)
_SEQUEL, _RELATED, _AGAIN, _WANDER, _CHART, _CLUSTER = range(len(PATHS))
_AGE_BANDS = (18, 25, 35, 50)
_CHANGE_SHARE = 0.01
_REDRAWS = 2
_MARKS = 31
"""Bits of a mark's index: with 20 M pairs, one unseen pair in a hundred is taken for seen."""
_STARS_UPTO = np.array([-2.05, -1.48, -0.41, 0.81])
"""Liking up to which a movie gets 1, 2, 3 and 4 stars: 2, 5, 27 and 45 of a hundred."""


class CrowdVisits(NamedTuple):
    """Sessions of one day, ascending by start; one a row, s rows."""

    users: np.ndarray
    """int32 [s]: row of the user in the population."""
    movies: np.ndarray
    """int32 [s]: row of the movie in the catalogue."""
    starts: np.ndarray
    """int64 [s]: ms UTC, whole seconds."""
    minutes: np.ndarray
    """int32 [s]: minutes that the session writes, from minute 0 on; >= 1."""
    ratings: np.ndarray
    """int8 [s]: 1..5, 0 for none."""
    asked: np.ndarray
    """bool [s]: whether the user looked at the recommendations first."""

    def rows(self, rows: np.ndarray) -> "CrowdVisits":
        """Some of the rows (bool or int64)."""
        return CrowdVisits(*(column[rows] for column in self))


@dataclass
class CrowdTaste:
    """The users' present taste; changes from day to day."""

    main: np.ndarray
    """int16 [n]: each user's cluster."""
    second: np.ndarray
    """int16 [n]: another cluster that the user visits now and then."""
    faithful: np.ndarray
    """float32 [n]: share of the cluster visits that go to the main one."""


class Marks:
    """Which user has seen which movie, one bit a pair by its hash: never forgets a pair, and few unseen ones are set.

    A Bloom filter with one hash function.
    """

    def __init__(self, movies: int) -> None:
        self._movies, self._bits = movies, np.zeros(1 << (_MARKS - 3), np.uint8)

    def seen(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """bool [pairs]: whether `users[i]` has seen `movies[i]`."""
        byte, bit = self._positions(users, movies)
        return (self._bits[byte] & bit) != 0

    def add(self, users: np.ndarray, movies: np.ndarray) -> None:
        """Note that `users[i]` saw `movies[i]`."""
        np.bitwise_or.at(self._bits, *self._positions(users, movies))

    def _positions(self, users: np.ndarray, movies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Byte (int64) and bit (uint8, one set) of each pair."""
        key = users.astype(np.uint64) * np.uint64(self._movies) + movies.astype(np.uint64)
        mixed = key * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - _MARKS)  # Knuth's multiplicative hashing
        return (mixed >> np.uint64(3)).astype(np.int64), np.uint8(1) << (mixed & np.uint64(7)).astype(np.uint8)


class Crowd:
    """People, movies, and all that has happened so far."""

    def __init__(self, catalogue: Catalogue, people: Population, seed: int) -> None:
        self.catalogue, self.people = catalogue, people
        self._rng = rng = np.random.default_rng([seed, 31])
        self.favourites = _favourites(rng, catalogue)
        self._related = _related(rng, self.favourites, len(catalogue))
        self._taste = _tastes(rng, people)
        self._heat = np.zeros(len(catalogue))
        self._talk = np.zeros(len(catalogue))
        self._moods = np.zeros(self.favourites.shape)
        self._marks = Marks(len(catalogue))
        self._last = np.full(len(people), -1, np.int32)
        self._before = np.full((2, len(people)), -1, np.int32)
        """int32 [2, n]: the movie watched last, as of yesterday and as of the day before."""
        activity = np.minimum(people.activity.visits_per_day, MOST_VISITS)
        self._activity = activity / activity.mean()
        self._hour_upto = np.cumsum(HOUR_WEIGHTS, axis=1)
        self._watching_share = 1.0
        """Share of the visits of the day before that became sessions."""

    def day(self, begins_ms: int, visits: float) -> CrowdVisits:
        """The sessions that start on the next day, about `visits` of them. The day is taken to have 24 hours."""
        self._wander()
        rng = self._rng
        counts = rng.poisson(self._activity * (visits / len(self.people) / self._watching_share))
        users = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        starts = begins_ms + self._seconds(users) * 1000
        order = np.lexsort((starts, users))
        starts = starts[order]  # users are ascending already
        movies, paths = self._choices(users, counts)
        watching = np.flatnonzero(movies >= 0)
        self._watching_share = max(len(watching) / max(len(users), 1), 0.1)
        watching = watching[np.argsort(starts[watching], kind="stable")]
        users, movies, paths, starts = users[watching], movies[watching], paths[watching], starts[watching]
        minutes, ratings = self._watched(users, movies, paths)
        return CrowdVisits(users, movies, starts, minutes, ratings, rng.random(len(users), np.float32) < 0.9)

    def shown(self, users: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
        """A list for each user that a recommender might show: neighbours among the favourites of the user's cluster.

        int32 [len(users), length], no movie twice in a row.
        """
        width = self.favourites.shape[1]
        begin = (rng.random(len(users)) ** 2 * width).astype(np.int64)
        ranks = (begin[:, None] + np.arange(length)) % width
        return np.asarray(self.favourites[self._taste.main[users][:, None], ranks])

    def _seconds(self, users: np.ndarray) -> np.ndarray:
        """The time of each visit, by the user's favourite hours: int64 seconds since midnight."""
        drawn = self._rng.random(len(users), np.float32)
        chronotypes = self.people.activity.chronotype[users]
        # the hours of all chronotypes lie one after another, as in `Urns`
        hours = (
            np.searchsorted(
                (self._hour_upto / self._hour_upto[:, -1:]).ravel() + np.repeat(np.arange(4), 24),
                np.minimum(drawn, 0.999999) + chronotypes,
                side="right",
            )
            % 24
        )
        return np.asarray(hours * (HOUR_MS // 1000) + self._rng.integers(0, 3600, len(users)))

    def _choices(self, users: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The movie of each visit (int32, -1 for none) and its path (int8).

        A user's visits depend on each other: each round takes the next visit of every user who has one left.
        """
        firsts = np.cumsum(counts) - counts
        turn = np.arange(len(users)) - np.repeat(firsts, counts)
        order = np.argsort(turn.astype(np.uint16), kind="stable")
        movies, paths = np.full(len(users), -1, np.int32), np.zeros(len(users), np.int8)
        for rows in np.split(order, np.cumsum(np.bincount(turn))[:-1]) if len(users) else []:
            visitors = users[rows]
            movies[rows], paths[rows] = self._round(visitors)
            watching = movies[rows] >= 0
            self._marks.add(visitors[watching], movies[rows[watching]])
            self._last[visitors[watching]] = movies[rows[watching]]
        self._before = np.stack([self._last, self._before[0]])
        return movies, paths

    def _round(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One visit of each of these users, all different: movies, -1 for none, and paths."""
        rng = self._rng
        movies, paths = self._walk(users, rng.random(len(users), np.float32))
        again = paths == _AGAIN
        for _ in range(_REDRAWS):
            stale = np.flatnonzero(self._marks.seen(users, movies) & ~again)
            # a user who has seen the sequel or the related movie looks elsewhere
            movies[stale], paths[stale] = self._elsewhere(users[stale])
        movies[self._marks.seen(users, movies) & ~again] = -1
        return movies, paths

    def _walk(self, users: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Movies and paths by all six paths; `drawn` are uniform numbers."""
        rng, last, before = self._rng, self._last[users], self._before[1, users]
        movies, paths = self._elsewhere(users)
        related = np.flatnonzero((last >= 0) & (drawn < RELATED_SHARE))
        rank = (rng.random(len(related)) ** 2 * RELATED).astype(np.int64)
        movies[related], paths[related] = self._related[last[related], rank], _RELATED
        again = np.flatnonzero((before >= 0) & (drawn > 1 - AGAIN_SHARE))
        movies[again], paths[again] = before[again], _AGAIN
        sequels = np.where(last >= 0, self.catalogue.successor[last], -1)
        follows = np.flatnonzero((sequels >= 0) & (rng.random(len(users)) < self.people.loyalty[users]))
        movies[follows], paths[follows] = sequels[follows], _SEQUEL
        return movies, paths

    def _elsewhere(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Movies and paths by wandering, chart or cluster."""
        rng, taste = self._rng, self._taste
        drawn = rng.random(len(users), np.float32)
        main = rng.random(len(users), np.float32) < taste.faithful[users]
        urns = np.where(main, taste.main[users], taste.second[users]).astype(np.int64) + 2
        paths = np.full(len(users), _CLUSTER, np.int8)
        chart = drawn < WANDER_SHARE + CHART_SHARE + self.people.chart_odds[users]
        wander = drawn < WANDER_SHARE
        urns[chart], paths[chart] = 0, _CHART
        urns[wander], paths[wander] = 1, _WANDER
        return self._urns.draw(urns, rng), paths

    def _wander(self) -> None:
        """A new day: popularity changes, and some users change to another cluster."""
        rng, movies = self._rng, len(self.catalogue)
        self._heat = 0.9 * self._heat + 0.15 * rng.standard_normal(movies)
        self._talk *= 0.85
        self._talk[rng.integers(0, movies, max(1, movies // 2000))] = 3.0
        self._moods = 0.9 * self._moods + 0.2 * rng.standard_normal(self._moods.shape)
        changed = rng.integers(0, len(self.people), round(_CHANGE_SHARE * len(self.people)))
        self._taste.main[changed] = self._taste.second[changed]
        self._taste.second[changed] = rng.integers(0, CLUSTERS, len(changed))
        chart = self.catalogue.popularity * np.exp(self._heat + self._talk)
        inside = (np.arange(self.favourites.shape[1]) + 6.0) ** -0.9 * np.exp(self._moods)
        everything = np.arange(movies)
        self._urns = Urns(
            urn=np.concatenate(
                [
                    np.zeros(movies, np.int64),
                    np.ones(movies, np.int64),
                    np.repeat(np.arange(CLUSTERS) + 2, self.favourites.shape[1]),
                ]
            ),
            movies=np.concatenate([everything, everything, self.favourites.ravel()]),
            weights=np.concatenate([chart, np.sqrt(self.catalogue.popularity), inside.ravel()]),
            urns=CLUSTERS + 2,
        )

    def _watched(self, users: np.ndarray, movies: np.ndarray, paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Minutes and rating of each session."""
        rng, n = self._rng, len(users)
        finished = rng.random(n) < np.array([FINISHED[name] for name in PATHS])[paths]
        share = np.where(finished, rng.normal(1.016, 0.004, n), rng.beta(1.2, 2.2, n))
        minutes = 1 + np.rint(share * self.catalogue.length_min[movies]).astype(np.int32)
        liking = 0.5 * self.catalogue.quality[movies] + self.people.mood[users] + 0.75 * rng.standard_normal(n)
        stars = 1 + np.searchsorted(_STARS_UPTO, np.where(finished, liking, liking - 1.0))
        rated = (rng.random(n) < self.people.rating_odds[users]) & (paths != _AGAIN)
        return minutes, np.where(rated, stars, 0).astype(np.int8)


def _favourites(rng: np.random.Generator, catalogue: Catalogue) -> np.ndarray:
    """int32 [clusters, favourites], best first: movies of the cluster's two genres, popular or not, and some others."""
    genres = rng.integers(0, len(GENRES), (CLUSTERS, 2))
    width = min(FAVOURITES, max(1, len(catalogue) // 4))
    keys = 0.9 * np.log(catalogue.popularity) + rng.gumbel(size=(CLUSTERS, len(catalogue)))
    for cluster, wanted in enumerate(genres):
        keys[cluster] += 1.5 * np.isin(catalogue.genres, wanted).sum(axis=1)
    return np.argsort(-keys, axis=1)[:, :width].astype(np.int32)


def _related(rng: np.random.Generator, favourites: np.ndarray, movies: int) -> np.ndarray:
    """int32 [movies, 8]: favourites of a cluster that has the movie among its own, of any cluster where none has."""
    home = rng.integers(0, CLUSTERS, movies)
    order = rng.permutation(favourites.size)
    home[favourites.ravel()[order]] = order // favourites.shape[1]
    return np.asarray(favourites[home[:, None], rng.integers(0, favourites.shape[1], (movies, RELATED))])


def _tastes(rng: np.random.Generator, people: Population) -> CrowdTaste:
    """Clusters of all sizes; each age band and gender has its own preferences among them."""
    segment = np.digitize(people.ages, _AGE_BANDS) * 2 + people.women
    sizes = (np.arange(CLUSTERS) + 10.0) ** -0.7 * np.exp(
        0.8 * rng.standard_normal((2 * len(_AGE_BANDS) + 2, CLUSTERS))
    )
    upto = np.cumsum(sizes, axis=1) / sizes.sum(axis=1, keepdims=True)
    flat = (upto + np.arange(len(upto))[:, None]).ravel()
    drawn = np.searchsorted(flat, segment + rng.random((2, len(people))), side="right") % CLUSTERS
    main, second = drawn.astype(np.int16)
    return CrowdTaste(main, second, rng.beta(5.0, 2.0, len(people)).astype(np.float32))
