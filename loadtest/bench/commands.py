"""`python -m loadtest bench <name>`: the registry of benchmarks, one command each.

A benchmark prints one JSON object (see `result.py`) as the last line of stdout; all else goes to stderr. It exits 0
whether or not its targets are met: only `fuzz`, whose targets are no matter of speed, exits 1 where one is not.
"""

import secrets
import sys
from collections.abc import Container, Sequence
from pathlib import Path

import click
import orjson

from loadtest.bench.plotting import require_matplotlib
from loadtest.bench.result import BenchmarkResult
from stream import durable

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_USERS, _MOVIES, _SEED = 1_000_000, 27_000, 1
_quick = click.option("--quick", is_flag=True, help="A smaller size, in less than 45 s.")
_keep = click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Write the object into a folder.")


@click.group(help="Measure what is claimed; each benchmark prints one JSON object.")
def bench() -> None:
    pass


@bench.command()
@_quick
@_keep
@click.option("--lines", type=_FILE, help="Recorded lines instead of those of the simulated world.")
@click.option("--movies", type=_FILE, help="CSV of the catalogue for --lines, with the columns id and runtime.")
@click.option("--part", "parts", multiple=True, help="Measure this part only: speed, repair, collect or bad_lines.")
def quality(quick: bool, keep: Path | None, lines: Path | None, movies: Path | None, parts: tuple[str, ...]) -> None:
    """Lines to typed, checked columns: speed, repair, collecting, bad lines."""
    from loadtest.bench.lines import lines_benchmark
    from loadtest.bench.lines.line_sources import RecordedLines, SimulatedLines

    _check_parts(parts, lines_benchmark.PARTS, keep)
    if movies and not lines:
        raise click.UsageError("--movies is the catalogue of --lines")
    source = RecordedLines(lines, movies, _SEED) if lines else SimulatedLines(_USERS, _MOVIES, _SEED)
    tell(lines_benchmark.run(source, lines_benchmark.QUICK if quick else lines_benchmark.FULL, _SEED, parts), keep)


@bench.command()
@_quick
@_keep
@click.option(
    "--part",
    "parts",
    multiple=True,
    help="Only this: contestants, steady, restarts, probes, meter or similar.",
)
def serving(quick: bool, keep: Path | None, parts: tuple[str, ...]) -> None:
    """Answers: CPU time against other servers, latency at 10,000/s, memory, first answer."""
    from loadtest.bench.serving import serving_benchmark, serving_plot

    _check_parts(parts, serving_benchmark.PARTS, keep)
    if keep:
        require_matplotlib()
    outcome = serving_benchmark.run(serving_benchmark.QUICK if quick else serving_benchmark.FULL, _SEED, parts)
    tell(outcome, keep)
    if keep:
        serving_plot.draw(outcome.as_object(), keep / "serving.svg")


@bench.command()
@_quick
@_keep
@click.option("--part", "parts", multiple=True, help="Measure this part only: compaction, night or growth.")
def night(quick: bool, keep: Path | None, parts: tuple[str, ...]) -> None:
    """A night on a million users: time and memory of every step, and how they grow."""
    from loadtest.bench.night import night_benchmark, night_plot

    _check_parts(parts, night_benchmark.PARTS, keep)
    if keep:
        require_matplotlib()
    outcome = night_benchmark.run(night_benchmark.QUICK if quick else night_benchmark.FULL, _SEED, parts)
    tell(outcome, keep)
    if keep:
        night_plot.draw(outcome.as_object(), keep / "night.svg")


@bench.command()
@_quick
@_keep
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="An archive of MovieLens, as a further set.")
@click.option("--part", "parts", multiple=True, help="Measure this set only: world, sequences, shuffled, movielens.")
def ranking(quick: bool, keep: Path | None, data: Path | None, parts: tuple[str, ...]) -> None:
    """Lists: every model of the night on one split, beside EASE and ALS as they are known."""
    from loadtest.bench.ranking import ranking_benchmark, ranking_plot

    _check_parts(parts, ranking_benchmark.SETS, keep)
    if "movielens" in parts and data is None:
        raise click.UsageError("the set movielens is read from --data")
    if keep:
        require_matplotlib()
    outcome = ranking_benchmark.run(ranking_benchmark.QUICK if quick else ranking_benchmark.FULL, _SEED, parts, data)
    tell(outcome, keep)
    if keep:
        ranking_plot.draw(outcome.as_object(), keep / "ranking.svg")


@bench.command()
@click.option("--count", default=3_000_000, show_default=True, type=click.IntRange(1), help="How many lines.")
@click.option("--seed", type=click.IntRange(0), help="Makes the same lines again; a random one otherwise.")
def fuzz(count: int, seed: int | None) -> None:
    """Bad lines, other ones each time: no exception, and exactly one fate each."""
    from dataclasses import replace

    from loadtest.bench.lines import lines_benchmark
    from loadtest.bench.lines.line_sources import SimulatedLines

    seed = secrets.randbits(32) if seed is None else seed
    click.echo(f"seed {seed}", err=True)
    source = SimulatedLines(_USERS // 10, _MOVIES, _SEED)
    outcome = lines_benchmark.run(source, replace(lines_benchmark.FULL, bad=count), seed, ("bad_lines",))
    tell(replace(outcome, bench="fuzz"), None)
    sys.exit(0 if outcome.met else 1)


def _check_parts(parts: Sequence[str], known: Container[str], keep: Path | None) -> None:
    if unknown := [part for part in parts if part not in known]:
        raise click.BadParameter(f"no part {', '.join(unknown)}", param_hint="--part")
    if keep and parts:
        raise click.UsageError("what is kept is the whole: leave out --part")


def tell(outcome: BenchmarkResult, keep: Path | None) -> None:
    """Print an outcome, as a table for people and as one line of JSON; keep that as `<bench>.json` in a folder."""
    found = outcome.as_object()
    click.echo(outcome.as_table(), err=True)
    click.echo(f"{outcome.bench}: {'all targets met' if outcome.met else 'targets MISSED'}", err=True)
    if keep:
        durable.write_json(keep / f"{outcome.bench}.json", found)
    click.echo(orjson.dumps(found))
