"""The plot of `serving`: what an answer costs each contestant, and latencies. Drawn from a result, new or kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.bench.plotting import COLOURS, INK, OTHERS, OURS, THIRD, grid, sheet
from loadtest.bench.result import BenchmarkResult, Target
from loadtest.bench.serving.contestant_costs import ContestantFigures, CostFigures
from loadtest.bench.serving.steady_load import RATE, WORKERS, SteadyFigures

_NAMES = {
    "nginx": "nginx, return 200\n(looks nothing up)",
    "rendered": "Marquee, rendered",
    "compact": "Marquee, compact",
    "granian": "Granian, raw interface",
    "ordinary": "Marquee without\nthe fast lane (Sanic)",
    "fastapi": "FastAPI on Uvicorn",
}
_SHORT = {name: name for name in _NAMES} | {"granian": "Granian", "ordinary": "no lane", "fastapi": "FastAPI"}
_PERCENTILES = {"50": "p50", "90": "p90", "99": "p99", "99.9": "p99.9", "100": "max"}
_UNDER_WRK = {"p50_us": ("p50", "o"), "p99_us": ("p99", "s"), "p99_9_us": ("p99.9", "D")}
Rows = Mapping[str, ContestantFigures]


def draw(result: BenchmarkResult, path: Path) -> None:
    """Draw a result of all parts into a file, whose suffix gives the format."""
    measured = result.read(CostFigures).contestants
    rows = {name: measured[name] for name in _NAMES}
    users, movies = result.figures["users"], result.figures["movies"]
    title = f"Serving: {users:,} users × {movies:,} movies, users asked for at random"
    with sheet(result, title, (10, 7.6), path) as figure:
        layout = figure.add_gridspec(2, 2, height_ratios=(1.0, 1.05))
        _costs(figure.add_subplot(layout[0, :]), rows)
        _under_wrk(figure.add_subplot(layout[1, 0]), rows)
        steady, swapping = result.read(SteadyFigures, "steady"), result.read(SteadyFigures, "swapping")
        _at_rate(figure.add_subplot(layout[1, 1]), steady, swapping, result.targets["steady_p99_9_ms"])


def _costs(axes: Any, rows: Rows) -> None:
    """Bars of CPU time, with the lowest and the highest round."""
    positions = range(len(rows))
    costs = [row.cpu_us for row in rows.values()]
    spread = [
        [row.cpu_us - row.cpu_us_lowest for row in rows.values()],
        [row.cpu_us_highest - row.cpu_us for row in rows.values()],
    ]
    colours = [OURS if name in ("rendered", "compact") else OTHERS for name in rows]
    error_style = {"ecolor": INK, "capsize": 3, "lw": 1}
    axes.barh(positions, costs, xerr=spread, error_kw=error_style, color=colours, height=0.66)
    for position, row in zip(positions, rows.values(), strict=True):
        text = f"{row.cpu_us:.1f} µs   {row.cpu_us / rows['nginx'].cpu_us:.1f} ×"
        axes.annotate(text, (row.cpu_us_highest, position), (7, 0), textcoords="offset points", va="center")
    axes.set_yticks(positions, [_NAMES[name] for name in rows])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, max(row.cpu_us_highest for row in rows.values()) * 1.2)
    axes.set_xlabel("CPU time a request, µs (user and system; median, lowest and highest round; × nginx)")
    axes.set_title("What an answer costs: one process, wrk with 64 connections")
    grid(axes, "x")


def _under_wrk(axes: Any, rows: Rows) -> None:
    """Dots of the percentiles at the limit, which each contestant reaches at its own rate."""
    positions = range(len(rows))
    for position, row in zip(positions, rows.values(), strict=True):
        axes.plot([row.p50_us / 1e3, row.p99_9_us / 1e3], [position, position], color="#CCCCCC", lw=2, zorder=1)
    for (key, (label, mark)), colour in zip(_UNDER_WRK.items(), (OURS, COLOURS[1], THIRD), strict=True):
        latencies_ms = [getattr(row, key) / 1e3 for row in rows.values()]
        axes.scatter(latencies_ms, positions, marker=mark, color=colour, label=label, zorder=2)
    labels = [f"{_SHORT[name]}\n{row.requests_per_s / 1e3:.3g}k/s" for name, row in rows.items()]
    axes.set_yticks(positions, labels, fontsize=9)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.invert_yaxis()
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    axes.set_xlabel("ms, logarithmic")
    axes.set_title("Latency at the limit (wrk, closed loop)")
    axes.legend(loc="upper right", fontsize=9)
    grid(axes, "x")


def _at_rate(axes: Any, steady: SteadyFigures, swapping: SteadyFigures, target: Target) -> None:
    """Lines of the percentiles at the given rate, measured from when each request was due."""
    positions = range(len(_PERCENTILES))
    series = (
        (steady.latency_ms, "one release", OURS, "o", "-"),
        (swapping.latency_ms, "a swap a second", THIRD, "s", "-"),
        (steady.client_late_ms, "of it, the client's own lateness", OTHERS, "x", ":"),
    )
    for values, label, colour, mark, line in series:
        axes.plot(positions, [values[key] for key in _PERCENTILES], mark, ls=line, color=colour, label=label)
    limit_ms = target[1]
    axes.plot([2.6, 3.4], [limit_ms, limit_ms], ls="--", color=INK, label=f"target for p99.9: {limit_ms:g} ms")
    axes.set_xticks(positions, list(_PERCENTILES.values()))
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis)
    axes.set_ylabel("ms from when it was due, logarithmic")
    axes.set_title(f"Latency at {RATE:,}/s, {WORKERS} workers (open loop)")
    axes.set_ylim(top=axes.get_ylim()[1] * 20)  # the lines rise: the legend has room above them
    axes.legend(loc="upper left", fontsize=9)
    grid(axes, "y")


def _plain_numbers(axis: Any) -> None:
    """Write 0.1 and 10 beside a logarithmic axis, not powers."""
    axis.set_major_formatter(lambda value, position: f"{value:g}")
