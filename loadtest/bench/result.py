"""The result of a benchmark: figures, their targets, and the machine and commit they were measured on.

One JSON object, `{"bench", "figures", "targets", "met", "machine", "commit"}`. A target that is missed is a finding
and no error: it is said, in the object and in the table. Nothing in it names a host or a path.
"""

import functools
import operator
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batch.releases import checkout

Comparison = Literal[">=", "<=", "=="]
Target = tuple[Comparison, float | bool]

_HOLDS: dict[Comparison, Callable[[Any, Any], bool]] = {">=": operator.ge, "<=": operator.le, "==": operator.eq}


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark found."""

    bench: str
    figures: dict[str, Any]
    """By name: a number, a truth, None where there is nothing to measure it by, or a table of such."""
    targets: dict[str, Target]
    """By the figure's name: what it must be. Of figures that were not measured there is nothing to say."""

    def holds(self, name: str) -> bool:
        """Whether a figure is what it must be; one that is None never is."""
        comparison, wanted = self.targets[name]
        found = self.figures[name]
        return found is not None and _HOLDS[comparison](found, wanted)

    @property
    def measured(self) -> dict[str, Target]:
        """The targets whose figures are there."""
        return {name: target for name, target in self.targets.items() if name in self.figures}

    @property
    def met(self) -> bool:
        """Whether all targets are met."""
        return all(map(self.holds, self.measured))

    def as_object(self) -> dict[str, Any]:
        """The object that is printed and kept."""
        return {
            "bench": self.bench,
            "figures": self.figures,
            "targets": {name: list(target) for name, target in self.measured.items()},
            "met": self.met,
            "machine": machine(),
            "commit": commit(),
        }

    def as_table(self) -> str:
        """The figures for people, each beside its target."""
        width = max(map(len, self.figures), default=0)
        return "\n".join(self._row(name, figure, width) for name, figure in self.figures.items())

    def _row(self, name: str, figure: object, width: int) -> str:
        if isinstance(figure, dict):
            rows = (f"    {key:<{width}}{_shown(value)}" for key, value in figure.items())
            return "\n".join([f"  {name}", *rows])
        text = f"  {name:<{width}}  {_shown(figure):>12}"
        if name not in self.targets:
            return text
        comparison, wanted = self.targets[name]
        return f"{text}   {'met' if self.holds(name) else 'MISSED':<6}  {comparison} {_shown(wanted)}"


def machine() -> dict[str, str | int]:
    """What it was measured on."""
    return {"cpu": _cpu(), "cores": os.cpu_count() or 1, "python": platform.python_version()}


@functools.cache
def commit() -> str:
    """The commit of the checkout, with `-dirty` where it was changed since; `unknown` outside one."""
    return checkout.git("describe", "--always", "--dirty") or "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case dict():
            return "  ".join(f"{key} {_shown(part)}" for key, part in value.items())
        case float() if abs(value) < 1000:
            return f"{value:.4g}"
        case int() | float():
            return f"{value:,.0f}"
    return str(value)
