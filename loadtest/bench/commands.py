"""`python -m loadtest bench <name>`: one command for each benchmark, made from a table.

A benchmark prints its result (see `result.py`) as one JSON object, the last line of stdout; the rest goes to stderr.
The exit code is 0 whether or not the targets are met. Only `fuzz`, whose target does not depend on speed, exits with 1
where it is missed.
"""

import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import orjson

from loadtest.bench.benchmark import Benchmark, BenchmarkInputs, SplitName
from loadtest.bench.plotting import require_matplotlib
from loadtest.bench.result import BenchmarkResult, read_result, write_result

_SEED = 1


@click.group(help="Measure claims of speed and quality; each benchmark prints one JSON object.")
def bench() -> None:
    pass


# A benchmark is imported, with the libraries that it compares, only when its command is called.


def _quality() -> Benchmark[Any, Any]:
    from loadtest.bench.lines import lines_benchmark

    return lines_benchmark.QUALITY


def _serving() -> Benchmark[Any, Any]:
    from loadtest.bench.serving import serving_benchmark

    return serving_benchmark.SERVING


def _night() -> Benchmark[Any, Any]:
    from loadtest.bench.night import night_benchmark

    return night_benchmark.NIGHT


def _ranking() -> Benchmark[Any, Any]:
    from loadtest.bench.ranking import ranking_benchmark

    return ranking_benchmark.RANKING


def _telemetry() -> Benchmark[Any, Any]:
    from loadtest.bench.telemetry import telemetry_benchmark

    return telemetry_benchmark.TELEMETRY


def _intervals() -> Benchmark[Any, Any]:
    from loadtest.bench.intervals import intervals_benchmark

    return intervals_benchmark.INTERVALS


def _new_movies() -> Benchmark[Any, Any]:
    from loadtest.bench.new_movies import new_movies_benchmark

    return new_movies_benchmark.NEW_MOVIES


def _exposure() -> Benchmark[Any, Any]:
    from loadtest.bench.exposure import exposure_benchmark

    return exposure_benchmark.EXPOSURE


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_LINES = click.Option(["--lines"], type=_FILE, help="Recorded lines instead of those of the simulated world.")
_MOVIES = click.Option(
    ["--movies"], type=_FILE, help="CSV of the catalogue for --lines, with the columns id and runtime."
)
_DATA = click.Option(
    ["--data"], type=click.Path(exists=True, path_type=Path), help="An archive of MovieLens, as a further set."
)
_SPLIT = click.Option(
    ["--split"],
    type=click.Choice(get_args(SplitName)),
    help="Hold out the last hours, each user's last tenth, or each user's last event (leave-one-out), of every set.",
)


@dataclass(frozen=True)
class _Entry:
    """One benchmark's command."""

    name: str
    help: str
    load: Callable[[], Benchmark[Any, Any]]
    inputs: tuple[click.Option, ...] = ()
    """Options named as the fields of `BenchmarkInputs`."""


_BENCHMARKS = (
    _Entry(
        "quality",
        "Lines to typed, checked columns: speed, repair, collecting, bad lines.",
        _quality,
        (_LINES, _MOVIES),
    ),
    _Entry(
        "serving",
        "Answers: CPU time against other servers, latency at 10,000/s, memory, first answer.",
        _serving,
    ),
    _Entry("night", "A night on a million users: time and memory of every step, and how they grow.", _night),
    _Entry(
        "ranking",
        "Lists: every model of the night on one split, beside textbook EASE and ALS.",
        _ranking,
        (_DATA, _SPLIT),
    ),
    _Entry("newmovies", "Movies that nobody has watched: whom they reach, and what it costs the others.", _new_movies),
    _Entry("telemetry", "The stream to reports: speed, memory and disk, beside aiokafka and FastStream.", _telemetry),
    _Entry("intervals", "95 % intervals of the reports: how often they hold the truth, and their width.", _intervals),
    _Entry("exposure", "Nights: whether having been shown helps or hurts a model.", _exposure),
)


class _PartName(click.ParamType[str]):
    """The name of a part of a benchmark."""

    name = "part"

    def __init__(self, load: Callable[[], Benchmark[Any, Any]]) -> None:
        self._load = load

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(self._load().parts)}]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        parts = self._load().parts
        if value not in parts:
            self.fail(f"there is no part {value}; the parts are {', '.join(parts)}", param, ctx)
        return value


def _command(entry: _Entry) -> click.Command:
    def run(quick: bool, keep: Path | None, parts: tuple[str, ...], **given: Any) -> None:
        benchmark, inputs = entry.load(), BenchmarkInputs(**given)
        _check(benchmark, keep, parts, inputs)
        size = benchmark.quick if quick else benchmark.full
        report(benchmark.run(size, _SEED, parts, inputs), keep, benchmark.plot)

    params: list[click.Parameter] = [
        click.Option(["--quick"], is_flag=True, help="A smaller size, in less than 45 s."),
        click.Option(
            ["--keep"],
            type=click.Path(file_okay=False, path_type=Path),
            help="A folder to write the result and its plot into.",
        ),
        click.Option(
            ["--part", "parts"],
            multiple=True,
            type=_PartName(entry.load),
            help="Measure this part only; may be repeated.",
        ),
        *entry.inputs,
    ]
    return click.Command(entry.name, callback=run, params=params, help=entry.help)


for _entry in _BENCHMARKS:
    bench.add_command(_command(_entry))


@bench.command()
@click.option("--count", default=3_000_000, show_default=True, type=click.IntRange(1), help="Number of lines.")
@click.option("--seed", type=click.IntRange(0), help="Seed of the lines, to repeat a run; random by default.")
def fuzz(count: int, seed: int | None) -> None:
    """Bad lines, different ones each time: no exception, and exactly one fate for each."""
    seed = secrets.randbits(32) if seed is None else seed
    click.echo(f"seed {seed}", err=True)
    quality = _quality()
    size = replace(quality.full, bad=count, users=quality.full.users // 10)
    result = msgspec.structs.replace(quality.run(size, seed, ("bad_lines",)), bench="fuzz")
    report(result, None)
    sys.exit(0 if result.met else 1)


def _check(benchmark: Benchmark[Any, Any], keep: Path | None, parts: Sequence[str], inputs: BenchmarkInputs) -> None:
    """Refuse options that do not go together, before anything is measured."""
    if keep and parts:
        raise click.UsageError("--keep keeps the result of a whole run; leave out --part")
    if inputs.movies and not inputs.lines:
        raise click.UsageError("--movies is the catalogue of --lines; give both")
    for part in parts:
        if not benchmark.is_measurable(part, inputs):
            raise click.UsageError(f"the part {part} needs --{benchmark.needs[part]}")
    if keep and benchmark.plot:
        require_matplotlib()


def report(
    result: BenchmarkResult, keep: Path | None, plot: Callable[[BenchmarkResult, Path], None] | None = None
) -> None:
    """Print a result, as a table and as one line of JSON; write it and its plot to a folder."""
    click.echo(result.as_table(), err=True)
    click.echo(f"{result.bench}: {'all targets met' if result.met else 'targets MISSED'}", err=True)
    path = write_result(keep, result) if keep else None
    click.echo(orjson.dumps(msgspec.to_builtins(result)))
    if path and plot:
        plot(read_result(path), path.with_suffix(".svg"))
