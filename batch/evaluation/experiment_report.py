"""Results of an experiment: one row for each run and model, as a table, files and a plot.

Where a model came to the same in several runs, as the popular list does in most, it has one row, and nothing is said
in it of the settings that made no difference.
"""

import csv
import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from batch.errors import BatchError
from batch.evaluation.figures import CHOICE_METRIC
from stream import durable

_WIDTH = 160
"""Characters of a table that is not printed to a terminal."""
_METRICS = (CHOICE_METRIC, "recall@20", "hr@20", "mrr")
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
"""Okabe & Ito (2008): told apart by everyone."""


def rows_of(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A flat row for each run and model, in the order of the runs: split, model, what the grid varied, figures.

    What the grid varied is None where it made no difference.
    """
    keys = list(dict.fromkeys(key for one in outcomes for key in one["given"] if key not in ("split", "model")))
    found: list[dict[str, Any]] = []
    for one in outcomes:
        for name, figures in one["evaluation"]["slices"]["test"]["models"].items():
            row = {
                "split": one["split"],
                "model": name,
                **{key: one["given"].get(key, one["settings"].get(key)) for key in keys},
                "chosen": name == one["evaluation"]["chosen"],
                "users": figures["users"],
                **{
                    f"{metric} {part}": figures[metric][part] for metric in _METRICS for part in ("mean", "low", "high")
                },
                **{key: figures[key] for key in ("coverage", "novelty_bits", "personal")},
                "parameters": one["evaluation"]["parameters"].get(name, {}),
                "seconds": one["seconds"],
            }
            same = next((other for other in found if _alike(row, other)), None)
            if same is None:
                found.append(row)
            else:
                differing = {key: None for key in keys if same[key] != row[key]}
                same.update(differing, chosen=same["chosen"] or row["chosen"])
    return found


def _alike(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows of one model say the same of the same users."""
    what = ("split", "model", "users", "coverage", *(f"{metric} mean" for metric in _METRICS))
    return all(row[key] == other[key] for key in what)


def store_results(folder: Path, outcomes: list[dict[str, Any]]) -> None:
    """Write experiment.json (everything), .csv (a row a model) and .md (the table)."""
    rows = rows_of(outcomes)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    head, body = _cells(rows)
    lines = [head, ["---"] * len(head), *body]
    durable.write_json(folder / "experiment.json", {"runs": outcomes, "rows": rows})
    durable.write_bytes(folder / "experiment.csv", text.getvalue().encode())
    durable.write_bytes(folder / "experiment.md", "".join(f"| {' | '.join(line)} |\n" for line in lines).encode())


def print_results(outcomes: list[dict[str, Any]]) -> None:
    """Print the table."""
    head, body = _cells(rows_of(outcomes))
    table = Table(caption="mean over users, below it its 95 % interval; * the one that was chosen")
    for name in head:
        table.add_column(name, no_wrap=name == "model")
    for line in body:
        table.add_row(*(cell.replace(" (", "\n").removesuffix(")") for cell in line))
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and body as text, best first within a split."""
    given = list(rows[0])[2 : list(rows[0]).index("chosen")]
    head = ["split", "model", *given, "users", *_METRICS, "coverage", "novelty", "personal", "seconds"]
    body = [
        [
            row["split"],
            f"{row['model']}{' *' if row['chosen'] else ''}",
            *("" if row[key] is None else str(row[key]) for key in given),
            f"{row['users']:,}",
            *(
                f"{row[f'{metric} mean']:.4f} ({row[f'{metric} low']:.4f}-{row[f'{metric} high']:.4f})"
                for metric in _METRICS
            ),
            f"{row['coverage']:.3f}",
            f"{row['novelty_bits']:.1f}",
            f"{row['personal']:.3f}",
            f"{row['seconds']:.0f}",
        ]
        for row in sorted(rows, key=lambda row: (row["split"], -row[f"{CHOICE_METRIC} mean"]))
    ]
    return head, body


def require_plotting() -> None:
    """Raise `BatchError` where there is nothing to draw with."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BatchError("experiment: the plot needs matplotlib: pip install matplotlib, or give --no-plot")


def plot_results(path: Path, outcomes: list[dict[str, Any]]) -> None:
    """Draw NDCG@20 of every row with its interval, a panel for each split, in the format of the suffix of `path`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = rows_of(outcomes)
    splits = sorted({row["split"] for row in rows})
    models = list(dict.fromkeys(row["model"] for row in rows))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(models)}
    heights = [sum(row["split"] == split for row in rows) for split in splits]
    with plt.rc_context({"svg.hashsalt": "marquee", "axes.spines.top": False, "axes.spines.right": False}):
        figure, panels = plt.subplots(
            len(splits), 1, figsize=(8, 1 + 0.32 * sum(heights) + 0.9 * len(splits)), height_ratios=heights,
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for panel, split in zip(panels[:, 0], splits, strict=True):
            _panel(panel, split, [row for row in rows if row["split"] == split], colours)
        kind = path.suffix[1:]
        facts = {"Date": None} if kind == "svg" else None
        durable.write(path, lambda temporary: figure.savefig(temporary, format=kind, metadata=facts))
        plt.close(figure)


def _panel(panel: Any, split: str, rows: list[dict[str, Any]], colours: dict[str, str]) -> None:
    rows = sorted(rows, key=lambda row: float(row[f"{CHOICE_METRIC} mean"]))
    given = list(rows[0])[2 : list(rows[0]).index("chosen")]
    labels = []
    for place, row in enumerate(rows):
        mean, low, high = (row[f"{CHOICE_METRIC} {part}"] for part in ("mean", "low", "high"))
        panel.plot([low, high], [place, place], color=colours[row["model"]], linewidth=2)
        panel.plot([mean], [place], marker="o", color=colours[row["model"]])
        varied = ", ".join(f"{key} {row[key]}" for key in given if row[key] is not None)
        labels.append(f"{row['model']}{f' ({varied})' if varied else ''}")
    panel.set_yticks(range(len(rows)), labels)
    panel.set_ylim(-0.6, len(rows) - 0.4)
    panel.set_xlim(left=0)
    panel.set_title({"time": "the last hours held out", "last": "each user's last tenth held out"}[split], loc="left")
    panel.set_xlabel("NDCG@20, mean over users and 95 % interval")
