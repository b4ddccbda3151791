"""The type of a benchmark: a name, two sizes, measuring parts, and targets; and how to run it.

`Benchmark.run` creates a `BenchmarkRun`, the data that the parts share, and calls one part after the other. A part
is a function from that run to figures; it describes them in its own Struct (see `as_figures`).
"""

import logging
import signal
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from loadtest.bench.result import BenchmarkResult, Figures, Target, make_result
from loadtest.demo.processes import ROOT

log = logging.getLogger(__name__)

InputName = Literal["lines", "movies", "data"]
SplitName = Literal["time", "last", "loo"]


@dataclass(frozen=True)
class BenchmarkInputs:
    """What the command line gives a benchmark: files to measure instead of, or besides, its own data, and a split."""

    lines: Path | None = None
    """Recorded lines (`quality`)."""
    movies: Path | None = None
    """The catalogue of these lines (`quality`)."""
    data: Path | None = None
    """An archive of MovieLens (`ranking`)."""
    split: SplitName | None = None
    """How all sets are split, instead of each in its own way (`ranking`)."""


NO_INPUTS = BenchmarkInputs()

Size = TypeVar("Size")


class BenchmarkRun(Generic[Size]):
    """Data that the parts of one run share. A benchmark adds data that several parts need, created on first use."""

    def __init__(self, folder: Path, size: Size, seed: int, inputs: BenchmarkInputs) -> None:
        """`folder` is empty, on the disk that `var/` is on, and removed when the run ends."""
        self.folder, self.size, self.seed, self.inputs = folder, size, seed, inputs

    def facts(self) -> Figures:
        """Figures of the run itself, such as its size; they precede those of the parts."""
        return {}


Run = TypeVar("Run", bound=BenchmarkRun[Any])


def _need_nothing(parts: Collection[str]) -> None:
    """Every part can be measured anywhere."""


@dataclass(frozen=True, kw_only=True)
class Benchmark(Generic[Size, Run]):
    """One benchmark."""

    name: str
    full: Size
    quick: Size
    """A smaller size for the same ratios, measured in less than 45 s."""
    parts: Mapping[str, Callable[[Run], Figures]]
    """By name, in the order in which they run; each can be measured alone."""
    targets: Mapping[str, Target]
    """By the figure's name: its required value."""
    begin: Callable[[Path, Size, int, BenchmarkInputs], Run]
    """Makes the run: from the folder, the size, the seed and the inputs."""
    plot: Callable[[BenchmarkResult, Path], None] | None = None
    """Draws a result into a file, whose suffix gives the format."""
    needs: Mapping[str, InputName] = field(default_factory=dict)
    """By part: the input without which it cannot be measured. Without that input it is left out."""
    require: Callable[[Collection[str]], None] = _need_nothing
    """Raises `LoadtestError` if a program is missing that some of these parts run."""
    work: Path = ROOT / "var" / "bench"
    """Where the folder of a run is made."""

    def run(
        self, size: Size, seed: int, parts: Collection[str] = (), inputs: BenchmarkInputs = NO_INPUTS
    ) -> BenchmarkResult:
        """Measure some parts, or without any name all that the inputs allow. Raises `LoadtestError` as the parts do."""
        chosen = [name for name in self.parts if (name in parts if parts else self.is_measurable(name, inputs))]
        self.require(chosen)
        self.work.mkdir(parents=True, exist_ok=True)
        with _interrupt_on_sigterm(), tempfile.TemporaryDirectory(dir=self.work) as folder:
            run = self.begin(Path(folder), size, seed, inputs)
            figures = run.facts()
            for name in chosen:
                log.info("%s …", name)
                began = time.monotonic()
                figures |= self.parts[name](run)
                log.info("%s: %.1f s", name, time.monotonic() - began)
        return make_result(self.name, figures, self.targets)

    def is_measurable(self, part: str, inputs: BenchmarkInputs) -> bool:
        """Whether the inputs hold what a part needs."""
        return part not in self.needs or getattr(inputs, self.needs[part]) is not None


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that the processes of a benchmark are ended and its folder is removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
