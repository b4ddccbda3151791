"""The report of an experiment: its rows as a table, files and a plot."""

import csv
import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from batch.errors import BatchError
from batch.evaluation.experiment_results import ResultRow, RunOutcome, rows_of
from quality.metrics.intervals import Interval
from quality.metrics.ranking import METRICS, NDCG
from stream import durable

_WIDTH = 160
"""Characters of a table that is not printed to a terminal."""
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
"""Colours that colour-blind readers can tell apart (Okabe & Ito 2008)."""


def store_results(folder: Path, outcomes: list[RunOutcome]) -> None:
    """Write experiment.json (everything), .csv (a line for each row) and .md (the table)."""
    rows = rows_of(outcomes)
    flat_rows = [row.as_json() for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat_rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat_rows)
    head, body = _cells(rows)
    lines = [head, ["---"] * len(head), *body]
    runs = [outcome.as_json() for outcome in outcomes]
    durable.write_json(folder / "experiment.json", {"runs": runs, "rows": flat_rows})
    durable.write_bytes(folder / "experiment.csv", text.getvalue().encode())
    durable.write_bytes(folder / "experiment.md", "".join(f"| {' | '.join(line)} |\n" for line in lines).encode())


def print_results(outcomes: list[RunOutcome]) -> None:
    """Print the table."""
    head, body = _cells(rows_of(outcomes))
    table = Table(caption="mean over users, below it its 95 % interval; * marks the chosen model")
    for name in head:
        table.add_column(name, no_wrap=name == "model")
    for line in body:
        table.add_row(*(cell.replace(" (", "\n").removesuffix(")") for cell in line))
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _cells(rows: list[ResultRow]) -> tuple[list[str], list[list[str]]]:
    """Head and body as text, best first within a split."""
    metrics = [metric.name for metric in METRICS]
    head = ["split", "model", *rows[0].varied, "users", *metrics, "coverage", "novelty", "personal", "seconds"]
    return head, [_line(row) for row in sorted(rows, key=lambda row: (row.split, -_ndcg(row)))]


def _line(row: ResultRow) -> list[str]:
    figures = row.figures
    return [
        row.split,
        f"{row.model}{' *' if row.chosen else ''}",
        *("" if value is None else str(value) for value in row.varied.values()),
        f"{figures.users:,}",
        *(_interval_cell(interval) for interval in figures.intervals.values()),
        f"{figures.coverage:.3f}",
        f"{figures.novelty_bits:.1f}",
        f"{figures.personal:.3f}",
        f"{row.seconds:.0f}",
    ]


def _interval_cell(interval: Interval) -> str:
    return f"{interval.mean:.4f} ({interval.low:.4f}-{interval.high:.4f})"


def _ndcg(row: ResultRow) -> float:
    assert row.figures.ndcg.mean is not None  # a slice has users
    return row.figures.ndcg.mean


def require_plotting() -> None:
    """Raise `BatchError` if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BatchError("experiment: the plot needs matplotlib: pip install matplotlib, or give --no-plot")


def plot_results(path: Path, outcomes: list[RunOutcome]) -> None:
    """Draw NDCG@20 of every row with its interval, a panel for each split, in the format of the suffix of `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = rows_of(outcomes)
    splits = sorted({row.split for row in rows})
    models = list(dict.fromkeys(row.model for row in rows))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(models)}
    heights = [sum(row.split == split for row in rows) for split in splits]
    with plt.rc_context({"svg.hashsalt": "marquee", "axes.spines.top": False, "axes.spines.right": False}):
        figure, panels = plt.subplots(
            len(splits), 1, figsize=(8, 1 + 0.32 * sum(heights) + 0.9 * len(splits)), height_ratios=heights,
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for panel, split in zip(panels[:, 0], splits, strict=True):
            _draw_panel(panel, split, [row for row in rows if row.split == split], colours)
        suffix = path.suffix[1:]
        undated = {"Date": None} if suffix == "svg" else None  # the same results give the same file
        durable.write(path, lambda temporary: figure.savefig(temporary, format=suffix, metadata=undated))
        plt.close(figure)


def _draw_panel(panel: Any, split: str, rows: list[ResultRow], colours: dict[str, str]) -> None:
    labels = []
    for height, row in enumerate(sorted(rows, key=_ndcg)):
        ndcg = row.figures.ndcg
        panel.plot([ndcg.low, ndcg.high], [height, height], color=colours[row.model], linewidth=2)
        panel.plot([ndcg.mean], [height], marker="o", color=colours[row.model])
        varied = ", ".join(f"{key} {value}" for key, value in row.varied.items() if value is not None)
        labels.append(f"{row.model}{f' ({varied})' if varied else ''}")
    panel.set_yticks(range(len(rows)), labels)
    panel.set_ylim(-0.6, len(rows) - 0.4)
    panel.set_xlim(left=0)
    panel.set_title({"time": "the last hours held out", "last": "each user's last tenth held out"}[split], loc="left")
    panel.set_xlabel(f"{NDCG.title}, mean over users and 95 % interval")
