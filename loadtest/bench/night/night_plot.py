"""The picture of `night`: what each step takes as the users grow in number, and what memory the night holds.

Drawn from the object that the benchmark prints, so an old one can be drawn again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.bench.night.night_benchmark import TARGETS
from loadtest.bench.plotting import COLOURS, INK, OURS, grid, sheet

_REST = "start and end"


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw the figures of a run into a file, whose suffix says in which format."""
    table = found["figures"]["growth"]
    users = [int(name) for name in table]
    title = f"The night at up to {max(users):,} users × {found['figures']['movies']:,} movies"
    with sheet(found, title, (10, 4.6), path) as figure:
        seconds, memory = figure.subplots(1, 2)
        _seconds(seconds, table)
        _memory(memory, users, [row["peak_memory_mb"] / 1024 for row in table.values()])


def _seconds(axes: Any, table: Mapping[str, Mapping[str, float]]) -> None:
    """Bars of seconds, a piece for each step, with their sum above."""
    rows, places = list(table.values()), range(len(table))
    names = [key.removesuffix("_s") for key in rows[0] if key.endswith("_s")]
    height = [0.0] * len(rows)
    for name, colour in zip([*names, _REST], COLOURS, strict=False):
        own = [
            row[f"{name}_s"] if name != _REST else max(row["seconds"] - low, 0)
            for row, low in zip(rows, height, strict=True)
        ]
        axes.bar(places, own, bottom=height, color=colour, label=name, width=0.62, edgecolor="white", lw=0.6)
        height = [low + more for low, more in zip(height, own, strict=True)]
    for place, row in zip(places, rows, strict=True):
        axes.annotate(
            f"{row['seconds']:,.0f} s", (place, height[place]), (0, 4), textcoords="offset points", ha="center"
        )
    axes.set_xticks(places, [f"{int(name):,}" for name in table])
    axes.set_xlabel("users")
    axes.set_ylabel("seconds")
    axes.set_title("Time, by step")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False)
    grid(axes, "y")


def _memory(axes: Any, users: list[int], gib: list[float]) -> None:
    """A line of the peak, and the target."""
    axes.plot(users, gib, "o-", color=OURS)
    for at, held in zip(users, gib, strict=True):
        axes.annotate(f"{held:.1f}", (at, held), (0, 8), textcoords="offset points", ha="center")
    target = float(TARGETS["night_peak_memory_mb"][1]) / 1024
    axes.axhline(target, ls="--", color=INK, lw=1)
    axes.annotate(f"target: {target:g} GiB", (0, target), (4, -12), textcoords="offset points", color=INK)
    axes.set_xlim(0, max(users) * 1.1)
    axes.set_ylim(0, max(target, *gib) * 1.1)
    axes.set_xticks(users, [f"{count:,}" for count in users])
    axes.set_xlabel("users")
    axes.set_ylabel("GiB resident at most")
    axes.set_title("Memory")
    grid(axes, "both")
