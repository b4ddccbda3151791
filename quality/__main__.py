"""`python -m quality`: the ledger, the quarantine, telemetry and reports.

What reads columns is imported by the command that needs it: pandas and pyarrow take their time, and --help has none.
"""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec
import orjson

from quality.errors import ReportError
from quality.settings import QualitySettings
from stream.cli import run
from stream.settings import StreamSettings, load
from stream.zone import day_number

if TYPE_CHECKING:
    from quality.lines.context_checks import JudgingContext


@click.group(help="Good data and good answers: the ledger of the lines, the quarantine, telemetry, reports.")
def commands() -> None:
    pass


def _day(context: click.Context, parameter: click.Parameter, value: datetime | None) -> str | None:
    return value.date().isoformat() if value else None


day_option = click.option("--day", type=click.DateTime(["%Y-%m-%d"]), callback=_day, help="Only this day (YYYY-MM-DD).")


@commands.command()
@day_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def ledger(day: str | None, as_json: bool) -> None:
    """Print what came in and what became of it, by fate, kind and reason; exit 1 where it does not add up."""
    from rich.console import Console

    from quality.lines.ledger_summary import damaged_files, summarize, summary_table
    from stream.archive import Archive

    archive = Archive(load("stream", StreamSettings).var)
    entries = archive.entries()
    if damaged_files(archive, entries, day):  # or replayed in this moment: then the ledger names other files now
        entries = archive.entries()
    found = summarize(entries, day) | {"damaged": damaged_files(archive, entries, day)}
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        Console().print(summary_table(found))
        for path in found["damaged"]:
            click.echo(f"damaged or gone: {path}", err=True)
    if found["damaged"] or not found["balanced"]:
        raise SystemExit(1)


@commands.group()
def quarantine() -> None:
    """Look into the lines that were set aside, and judge them anew."""


@quarantine.command("list")
@day_option
@click.option("--reason", help="Only this reason.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(0), help="At most so many; 0: all.")
def list_quarantine(day: str | None, reason: str | None, limit: int) -> None:
    """Print the lines in quarantine: id, day and time of Kafka, reason, bytes."""
    from itertools import islice

    from quality.lines.quarantine import quarantined_lines
    from stream.archive import Archive
    from stream.grammar import render_time
    from stream.zone import zone_named

    streaming = load("stream", StreamSettings)
    clock = zone_named(streaming.timezone)
    for aside in islice(quarantined_lines(Archive(streaming.var), day, reason), limit or None):
        text = aside.raw.decode("utf-8", "backslashreplace")
        click.echo(f"{aside.id}\t{render_time(aside.kafka_time, clock)}\t{aside.reason}\t{text[:200]!a}")


@quarantine.command()
@click.argument("line")
def show(line: str) -> None:
    """Print all that can be said of one LINE (an id of `list`) as JSON: why it was set aside, what it could mean."""
    from quality.lines.quarantine import explain
    from stream.archive import Archive

    found = explain(Archive(load("stream", StreamSettings).var), line, _context())
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))


@quarantine.command()
@day_option
@click.option("--dry-run", is_flag=True, help="Only count; change nothing.")
def replay(day: str | None, dry_run: bool) -> None:
    """Re-check quarantined lines with the current rules and archive those that pass. Stop the collector first."""
    from contextlib import nullcontext

    from quality.lines.quarantine import replay_quarantine
    from stream.archive import Archive

    archive = Archive(load("stream", StreamSettings).var)
    with nullcontext() if dry_run else archive.writing():
        by_fate = replay_quarantine(archive, _context(), day, write=not dry_run)
    click.echo(orjson.dumps(dict(by_fate), option=orjson.OPT_INDENT_2))


def _context() -> "JudgingContext":
    from quality.catalog import Catalog
    from quality.lines.context_checks import make_context

    streaming = load("stream", StreamSettings)
    return make_context(streaming, load("quality", QualitySettings), Catalog(streaming.var).known(streaming.max_user))


@commands.command("telemetry")
def run_telemetry() -> None:
    """Follow the topic and keep the reports up to date, until Ctrl-C or SIGTERM."""
    from quality.telemetry import consumer  # pandas and Kafka take their time: not for --help

    asyncio.run(consumer.run(load("stream", StreamSettings), load("quality", QualitySettings)))


@commands.command("report")
@click.option("--day", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Day of the service's zone.")
def show_report(day: datetime) -> None:
    """Print a day's report as JSON: the final one, or one made anew from the store as it is. Writes nothing."""
    from quality.telemetry.report import Reports
    from quality.telemetry.store import Store

    settings = load("stream", StreamSettings)
    number = day_number(day.date().isoformat())
    store = Store(settings.var / "telemetry.db", create=False)
    try:
        reports = Reports(store, settings, load("quality", QualitySettings))
        report = reports.written(number)
        watermark = store.watermark(settings.topic)
        if report is None and (watermark is None or number not in store.days(final=False)):
            raise ReportError(f"report: the store has no lines of {day.date()} any more, or not yet")
        document = msgspec.to_builtins(report or reports.build(number, watermark or 0))
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    finally:
        store.close()


if __name__ == "__main__":
    run(commands, "quality")
