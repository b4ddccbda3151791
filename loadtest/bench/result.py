"""The result of a benchmark: figures, their targets, and the machine and commit they were measured on.

`python -m loadtest bench` prints it as one JSON object and keeps it as `docs/bench/<bench>.json`, by `write_result`;
`read_result` reads such a file. A missed target is a finding, not an error: the object and the table say so. Nothing
in it names a host or a path.
"""

import functools
import operator
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from batch.releases import checkout
from loadtest.errors import LoadtestError
from stream import durable

Comparison = Literal[">=", "<=", "=="]
Target = tuple[Comparison, bool | int | float]
Figures = dict[str, Any]
"""By name: a number, a truth, None if there was nothing to measure, or a table of such.

`Any`, since every benchmark has different figures: each part of a benchmark describes them in a Struct."""
Part = TypeVar("Part", bound=Struct)

_HOLDS: dict[Comparison, Callable[[Any, Any], bool]] = {">=": operator.ge, "<=": operator.le, "==": operator.eq}


class Machine(Struct, frozen=True, kw_only=True):
    """The machine that a benchmark ran on."""

    cpu: str
    """Model name."""
    cores: int
    python: str
    """Version."""


class BenchmarkResult(Struct, frozen=True, kw_only=True):
    """The result of a benchmark."""

    bench: str
    """Name of the benchmark."""
    figures: Figures
    targets: dict[str, Target]
    """By the figure's name: its required value. Only measured figures have a target here."""
    met: bool
    """Whether all targets are met."""
    machine: Machine
    commit: str
    """See `commit()`."""

    def read(self, part: type[Part], prefix: str = "") -> Part:
        """The figures of one part. Raises `LoadtestError` if they are missing or malformed."""
        start = f"{prefix}_" if prefix else ""
        own = {name.removeprefix(start): value for name, value in self.figures.items() if name.startswith(start)}
        try:
            return msgspec.convert(own, part)
        except msgspec.ValidationError as error:
            raise LoadtestError(f"bench: the figures of {self.bench} do not fit {part.__name__}: {error}") from error

    def as_table(self) -> str:
        """The figures as a table, each with its target."""
        width = max(map(len, self.figures), default=0)
        return "\n".join(self._row(name, figure, width) for name, figure in self.figures.items())

    def _row(self, name: str, figure: object, width: int) -> str:
        if isinstance(figure, dict):
            rows = (f"    {key:<{width}}{_format(value)}" for key, value in figure.items())
            return "\n".join([f"  {name}", *rows])
        text = f"  {name:<{width}}  {_format(figure):>12}"
        if name not in self.targets:
            return text
        comparison, wanted = self.targets[name]
        verdict = "met" if _is_met(figure, self.targets[name]) else "MISSED"
        return f"{text}   {verdict:<6}  {comparison} {_format(wanted)}"


def make_result(bench: str, figures: Figures, targets: Mapping[str, Target]) -> BenchmarkResult:
    """Compare figures with their targets; targets of figures that were not measured are left out."""
    measured = {name: target for name, target in targets.items() if name in figures}
    return BenchmarkResult(
        bench=bench,
        figures=figures,
        targets=measured,
        met=all(_is_met(figures[name], target) for name, target in measured.items()),
        machine=this_machine(),
        commit=commit(),
    )


def as_figures(part: Struct, prefix: str = "") -> Figures:
    """The figures of one part by their names in the result: the fields' names behind a prefix."""
    start = f"{prefix}_" if prefix else ""
    return {f"{start}{name}": value for name, value in msgspec.to_builtins(part).items()}


def write_result(folder: Path, result: BenchmarkResult) -> Path:
    """Keep a result as `<folder>/<bench>.json`; returns that path."""
    path = folder / f"{result.bench}.json"
    durable.write_json(path, msgspec.to_builtins(result))
    return path


def read_result(path: Path) -> BenchmarkResult:
    """Read a kept result. Raises `LoadtestError` if the file is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=BenchmarkResult)
    except (OSError, msgspec.MsgspecError) as error:
        raise LoadtestError(f"bench: cannot read {path}: {error}; run the benchmark again with --keep") from error


def this_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(cpu=_cpu(), cores=os.cpu_count() or 1, python=platform.python_version())


@functools.cache
def commit() -> str:
    """The commit of the checkout, with `-dirty` where it was changed since; `unknown` outside one."""
    return checkout.git("describe", "--always", "--dirty") or "unknown"


def _is_met(figure: Any, target: Target) -> bool:
    """Whether a figure meets its target; None never does."""
    comparison, wanted = target
    return figure is not None and _HOLDS[comparison](figure, wanted)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _format(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case dict():
            return "  ".join(f"{key} {_format(inner)}" for key, inner in value.items())
        case float() if abs(value) < 1000:
            return f"{value:.4g}"
        case int() | float():
            return f"{value:,.0f}"
    return str(value)
