"""`python -m batch`: gathering and the night."""

import asyncio
import logging
import resource
import signal
import threading
import time
from typing import Any

import click
import msgspec
import orjson

from batch import schedule as schedule_
from batch.collect import collect as collect_
from batch.night import STEPS, Night
from batch.settings import BatchSettings
from quality.catalog import Catalog
from quality.notify import posting
from quality.settings import QualitySettings
from stream.cli import run
from stream.errors import SettingsError
from stream.settings import StreamSettings, load

log = logging.getLogger("batch")


@click.group(help="Gathering and the night: Kafka and the APIs to a release.")
def door() -> None:
    pass


@door.command()
@click.option("--until-idle", type=click.FloatRange(min=0.1), help="End when no line came for so many seconds.")
def collect(until_idle: float | None) -> None:
    """Read the topic into the archive, until SIGTERM."""
    streaming, quality = load("stream", StreamSettings), load("quality", QualitySettings)
    asyncio.run(collect_(streaming, quality, load("batch", BatchSettings), until_idle))


@door.command()
@click.option("--model", type=click.Choice(["best", "als", "popular"]), help="Instead of the setting: model.")
@click.option("--factors", type=click.IntRange(1), help="Instead of the setting: factors.")
@click.option("--seed", type=int, help="Instead of the setting: seed.")
@click.option("--despite-alerts", is_flag=True, help="Go on even where alerts hold the night back.")
def nightly(despite_alerts: bool, **changed: Any) -> None:
    """All steps of the night, one after the other; prints a JSON summary."""
    night = _night(changed)
    summary: dict[str, Any] = {}
    with night.lock(), posting(load("stream", StreamSettings).var, load("quality", QualitySettings)):
        night.hold(despite_alerts)
        for name, one in STEPS:
            began = time.monotonic()
            found = one(night)
            summary[name] = {"seconds": round(time.monotonic() - began, 2), **found}
    summary["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    click.echo(orjson.dumps(summary, option=orjson.OPT_INDENT_2))


@door.command()
@click.option("--at", help="Instead of the setting: night_at (HH:MM on the service's clock).")
def schedule(at: str | None) -> None:
    """Run a night whenever the stream's clock passes the hour, until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    schedule_.run(load("stream", StreamSettings), _settings({"night_at": at}), stop)


@door.command("forget-unknown")
def forget_unknown() -> None:
    """Forget which movies and users the API did not know, so that it is asked for them again."""
    click.echo(f"{Catalog(load('stream', StreamSettings).var).forget_unknown()} ids forgotten")


def _settings(changed: dict[str, Any]) -> BatchSettings:
    settings = load("batch", BatchSettings)
    given = {key: value for key, value in changed.items() if value is not None}
    try:
        return msgspec.convert({**msgspec.to_builtins(settings), **given}, BatchSettings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings: an option is out of range: {error}") from error


def _night(changed: dict[str, Any]) -> Night:
    return Night(load("stream", StreamSettings), load("quality", QualitySettings), _settings(changed))


def _add_step(name: str, one: Any) -> None:
    @door.command(name, help=f"The step of the night alone: {one.__doc__.splitlines()[0]}")
    def alone() -> None:
        night = _night({})
        with night.lock():
            click.echo(orjson.dumps(one(night), option=orjson.OPT_INDENT_2))


for _name, _one in STEPS:
    _add_step(_name, _one)

if __name__ == "__main__":
    run(door, "batch")
