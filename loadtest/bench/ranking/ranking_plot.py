"""The picture of `ranking`: NDCG@20 of every model on every set, a dot and its interval.

Drawn from the object that the benchmark prints, so an old one can be drawn again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.bench.plotting import INK, OTHERS, OURS, THIRD, grid, sheet
from loadtest.bench.ranking.ranking_benchmark import ALS, EASE, SETS

_TITLES = {
    "world": "Simulated world, by time",
    "sequences": "Sequences with order",
    "shuffled": "The same, shuffled",
    "movielens": "MovieLens, last tenth",
}


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw the figures of a run into a file, whose suffix says in which format."""
    figures = {name: found["figures"][name] for name in SETS if name in found["figures"]}
    with sheet(
        found, "Ranking: all models on one split, full ranking", (3.4 * len(figures) + 1.4, 4.2), path
    ) as figure:
        for axes, (name, of) in zip(figure.subplots(1, len(figures), squeeze=False)[0], figures.items(), strict=True):
            _models(axes, of)
            axes.set_title(f"{_TITLES[name]}\n{of['users']:,} users × {of['movies']:,} movies")


def _models(axes: Any, of: Mapping[str, Any]) -> None:
    """One row a model, those of ours first; the chosen one is named in bold."""
    rows = of["models"]
    for place, (name, row) in enumerate(rows.items()):
        score = row["ndcg@20"]
        reach = [[score["mean"] - score["low"]], [score["high"] - score["mean"]]]
        colour = OURS if name == of["chosen"] else THIRD if name in (EASE, ALS) else OTHERS
        mark = "s" if name in (EASE, ALS) else "o"
        axes.errorbar(score["mean"], place, xerr=reach, fmt=mark, color=colour, ecolor=INK, capsize=3, lw=1)
        axes.annotate(f"{score['mean']:.3f}", (score["high"], place), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), list(rows))
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == of["chosen"] else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0, max(row["ndcg@20"]["high"] for row in rows.values()) * 1.25)
    axes.set_xlabel("NDCG@20, 95 % interval")
    grid(axes, "x")
