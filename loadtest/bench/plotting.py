"""The layout of all benchmark plots: one style, with the measured commit and machine.

Colours are Okabe and Ito's, which remain distinct with colour-blind sight. The same result gives the same file.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtest.bench.result import BenchmarkResult
from loadtest.errors import LoadtestError
from stream import durable

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
OURS, OTHERS, THIRD, INK = "#0072B2", "#999999", "#D55E00", "#333333"
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "svg.hashsalt": "marquee",
}


def require_matplotlib() -> None:
    """Raise `LoadtestError` if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise LoadtestError("bench: without matplotlib no plot can be kept: make bench installs it")


@contextmanager
def sheet(result: BenchmarkResult, title: str, inches: tuple[float, float], path: Path) -> Iterator[Any]:
    """A matplotlib figure to draw a result on; written when the block ends, in the format of the path's suffix."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(_STYLE):
        figure = plt.figure(figsize=inches, layout="constrained")
        yield figure
        machine = f"{result.machine.cores} cores, {result.machine.cpu}, Python {result.machine.python}"
        figure.suptitle(f"{title}\n{machine}, commit {result.commit}", fontsize=10, color=INK, x=0.01, ha="left")
        durable.write(path, lambda temporary: _save(figure, temporary, path.suffix[1:]))
        plt.close(figure)


def grid(axes: Any, axis: str) -> None:
    """Faint lines behind the data."""
    axes.grid(axis=axis, color="#E5E5E5", lw=0.8)
    axes.set_axisbelow(True)


def _save(figure: Any, path: Path, image_format: str) -> None:
    metadata = {"Date": None} if image_format == "svg" else None
    figure.savefig(path, format=image_format, dpi=150, metadata=metadata)
