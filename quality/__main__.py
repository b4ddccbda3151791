"""`python -m quality`: the ledger, the quarantine, telemetry and reports.

Commands import pandas and pyarrow themselves, since these load slowly; this keeps `--help` fast.
"""

import asyncio
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec
import orjson

from quality.errors import ReportError
from quality.settings import QualitySettings
from stream.cli import run
from stream.settings import StreamSettings, load
from stream.zone import day_name, day_number

if TYPE_CHECKING:
    from quality.lines.context_checks import JudgingContext
    from quality.telemetry.archived_reports import ArchivedReports
    from quality.telemetry.day_report import DayReport
    from quality.telemetry.report import Reports


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

    from quality.lines.ledger_summary import damaged_files, dropped_days, summarize, summary_table
    from stream.archive import Archive

    archive = Archive(load("stream", StreamSettings).var)
    entries = archive.condensed()
    if damaged_files(archive, entries, day):  # a replay may just have replaced them: read the ledger again
        entries = archive.condensed()
    damaged = damaged_files(archive, entries, day)
    summary = summarize(entries, day, damaged, dropped_days(archive, day))
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(summary), option=orjson.OPT_INDENT_2))
    else:
        Console().print(summary_table(summary))
        for text in summary.dropped or ():
            click.echo(text)
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
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Day of the service's zone.")
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), help="First of several days.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Last of several days.")
@click.option("--final", is_flag=True, help="Write the final reports of days that are over, from the archive.")
@click.option(
    "--reason", help="With --final: revise final reports that differ, for this reason; the old ones are kept."
)
def show_report(
    day: datetime | None, first: datetime | None, last: datetime | None, final: bool, reason: str | None
) -> None:
    """Print the report of a day, or a line for each of several days, as JSON.

    It is the final report, or else one made from the archive; without an archive, from telemetry's store. With --final,
    the reports are written, and what was done is printed instead.
    """
    from quality.telemetry.archived_reports import ArchivedReports
    from quality.telemetry.report import Reports

    if (day is None) == (first is None and last is None):
        raise click.UsageError("give either --day, or --from and --to")
    if reason is not None and not final:
        raise click.UsageError("--reason needs --final")
    numbers = [day_number(each.date().isoformat()) for each in (first or day or last, last or day or first) if each]
    streaming = load("stream", StreamSettings)
    reports = Reports(streaming, load("quality", QualitySettings))
    if final:
        _make_final(ArchivedReports(reports), numbers[0], numbers[-1], reason)
    elif day is not None:
        click.echo(orjson.dumps(_document(reports, numbers[0]), option=orjson.OPT_INDENT_2))
    else:
        for number in _days_between(ArchivedReports(reports), numbers[0], numbers[-1]):
            click.echo(orjson.dumps(_document(reports, number)))


def _days_between(archived: "ArchivedReports", first: int, last: int) -> list[int]:
    days = archived.days(first, last)
    if not days:
        raise ReportError(f"report: the archive has no lines from {day_name(first)} to {day_name(last)}")
    return days


def _document(reports: "Reports", day: int) -> object:
    """The final report of a day as it is, of an older layout as well, or one made now."""
    if reports.final_head(day):
        return orjson.loads(reports.path(day).read_bytes())
    return msgspec.to_builtins(_report(reports, day))


def _report(reports: "Reports", day: int) -> "DayReport":
    """The report of a day as of now, of the archive, or of telemetry's store."""
    from quality.telemetry.archived_reports import ArchivedReports
    from quality.telemetry.store import Store

    archived = ArchivedReports(reports)
    if archived.rows.entries:
        (number,) = _days_between(archived, day, day)
        return archived.build(number)
    with closing(Store(reports.stream.var / "telemetry.db", create=False)) as store:
        watermark = store.reached(reports.stream.topic)
        if watermark is None or day not in store.days(final=False):
            raise ReportError(f"report: the store has no lines of {day_name(day)}, not yet or not any more")
        return reports.build(day, store.day_rows(day, reports.days), watermark)


def _make_final(archived: "ArchivedReports", first: int, last: int, reason: str | None) -> None:
    failed = False
    for day in _days_between(archived, first, last):
        if behind := list(archived.partitions_behind(day)):
            click.echo(f"{day_name(day)}: lines of partitions {behind} may not be archived, yet", err=True)
        try:
            click.echo(f"{day_name(day)}: {archived.make_final(day, reason)}")
        except ReportError as error:
            failed = True
            click.echo(str(error), err=True)
    if failed:
        raise SystemExit(1)


@commands.command("trend")
@click.option("--days", type=click.IntRange(1), help="Only this many final reports, the newest; all by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def show_trend(days: int | None, as_json: bool) -> None:
    """Print how hit rate and uplift change from day to day, from the final reports; exit 1 if one is damaged."""
    from itertools import islice

    from quality.telemetry.report_trend import FinalReports, report_trend, trend_text

    reports = FinalReports(load("stream", StreamSettings).var / "reports")
    chosen = list(islice(reports, days))
    for error in reports.damaged:
        click.echo(f"skipped: {error}", err=True)
    trend = report_trend(chosen)
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(trend), option=orjson.OPT_INDENT_2))
    else:
        click.echo(trend_text(trend))
    if reports.damaged:
        raise SystemExit(1)


if __name__ == "__main__":
    run(commands, "quality")
