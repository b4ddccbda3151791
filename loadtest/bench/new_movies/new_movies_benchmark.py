"""The benchmark `newmovies`: does a movie that nobody has watched find the users whom it suits, and at what price?

| part | figures |
|---|---|
| `one` | one movie a world, announced before the first day with lists, which suits about one in twenty users |
| `several` | five such movies at once, which share the places |
| `without` | the worlds of `one` with `new_movie_share = 0`: releases as they were before |

Each world has a past of 14 days without lists, then three days with a release made before each, by the night's own
code, see `release_days.py`. A movie suits a user if it is among the twenty of all that the user would like most.
Intervals are over worlds.
"""

import logging
from dataclasses import dataclass
from functools import partial

import numpy as np
from msgspec import Struct, structs

from batch.settings import BatchSettings
from loadtest.bench.benchmark import Benchmark, BenchmarkRun
from loadtest.bench.new_movies.release_days import ReleaseDays, ReleaseWorld
from loadtest.bench.result import Figures, as_figures
from loadtest.settings import WorldSettings
from quality.metrics.intervals import Interval, mean_difference_interval

log = logging.getLogger(__name__)

_PAST_DAYS, _DAYS = 14, 3
_SEVERAL = 5


@dataclass(frozen=True)
class NewMoviesSize:
    """The worlds of one run."""

    worlds: int
    users: int
    movies: int


class NewMovieFigures(Struct, frozen=True, kw_only=True):
    """Three days with lists, mean over worlds with 95 % intervals."""

    suits: float
    """Share of the users whom a new movie suits."""
    reached: Interval
    """Share of these who were shown it within three days."""
    reached_low: float
    """The low end of that."""
    found: Interval
    """Share of these who took it from a list within three days."""
    hit_rate: Interval
    """Share of the answers from which the user took a movie."""
    others_hit_rate: Interval
    """The same, of a movie that is not new."""
    loss: Interval
    """How much less likely a user is to take something than from the lists of the same night without new movies; exact,
    from what the world knows of the user."""
    loss_high: float
    """The high end of that."""


def measure(run: BenchmarkRun[NewMoviesSize], movies: int, share: float) -> NewMovieFigures:
    """Play all worlds with so many new movies, and a setting `new_movie_share`."""
    played = [_play(run, seed, movies, share) for seed in range(run.seed, run.seed + run.size.worlds)]
    users = run.size.users * _DAYS
    loss = _interval([days.expected_without / users for days in played], [days.expected / users for days in played])
    reached = _interval([days.reached(_DAYS) for days in played])
    return NewMovieFigures(
        suits=round(float(np.mean([days.suits.mean() for days in played])), 4),
        reached=reached,
        reached_low=reached.low or 0.0,
        found=_interval([days.found(_DAYS) for days in played]),
        hit_rate=_interval([days.hits / days.answers for days in played]),
        others_hit_rate=_interval([days.other_hits / days.answers for days in played]),
        loss=loss,
        loss_high=loss.high or 0.0,
    )


def _play(run: BenchmarkRun[NewMoviesSize], seed: int, movies: int, share: float) -> ReleaseDays:
    size = run.size
    world = WorldSettings(users=size.users, movies=size.movies, seed=seed, new_movies=movies, generation="2026")
    settings = BatchSettings(model="blend", new_movie_share=share, trees=5)
    days = ReleaseWorld(world, _PAST_DAYS).play(run.folder / "night", _DAYS, settings)
    log.info("world %d: reached %.3f, found %.3f, %d answers", seed, days.reached(3), days.found(3), days.answers)
    return days


def _interval(values: list[float], less: list[float] | None = None) -> Interval:
    """The mean over worlds, or that of the difference from other values of the same worlds."""
    interval = mean_difference_interval(np.array(values), np.array(less) if less else np.zeros(len(values)))
    rounded = {name: None if end is None else round(end, 5) for name, end in structs.asdict(interval).items()}
    return Interval(**rounded)


def _part(prefix: str, movies: int, share: float, run: BenchmarkRun[NewMoviesSize]) -> Figures:
    return as_figures(measure(run, movies, share), prefix)


NEW_MOVIES: Benchmark[NewMoviesSize, BenchmarkRun[NewMoviesSize]] = Benchmark(
    name="newmovies",
    full=NewMoviesSize(worlds=20, users=2_000, movies=1_000),
    quick=NewMoviesSize(worlds=2, users=1_000, movies=400),
    parts={
        "one": partial(_part, "one", 1, BatchSettings().new_movie_share),
        "several": partial(_part, "several", _SEVERAL, BatchSettings().new_movie_share),
        "without": partial(_part, "without", 1, 0.0),
    },
    targets={"one_reached_low": (">=", 0.5), "one_loss_high": ("<=", 0.01), "several_loss_high": ("<=", 0.01)},
    begin=BenchmarkRun,
)
"""`reached_low`: half of the users whom a movie suits are shown it. `loss_high`: the noise of a day's hit rate is of
2,000 users."""
