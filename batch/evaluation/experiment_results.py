"""Results of an experiment: the file of a finished run, and one row for each run and model.

If a model came to the same in several runs, as the popular list does in most, it has one row, which does not name the
settings that made no difference.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from batch.evaluation_file import Evaluation, ModelFigures, Split
from server.manifest import Versions
from stream import durable
from stream.decoding import decode_json

GridValues = dict[str, Any]
"""By key of a grid file: a value, of whatever type that setting has."""


class FinishedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run, as stored in its file."""

    split: Split
    settings: dict[str, Any]
    """All of `[batch]`: the values are of any type."""
    seconds: float
    versions: Versions
    evaluation: Evaluation


@dataclass(frozen=True)
class RunOutcome:
    """A finished run, and what its grid file said."""

    given: GridValues
    run: FinishedRun

    def as_json(self) -> dict[str, object]:
        """As `experiment.json` has it."""
        return {"given": self.given, **msgspec.to_builtins(self.run)}


@dataclass
class ResultRow:
    """One model in one run, or in several in which it came to the same."""

    split: Split
    model: str
    varied: GridValues
    """What the grid varied; None if it made no difference."""
    chosen: bool
    """Whether the model was chosen in any of the runs."""
    figures: ModelFigures
    """On the test slice."""
    parameters: dict[str, float]
    """As they were tuned."""
    seconds: float
    """How long the run took; the first, if there are several."""

    def is_same_result(self, other: "ResultRow") -> bool:
        """Whether both are of one model and say the same of the same users."""
        own, others = (
            (row.split, row.model, row.figures.users, row.figures.coverage, _means(row.figures))
            for row in (self, other)
        )
        return own == others

    def merge(self, other: "ResultRow") -> None:
        """Also represent another row with the same result."""
        self.varied |= {key: None for key, value in other.varied.items() if self.varied[key] != value}
        self.chosen |= other.chosen

    def as_json(self) -> dict[str, object]:
        """The row without nesting, as `experiment.json` and the CSV have it."""
        figures = self.figures
        bounds = {
            f"{metric} {bound}": value
            for metric, interval in figures.intervals.items()
            for bound, value in msgspec.to_builtins(interval).items()
        }
        return {
            "split": self.split,
            "model": self.model,
            **self.varied,
            "chosen": self.chosen,
            "users": figures.users,
            **bounds,
            "coverage": figures.coverage,
            "novelty_bits": figures.novelty_bits,
            "personal": figures.personal,
            "parameters": self.parameters,
            "seconds": self.seconds,
        }


def read_run(path: Path) -> FinishedRun | None:
    """Read the file of a run; None if it is missing or incomplete."""
    try:
        return decode_json(path.read_bytes(), FinishedRun)
    except (FileNotFoundError, msgspec.DecodeError):  # the run is then done again
        return None


def write_run(path: Path, run: FinishedRun) -> None:
    """Write the file of a run."""
    durable.write_json(path, msgspec.to_builtins(run))


def rows_of(outcomes: list[RunOutcome]) -> list[ResultRow]:
    """A row for each run and model, in the order of the runs."""
    keys = list(dict.fromkeys(key for outcome in outcomes for key in outcome.given if key not in ("split", "model")))
    rows: list[ResultRow] = []
    for outcome in outcomes:
        run = outcome.run
        for name, figures in run.evaluation.test_models.items():
            row = ResultRow(
                split=run.split,
                model=name,
                varied={key: outcome.given.get(key, run.settings.get(key)) for key in keys},
                chosen=name == run.evaluation.chosen,
                figures=figures,
                parameters=run.evaluation.parameters.get(name, {}),
                seconds=run.seconds,
            )
            if same := next((earlier for earlier in rows if row.is_same_result(earlier)), None):
                same.merge(row)
            else:
                rows.append(row)
    return rows


def _means(figures: ModelFigures) -> list[float | None]:
    return [interval.mean for interval in figures.intervals.values()]
