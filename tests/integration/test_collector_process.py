"""The collector with a real broker: however it is killed, no line is lost and none counts twice."""

import asyncio
import random
import signal
import socket
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from batch.collecting.collector import Collector
from batch.settings import BatchSettings
from loadtest.demo.processes import answers, free_port
from loadtest.settings import WorldSettings
from loadtest.simulation.world import World
from quality.catalog import Catalog
from quality.settings import QualitySettings
from stream import kafka
from stream.archive import Archive
from stream.event import Event
from stream.grammar import render
from stream.ledger_entry import count_by_fate
from stream.settings import StreamSettings, load
from stream.zone import zone_named
from tests.integration.marquee_processes import Start
from tests.polling import until

NEW_YORK = zone_named("America/New_York")
NOON = NEW_YORK.bounds("2026-02-10")[0] + 12 * 3_600_000


def lines(count: int, first: int = 0) -> tuple[list[bytes], list[int]]:
    """Well-formed lines, all different, one second apart, and their Kafka times."""
    times = [NOON + (first + number) * 1000 for number in range(count)]
    events = [Event("watch", at, 1 + at // 1000 % 500, "alien+1979", minute=at // 1000 % 90) for at in times]
    return [render(event, NEW_YORK) for event in events], times


def write(environ: dict[str, str], values: list[bytes], times: list[int], partitions: int = 1) -> None:
    async def writing() -> None:
        async with kafka.writing(load("stream", StreamSettings, environ), partitions) as writer:
            for partition in range(partitions):
                await writer.write(values[partition::partitions], times[partition::partitions], partition)

    asyncio.run(writing())


def archived(environ: dict[str, str]) -> Archive:
    return Archive(load("stream", StreamSettings, environ).var)


def offsets(archive: Archive) -> list[tuple[int, int]]:
    """Partition and offset of every accepted line."""
    accepted = []
    for paths in archive.files("watch").values():
        for path in paths:
            table = pq.read_table(path, columns=["partition", "offset"])
            accepted += list(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True))
    return sorted(accepted)


def reached(archive: Archive, entries: int) -> bool:
    """Whether the ledger has a number of entries."""
    return len(list(archive.ledger.glob("*.json"))) >= entries


def test_every_line_of_all_partitions_is_archived_once(environ: dict[str, str], start: Start) -> None:
    values, times = lines(9_000)
    values[100] = values[100].replace(b"GET", b"GE T")
    values[200] = b"\xff\xfe nonsense"
    write(environ, values, times, partitions=3)
    assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    archive = archived(environ)
    assert count_by_fate(archive.entries()) == {"accepted": 8_998, "repaired": 1, "quarantined": 1, "duplicate": 0}
    assert len(offsets(archive)) == 8_999
    [quarantined] = (archive.var / "quarantine").glob("day=*/*.parquet")
    assert pq.read_table(quarantined).column("raw").to_pylist() == [values[200]]


def test_a_second_run_resumes_where_the_ledger_ends(environ: dict[str, str], start: Start) -> None:
    write(environ, *lines(1_000))
    assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    write(environ, *lines(500, first=1_000))
    assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    assert offsets(archived(environ)) == [(0, at) for at in range(1_500)]


def test_kill_9_at_any_moment_neither_loses_nor_repeats(environ: dict[str, str], start: Start) -> None:
    environ |= {"MARQUEE_STREAM_BATCH_LINES": "700", "MARQUEE_STREAM_BATCH_SECONDS": "0.05"}
    archive, dice = archived(environ), random.Random(3)
    for turn in range(6):
        write(environ, *lines(5_000, first=5_000 * turn))  # so that there is something to do in each turn
        before = len(list(archive.ledger.glob("*.json")))
        collector = start(environ, "batch", "collect")
        wanted = before + dice.randint(1, 6)
        until(partial(reached, archive, wanted))
        collector.process.kill()
        collector.process.wait()
    assert start(environ, "batch", "collect", "--until-idle", "1.5").ends() == 0
    assert offsets(archive) == [(0, at) for at in range(30_000)]
    assert sum(entry.lines for entry in archive.entries()) == 30_000
    named = {archive.var / file.path for entry in archive.entries() for file in entry.files}
    assert set((archive.var / "archive" / "watch").glob("day=*/*")) == named


def test_sigterm_archives_waiting_lines(environ: dict[str, str], start: Start) -> None:
    environ |= {"MARQUEE_STREAM_BATCH_SECONDS": "3600", "MARQUEE_STREAM_BATCH_LINES": "1000"}
    write(environ, *lines(1_500))
    collector = start(environ, "batch", "collect")
    until(lambda: archived(environ).entries())  # the first batch is full and has been written
    collector.process.send_signal(signal.SIGTERM)
    assert collector.ends() == 0
    archive = archived(environ)
    got = offsets(archive)
    assert got == [(0, at) for at in range(len(got))]
    assert len(got) >= 1_000


def test_a_second_collector_is_refused_in_one_line(environ: dict[str, str], start: Start) -> None:
    write(environ, *lines(10))
    start(environ, "batch", "collect")
    until(lambda: archived(environ).entries())
    second = start(environ, "batch", "collect")
    assert second.ends() == 1
    assert "another process writes" in second.text()
    assert "Traceback" not in second.text()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"MARQUEE_STREAM_BOOTSTRAP": "127.0.0.1:1"}, "127.0.0.1:1 does not answer"),
        ({"MARQUEE_STREAM_TOPIC": "nowhere"}, "no topic 'nowhere'"),
        ({"MARQUEE_STREAM_TIMEZONE": "Mars/Base"}, "no zone 'Mars/Base'"),
        ({"MARQUEE_STREAM_BATCH_LINES": "many"}, "batch_lines"),
        ({"MARQUEE_STREAM_BOOTSTRAP": "localhost:port"}, "bootstrap"),
        ({"MARQUEE_STREAM_VAR": "/proc/nowhere"}, "/proc/nowhere"),
        ({"MARQUEE_STREAM_SECURITY_PROTOCOL": "SASL_SSL"}, "SASL_SSL needs sasl_mechanism"),
        ({"MARQUEE_STREAM_SECURITY_PROTOCOL": "SSL", "MARQUEE_STREAM_SSL_CA_FILE": "/nowhere"}, "cannot be read"),
    ],
)
def test_a_wrong_setting_is_one_line(environ: dict[str, str], start: Start, changed: dict[str, str], told: str) -> None:
    failed = start(environ | changed, "batch", "collect", "--until-idle", "1")
    assert failed.ends() in (1, 2)
    assert told in failed.text()
    assert "Traceback" not in failed.text()


def test_a_retention_gap_is_an_entry_and_an_alert(tmp_path: Path) -> None:
    collector = Collector(StreamSettings(var=tmp_path), QualitySettings(), BatchSettings())
    values, times = lines(10)
    before = kafka.FetchedRecords(0, values, np.arange(10), np.array(times))
    asyncio.run(collector.take([before, kafka.RetentionGap(0, 10, 99)]))
    taken, gap = Archive(tmp_path).entries()
    assert (taken.first, taken.last, taken.lines) == (0, 9, 10)
    assert (gap.first, gap.last, gap.lines, gap.lost) == (10, 99, 0, 90)
    assert collector.resume() == {0: 100}
    assert b'"retention_gap"' in (tmp_path / "alerts.jsonl").read_bytes()


def test_a_redelivery_is_counted_and_archived_once(tmp_path: Path) -> None:
    collector = Collector(StreamSettings(var=tmp_path), QualitySettings(), BatchSettings())
    values, times = lines(10)

    async def polled(first: int, last: int) -> None:
        await collector.take(
            [kafka.FetchedRecords(0, values[first:last], np.arange(first, last), np.array(times[first:last]))]
        )

    async def all_of_it() -> None:
        await polled(0, 4)
        await polled(2, 6)
        await collector.flush()
        await polled(0, 6)
        await polled(5, 10)
        await collector.flush()

    asyncio.run(all_of_it())
    archive = Archive(tmp_path)
    assert offsets(archive) == [(0, at) for at in range(10)]
    assert [(one.first, one.last, one.redelivered) for one in archive.entries()] == [(0, 5, 2), (6, 9, 7)]


def test_an_api_that_never_answers_holds_up_no_line(environ: dict[str, str], start: Start) -> None:
    values, times = lines(1_000)
    write(environ, [value.replace(b"alien+1979", b"new+%d+2026" % row) for row, value in enumerate(values)], times)
    archive = archived(environ)
    Catalog(archive.var).keep("movie", [("alien+1979", "known", {"id": "alien+1979", "runtime": 117}, "")])
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        environ |= {
            "MARQUEE_BATCH_API": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "MARQUEE_BATCH_API_TIMEOUT_S": "0.3",
        }
        assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    assert count_by_fate(archive.entries()) == {"accepted": 1_000, "repaired": 0, "quarantined": 0, "duplicate": 0}


def test_lines_pass_if_the_api_knows_their_ids(environ: dict[str, str], start: Start) -> None:
    port = free_port()
    world = WorldSettings(users=50, movies=20, api_port=port)
    movie = World(world).catalogue.ids[3]
    values, times = lines(3)
    values[1:] = [values[1].replace(b"alien+1979", movie.encode()), values[2].replace(b"alien+1979", b"none+1901")]
    write(environ, values, times)
    archive = archived(environ)
    Catalog(archive.var).keep("movie", [("alien+1979", "known", {"id": "alien+1979", "runtime": 117}, "")])
    environ |= {"MARQUEE_BATCH_API": f"http://127.0.0.1:{port}", "MARQUEE_LOADTEST_API_PORT": str(port)}
    environ |= {"MARQUEE_LOADTEST_USERS": "50", "MARQUEE_LOADTEST_MOVIES": "20"}
    service = start(environ, "loadtest", "api")
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/healthz"))
        assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    finally:
        service.process.terminate()
        service.ends()
    [entry] = archive.entries()
    assert {(count.fate, count.reason) for count in entry.counts} == {
        ("accepted", None), ("quarantined", "movie_unknown"),
    }  # fmt: skip
    statuses = Catalog(archive.var).statuses("movie")
    assert {name for name, status in statuses.items() if status == "known"} == {"alien+1979", movie}
    assert statuses["none+1901"] == "unknown"
    assert statuses["one+1901"] == "unknown"  # what the line might have meant
