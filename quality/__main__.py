"""`python -m quality`: the ledger, the quarantine, telemetry and reports.

Commands import pandas and pyarrow themselves, since these load slowly; this keeps `--help` fast.
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


@click.group(help="Good data and good answers: the ledger of lines, the quarantine, telemetry, reports.")
def commands() -> None:
    pass


def _day(context: click.Context, parameter: click.Parameter, value: datetime | None) -> str | None:
    return value.date().isoformat() if value else None


day_option = click.option("--day", type=click.DateTime(["%Y-%m-%d"]), callback=_day, help="Only this day (YYYY-MM-DD).")


@commands.command()
@day_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def ledger(day: str | None, as_json: bool) -> None:
    """Print the number of lines by fate, kind and reason; exit 1 if they do not add up."""
    from rich.console import Console

    from quality.lines.ledger_summary import damaged_files, summarize, summary_table
    from stream.archive import Archive

    archive = Archive(load("stream", StreamSettings).var)
    entries = archive.entries()
    if damaged_files(archive, entries, day):  # a replay may just have replaced them: read the ledger again
        entries = archive.entries()
    damaged = damaged_files(archive, entries, day)
    summary = summarize(entries, day, damaged)
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(summary), option=orjson.OPT_INDENT_2))
    else:
        Console().print(summary_table(summary))
        for path in damaged:
            click.echo(f"damaged or missing: {path}", err=True)
    if damaged or not summary.balanced:
        raise SystemExit(1)


@commands.group()
def quarantine() -> None:
    """List, show and re-check quarantined lines."""


@quarantine.command("list")
@day_option
@click.option("--reason", help="Only this reason.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(0), help="Most lines to print; 0: all.")
def list_quarantine(day: str | None, reason: str | None, limit: int) -> None:
    """Print the lines in quarantine: id, Kafka time, reason, bytes."""
    from itertools import islice

    from quality.lines.quarantine import quarantined_lines
    from stream.archive import Archive
    from stream.grammar import render_time
    from stream.zone import zone_named

    streaming = load("stream", StreamSettings)
    clock = zone_named(streaming.timezone)
    for line in islice(quarantined_lines(Archive(streaming.var), day, reason), limit or None):
        text = line.raw.decode("utf-8", "backslashreplace")
        click.echo(f"{line.id}\t{render_time(line.kafka_time, clock)}\t{line.reason}\t{text[:200]!a}")


@quarantine.command()
@click.argument("line")
def show(line: str) -> None:
    """Print one LINE (an id from `list`) as JSON: why it was quarantined, and its possible meanings."""
    from quality.lines.quarantine import explain
    from stream.archive import Archive

    explanation = explain(Archive(load("stream", StreamSettings).var), line, _context())
    click.echo(orjson.dumps(msgspec.to_builtins(explanation), option=orjson.OPT_INDENT_2))


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
    from quality.telemetry import consumer

    asyncio.run(consumer.run(load("stream", StreamSettings), load("quality", QualitySettings)))


@commands.command("report")
@click.option("--day", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Day of the service's zone.")
def show_report(day: datetime) -> None:
    """Print a day's report as JSON: the final one, or else one computed from the store as it is. Writes nothing."""
    from quality.telemetry.report import Reports
    from quality.telemetry.store import Store

    settings = load("stream", StreamSettings)
    number = day_number(day.date().isoformat())
    store = Store(settings.var / "telemetry.db", create=False)
    try:
        reports = Reports(store, settings, load("quality", QualitySettings))
        report = reports.written(number)
        watermark = store.reached(settings.topic)
        if report is None and (watermark is None or number not in store.days(final=False)):
            raise ReportError(f"report: the store has no lines of {day.date()}, not yet or not any more")
        document = msgspec.to_builtins(report or reports.build(number, watermark or 0))
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    finally:
        store.close()


if __name__ == "__main__":
    run(commands, "quality")
