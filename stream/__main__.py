"""`python -m stream`: tools to inspect the event log."""

import asyncio
import collections
import re
import signal
import sys
import time
from pathlib import Path

import click
import msgspec
import orjson
import pyarrow as pa

from stream import archive, broker, kafka
from stream.cli import run
from stream.clock_summary import summarize_clocks
from stream.errors import StreamError, TopicRemade
from stream.grammar import LineRefused, parse
from stream.ledger_clock import stream_time
from stream.ledger_entry import count_by_fate
from stream.line_columns import read
from stream.repartition import CopyPlan, CopyResult, repartition
from stream.settings import StreamSettings, load
from stream.zone import Zone, zone_named


@click.group(help="The event log: grammar, Kafka, archive.")
def commands() -> None:
    pass


@commands.command("broker")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=9092, show_default=True, type=click.IntRange(1, 65535))
def run_broker(host: str, port: int) -> None:
    """Run the embedded broker until Ctrl-C or SIGTERM (in memory only, for experiments)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with broker.running(host, port) as process:
        click.echo(f"broker on {host}:{port}", err=True)
        raise SystemExit(process.wait())


@commands.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--refused", default=10, show_default=True, help="How many refused lines to show.")
def check(file: Path, refused: int) -> None:
    """Check a FILE of recorded lines against the grammar; print counts by kind and reason as JSON.

    `crlf` counts the refused lines that are well-formed without a carriage return at their end: the collector repairs
    those that pass its checks.
    """
    lines = file.read_bytes().split(b"\n")
    lines = lines[:-1] if lines and not lines[-1] else lines
    zone = zone_named(load("stream", StreamSettings).timezone)
    columns = read(pa.array(lines, pa.binary()), zone)
    crlf = _good_without_cr(lines, columns.refused.tolist(), zone)
    for row in columns.refused[:refused].tolist():
        click.echo(f"line {row + 1}: {_reason(lines[row])}: {lines[row].decode('utf-8', 'replace')!a}", err=True)
    counts = {
        "lines": len(lines),
        "kinds": {kind: table.num_rows for kind, table in columns.events.items()},
        "refused": dict(collections.Counter(columns.reasons)),
        "crlf": len(crlf),
    }
    click.echo(orjson.dumps(counts, option=orjson.OPT_INDENT_2))
    if crlf:
        where = f"{len(crlf)} of the refused lines, first line {crlf[0] + 1}"
        click.echo(f"{where}, only end in CR LF: the collector repairs them if they pass its checks", err=True)


def _good_without_cr(lines: list[bytes], refused: list[int], zone: Zone) -> list[int]:
    """Which of the refused lines (indices) are well-formed without the carriage return that they end in."""
    ending = [row for row in refused if lines[row].endswith(b"\r")]
    still_refused = set(read(pa.array([lines[row][:-1] for row in ending], pa.binary()), zone).refused.tolist())
    return [row for number, row in enumerate(ending) if number not in still_refused]


def _reason(line: bytes) -> str:
    try:
        parse(line, zone_named(load("stream", StreamSettings).timezone))
    except LineRefused as refusal:
        return str(refusal)
    return "well-formed"


@commands.command()
@click.option("--lines", default=20, show_default=True, help="Stop after this many lines; 0: never.")
@click.option("--seconds", default=5.0, show_default=True, help="Stop after this long without a line; 0: never.")
def tail(lines: int, seconds: float) -> None:
    """Print the lines of the topic from its beginning, with offset and verdict."""
    asyncio.run(_tail(load("stream", StreamSettings), lines, seconds))


async def _tail(settings: StreamSettings, most: int, seconds: float) -> None:
    shown, last = 0, time.monotonic()
    async with kafka.reading(settings, "marquee-tail", {}) as reader:
        while (not most or shown < most) and (not seconds or time.monotonic() - last < seconds):
            for records in await reader.poll(most - shown if most else 1000):
                if isinstance(records, kafka.RetentionGap):
                    continue
                last = time.monotonic()
                for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
                    click.echo(f"{records.partition}:{offset}\t{_reason(value)}\t{value.decode('utf-8', 'replace')}")
                    shown += 1


@commands.command("new-topic")
def new_topic() -> None:
    """Go on with a topic that was deleted and made anew: collector and telemetry read it from its beginning.

    What was read of the old one is kept. Refused if Kafka still has the topic that was read.
    """
    click.echo(asyncio.run(_begin_again(load("stream", StreamSettings))))


async def _begin_again(settings: StreamSettings) -> str:
    ledger, topic = archive.Archive(settings.var), settings.topic
    with ledger.writing():
        positions = ledger.positions(topic)
        try:
            async with kafka.reading(settings, "marquee-new-topic", positions, ledger.marks(topic)) as reader:
                while None in reader.unread().values():
                    await reader.poll(1)
        except TopicRemade as error:
            evidence = error.evidence
        else:
            if positions:
                raise StreamError(f"kafka: {topic} is the topic that was read; there is nothing to do")
            evidence = "nothing is known of the old one"
        return f"{topic} is read from its beginning, as {ledger.begin_again(topic, evidence).topic} in the ledger"


class _Offset(click.ParamType[tuple[int, int]]):
    """A partition and an offset, `0:1234`."""

    name = "partition:offset"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if not (match := re.fullmatch(r"(\d{1,9}):(\d{1,18})", str(value), re.ASCII)):
            self.fail(f"{value!r} is no partition and offset, such as 0:1234", param, ctx)
        return int(match[1]), int(match[2])


@commands.command("repartition")
@click.argument("target")
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Of TARGET; by default as many as the topic has.")
@click.option(
    "--from", "starts", type=_Offset(), multiple=True, help="First offset to copy of a partition; repeatable."
)
@click.option("--follow", is_flag=True, help="Go on at the end, until Ctrl-C or SIGTERM.")
@click.option("--at-least-once", is_flag=True, help="Without transactions: after a crash some lines are there twice.")
def copy_by_user(
    target: str, partitions: int | None, starts: tuple[tuple[int, int], ...], follow: bool, at_least_once: bool
) -> None:
    """Copy the topic into the topic TARGET, by user: all lines of a user lie in one partition there.

    TARGET is made if it is missing. A run that was interrupted goes on where it was.
    """
    offsets = dict(starts)
    if len(offsets) < len(starts):
        raise click.UsageError("--from names a partition twice")
    plan = CopyPlan(target=target, partitions=partitions, starts=offsets, follow=follow, exactly_once=not at_least_once)
    click.echo(
        orjson.dumps(
            asyncio.run(_copy(load("stream", StreamSettings), plan)),
            option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS,
        )
    )


async def _copy(settings: StreamSettings, plan: CopyPlan) -> CopyResult:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return await repartition(settings, plan, stop)


@commands.command("archive")
def show_archive() -> None:
    """Print the archive's line counts by topic and fate, and its stream time, as JSON."""
    settings = load("stream", StreamSettings)
    entries = archive.Archive(settings.var).condensed()
    topics = sorted({entry.topic for entry in entries})
    reached = stream_time(entries)
    summary = {
        "entries": sum(entry.entry_count for entry in entries),
        "lost": sum(entry.lost for entry in entries),
        "topics": {topic: dict(count_by_fate(e for e in entries if e.topic == topic)) for topic in topics},
        "reached_ms": reached,
        "reached_day": reached and zone_named(settings.timezone).day(reached),
    }
    click.echo(orjson.dumps(summary, option=orjson.OPT_INDENT_2))


@commands.command("clock")
def show_clock() -> None:
    """Print how far the stream has come, by topic and partition, and the records that are set aside, as JSON.

    A record is set aside while too few others confirm its Kafka time; docs/architecture.md defines the clock.
    """
    settings = load("stream", StreamSettings)
    summary = summarize_clocks(archive.Archive(settings.var).condensed(), zone_named(settings.timezone))
    click.echo(msgspec.json.format(msgspec.json.encode(summary)))


if __name__ == "__main__":
    run(commands, "stream")
