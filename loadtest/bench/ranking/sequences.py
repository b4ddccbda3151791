"""Histories for the ranking benchmark: of the simulated world, of long sequences with order, and of the same shuffled.

Each is a `TrainingHistory`, as in the night, built in memory, with the times of the data and dense users and movies.

`world`: visits and sessions of `loadtest.simulation.world`, a nested choice that is no model's formula. Cut by time.

`sequences`: many movies a user, in moods that last for a dozen movies and recur; the next movie is often related to the
last one. Cut at each user's last tenth.

`shuffled`: the same movies of the same users at the same times, in random order. A model that looks for order finds
none, and must not lose by it.

`movielens`: an archive of MovieLens, imported as `python -m batch import-movielens` does.

Guarantee: a size and a seed give the same histories.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from batch.history import assemble
from batch.history.day_store import DayStore
from batch.history.interactions import TrainingHistory
from batch.history.segments import NAMES, segments_of, without_small
from batch.movielens import importing
from batch.movielens.archives import MovieLensArchive
from batch.settings import BatchSettings
from loadtest.settings import WorldSettings
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from quality.catalog import Catalog
from quality.settings import QualitySettings
from stream.settings import BEST_RATING, StreamSettings
from stream.zone import DAY_MS, HOUR_MS, day_name, day_number, zone_named

_BEGINS = "2022-01-10"
_MOODS, _OWN_MOODS, _NEIGHBOURS = 40, 12, 6
_MOOD_SHARE = 0.05
"""Of all movies."""
_STAYS, _NEXT_SHARE, _CHART_SHARE = 1 - 1 / 12, 0.5, 0.15
_TRIES = 3
_SHORTEST, _LONGEST = 20, 300
_GAP_MS = 12 * HOUR_MS
_MINUTES = 100


def world(settings: WorldSettings, days: int) -> TrainingHistory:
    """Sessions and ratings of a simulated world on its first days."""
    clock = zone_named(StreamSettings().timezone)
    audience = Audience(World(settings), clock, settings.seed, clock.bounds(_BEGINS)[0])
    people, pieces = audience.world.people, []
    for day in range(days):
        since, until = clock.bounds(day_name(day_number(_BEGINS) + day))
        for hour in range(since, until, HOUR_MS):
            visits = audience.visits(hour, HOUR_MS)
            chosen = audience.world.choose(visits.users, audience.seen, audience.rng)
            again = audience.seen.contains(visits.users, chosen)
            plan = audience.world.watch_plan(visits.users, chosen, audience.rng)
            audience.seen.add(visits.users, chosen)
            rows = visits.users, chosen, visits.times, plan.last_minute + 1, np.where(again, 0, plan.ratings)
            pieces.append(np.stack(rows).astype(np.int64))
    user, movie, start, minutes, stars = np.concatenate(pieces, axis=1)
    runtimes = audience.world.catalogue.length_min
    return history_of_sessions(
        user=user,
        movie=movie,
        start=start,
        minutes=minutes,
        share=np.minimum(minutes / (runtimes[movie] + 1), 1),
        stars=stars,
        movies=settings.movies,
        segments=1 + np.digitize(people.ages, (18, 25, 35, 45, 55)) * 2 + ~people.women,
    )


def sequences(users: int, movies: int, events: int, seed: int) -> TrainingHistory:
    """Long sequences with order; `events` is the median of movies a user."""
    rng = np.random.default_rng([seed, 61])
    chart = (np.arange(movies) + 8.0) ** -0.8
    moods = np.argsort(-(np.log(chart) + rng.gumbel(size=(_MOODS, movies))), axis=1)[:, : round(_MOOD_SHARE * movies)]
    near = rng.integers(0, moods.shape[1], (_MOODS, movies, _NEIGHBOURS))
    own = rng.integers(0, _MOODS, (users, _OWN_MOODS))
    lengths = np.clip(events * rng.lognormal(0.0, 0.6, users), _SHORTEST, min(_LONGEST, movies // 3)).astype(np.int64)
    upto = np.cumsum(chart / chart.sum())
    within = (np.arange(moods.shape[1]) + 3.0) ** -0.6
    mood_upto = np.cumsum(within / within.sum())
    seen, mood, last = np.zeros((users, movies), bool), own[:, 0].copy(), np.full(users, -1)
    pairs = []
    for _ in range(2 * int(lengths.max())):  # a user who has seen all related movies may have a turn without a movie
        active = np.flatnonzero(seen.sum(axis=1) < lengths)
        hops = rng.random(len(active)) > _STAYS
        mood[active[hops]] = own[active[hops], rng.integers(0, _OWN_MOODS, int(hops.sum()))]
        chosen = np.full(len(active), -1)
        for _ in range(_TRIES):
            left = np.flatnonzero(chosen < 0)
            drawn = _drawn(rng, moods, near, mood[active[left]], last[active[left]], mood_upto, upto)
            fresh = ~seen[active[left], drawn]
            chosen[left[fresh]] = drawn[fresh]
        has_movie = chosen >= 0
        seen[active[has_movie], chosen[has_movie]] = True
        last[active[has_movie]] = chosen[has_movie]
        pairs.append(np.stack([active[has_movie], chosen[has_movie]]))
    user, movie = np.concatenate(pairs, axis=1)
    order = np.argsort(user, kind="stable")
    user, movie = user[order], movie[order]
    gaps = rng.exponential(_GAP_MS, len(user)).astype(np.int64) + HOUR_MS
    run = np.cumsum(gaps)
    first = np.searchsorted(user, np.arange(users))
    begins = day_number(_BEGINS) * DAY_MS + rng.integers(0, 60 * DAY_MS, users)
    start = begins[user] + run - run[first][user]
    minutes = np.full(len(user), _MINUTES)
    segments = rng.integers(1, len(NAMES), users)
    return history_of_sessions(user, movie, start, minutes, np.ones(len(user)), np.zeros(len(user)), movies, segments)


def shuffled(history: TrainingHistory, seed: int) -> TrainingHistory:
    """The same history with the movies of each user in random order; a user has each movie once."""
    rng = np.random.default_rng([seed, 67])
    order = np.lexsort((rng.random(len(history.user)), history.user))
    return replace(history, movie=history.movie[order])


def movielens(path: Path, var: Path) -> TrainingHistory:
    """An archive of MovieLens, imported into an empty folder `var`. Raises `MovieLensError` if it cannot be read."""
    streaming = StreamSettings(var=var, generation="2026")  # its scale of 1..10 has room for half stars
    importing.import_archive(MovieLensArchive(path), streaming)
    day_store, catalog = DayStore(var), Catalog(var)
    known = catalog.known(streaming.max_user).runtimes
    gathered = assemble.gather_days(day_store, list(day_store.days()), known, QualitySettings().gap_ms)
    segments = without_small(segments_of(gathered.users, catalog.people()), BatchSettings().minimum_segment)
    best = BEST_RATING[streaming.generation]
    return assemble.assemble(gathered, np.full(len(gathered.movies), np.nan), best, segments)


def _drawn(
    rng: np.random.Generator,
    moods: np.ndarray,
    near: np.ndarray,
    mood: np.ndarray,
    last: np.ndarray,
    mood_upto: np.ndarray,
    upto: np.ndarray,
) -> np.ndarray:
    """A movie for each user: related to the last one, of the mood, or from the chart: int64 [len(mood)]."""
    count, path = len(mood), rng.random(len(mood))
    rank = np.minimum(np.searchsorted(mood_upto, rng.random(count)), len(mood_upto) - 1)
    related = near[mood, last, rng.integers(0, near.shape[2], count)]
    rank = np.where((last >= 0) & (path < _NEXT_SHARE), related, rank)
    from_chart = np.minimum(np.searchsorted(upto, rng.random(count)), len(upto) - 1)
    return np.where(path > 1 - _CHART_SHARE, from_chart, moods[mood, rank])


def history_of_sessions(
    user: np.ndarray,
    movie: np.ndarray,
    start: np.ndarray,
    minutes: np.ndarray,
    share: np.ndarray,
    stars: np.ndarray,
    movies: int,
    segments: np.ndarray,
) -> TrainingHistory:
    """A history of sessions in any order; `stars` are 1..5, 0 for none, given a minute after the end."""
    order = np.lexsort((movie, start, user))
    rated = stars[order] > 0
    ends = start[order] + (minutes[order] + 1) * 60_000
    return TrainingHistory(
        user=user[order].astype(np.int32),
        movie=movie[order].astype(np.int32),
        start=start[order].astype(np.int64),
        minutes=minutes[order].astype(np.int32),
        share=share[order].astype(np.float32),
        rating=np.where(rated, stars[order] / 5, np.nan).astype(np.float32),
        rated=np.where(rated, ends, 0).astype(np.int64),
        users=np.arange(1, len(segments) + 1, dtype=np.uint32),
        movies=[f"movie+{number:05}+2000" for number in range(movies)],
        segments=segments.astype(np.uint8),
    )
