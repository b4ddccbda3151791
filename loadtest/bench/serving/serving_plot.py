"""The picture of `serving`: what an answer costs each contestant, and how long answers take.

Drawn from the object that the benchmark prints, so an old one can be drawn again. Colours are Okabe and Ito's, which
people see apart whatever their sight; marks and labels say the same. The same figures give the same file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.bench.serving.serving_benchmark import TARGETS
from loadtest.bench.serving.steady_load import RATE, WORKERS
from stream import durable

_OURS, _OTHERS, _THIRD, _INK = "#0072B2", "#999999", "#D55E00", "#333333"
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


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw the figures of a run into a file, whose suffix says in which format."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left"}
    with plt.rc_context({**style, "svg.hashsalt": "marquee", "axes.titlesize": 11, "axes.titleweight": "bold"}):
        figure = plt.figure(figsize=(10, 7.6), layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(1.0, 1.05))
        figures = found["figures"]
        table = {name: figures["contestants"][name] for name in _NAMES}
        _costs(figure.add_subplot(grid[0, :]), table)
        _under_wrk(figure.add_subplot(grid[1, 0]), table)
        _at_rate(figure.add_subplot(grid[1, 1]), figures)
        machine = f"{found['machine']['cores']} cores, {found['machine']['cpu']}, Python {found['machine']['python']}"
        size = f"{figures['users']:,} users × {figures['movies']:,} movies, users asked for at random"
        text = f"Serving: {size}\n{machine}, commit {found['commit']}"
        figure.suptitle(text, fontsize=10, color=_INK, x=0.01, ha="left")
        durable.write(path, lambda temporary: _save(figure, temporary, path.suffix[1:]))
        plt.close(figure)


def _save(figure: Any, path: Path, form: str) -> None:
    figure.savefig(path, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)


def _costs(axes: Any, table: Mapping[str, Mapping[str, float]]) -> None:
    """Bars of CPU time, with the lowest and the highest round."""
    places = range(len(table))
    costs = [row["cpu_us"] for row in table.values()]
    spread = [
        [row["cpu_us"] - row["cpu_us_lowest"] for row in table.values()],
        [row["cpu_us_highest"] - row["cpu_us"] for row in table.values()],
    ]
    bars = {"color": [_colour(name) for name in table], "height": 0.66}
    axes.barh(places, costs, xerr=spread, error_kw={"ecolor": _INK, "capsize": 3, "lw": 1}, **bars)
    for place, row in zip(places, table.values(), strict=True):
        text = f"{row['cpu_us']:.1f} µs   {row['cpu_us'] / table['nginx']['cpu_us']:.1f} ×"
        axes.annotate(text, (row["cpu_us_highest"], place), (7, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [_NAMES[name] for name in table])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, max(row["cpu_us_highest"] for row in table.values()) * 1.2)
    axes.set_xlabel("CPU time a request, µs (user and system; median, lowest and highest round; × nginx)")
    axes.set_title("What an answer costs: one process, wrk with 64 connections")
    _grid(axes, "x")


def _under_wrk(axes: Any, table: Mapping[str, Mapping[str, float]]) -> None:
    """Dots of the percentiles at the limit, which each contestant meets at another rate."""
    places = range(len(table))
    for place, row in zip(places, table.values(), strict=True):
        axes.plot([row["p50_us"] / 1e3, row["p99_9_us"] / 1e3], [place, place], color="#CCCCCC", lw=2, zorder=1)
    for (key, (label, mark)), colour in zip(_UNDER_WRK.items(), (_OURS, "#E69F00", _THIRD), strict=True):
        found_ms = [row[key] / 1e3 for row in table.values()]
        axes.scatter(found_ms, places, marker=mark, color=colour, label=label, zorder=2)
    labels = [f"{_SHORT[name]}\n{row['requests_per_s'] / 1e3:.3g}k/s" for name, row in table.items()]
    axes.set_yticks(places, labels, fontsize=9)
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.invert_yaxis()
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.set_xlabel("ms, logarithmic")
    axes.set_title("Latency at the limit (wrk, closed loop)")
    axes.legend(loc="upper right", fontsize=9)
    _grid(axes, "x")


def _at_rate(axes: Any, figures: Mapping[str, Any]) -> None:
    """Lines of the percentiles at the given rate, measured from when each request was due."""
    places = range(len(_PERCENTILES))
    series = (
        ("steady_latency_ms", "one release", _OURS, "o", "-"),
        ("swapping_latency_ms", "a swap a second", _THIRD, "s", "-"),
        ("steady_client_late_ms", "of it, the client's own lateness", _OTHERS, "x", ":"),
    )
    for name, label, colour, mark, line in series:
        axes.plot(places, [figures[name][key] for key in _PERCENTILES], mark, ls=line, color=colour, label=label)
    target = TARGETS["steady_p99_9_ms"][1]
    axes.plot([2.6, 3.4], [target, target], ls="--", color=_INK, label=f"target for p99.9: {target:g} ms")
    axes.set_xticks(places, list(_PERCENTILES.values()))
    axes.set_yscale("log")
    _plain(axes.yaxis)
    axes.set_ylabel("ms from when it was due, logarithmic")
    axes.set_title(f"Latency at {RATE:,}/s, {WORKERS} workers (open loop)")
    axes.set_ylim(top=axes.get_ylim()[1] * 20)  # the lines rise: the legend has room above them
    axes.legend(loc="upper left", fontsize=9)
    _grid(axes, "y")


def _colour(name: str) -> str:
    return _OURS if name in ("rendered", "compact") else _OTHERS


def _grid(axes: Any, axis: str) -> None:
    axes.grid(axis=axis, color="#E5E5E5", lw=0.8)
    axes.set_axisbelow(True)


def _plain(axis: Any) -> None:
    """Write 0.1 and 10 beside a logarithmic axis, not powers."""
    axis.set_major_formatter(lambda value, place: f"{value:g}")
