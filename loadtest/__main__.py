"""`python -m loadtest`: the simulated outside world, the demo, the benchmarks."""

import asyncio
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from loadtest.bench.commands import bench
from loadtest.demo.processes import ROOT
from loadtest.settings import WorldSettings
from stream import kafka
from stream.archive import Archive
from stream.cli import run
from stream.errors import SettingsError
from stream.settings import StreamSettings, load
from stream.zone import zone_named


@click.group(help="The outside world: a simulated movie service, recorded lines, the demo.")
def commands() -> None:
    pass


commands.add_command(bench)


def _settings() -> tuple[StreamSettings, WorldSettings]:
    streaming, world = load("stream", StreamSettings), load("loadtest", WorldSettings)
    if streaming.generation != world.generation:
        raise SettingsError(
            f"settings: [loadtest] generation is {world.generation}, [stream] generation is {streaming.generation};"
            " set both to the generation of the simulated service"
        )
    return streaming, world


@commands.command()
@click.option(
    "--folder", default=ROOT / "var" / "demo", type=click.Path(path_type=Path), help="Folder for all files of the demo."
)
@click.option(
    "--port",
    default=8082,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Port that the recommender answers on.",
)
@click.option("--days", type=click.IntRange(1, 365), help="Days of history, 14; with --empty: live days, 4.")
@click.option("--keep", is_flag=True, help="Keep all processes running afterwards.")
@click.option("--empty", is_flag=True, help="The first days of a service, from an empty archive; figures by day.")
@click.option("--compare", is_flag=True, help="With --empty: play the same days after 14 days of history as well.")
def demo(folder: Path, port: int, days: int | None, keep: bool, empty: bool, compare: bool) -> None:
    """Run the whole loop on real processes; exit code 0 if every invariant holds."""
    from loadtest.demo import first_days
    from loadtest.demo.run import run as run_demo

    if empty and keep:
        raise click.UsageError("--empty ends all its processes; leave out --keep")
    if compare and not empty:
        raise click.UsageError("--compare needs --empty")
    if empty:
        sys.exit(first_days.run(folder.resolve(), port, days or 4, compare))
    if days is not None and days < 3:
        raise click.BadParameter("a night needs 3 days of history", param_hint="--days")
    sys.exit(run_demo(folder.resolve(), port, days or 14, keep))


@commands.command()
@click.option("--folder", default=ROOT / "var" / "demo", type=click.Path(path_type=Path), help="Folder of the demo.")
def stop(folder: Path) -> None:
    """Stop the processes of a demo that was kept running."""
    from loadtest.demo.processes import stop_kept

    stopped = stop_kept(folder / "run")
    click.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing to stop")


@commands.command()
def api() -> None:
    """Serve the user and movie API, of the simulated world or of CSV files, until SIGTERM."""
    from loadtest.simulation.record_api import serve

    serve(_settings()[1])


@commands.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rate", default=0.0, type=click.FloatRange(0), help="Most lines per second; 0 for no limit.")
@click.option("--partitions", default=1, type=click.IntRange(1), help="Partitions of the topic, if it is created.")
def replay(file: Path, rate: float, partitions: int) -> None:
    """Write the recorded lines of FILE to the topic, byte for byte."""
    from batch.progress import step
    from loadtest.replay import count, oldest_time, replay_lines, require_kept

    streaming, _ = _settings()
    clock = zone_named(streaming.timezone)

    async def write() -> int:
        async with kafka.writing(streaming, partitions) as writer:
            await require_kept(streaming, oldest_time(file, clock))
            with step("replay", count(file)) as advance:
                return await replay_lines(file, writer, clock, rate, partitions, advance)

    click.echo(f"{asyncio.run(write())} lines written to {streaming.topic}")


@commands.command()
@click.option("--days", default=14, show_default=True, type=click.IntRange(1), help="Number of days.")
@click.option("--first-day", default="2026-01-27", show_default=True, help="First day, YYYY-MM-DD.")
def history(days: int, first_day: str) -> None:
    """Write days of simulated history straight into the archive, without Kafka."""
    from batch.progress import step
    from loadtest.simulation import backfill
    from loadtest.simulation.visits import Audience
    from loadtest.simulation.world import World
    from stream.zone import day_name, day_number

    streaming, world = _settings()
    clock = zone_named(streaming.timezone)
    try:
        last = day_name(day_number(first_day) + days - 1)
    except ValueError as error:
        raise click.BadParameter(f"{first_day}: {error}", param_hint="--first-day") from error
    audience = Audience(World(world), clock, world.seed, clock.bounds(first_day)[0])
    archive = Archive(streaming.var)
    with archive.writing(), step("history", days) as advance:
        until = clock.bounds(last)[1]
        lines = backfill.write(archive, audience, clock, first_day, until, advance)
    click.echo(f"{lines} lines written to {streaming.var}")


@commands.command()
@click.option(
    "--hours", default=0.0, type=click.FloatRange(0), help="Stop after so many hours of event time; 0 for never."
)
def service(hours: float) -> None:
    """Simulate the live service at the configured pace, from the end of the archive on, until Ctrl-C."""
    asyncio.run(_serve(hours))


async def _serve(hours: float) -> None:
    from batch.collecting import announcements
    from loadtest.replay import require_kept
    from loadtest.simulation import backfill
    from loadtest.simulation.recommender_client import RecommenderClient
    from loadtest.simulation.service import SLICE_MS, Service
    from loadtest.simulation.visits import Audience
    from loadtest.simulation.world import World

    streaming, settings = _settings()
    archive, clock = Archive(streaming.var), zone_named(streaming.timezone)
    archived = [entry.kafka_time for entry in archive.condensed() if entry.kafka_time]
    begins = (max((time.last for time in archived), default=clock.bounds("2026-02-10")[0]) // SLICE_MS + 1) * SLICE_MS
    opens = min((time.first for time in archived), default=begins)
    audience = Audience(World(settings), clock, settings.seed + begins // SLICE_MS, opens)
    backfill.replay_archive(archive, audience)
    caller = RecommenderClient(settings.server, settings.deadline_ms, audience.world.catalogue.index)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with kafka.writing(streaming) as writer:
        await require_kept(streaming, begins)
        announce = partial(announcements.announce, streaming.var)
        playing = Service(audience, clock, caller, writer, settings, begins, announce)
        over: Callable[[], bool] = lambda: bool(hours) and playing.now_ms >= begins + hours * 3_600_000  # noqa: E731
        await playing.run(lambda: stop.is_set() or over())
    caller.close()
    counts = playing.counts
    click.echo(f"{counts.lines} lines written, requests by status {dict(counts.statuses)}")


if __name__ == "__main__":
    run(commands, "loadtest")
