"""`python -m batch`: collecting and the night.

Most commands load SciPy, pandas or aiokafka, which takes seconds; a command imports only what it needs itself.
"""

import asyncio

import click

from batch.settings import BatchSettings
from quality.settings import QualitySettings
from stream.cli import LazyGroup, run
from stream.settings import StreamSettings, load

_NIGHT, _RELEASES = "batch.nights.night_commands", "batch.releases.release_commands"
_MODULES = {
    **{
        name: f"{_NIGHT}:{name}"
        for name in ("nightly", "sessions", "catalog", "history", "evaluate", "train", "publish")
    },
    "tidy": "batch.tidying.tidy_command:command",
    "schedule": "batch.nights.schedule:command",
    "releases": f"{_RELEASES}:list_releases",
    "rollback": f"{_RELEASES}:rollback",
    "pin": f"{_RELEASES}:pin_release",
    "unpin": f"{_RELEASES}:unpin_release",
    "prune": f"{_RELEASES}:prune_releases",
    "provenance": "batch.releases.provenance:command",
    "compare": "batch.evaluation.compare:compare",
    "experiment": "batch.evaluation.experiment:experiment",
    "new-movies": "batch.collecting.announcements:new_movies",
    "import-movielens": "batch.movielens.importing:import_movielens",
}


@click.group(cls=LazyGroup, modules=_MODULES, help="Collecting and the night: Kafka and the APIs to a release.")
def commands() -> None:
    pass


@commands.command()
@click.option("--until-idle", type=click.FloatRange(min=0.1), help="Stop after so many seconds without a line.")
def collect(until_idle: float | None) -> None:
    """Read the topic into the archive, until SIGTERM."""
    from batch.collecting import collector

    streaming, quality = load("stream", StreamSettings), load("quality", QualitySettings)
    asyncio.run(collector.collect(streaming, quality, load("batch", BatchSettings), until_idle))


@commands.command("forget-unknown")
def forget_unknown() -> None:
    """Forget the movies and users that the API denied, so that they are requested again."""
    from quality.catalog import Catalog

    click.echo(f"{Catalog(load('stream', StreamSettings).var).forget_unknown()} ids forgotten")


if __name__ == "__main__":
    run(commands, "batch")
