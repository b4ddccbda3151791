"""The plot of `ranking`: NDCG@20 of every model on every set, with intervals. Drawn from a result, new or kept."""

from pathlib import Path
from typing import Any

import msgspec

from loadtest.bench.benchmark import SplitName
from loadtest.bench.plotting import INK, OTHERS, OURS, THIRD, grid, sheet
from loadtest.bench.ranking.ranking_figures import RankedSet
from loadtest.bench.ranking.reference_models import ALS, EASE
from loadtest.bench.result import BenchmarkResult

_TITLES = {
    "world": "Simulated world",
    "charts": "Most follow the charts",
    "thin": "Few events a user",
    "sequences": "Sequences with order",
    "shuffled": "The same, shuffled",
    "movielens": "MovieLens",
}
_SPLITS: dict[SplitName, str] = {"time": "by time", "last": "last tenth", "loo": "last event"}


def draw(result: BenchmarkResult, path: Path) -> None:
    """Draw a result into a file, whose suffix gives the format."""
    sets = {name: msgspec.convert(result.figures[name], RankedSet) for name in _TITLES if name in result.figures}
    inches = (3.4 * len(sets) + 1.4, 4.2)
    with sheet(result, "Ranking: all models on one split, full ranking", inches, path) as figure:
        for axes, (name, ranked) in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets.items(), strict=True):
            _models(axes, ranked)
            title = f"{_TITLES[name]}, {_SPLITS[ranked.split]}"
            axes.set_title(f"{title}\n{ranked.users:,} users × {ranked.movies:,} movies")


def _models(axes: Any, ranked: RankedSet) -> None:
    """One row a model, the rivals last; the chosen model is in bold."""
    highs = []
    for row, (name, intervals) in enumerate(ranked.models.items()):
        mean, low, high = (end or 0.0 for end in msgspec.structs.astuple(intervals.ndcg))
        colour = OURS if name == ranked.chosen else THIRD if name in (EASE, ALS) else OTHERS
        mark = "s" if name in (EASE, ALS) else "o"
        reach = [[mean - low], [high - mean]]
        axes.errorbar(mean, row, xerr=reach, fmt=mark, color=colour, ecolor=INK, capsize=3, lw=1)
        axes.annotate(f"{mean:.3f}", (high, row), (5, 0), textcoords="offset points", va="center")
        highs.append(high)
    axes.set_yticks(range(len(ranked.models)), list(ranked.models))
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == ranked.chosen else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0, max(highs) * 1.25)
    axes.set_xlabel("NDCG@20, 95 % interval")
    grid(axes, "x")
