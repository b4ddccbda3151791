"""`experiment`: settings side by side on one history; a table, files and a plot of how good each is.

A grid file names settings of `[batch]` with lists of values. Every combination is a run, and a run is an evaluation as
the night makes it. Every finished run is a file, named by all that it depends on: its settings and the history. So a
stopped experiment can be resumed, a grown grid runs only its new combinations, and no run is repeated.
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

from batch import models
from batch.errors import BatchError, ExperimentError, ModelError, NotEnoughData
from batch.evaluation import evaluate, experiment_report
from batch.evaluation.experiment_results import FinishedRun, GridValues, RunOutcome, read_run, write_run
from batch.evaluation.splits import by_order, by_time, marked
from batch.evaluation_file import Split
from batch.history import assemble
from batch.history.interactions import TrainingHistory
from batch.history.list_facts import ListFacts, load_list_facts
from batch.models.list_caps import ListCaps
from batch.progress import step
from batch.releases.publish import versions
from batch.settings import BatchSettings
from quality.settings import QualitySettings
from stream.errors import MarqueeError
from stream.redaction import public_settings
from stream.settings import StreamSettings, load

log = logging.getLogger(__name__)

_NO_DECAY_DAYS = 1e6
"""With `split = "last"` every user has a different cut time, so no start counts as more recent than another."""
_WITHOUT_EFFECT = (
    "api", "answers", "trees", "night_at", "keep_", "least_free_mb", "young_archive", "explore_share", "history_days",
    "minimum_segment",
)  # fmt: skip
"""Settings, by their prefix, that do not change an evaluation: the history is made already, and no release is."""


@dataclass(frozen=True)
class Run:
    """One combination."""

    given: GridValues
    """What the grid file says of it."""
    settings: BatchSettings
    split: Split

    @property
    def label(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.given.items()) or "the settings as they are"

    def key(self, history: str) -> str:
        """A digest of everything that the outcome depends on; `history` is the digest of the history."""
        settings = msgspec.to_builtins(self.settings)
        effective = {name: value for name, value in settings.items() if not name.startswith(_WITHOUT_EFFECT)}
        parts = [history, self.split, effective, models.source_version(self.settings.model)]
        return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]


def runs_of(path: Path, settings: BatchSettings) -> list[Run]:
    """The runs of a grid file, in its order, each once. Raises `ExperimentError` for anything unknown in it."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExperimentError(f"experiment: cannot read {path}: {error}") from error
    base = tables.pop("base", {})
    grids = tables.pop("grid", {})
    grids = grids if isinstance(grids, list) else [grids]
    if tables or not isinstance(base, dict) or not all(isinstance(grid, dict) for grid in grids):
        stray = next(iter(tables), "base" if not isinstance(base, dict) else "grid")
        raise ExperimentError(
            f"experiment: {path}: '{stray}': write single values in a table [base], and lists of values in [grid]"
        )
    runs: dict[bytes, Run] = {}
    for grid in grids:
        for given in _combinations(path, grid):
            run = _run(path, base, given, settings)
            runs.setdefault(msgspec.json.encode([run.settings, run.split]), run)
    return list(runs.values())


def _combinations(path: Path, grid: Mapping[str, Any]) -> Iterator[GridValues]:
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ExperimentError(f"experiment: {path}: {key} in [grid] must be a list of values, not {values!r}")
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _run(path: Path, base: Mapping[str, Any], given: GridValues, settings: BatchSettings) -> Run:
    changed = {**base, **given}
    every_key = sorted([*BatchSettings.__struct_fields__, "split"])
    allowed = [key for key in every_key if not key.startswith(_WITHOUT_EFFECT)]
    for key in changed:
        if key not in every_key:
            raise ExperimentError(f"experiment: {path}: unknown key '{key}'; the keys are {', '.join(allowed)}")
        if key not in allowed:
            raise ExperimentError(
                f"experiment: {path}: {key} makes no difference here: all runs evaluate the night's history"
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
    try:
        models.require_model(merged.model)  # its run might begin hours later
    except ModelError as error:
        raise ExperimentError(f"experiment: {path}: {error}") from error
    return Run(given, merged, split)


def digest_of(history: TrainingHistory, facts: ListFacts | None = None) -> str:
    """A digest of everything that an evaluation reads of a history, and of the facts that lists are capped by."""
    digest = hashlib.sha256("\n".join(history.movies).encode())
    for name in ("user", "movie", "start", "minutes", "share", "rating", "rated", "users", "segments"):
        digest.update(np.ascontiguousarray(getattr(history, name)).data)
    for values in (facts.ages, facts.adult, facts.costs) if facts else ():
        digest.update(values.data)
    if history.exposed is not None and history.exposed.any():
        digest.update(history.exposed.data)
    return digest.hexdigest()


def finish(runs: list[Run], history: TrainingHistory, folder: Path, facts: ListFacts | None = None) -> list[RunOutcome]:
    """Do the runs that are not done yet, and store the results; the outcomes of all, in order.

    Without `facts`, lists are not capped.
    A run that fails does not stop the others: raises `BatchError` after all of them, with the first failure.
    """
    digest, failures = digest_of(history, facts), []
    paths = [folder / "runs" / f"{run.key(digest)}.json" for run in runs]
    for number, (run, path) in enumerate(zip(runs, paths, strict=True), 1):
        name = f"run {number} of {len(runs)}: {run.label}"
        if read_run(path):
            log.info("%s: done before", name)
            continue
        try:
            write_run(path, _evaluated(run, history, name, facts))
        except MarqueeError as error:
            log.error("%s: %s", name, error)
            failures.append(f"{name}: {error}")
    finished = [(run, read_run(path)) for run, path in zip(runs, paths, strict=True)]
    outcomes = [RunOutcome(run.given, result) for run, result in finished if result]
    if outcomes:
        experiment_report.store_results(folder, outcomes)
    if failures:
        raise BatchError(f"experiment: {len(failures)} of {len(runs)} runs failed; the first: {failures[0]}")
    return outcomes


def _evaluated(run: Run, history: TrainingHistory, name: str, facts: ListFacts | None) -> FinishedRun:
    """Do a run. Raises `NotEnoughData` if nothing can be held out."""
    with step(name, evaluate.steps(run.settings)) as advance:
        began = time.monotonic()
        splits = by_order(history) if run.split == "last" else by_time(history, run.settings)
        evaluation = evaluate.measure_models(
            splits, run.settings, advance, caps=ListCaps.of(facts, run.settings) if facts else None
        )
    if not evaluation.is_measured:
        raise NotEnoughData(evaluation.against_current.reason)
    return FinishedRun(
        split=run.split,
        settings=public_settings(run.settings),
        seconds=round(time.monotonic() - began, 2),
        versions=versions(),
        evaluation=evaluation,
    )


@click.command()
@click.argument("grid", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder; var/experiments/GRID if not given."
)
@click.option("--no-plot", is_flag=True, help="Do not plot; plotting needs matplotlib.")
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

    There may be several grids, as [[grid]]. A finished run is not repeated, whatever else changes in GRID, so Ctrl-C
    loses one run at most. The table is printed, and written to the folder as experiment.md, .csv and .json, with the
    plot experiment.svg.
    """
    streaming = load("stream", StreamSettings)
    settings = load("batch", BatchSettings)
    runs = runs_of(grid, settings)
    if not no_plot:
        experiment_report.require_plotting()
    folder = out or streaming.var / "experiments" / grid.stem
    try:
        history, requests = assemble.load_history(streaming.var / "night")
        facts = load_list_facts(streaming.var / "night").first(len(history.movies))
    except (OSError, EOFError, ValueError, KeyError) as error:  # what numpy and pyarrow raise over a damaged file
        raise NotEnoughData(
            f"experiment: cannot read a history in {streaming.var / 'night'}: {error}; make it: python -m batch history"
        ) from error
    history = marked(history, requests, load("quality", QualitySettings).window_ms, settings)
    outcomes = finish(runs, history, folder, facts)
    experiment_report.print_results(outcomes)
    if not no_plot:
        experiment_report.plot_results(folder / "experiment.svg", outcomes)
    click.echo(f"{len(outcomes)} runs in {folder}")
