"""`python -m loadtest bench <name>`: the registry of benchmarks, one command each.

A benchmark prints one JSON object (see `outcome.py`) as the last line of stdout; all else goes to stderr. It exits 0
whether or not its targets are met: only `fuzz`, whose targets are no matter of speed, exits 1 where one is not.
"""

import secrets
import sys
from collections.abc import Container, Sequence
from pathlib import Path

import click
import orjson

from loadtest.bench.outcome import Outcome
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
    from loadtest.bench import quality as quality_
    from loadtest.bench.lines import Played, Recorded

    _check_parts(parts, quality_.PARTS, keep)
    if movies and not lines:
        raise click.UsageError("--movies is the catalogue of --lines")
    source = Recorded(lines, movies, _SEED) if lines else Played(_USERS, _MOVIES, _SEED)
    tell(quality_.run(source, quality_.QUICK if quick else quality_.FULL, _SEED, parts), keep)


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
    from loadtest.bench import picture
    from loadtest.bench import serving as serving_

    _check_parts(parts, serving_.PARTS, keep)
    if keep:
        picture.require()
    outcome = serving_.run(serving_.QUICK if quick else serving_.FULL, _SEED, parts)
    tell(outcome, keep)
    if keep:
        picture.draw(outcome.as_object(), keep / "serving.svg")


@bench.command()
@_quick
@_keep
@click.option("--part", "parts", multiple=True, help="Measure this part only: compaction, night or growth.")
def night(quick: bool, keep: Path | None, parts: tuple[str, ...]) -> None:
    """A night on a million users: time and memory of every step, and how they grow."""
    from loadtest.bench import night as night_
    from loadtest.bench import night_picture, picture

    _check_parts(parts, night_.PARTS, keep)
    if keep:
        picture.require()
    outcome = night_.run(night_.QUICK if quick else night_.FULL, _SEED, parts)
    tell(outcome, keep)
    if keep:
        night_picture.draw(outcome.as_object(), keep / "night.svg")


@bench.command()
@_quick
@_keep
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="An archive of MovieLens, as a further set.")
@click.option("--part", "parts", multiple=True, help="Measure this set only: world, sequences, shuffled, movielens.")
def ranking(quick: bool, keep: Path | None, data: Path | None, parts: tuple[str, ...]) -> None:
    """Lists: every model of the night on one split, beside EASE and ALS as they are known."""
    from loadtest.bench import picture, ranking_picture
    from loadtest.bench import ranking as ranking_

    _check_parts(parts, ranking_.SETS, keep)
    if "movielens" in parts and data is None:
        raise click.UsageError("the set movielens is read from --data")
    if keep:
        picture.require()
    outcome = ranking_.run(ranking_.QUICK if quick else ranking_.FULL, _SEED, parts, data)
    tell(outcome, keep)
    if keep:
        ranking_picture.draw(outcome.as_object(), keep / "ranking.svg")


@bench.command()
@click.option("--count", default=3_000_000, show_default=True, type=click.IntRange(1), help="How many lines.")
@click.option("--seed", type=click.IntRange(0), help="Makes the same lines again; a random one otherwise.")
def fuzz(count: int, seed: int | None) -> None:
    """Bad lines, other ones each time: no exception, and exactly one fate each."""
    from dataclasses import replace

    from loadtest.bench import quality as quality_
    from loadtest.bench.lines import Played

    seed = secrets.randbits(32) if seed is None else seed
    click.echo(f"seed {seed}", err=True)
    source = Played(_USERS // 10, _MOVIES, _SEED)
    outcome = quality_.run(source, replace(quality_.FULL, bad=count), seed, ("bad_lines",))
    tell(replace(outcome, bench="fuzz"), None)
    sys.exit(0 if outcome.met else 1)


def _check_parts(parts: Sequence[str], known: Container[str], keep: Path | None) -> None:
    if unknown := [part for part in parts if part not in known]:
        raise click.BadParameter(f"no part {', '.join(unknown)}", param_hint="--part")
    if keep and parts:
        raise click.UsageError("what is kept is the whole: leave out --part")


def tell(outcome: Outcome, keep: Path | None) -> None:
    """Print an outcome, as a table for people and as one line of JSON; keep that as `<bench>.json` in a folder."""
    found = outcome.as_object()
    click.echo(outcome.as_table(), err=True)
    click.echo(f"{outcome.bench}: {'all targets met' if outcome.met else 'targets MISSED'}", err=True)
    if keep:
        durable.write_json(keep / f"{outcome.bench}.json", found)
    click.echo(orjson.dumps(found))
