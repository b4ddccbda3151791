"""The demo: Marquee's whole loop on real processes, from an empty folder to a final report, in a few minutes.

    weeks of history -> first night -> workers under supervisord -> a live day, line by line through Kafka, while the
    service requests lists and its users react -> second night, its release swapped in under load -> the day closes ->
    summary

Event time runs as fast as the machine allows, but more slowly while the second night runs, since a night takes real
time. The summary is checked against the invariants of `summary.py`.
"""

import asyncio
import contextlib
import logging
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from batch.progress import step
from loadtest.demo import summary
from loadtest.demo.processes import DemoProcesses, accepts, answers, free_port, require_free
from loadtest.demo.summary import DemoSummary
from loadtest.errors import DemoError
from loadtest.settings import WorldSettings
from loadtest.simulation import backfill
from loadtest.simulation.recommender_client import RecommenderClient
from loadtest.simulation.service import SLICE_MS, Service
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from quality.settings import QualitySettings
from quality.telemetry.report_days import ReportDays
from stream import durable, kafka
from stream.archive import Archive
from stream.settings import StreamSettings, load
from stream.zone import HOUR_MS, Zone, day_name, day_number, zone_named

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
FIRST_LIVE_DAY = "2026-02-10"
OPENS_MS = 3 * HOUR_MS + HOUR_MS // 2
"""The live service opens at 03:30, after the first night."""
NIGHT_PACE = 60.0
"""Event seconds a second during the second night, so that as much event time passes as in a real night."""
FULL_PACE = 1e9
NIGHT_SECONDS = 900.0
"""How long the second night may take: half a minute on an idle machine."""
START_SECONDS, END_SECONDS = 120.0, 180.0
"""How long the processes may take to start, and the last lines to be read, on a busy machine; a process that ends is
noticed at once."""
NEEDED_BYTES = 2 << 30
_SETTINGS = """\
# Settings of this demo, used instead of the checkout's; every run rewrites them.
[stream]
bootstrap = "{host}:{broker}"
generation = "2026"
timezone = "America/New_York"
var = '{var}'
batch_seconds = 1.0

[quality]
window_hours = 2.0

[batch]
api = "http://{host}:{api}"
night_at = "03:00"
explore_share = 0.02

[server]
port = {port}
operator_port = {operator}

[loadtest]
generation = "2026"
api_port = {api}
server = "http://{host}:{port}"
"""


class Demo:
    """One run of the demo in a folder of its own."""

    def __init__(self, folder: Path, port: int, days: int, world: str = "") -> None:
        """`days` are those of history; `world` are further lines of the settings, of `[loadtest]`."""
        self.folder, self._port, self._days = folder, port, days
        self._broker_port, self._api_port, self.operator_port = free_port(), free_port(), free_port()
        settings = _SETTINGS.format(
            var=folder / "var",
            host=HOST,
            port=port,
            operator=self.operator_port,
            broker=self._broker_port,
            api=self._api_port,
        )
        durable.write_bytes(folder / "settings.toml", (settings + world).encode())
        self.environ = {
            "MARQUEE_SETTINGS": str(folder / "settings.toml"),
            "MARQUEE_BIND": f"{HOST}:{port}",
            "MARQUEE_RUN": str(folder / "run"),
            "MARQUEE_WORKERS": "2",
        }
        self.stack = DemoProcesses(folder / "run", self.environ)
        self.streaming = load("stream", StreamSettings, self.stack.environ)
        self.quality = load("quality", QualitySettings, self.stack.environ)
        self.world_settings = load("loadtest", WorldSettings, self.stack.environ)
        self.zone: Zone = zone_named(self.streaming.timezone)
        self.archive = Archive(self.streaming.var)

    def run(self) -> DemoSummary:
        """Run the whole demo; returns its summary. Raises `DemoError` if a process fails."""
        began = time.monotonic()
        first = day_number(FIRST_LIVE_DAY)
        first_day = day_name(first - self._days)
        audience = Audience(
            World(self.world_settings), self.zone, self.world_settings.seed, self.zone.bounds(first_day)[0]
        )
        with step("history", self._days + 1) as advance:
            opens = self.zone.bounds(FIRST_LIVE_DAY)[0] + OPENS_MS
            backfill.write(self.archive, audience, self.zone, first_day, opens, advance)
        self._start_outside()
        self._night()
        self._start_marquee()
        service = asyncio.run(self._live(audience, opens))
        self._await_end(service, day_name(first + 1))
        report_days = [day_name(first), day_name(first + 1)]
        seconds = time.monotonic() - began
        var, topic = self.streaming.var, self.streaming.topic
        return summary.summarise(var, topic, service.counts, report_days, self.stack.run, seconds)

    def _start_outside(self) -> None:
        with step("broker and APIs"):
            self.stack.start_room("broker", "stream", "broker", "--port", str(self._broker_port))
            self.stack.start_room("api", "loadtest", "api")
            self.stack.until("the broker", lambda: accepts(HOST, self._broker_port), START_SECONDS)
            self.stack.until("the APIs", lambda: answers(f"http://{HOST}:{self._api_port}/healthz"), START_SECONDS)
            asyncio.run(self._make_topic())

    async def _make_topic(self) -> None:
        async with kafka.writing(self.streaming):
            pass

    def _night(self) -> None:
        with (self.stack.run / "first-night.log").open("wb") as output:
            command = [sys.executable, "-m", "batch", "nightly"]
            with step("first night"):
                done = subprocess.run(command, env=self.stack.environ, stdout=output, stderr=output, check=False)
        if done.returncode:
            raise DemoError(f"the first night ended with code {done.returncode}; see {output.name}")

    def _start_marquee(self, probe: str = "readyz") -> None:
        with step("supervisord, workers, collector, telemetry"):
            self.stack.start_supervisor()
            self.stack.until("a worker", lambda: answers(f"http://{HOST}:{self._port}/{probe}"), START_SECONDS)

    async def _live(self, audience: Audience, opens_ms: int) -> Service:
        settings = self.world_settings
        caller = RecommenderClient(settings.server, settings.deadline_ms, audience.world.catalogue.index)
        second_night = self.zone.bounds(day_name(day_number(FIRST_LIVE_DAY) + 1))[0] + 3 * HOUR_MS
        days = ReportDays.of(self.streaming, self.quality)
        ends_ms = days.final_from(day_number(FIRST_LIVE_DAY) + 1) + SLICE_MS
        async with kafka.writing(self.streaming) as writer:
            service = Service(audience, self.zone, caller, writer, settings, opens_ms)
            service.pace = FULL_PACE
            with step("live", (ends_ms - opens_ms) // SLICE_MS) as advance:
                await service.run(self._watched(service, advance, lambda: service.now_ms >= second_night))
                before = service.latest_release
                service.pace = NIGHT_PACE
                await service.run(self._watched(service, advance, _swapped(service, before)))
                service.pace = FULL_PACE
                await service.run(self._watched(service, advance, lambda: service.now_ms >= ends_ms))
        caller.close()
        return service

    def _watched(
        self, service: Service, advance: Callable[[int], object], until: Callable[[], bool]
    ) -> Callable[[], bool]:
        """`until`, which also checks the processes and moves the progress bar at every slice."""

        def is_over() -> bool:
            advance(1)
            self.stack.check()
            return until()

        return is_over

    def _await_end(self, service: Service, last: str) -> None:
        """Wait until every line is archived, and the report of the last day is final."""
        with step("the last lines and the reports"):
            self.stack.until("the collector's last line", lambda: self._archived() >= service.counts.lines, END_SECONDS)
            self.stack.until(
                f"the final report of {last}", lambda: summary.is_final(self.streaming.var, last), END_SECONDS
            )

    def _archived(self) -> int:
        return sum(entry.lines for entry in self.archive.entries(self.streaming.topic))


def run(folder: Path, port: int, days: int, keep: bool) -> int:
    """Run the demo and print its summary; returns the exit code: 0 if every invariant holds."""
    prepare(folder, port)
    demo = Demo(folder, port, days)
    kept = False
    try:
        result = demo.run()
        summary.write_summary(folder / "summary.json", result)
        click.echo(summary.as_text(result))
        kept = keep and not result.broken
        if kept:
            click.echo(_what_to_try(demo, port))
        return 1 if result.broken else 0
    finally:
        if not kept:
            stop(demo)


def stop(demo: Demo) -> None:
    """End the processes of a demo, whatever signals come meanwhile."""
    with step("stopping everything"), _undisturbed():
        demo.stack.stop()


def _swapped(service: Service, before: str | None) -> Callable[[], bool]:
    """Whether a new release answers. Raises `DemoError` when that takes too long."""
    deadline = time.monotonic() + NIGHT_SECONDS

    def is_over() -> bool:
        if time.monotonic() > deadline:
            raise DemoError(f"no release of the second night answers after {NIGHT_SECONDS:.0f} s; see schedule.log")
        return service.latest_release != before

    return is_over


def prepare(folder: Path, port: int) -> None:
    """Empty the folder of a demo, and let SIGTERM and SIGHUP end it like Ctrl-C.

    Raises `DemoError` if the port is taken, the folder holds other files, its disk is too full, or a demo runs there.
    """
    require_free(HOST, port)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    if (folder / "run" / "processes.json").exists():
        raise DemoError(f"{folder}: an earlier demo is still running; end it with `make stop`")
    marker = folder / ".marquee-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise DemoError(f"{folder} holds files that no demo made; give an empty or a new folder with --folder")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    marker.touch()
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise DemoError(f"{folder}: the demo needs {NEEDED_BYTES >> 20} MB of disk, {free >> 20} are free; make room")


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C while the processes are stopped."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _what_to_try(demo: Demo, port: int) -> str:
    settings = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in demo.environ.items())
    durable.write_bytes(demo.folder / "env", settings.encode())
    run_in_demo = f". {demo.folder}/env; "
    commands = [
        (f"curl -i http://{HOST}:{port}/recommend/42", ""),
        (f"curl http://{HOST}:{demo.operator_port}/readyz", "or /metrics, /release"),
        (f"{run_in_demo}.venv/bin/python -m loadtest service", "continues the simulated service"),
        (f"{run_in_demo}.venv/bin/python -m batch nightly", "runs another night"),
        (f"{run_in_demo}make restart", "restarts the workers, one by one"),
        (f".venv/bin/locust -f loadtest/locustfile.py -H http://{HOST}:{port}", ""),
        ("make stop", "ends everything"),
    ]
    lines = (f"  {command}" + (f"   # {note}" if note else "") for command, note in commands)
    return "\n".join(["\nStill running. Try:", *lines])
