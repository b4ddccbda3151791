"""The benchmark `exposure`: does having been shown help or hurt a model?

| part | what it plays |
|---|---|
| `two_sided` | each world twice: its users are shown the popular list, or those of a personal model |
| `nights` | twenty nights in a row from an empty archive, each of whose choices is shown on the next day |

In the first, the difference between the two models is measured by every estimator (`estimators.py`), and should be the
same in both worlds. The second is also played with nights that count all starts (`counting_all`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from msgspec import Struct

from batch.models import is_personal
from batch.settings import BatchSettings
from loadtest.bench.benchmark import Benchmark, BenchmarkRun
from loadtest.bench.exposure.estimators import ESTIMATORS, Difference, estimate, lists_of, truth
from loadtest.bench.exposure.shown_nights import ShownNight, nights
from loadtest.bench.exposure.shown_world import ShownWorld
from loadtest.bench.result import Figures, as_figures
from loadtest.settings import WorldSettings
from quality.metrics.intervals import Interval, Z, t_quantile

PAIR = "popular", "ease"
"""The models that are compared. Neither needs tuning."""
TRUTH = "truth"
_DAYS, _SHOWN_DAYS, _MEASURED_DAYS = 7, 8, 4
"""Without lists, then with lists; the last of these are the test slice."""


@dataclass(frozen=True)
class ExposureSize:
    """The size of the worlds."""

    seeds: int
    users: int
    movies: int
    nights: int
    night_users: int


class EstimatorFigures(Struct, frozen=True, kw_only=True):
    """One estimator of NDCG@20 of the popular list less that of the personal model."""

    popular_shown: float
    """Mean over seeds, where the popular list was shown."""
    personal_shown: float
    """The same, where the personal model was shown."""
    gap: Interval
    """The former less the latter, paired by seed, with its 95 % interval: above 0, having been shown helps."""
    width: float
    """Mean width of the 95 % interval of one measurement."""
    users: float
    """Mean number of users that one measurement counts."""


class TwoSidedFigures(Struct, frozen=True, kw_only=True):
    """Part `two_sided`."""

    worlds: int
    estimators: dict[str, EstimatorFigures]
    """By name, `truth` first: what users would choose without a list."""
    gap_is_noise: bool
    """Whether the interval of the gap of `unexposed` holds 0."""
    gap_ratio: float
    """Gap of `unexposed` by half the width of one measurement, absolute: the bias beside the noise of a night."""
    gap_of_all: float
    """Gap of `all` by the true difference, absolute."""


class NightsFigures(Struct, frozen=True, kw_only=True):
    """Part `nights`."""

    chosen: list[str]
    """The model of every night."""
    first_personal: int | None
    """The first night that chose a personal model, from 1."""
    lost: int
    """Nights after that which chose the popular list or that of segments."""
    changes: int
    """Nights after that which chose another model than the night before."""
    taken: list[float]
    """By day, share of the lists from which the user took a movie."""


def measured(world: WorldSettings, shown: str, settings: BatchSettings) -> dict[str, Difference]:
    """The difference by every estimator, in a world where one of `PAIR` is shown."""
    played = ShownWorld(world, world.seed)
    played.play(24 * _DAYS)
    for _ in range(_SHOWN_DAYS):
        data = played.history().before(played.now_ms, settings.half_life_days)
        played.play(24, lists_of(shown, data, settings))
    by_name = {TRUTH: truth(played, PAIR, settings, world.seed)}
    return by_name | {name: estimate(name, played, PAIR, settings) for name in ESTIMATORS}


def gap(popular_shown: Sequence[Difference], personal_shown: Sequence[Difference]) -> Interval:
    """How much more the first have, paired by seed."""
    gaps = np.array([one.mean - other.mean for one, other in zip(popular_shown, personal_shown, strict=True)])
    mean, reach = float(gaps.mean()), t_quantile(len(gaps) - 1) * float(gaps.std(ddof=1)) / len(gaps) ** 0.5
    return Interval(mean, mean - reach, mean + reach)


def two_sided(worlds: Sequence[WorldSettings], settings: BatchSettings) -> TwoSidedFigures:
    """Play each world (two at least) with each model shown."""
    by_shown = {shown: [measured(world, shown, settings) for world in worlds] for shown in PAIR}
    figures = {
        name: _of_estimator([[one[name] for one in by_shown[shown]] for shown in PAIR]) for name in (TRUTH, *ESTIMATORS)
    }
    own, everything = figures["unexposed"].gap, figures["all"].gap
    assert own.mean is not None  # there are worlds
    assert own.low is not None
    assert own.high is not None
    assert everything.mean is not None
    true = (figures[TRUTH].popular_shown + figures[TRUTH].personal_shown) / 2
    return TwoSidedFigures(
        worlds=len(worlds),
        estimators=figures,
        gap_is_noise=own.low <= 0 <= own.high,
        gap_ratio=abs(own.mean) / (figures["unexposed"].width / 2),
        gap_of_all=abs(everything.mean / true),
    )


def _of_estimator(by_shown: list[list[Difference]]) -> EstimatorFigures:
    popular_shown, personal_shown = by_shown
    both = popular_shown + personal_shown
    return EstimatorFigures(
        popular_shown=float(np.mean([one.mean for one in popular_shown])),
        personal_shown=float(np.mean([one.mean for one in personal_shown])),
        gap=gap(popular_shown, personal_shown),
        width=float(np.mean([2 * Z * one.error for one in both])),
        users=float(np.mean([one.users for one in both])),
    )


def nights_figures(done: Sequence[ShownNight]) -> NightsFigures:
    """What some nights chose."""
    chosen = [night.evaluation.chosen for night in done]
    first = next((number for number, name in enumerate(chosen) if is_personal(name)), len(chosen))
    later = chosen[first:]
    return NightsFigures(
        chosen=chosen,
        first_personal=first + 1 if later else None,
        lost=sum(not is_personal(name) for name in later),
        changes=sum(one != other for one, other in pairwise(later)),
        taken=[round(night.taken, 4) for night in done],
    )


def _two_sided(run: BenchmarkRun[ExposureSize]) -> Figures:
    size = run.size
    worlds = [WorldSettings(users=size.users, movies=size.movies, seed=run.seed + row) for row in range(size.seeds)]
    settings = BatchSettings(seed=run.seed, test_hours=24 * _MEASURED_DAYS)
    return as_figures(two_sided(worlds, settings), "two_sided")


def _nights(run: BenchmarkRun[ExposureSize]) -> Figures:
    size, settings = run.size, BatchSettings(seed=run.seed)
    figures: Figures = {}
    for prefix, counts_exposed in (("nights", False), ("counting_all", True)):
        world = WorldSettings(users=size.night_users, movies=size.movies, seed=run.seed)
        done = nights(ShownWorld(world, run.seed), size.nights, settings, counts_exposed)
        figures |= as_figures(nights_figures(done), prefix)
    return figures


EXPOSURE: Benchmark[ExposureSize, BenchmarkRun[ExposureSize]] = Benchmark(
    name="exposure",
    full=ExposureSize(seeds=24, users=2_000, movies=600, nights=20, night_users=4_000),
    quick=ExposureSize(seeds=3, users=600, movies=300, nights=2, night_users=600),
    parts={"two_sided": _two_sided, "nights": _nights},
    targets={
        "two_sided_gap_is_noise": ("==", True),
        "two_sided_gap_ratio": ("<=", 0.5),
        "nights_lost": ("==", 0),
    },
    begin=BenchmarkRun,
)
