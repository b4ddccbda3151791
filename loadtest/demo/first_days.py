"""The first days of a service whose archive is empty: real processes as in the demo, but no history.

    nothing archived -> supervisord starts Marquee -> the first lines -> the first release within minutes -> nights of
    a young archive, every few hours -> figures by day

The same days can be played after weeks of history, so that the two can be compared. Event time runs as fast as the
machine allows, but slowly while a night runs, which takes real time.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import click
import urllib3

from batch.nights import outcomes
from batch.nights.schedule import Timetable, timetable_on
from batch.progress import step
from batch.releases import publish
from batch.settings import BatchSettings
from loadtest.demo import days_summary
from loadtest.demo.days_summary import DaysSummary
from loadtest.demo.run import (
    FIRST_LIVE_DAY,
    FULL_PACE,
    HOST,
    NIGHT_PACE,
    NIGHT_SECONDS,
    OPENS_MS,
    Demo,
    prepare,
    stop,
)
from loadtest.errors import DemoError
from loadtest.simulation import backfill
from loadtest.simulation.recommender_client import RecommenderClient
from loadtest.simulation.service import SLICE_MS, Service
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from quality.telemetry.report_days import ReportDays
from stream import kafka
from stream.settings import load
from stream.zone import day_name, day_number

HISTORY_DAYS = 14
"""Days of history of the world that the empty archive is compared with."""
_WORLD = "users = 4_000\n"
"""Fewer users than in the demo: so four days, with six nights in each of the first three, take some ten minutes."""
_FIRST = day_number(FIRST_LIVE_DAY)


class FirstDays(Demo):
    """Some days of a live service, after so many days of history; 0 for an archive that is empty."""

    def __init__(self, folder: Path, port: int, days: int, history_days: int) -> None:
        super().__init__(folder, port, history_days, _WORLD)
        self._live_days = days
        self._settings = load("batch", BatchSettings, self.stack.environ)
        self._failed_at_first = 0
        """Requests that failed while there was no release."""
        self._first_release_s: float | None = None

    def play(self) -> DaysSummary:
        """Play all days; returns the figures by day. Raises `DemoError` if a process fails."""
        began, opens = time.monotonic(), self.zone.bounds(FIRST_LIVE_DAY)[0] + OPENS_MS
        first_day = day_name(_FIRST - self._days)
        world = World(self.world_settings)
        audience = Audience(world, self.zone, self.world_settings.seed, self.zone.bounds(first_day)[0])
        if self._days:
            with step("history", self._days + 1) as advance:
                backfill.write(self.archive, audience, self.zone, first_day, opens, advance)
        self._start_outside()
        if self._days:
            self._night()
        self._start_marquee("readyz" if self._days else "healthz")
        days = [day_name(_FIRST + number) for number in range(self._live_days)]
        service = asyncio.run(self._play(audience, opens))
        self._await_end(service, days[-1])
        return days_summary.summarise(
            self.streaming,
            service.counts,
            days,
            history_days=self._days,
            failed_at_first=self._failed_at_first,
            first_release_s=self._first_release_s,
            seconds=time.monotonic() - began,
        )

    async def _play(self, audience: Audience, opens_ms: int) -> Service:
        settings = self.world_settings
        caller = RecommenderClient(settings.server, settings.deadline_ms, audience.world.catalogue.index)
        last = _FIRST + self._live_days - 1
        ends_ms = ReportDays.of(self.streaming, self.quality).final_from(last) + SLICE_MS
        async with kafka.writing(self.streaming) as writer:
            service = Service(audience, self.zone, caller, writer, settings, opens_ms)
            with step("live", (ends_ms - opens_ms) // SLICE_MS) as advance:
                if not self._days:
                    await self._await_first_release(service, advance)
                await self._play_days(service, advance, ends_ms)
        caller.close()
        return service

    async def _await_first_release(self, service: Service, advance: Callable[[int], object]) -> None:
        began, service.pace = time.monotonic(), NIGHT_PACE
        await service.run(self._watched(service, advance, self._within(NIGHT_SECONDS, self._all_workers_answer)))
        self._first_release_s = time.monotonic() - began
        self._failed_at_first = service.counts.statuses.total() - service.counts.statuses[200]

    async def _play_days(self, service: Service, advance: Callable[[int], object], ends_ms: int) -> None:
        """Play until the end, slowly while a night is due or runs."""
        due_ms = self._timetable(service.now_ms).latest_ms(service.now_ms)

        def is_night_due() -> bool:
            return self._timetable(service.now_ms).latest_ms(service.now_ms) > due_ms

        while service.now_ms < ends_ms:
            service.pace = FULL_PACE
            await service.run(self._watched(service, advance, lambda: is_night_due() or service.now_ms >= ends_ms))
            if is_night_due():
                due_ms = self._timetable(service.now_ms).latest_ms(service.now_ms)
                service.pace = NIGHT_PACE
                is_over = self._within(NIGHT_SECONDS, self._night_is_over(service, due_ms))
                await service.run(self._watched(service, advance, is_over))

    def _timetable(self, now_ms: int) -> Timetable:
        """The schedule's, by the same rule: the schedule knows the day from the archive, the demo from its history."""
        return timetable_on(self.zone.day_number(now_ms) - (_FIRST - self._days), self._settings, self.zone)

    def _night_is_over(self, service: Service, due_ms: int) -> Callable[[], bool]:
        """Whether the night that was due at a time has ended, and its release answers, if there is one."""

        def is_over() -> bool:
            tries = [outcome for outcome in outcomes.read_outcomes(self.streaming.var) if outcome.stream_time >= due_ms]
            if not any(outcome.ending != "failed" for outcome in tries):
                return False
            current = publish.current_release(self.streaming.var)
            return current is not None and service.latest_release == current.name

        return is_over

    def _within(self, seconds: float, is_over: Callable[[], bool]) -> Callable[[], bool]:
        """`is_over`, which raises `DemoError` when that takes too long."""
        deadline = time.monotonic() + seconds

        def check() -> bool:
            if time.monotonic() > deadline:
                raise DemoError(f"a night that is due has not ended after {seconds:.0f} s; see schedule.log")
            return is_over()

        return check

    def _all_workers_answer(self) -> bool:
        url = f"http://{HOST}:{self.operator_port}/readyz"
        try:
            text = urllib3.request("GET", url, timeout=1.0, retries=False).data.decode("utf-8", "replace")
        except urllib3.exceptions.HTTPError:
            return False
        workers = self.stack.environ["MARQUEE_WORKERS"]
        return text.startswith(f"{workers} of {workers} workers are ready")


def run(folder: Path, port: int, days: int, compare: bool) -> int:
    """Play the first days of an empty archive, with `compare` again after weeks of history, and print the figures.

    Returns the exit code: 0 if every invariant holds.
    """
    prepare(folder, port)
    results = []
    for name, history_days in (("empty", 0), ("with-history", HISTORY_DAYS))[: 1 + compare]:
        demo = FirstDays(folder / name, port, days, history_days)
        try:
            results.append(demo.play())
        finally:
            stop(demo)
        days_summary.write_summary(folder / "summary.json", results)
    click.echo(days_summary.as_text(results))
    return 1 if any(result.broken for result in results) else 0
