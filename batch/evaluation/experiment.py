"""`experiment`: settings side by side on one history; a table, a file and a plot of what each is worth.

A grid file names settings of `[batch]` with lists of values; every combination is a run, and a run is an evaluation as
the night makes it. Each run that is finished is a file, named by what it depends on: its settings and the history. So
an experiment that was stopped goes on, a grid that grows runs only what is new, and nothing is run twice.
"""

import hashlib
import itertools
import logging
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import numpy as np
import orjson

from batch.errors import BatchError, ExperimentError, NotEnoughData
from batch.evaluation import evaluate, experiment_report
from batch.evaluation.splits import Split, by_order, by_time
from batch.history import assemble
from batch.history.interactions import TrainingHistory
from batch.progress import step
from batch.releases.publish import versions
from batch.settings import BatchSettings
from stream import durable
from stream.errors import MarqueeError
from stream.redaction import public_settings
from stream.settings import StreamSettings, load

log = logging.getLogger(__name__)

_NO_DECAY_DAYS = 1e6
"""With `split = "last"` every user's cut is at a moment of its own: no start is more recent than another."""
_IDLE = ("api", "answers", "trees", "night_at", "keep_releases", "history_days", "minimum_segment")
"""Settings, by how they begin, that make no difference to what the night's history is worth: it is made already."""


@dataclass(frozen=True)
class Run:
    """One combination."""

    given: dict[str, Any]
    """What the grid file says of it, by key."""
    settings: BatchSettings
    split: Split

    @property
    def label(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.given.items()) or "the settings as they are"

    def key(self, history: str) -> str:
        """Of all that the outcome depends on; `history` is the digest of the history."""
        told = msgspec.to_builtins(self.settings)
        kept = {name: value for name, value in told.items() if not name.startswith(_IDLE)}
        return hashlib.sha256(msgspec.json.encode([history, self.split, kept], order="sorted")).hexdigest()[:16]


def runs_of(path: Path, settings: BatchSettings) -> list[Run]:
    """The runs of a grid file, in its order, each once. Raises `ExperimentError` for anything in it that is not
    known."""
    try:
        told = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExperimentError(f"experiment: cannot read {path}: {error}") from error
    base = told.pop("base", {})
    grids = told.pop("grid", {})
    grids = grids if isinstance(grids, list) else [grids]
    if told or not isinstance(base, dict) or not all(isinstance(grid, dict) for grid in grids):
        stray = next(iter(told), "base" if not isinstance(base, dict) else "grid")
        raise ExperimentError(
            f"experiment: {path}: '{stray}': there are [base], of single values, and [grid], of lists"
        )
    found: dict[bytes, Run] = {}
    for grid in grids:
        for given in _combinations(path, grid):
            run = _run(path, base, given, settings)
            found.setdefault(msgspec.json.encode([run.settings, run.split]), run)
    return list(found.values())


def _combinations(path: Path, grid: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ExperimentError(f"experiment: {path}: {key} in [grid] must be a list of values, not {values!r}")
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _run(path: Path, base: Mapping[str, Any], given: dict[str, Any], settings: BatchSettings) -> Run:
    changed = {**base, **given}
    known = sorted([*BatchSettings.__struct_fields__, "split"])
    allowed = [key for key in known if not key.startswith(_IDLE)]
    for key in changed:
        if key not in known:
            raise ExperimentError(f"experiment: {path}: unknown key '{key}'; the keys are {', '.join(allowed)}")
        if key not in allowed:
            raise ExperimentError(
                f"experiment: {path}: {key} makes no difference here: all runs are on the night's history"
            )
    split = changed.pop("split", "time")
    if split not in get_args(Split):
        raise ExperimentError(f"experiment: {path}: split is {' or '.join(get_args(Split))}, not {split!r}")
    if split == "last":
        changed["half_life_days"] = _NO_DECAY_DAYS
    try:
        merged = msgspec.convert({**msgspec.to_builtins(settings), **changed}, BatchSettings)
    except msgspec.ValidationError as error:
        raise ExperimentError(f"experiment: {path}: {error}") from error
    return Run(given, merged, split)


def digest_of(history: TrainingHistory) -> str:
    """Of everything that an evaluation reads of a history."""
    digest = hashlib.sha256("\n".join(history.movies).encode())
    for name in ("user", "movie", "start", "minutes", "share", "rating", "rated", "users", "segments"):
        digest.update(np.ascontiguousarray(getattr(history, name)).data)
    return digest.hexdigest()


def finish(runs: list[Run], history: TrainingHistory, folder: Path) -> list[dict[str, Any]]:
    """Do the runs that are not done yet; the outcomes of all, in order.

    A run that cannot be done does not keep the others from it: raises `BatchError` after all of them, with the first.
    """
    digest, failed = digest_of(history), []
    for number, run in enumerate(runs, 1):
        path, name = folder / "runs" / f"{run.key(digest)}.json", f"run {number} of {len(runs)}: {run.label}"
        if _outcome(path):
            log.info("%s: done before", name)
            continue
        try:
            with step(name, evaluate.steps(run.settings)) as advance:
                began = time.monotonic()
                splits = by_order(history) if run.split == "last" else by_time(history, run.settings)
                evaluation = evaluate.measure_models(splits, run.settings, advance)
            if not evaluation["slices"]:
                raise NotEnoughData(evaluation["against_current"]["none"])
            run_facts = {
                "split": run.split,
                "settings": public_settings(run.settings),
                "seconds": round(time.monotonic() - began, 2),
            }
            durable.write_json(path, {**run_facts, "versions": versions(), "evaluation": evaluation})
        except MarqueeError as error:
            log.error("%s: %s", name, error)
            failed.append(f"{name}: {error}")
    read = [(run, _outcome(folder / "runs" / f"{run.key(digest)}.json")) for run in runs]
    outcomes = [{"given": run.given, **done} for run, done in read if done]
    if outcomes:
        experiment_report.store_results(folder, outcomes)
    if failed:
        raise BatchError(f"experiment: {len(failed)} of {len(runs)} runs could not be done; the first: {failed[0]}")
    return outcomes


def _outcome(path: Path) -> dict[str, Any] | None:
    """What a run has left; None where there is nothing, or nothing that is whole."""
    try:
        told = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return told if isinstance(told, dict) and told.get("evaluation") else None


@click.command()
@click.argument("grid", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder; var/experiments/GRID if not given."
)
@click.option("--no-plot", is_flag=True, help="Without the plot, which needs matplotlib.")
def experiment(grid: Path, out: Path | None, no_plot: bool) -> None:
    """Compare settings on the history that the night has made: every combination of the file GRID is evaluated.

    \b
        [base]                      # settings that all runs share; the others are as in settings.toml
        evaluation_users = 20000
        [grid]                      # every combination of these is a run
        model = ["als", "ease"]
        factors = [64, 128]
        seed = [1, 2]
        split = ["time"]            # or "last": of each user's events the last tenth, as in published comparisons

    There may be several grids, as [[grid]]. A run that is finished is not repeated, whatever is changed or added, so
    Ctrl-C loses one run at most. The table is printed, and lies in the folder as experiment.md, .csv and .json, with
    experiment.svg.
    """
    streaming = load("stream", StreamSettings)
    runs = runs_of(grid, load("batch", BatchSettings))
    if not no_plot:
        experiment_report.require_plotting()
    folder = out or streaming.var / "experiments" / grid.stem
    try:
        history, _ = assemble.load_history(streaming.var / "night")
    except (OSError, EOFError, ValueError, KeyError) as error:  # what numpy and pyarrow raise over a damaged file
        raise NotEnoughData(
            f"experiment: cannot read a history in {streaming.var / 'night'}: {error}; make it: python -m batch history"
        ) from error
    outcomes = finish(runs, history, folder)
    experiment_report.print_results(outcomes)
    if not no_plot:
        experiment_report.plot_results(folder / "experiment.svg", outcomes)
    click.echo(f"{len(outcomes)} runs in {folder}")
