"""The plot of `night`: seconds of each step, and memory, by number of users. Drawn from a result, new or kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.bench.plotting import COLOURS, INK, OURS, grid, sheet
from loadtest.bench.result import BenchmarkResult

_REST = "start and end"


def draw(result: BenchmarkResult, path: Path) -> None:
    """Draw a result of all parts into a file, whose suffix gives the format."""
    rows: dict[str, dict[str, float]] = result.figures["growth"]
    users = [int(name) for name in rows]
    title = f"The night at up to {max(users):,} users × {result.figures['movies']:,} movies"
    with sheet(result, title, (10, 4.6), path) as figure:
        seconds, memory = figure.subplots(1, 2)
        _seconds(seconds, rows)
        target_mb = float(result.targets["night_peak_memory_mb"][1])
        _memory(memory, users, [row["peak_memory_mb"] / 1024 for row in rows.values()], target_mb / 1024)


def _seconds(axes: Any, by_users: Mapping[str, Mapping[str, float]]) -> None:
    """Bars of seconds, a segment for each step, with their sum above."""
    rows, positions = list(by_users.values()), range(len(by_users))
    steps = [key.removesuffix("_s") for key in rows[0] if key.endswith("_s")]
    heights = [0.0] * len(rows)
    for step, colour in zip([*steps, _REST], COLOURS, strict=False):
        seconds = [
            row[f"{step}_s"] if step != _REST else max(row["seconds"] - height, 0)
            for row, height in zip(rows, heights, strict=True)
        ]
        axes.bar(positions, seconds, bottom=heights, color=colour, label=step, width=0.62, edgecolor="white", lw=0.6)
        heights = [height + more for height, more in zip(heights, seconds, strict=True)]
    for position, row, height in zip(positions, rows, heights, strict=True):
        axes.annotate(f"{row['seconds']:,.0f} s", (position, height), (0, 4), textcoords="offset points", ha="center")
    axes.set_xticks(positions, [f"{int(name):,}" for name in by_users])
    axes.set_xlabel("users")
    axes.set_ylabel("seconds")
    axes.set_title("Time, by step")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False)
    grid(axes, "y")


def _memory(axes: Any, users: list[int], peaks_gib: list[float], target_gib: float) -> None:
    """A line of the peaks, and the target."""
    axes.plot(users, peaks_gib, "o-", color=OURS)
    for count, peak in zip(users, peaks_gib, strict=True):
        axes.annotate(f"{peak:.1f}", (count, peak), (0, 8), textcoords="offset points", ha="center")
    axes.axhline(target_gib, ls="--", color=INK, lw=1)
    label = f"target: {target_gib:g} GiB"
    axes.annotate(label, (0, target_gib), (4, -12), textcoords="offset points", color=INK)
    axes.set_xlim(0, max(users) * 1.1)
    axes.set_ylim(0, max(target_gib, *peaks_gib) * 1.1)
    axes.set_xticks(users, [f"{count:,}" for count in users])
    axes.set_xlabel("users")
    axes.set_ylabel("GiB resident at most")
    axes.set_title("Memory")
    grid(axes, "both")
