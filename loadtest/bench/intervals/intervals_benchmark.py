"""The benchmark `intervals`: how often 95 % intervals hold the truth, and how wide they are, where the truth is known.

| part | figure | simulated |
|---|---|---|
| `rate` | hit rate | `simulated_users.populations` |
| `uplift` | hit rate less that of the popular list | the same |
| `slope` | change per day over 5 to 30 days | days whose true figures differ, with equal and unequal errors |
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from msgspec import Struct

from loadtest.bench.benchmark import Benchmark, BenchmarkRun
from loadtest.bench.intervals.simulated_users import SimulatedDay, SimulatedUsers, populations
from loadtest.bench.result import Figures, as_figures
from quality.metrics.intervals import Interval, Z, ratio_difference_interval, ratio_interval
from quality.metrics.trend import trend

DAYS = (5, 7, 14, 30)


class Coverage(Struct, frozen=True, kw_only=True):
    """Intervals of worlds of one size."""

    least: float
    """Share of the intervals that held the truth, in the world where it is least."""
    mean: float
    """The same, mean over the worlds."""
    width: float
    """Mean width, mean over the worlds."""
    width_ratio: float
    """Width by 2 × 1.96 standard deviations of the estimate, median over the worlds; no interval of the normal
    distribution could be narrower."""


class CoverageFigures(Struct, frozen=True, kw_only=True):
    """How often intervals held the truth."""

    worlds: int
    least: float
    """Share of the intervals that held the truth, in the world where it is least."""
    least_in: str
    """That world."""
    by_size: dict[str, Coverage]
    """By the number of users, or of days."""


@dataclass(frozen=True, slots=True)
class _World:
    name: str
    size: int
    held: float
    width: float
    deviation: float
    """Standard deviation of the estimate."""


def measure(name: str, size: int, truth: float, intervals: Iterable[Interval]) -> _World:
    """Hold the intervals of one world against its truth."""
    rows = [(each.mean, each.low, each.high) for each in intervals]
    mean, low, high = np.array(rows, np.float64).T
    rounding = 1e-12
    held = (low <= truth + rounding) & (truth <= high + rounding)
    return _World(name, size, float(held.mean()), float((high - low).mean()), float(mean.std()))


def rate_world(users: SimulatedUsers, runs: int, seed: int) -> _World:
    """The hit rate of some users."""
    intervals = (ratio_interval(day.hits, day.answers) for day in _days(users, runs, seed))
    return measure(users.name, users.users, users.rate, intervals)


def uplift_world(users: SimulatedUsers, runs: int, seed: int) -> _World:
    """The uplift of some users."""
    intervals = (
        ratio_difference_interval(day.hits, day.popular_hits, day.differing, day.answers)
        for day in _days(users, runs, seed)
    )
    return measure(users.name, users.users, users.uplift, intervals)


def _days(users: SimulatedUsers, runs: int, seed: int) -> Iterable[SimulatedDay]:
    rng = np.random.default_rng(seed)
    return (users.day(rng) for _ in range(runs))


def slope_world(days: int, between: float, spread: float, runs: int, seed: int) -> _World:
    """The slope of daily figures with a mean standard error of 0.01: `between` is the standard deviation of the days'
    true figures, `spread` that of the logarithm of the days' standard errors."""
    rng, slope = np.random.default_rng(seed), 0.002

    def once() -> Interval:
        errors = 0.01 * np.exp(rng.normal(0, spread, days))
        figures = 0.3 + slope * np.arange(days) + rng.normal(0, between, days) + rng.normal(0, errors)
        rows = zip(figures.tolist(), (Z * errors).tolist(), strict=True)
        return trend(range(days), [Interval(mean, mean - reach, mean + reach) for mean, reach in rows]).slope

    name = f"{days} days, SD {between:g} between them, errors {'unequal' if spread else 'equal'}"
    return measure(name, days, slope, (once() for _ in range(runs)))


def summary(worlds: list[_World]) -> CoverageFigures:
    """Coverage and width over worlds."""
    worst = min(worlds, key=lambda world: world.held)
    return CoverageFigures(
        worlds=len(worlds),
        least=worst.held,
        least_in=worst.name,
        by_size={
            str(size): _of_size([world for world in worlds if world.size == size])
            for size in sorted({world.size for world in worlds})
        },
    )


def _of_size(worlds: list[_World]) -> Coverage:
    # in a few runs of few users there may be no hit at all
    ratios = [world.width / (2 * Z * world.deviation) for world in worlds if world.deviation]
    return Coverage(
        least=min(world.held for world in worlds),
        mean=round(float(np.mean([world.held for world in worlds])), 4),
        width=round(float(np.mean([world.width for world in worlds])), 4),
        width_ratio=round(float(np.median(ratios)), 3),
    )


def _of_users(prefix: str, world: Callable[[SimulatedUsers, int, int], _World], run: BenchmarkRun[int]) -> Figures:
    return as_figures(summary([world(users, run.size, run.seed) for users in populations()]), prefix)


def _slope(run: BenchmarkRun[int]) -> Figures:
    worlds = [
        slope_world(days, between, spread, run.size, run.seed)
        for days, between, spread in product(DAYS, (0.0, 0.005, 0.01, 0.02, 0.1), (0.0, 0.5, 1.0))
    ]
    return as_figures(summary(worlds), "slope")


INTERVALS: Benchmark[int, BenchmarkRun[int]] = Benchmark(
    name="intervals",
    full=1000,
    quick=100,
    parts={
        "rate": partial(_of_users, "rate", rate_world),
        "uplift": partial(_of_users, "uplift", uplift_world),
        "slope": _slope,
    },
    targets={"rate_least": (">=", 0.93), "uplift_least": (">=", 0.93), "slope_least": (">=", 0.93)},
    begin=BenchmarkRun,
)
"""The size is the number of days simulated in each world; with the quick one, chance alone misses targets."""
