"""A hundred kills (-9) of the real telemetry, and some of the collector, while the stream goes on: `make chaos`.

Each life reads a hundredth of the stream more and is killed at a random moment. One of four is killed while it starts,
the others while they read, commit or write reports, however long a start takes on a busy machine. At the end the final
reports must be those of processes that nobody disturbed, byte for byte.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import orjson
import pytest

from loadtest.demo.processes import ROOT, free_port
from quality.telemetry.store import Store
from stream import broker, kafka
from stream.event import Event
from stream.grammar import render
from stream.settings import StreamSettings
from stream.zone import HOUR_MS, zone_named
from tests.polling import DEADLINE_S, until

TOPIC, PARTITIONS, KILLS = "movielog1", 2, 100
ZONE = zone_named(StreamSettings().timezone)
DAYS = ("2022-03-18", "2022-03-19")
FIRST, END = ZONE.bounds(DAYS[0])[0], ZONE.bounds(DAYS[1])[1]
TELEMETRY, COLLECTOR = ("quality", "telemetry"), ("batch", "collect")


def story() -> list[Event]:
    """Two days, and what follows until their reports are final: visits, each after an answer."""
    rng, events = np.random.default_rng(9), []
    for time_ms in range(FIRST, END + 30 * HOUR_MS, HOUR_MS // 10):
        user, movie = int(rng.integers(1, 150)), int(rng.integers(40))
        shown = tuple(f"film+{2000 + int(item)}" for item in rng.permutation(40)[:20])
        events.append(Event("recommend", time_ms, user, host="us:8082", status=200, movies=shown, latency_ms=7))
        minutes = range(int(rng.integers(1, 8)))
        events += [
            Event("watch", time_ms + (minute + 1) * 60_000, user, f"film+{2000 + movie}", minute=minute)
            for minute in minutes
        ]
        events.append(Event("rate", time_ms + 10 * 60_000, user, f"film+{2000 + movie}", rating=4))
    return sorted(events, key=lambda event: event.time)


async def write(bootstrap: str, events: Sequence[Event]) -> None:
    """Write events into the partitions of their users, with a torn line and a copy."""
    async with kafka.writing(StreamSettings(bootstrap=bootstrap, topic=TOPIC), PARTITIONS) as writer:
        for partition in range(PARTITIONS):
            own = [event for event in events if event.user % PARTITIONS == partition]
            lines, times = [render(event, ZONE) for event in own], [event.time for event in own]
            if own:
                await writer.write([*lines, lines[-1], lines[-1][:22]], [*times, times[-1], times[-1]], partition)


@contextmanager
def process(command: tuple[str, str], bootstrap: str, var: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """One of Marquee's processes; it is killed at the end."""
    settings = {
        "MARQUEE_STREAM_BOOTSTRAP": bootstrap, "MARQUEE_STREAM_TOPIC": TOPIC, "MARQUEE_STREAM_VAR": str(var),
        "MARQUEE_STREAM_FETCH_TIMEOUT_MS": "200", "MARQUEE_STREAM_BATCH_SECONDS": "0.5",
        "MARQUEE_QUALITY_REPORT_EVERY_MINUTES": "60", "MARQUEE_QUALITY_COMMIT_SECONDS": "0.1",
        "MARQUEE_BATCH_API": "http://127.0.0.1:1",
    }  # fmt: skip
    with log_of(command, var).open("ab") as log:
        arguments = [sys.executable, "-m", *command]
        started = subprocess.Popen(arguments, cwd=ROOT, env=os.environ | settings, stdout=log, stderr=log)
    try:
        yield started
    finally:
        started.kill()
        started.wait(DEADLINE_S)


def log_of(command: tuple[str, str], var: Path) -> Path:
    return var / f"{command[1]}.log"


def kill_sometime(telemetry: "subprocess.Popen[bytes]", log: Path, logged: int, draw: random.Random) -> None:
    """Kill a process at any moment of its life; its `log` was so long before. Most have begun to read by then."""
    began, has_begun = time.monotonic(), draw.random() < 0.75
    until(lambda: not has_begun or log.stat().st_size > logged or telemetry.poll() is not None)
    # a start, or a read, a commit and a report, take about as long as the wait was
    time.sleep(draw.uniform(0.0, 3.0 + (time.monotonic() - began) / 4))
    assert telemetry.poll() is None, log.read_text()[-2000:]
    telemetry.send_signal(signal.SIGKILL)


def reports(var: Path) -> dict[str, bytes]:
    """The final reports of the days and their pages, by file name."""
    files: dict[str, bytes] = {}
    for day in DAYS:
        path = var / "reports" / f"{day}.json"
        if path.exists() and orjson.loads(path.read_bytes())["final"]:
            files |= {each.name: each.read_bytes() for each in (path, path.with_suffix(".html"))}
    return files


def run_to_the_end(bootstrap: str, var: Path) -> dict[str, bytes]:
    with ExitStack() as running:
        for command in (COLLECTOR, TELEMETRY):
            running.enter_context(process(command, bootstrap, var))
        until(lambda: len(reports(var)) == 2 * len(DAYS))
    return reports(var)


@pytest.mark.chaos
def test_after_a_hundred_kills_the_reports_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    draw, events = random.Random(1), story()
    port = free_port()
    bootstrap, killed, whole = f"127.0.0.1:{port}", tmp_path / "killed", tmp_path / "whole"
    log = log_of(TELEMETRY, killed)
    killed.mkdir()
    whole.mkdir()
    with broker.running("127.0.0.1", port), ExitStack() as collecting:
        for life in range(KILLS):
            part = slice(life * len(events) // KILLS, (life + 1) * len(events) // KILLS)
            asyncio.run(write(bootstrap, events[part]))
            if life % 10 == 0:  # the collector is killed as well, in the middle of what it does
                collecting.close()
                collecting.enter_context(process(COLLECTOR, bootstrap, killed))
            logged = log.stat().st_size if log.exists() else 0
            with process(TELEMETRY, bootstrap, killed) as telemetry:
                kill_sometime(telemetry, log, logged, draw)
        collecting.close()
        with closing(Store(killed / "telemetry.db", create=False)) as store:
            assert sum(store.positions(TOPIC).values()) > len(events) // 2  # they were not all killed at their start
        disturbed, undisturbed = run_to_the_end(bootstrap, killed), run_to_the_end(bootstrap, whole)
    assert disturbed == undisturbed
    report = orjson.loads(disturbed[f"{DAYS[0]}.json"])
    assert report["total"]["answers"]["requests"] == sum(
        event.kind == "recommend" and FIRST <= event.time < ZONE.bounds(DAYS[0])[1] for event in events
    )
    for command in (COLLECTOR, TELEMETRY):
        assert "Traceback" not in log_of(command, killed).read_text()
