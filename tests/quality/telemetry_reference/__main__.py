"""`python -m tests.quality.telemetry_reference --seeds 10000`: compare telemetry with its reference in many worlds.

Ends at the first world in which they differ, with exit code 1; the world is made as small as possible and kept as a
file, from which `--world` runs it again.
"""

import logging
import sys
import time
from pathlib import Path

import click

from tests.quality.telemetry_reference.checks import disagreements, shrink
from tests.quality.telemetry_reference.simulator import make_world
from tests.quality.telemetry_reference.worlds import RecordedWorld, load, save


@click.command()
@click.option("--seeds", default=200, show_default=True, help="How many worlds.")
@click.option("--first", default=0, show_default=True, help="Seed of the first one.")
@click.option("--keep", type=click.Path(path_type=Path), default=Path("var/worlds"), show_default=True)
@click.option("--world", "kept", type=click.Path(path_type=Path, exists=True), help="A file to run again.")
@click.option("--whole", is_flag=True, help="Keep failing worlds as they are, and go on.")
def main(seeds: int, first: int, keep: Path, kept: Path | None, whole: bool) -> None:
    """Compare telemetry with its reference in worlds made from seeds."""
    logging.disable(logging.ERROR)
    if kept is not None:
        seed = int(kept.stem)
        sys.exit(_report(kept.stem, disagreements(load(kept), seed)))
    began, failed = time.monotonic(), 0
    for done, seed in enumerate(range(first, first + seeds), 1):
        world = make_world(seed)
        if found := disagreements(world, seed):
            failed += _report(f"seed {seed}", found)
            _keep(world if whole else _smallest(world, seed), keep / f"{seed}.tsv")
            if not whole:
                break
        if done % 100 == 0 or done == seeds:
            click.echo(f"{done} of {seeds} worlds, {failed} differ, {time.monotonic() - began:.0f} s")
    sys.exit(1 if failed else 0)


def _report(name: str, found: list[str]) -> int:
    """Print what differs; returns the exit code."""
    for line in found:
        click.echo(f"{name}: {line}")
    return 1 if found else 0


def _smallest(world: RecordedWorld, seed: int) -> RecordedWorld:
    return shrink(world, lambda smaller: bool(disagreements(smaller, seed)))


def _keep(world: RecordedWorld, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(world, path)
    click.echo(f"kept as {path}: {len(world.records)} records")


if __name__ == "__main__":
    main()
