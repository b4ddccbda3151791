"""`python -m quality`: is what comes in good, and is what goes out?"""

import asyncio
from datetime import datetime

import click
import orjson

from quality.errors import ReportError
from quality.settings import QualitySettings
from stream.cli import run
from stream.settings import StreamSettings, load
from stream.zone import day_number


@click.group(help="Good data and good answers: telemetry of the live stream, reports.")
def door() -> None:
    pass


@door.command("telemetry")
def run_telemetry() -> None:
    """Follow the topic and keep the reports up to date, until Ctrl-C or SIGTERM."""
    from quality import telemetry  # pandas and Kafka take their time: not for --help

    asyncio.run(telemetry.run(load("stream", StreamSettings), load("quality", QualitySettings)))


@door.command("report")
@click.option("--day", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Day of the service's zone.")
def show_report(day: datetime) -> None:
    """Print a day's report as JSON: the final one, or one made anew from the store as it is. Writes nothing."""
    from quality.report import Reports
    from quality.store import Store

    settings = load("stream", StreamSettings)
    number = day_number(day.date().isoformat())
    store = Store(settings.var / "telemetry.db", create=False)
    try:
        reports = Reports(store, settings, load("quality", QualitySettings))
        report = reports.written(number)
        watermark = store.watermark(settings.topic)
        if report is None and (watermark is None or number not in store.days(final=False)):
            raise ReportError(f"report: the store has no lines of {day.date()} any more, or not yet")
        click.echo(orjson.dumps(report or reports.build(number, watermark or 0), option=orjson.OPT_INDENT_2))
    finally:
        store.close()


if __name__ == "__main__":
    run(door, "quality")
