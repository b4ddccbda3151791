"""The schedule: one night a day, at an hour of the service's clock, as the stream itself shows it.

A young archive grows by a large part of itself every hour, and what is learned from it soon falls behind: in its first
days (`young_archive_days`) further nights follow that of the hour, every `young_archive_hours`.

The stream's clock decides, not that of this machine: in production the two agree, and where event time runs faster, as
in a simulation, so do the nights. While the stream stands still, no night is due. The metrics of nights, which show
that a release grows old, are kept up to date here (`outcomes.py`).

| how a night ends | what happens |
|---|---|
| with a release | the next one is due when the stream's clock passes the hour again |
| held by alerts, or refused by the gate | the same: the data do not get better by themselves, and an alert was raised |
| it fails | it is resumed, three tries in all; after that the next one is due at its time |
| in any way, with no release so far | it is tried again until there is a release |
| with a release made without the movie API | one more night is due as soon as the API answers (`api_probe.py`) |
| SIGTERM or SIGHUP to the schedule | the night and its child processes are ended; the next start resumes it |

After each night `python -m batch tidy` removes what the settings no longer keep; where the disk is short, an alert is
raised and more goes (`space_watch.py`).

Tries are read from disk, so a schedule that was killed neither repeats nor forgets a night. When clocks change, an hour
that occurs twice counts the first time, and one that is skipped counts where it would have been: every day has one
night.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
import msgspec

from batch.nights import outcomes
from batch.nights.api_probe import ApiProbe
from batch.nights.space_watch import SpaceWatch
from batch.releases import publish
from batch.settings import BatchSettings
from server.manifest import parse_manifest
from stream.archive import Archive
from stream.clock import Quorum
from stream.ledger_clock import stream_time
from stream.ledger_entry import LedgerEntry, topic_of
from stream.settings import StreamSettings, load
from stream.zone import DAY_MS, HOUR_MS, Zone, day_number, zone_named

log = logging.getLogger(__name__)

POLL_S = 1.0
RETRY_S = 60.0
TRIES = 3
GRACE_S = 5.0
"""How long a night may take to end after SIGTERM."""
_AHEAD_MS = HOUR_MS
"""A night that has read so much further than the stream has come went by a wrong clock."""
_TIDYING = (sys.executable, "-m", "batch", "tidy")
_GRAIN_S = 1.0
"""Coarser than the time stamps of any file system."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """The times at which nights are due."""

    at: str
    """An hour of the zone's clock, HH:MM."""
    zone: Zone
    every_ms: int | None = None
    """Of a young archive: how long after each night of the hour, and so on until the next one, another is due."""

    def latest_ms(self, now_ms: int) -> int:
        """The latest time at which a night was or is due, ms UTC."""
        hour, minute = self.at.split(":")
        since_midnight = (int(hour) * 60 + int(minute)) * 60_000
        today = self.zone.day_number(now_ms)
        latest = self.zone.to_utc(today * DAY_MS + since_midnight)
        if latest > now_ms:
            latest = self.zone.to_utc((today - 1) * DAY_MS + since_midnight)
        return latest if self.every_ms is None else now_ms - (now_ms - latest) % self.every_ms

    def is_due(self, now_ms: int, last_ms: int | None) -> bool:
        """Whether such a time lies in (last, now]; without a last night, one is due at once."""
        return last_ms is None or last_ms < self.latest_ms(now_ms)


def tries_made(var: Path, now_ms: int, timetable: Timetable) -> int | None:
    """How many tries of the night that is due have failed; None if no night is due.

    A night counts by how far its release had read the stream, so nights run by hand count and moves of a release do
    not. For a release that was removed, or does not say, the time when it became current counts. A night that had read
    further than the stream has come went by a wrong clock, and does not count.
    """
    limit_ms = now_ms + _AHEAD_MS
    changes = publish.read_publications(var)
    tries = [outcome for outcome in outcomes.read_outcomes(var) if outcome.stream_time <= limit_ms]
    count = sum(not timetable.is_due(now_ms, outcome.stream_time) for outcome in tries)
    if not changes:
        return count
    read_until = {change.release: change.stream_time for change in changes} | _read_until(var)
    ended = [time_ms for time_ms in read_until.values() if time_ms <= limit_ms]
    ended += [outcome.stream_time for outcome in tries if outcome.ending != "failed"]
    return count if timetable.is_due(now_ms, max(ended, default=None)) and count < TRIES else None


def _read_until(var: Path) -> dict[str, int]:
    """By release, whether it was ever current or not: how far its night had read the stream, ms UTC."""
    read_until = {}
    for release in publish.sealed(var):
        with suppress(OSError, msgspec.DecodeError):  # a damaged manifest has no information
            manifest = parse_manifest((var / "releases" / release / "manifest.json").read_bytes())
            if manifest.stream_time is not None:
                read_until[release] = manifest.stream_time
    return read_until


class StreamClock:
    """The stream's time, and the day on which its archive begins, by the ledger, which is read again only when it has
    changed.
    """

    def __init__(self, archive: Archive, topic: str) -> None:
        self._archive, self._topic = archive, topic
        self._changed: int | None = None
        self._time: int | None = None
        self._first_day: str | None = None
        self._is_old = False
        """An archive does not become young again."""

    def now(self) -> int | None:
        """The stream's time, ms UTC; None while the archive is empty."""
        try:
            changed = self._archive.ledger.stat().st_mtime_ns
        except OSError:
            return None
        if changed != self._changed:
            entries = self._archive.condensed()
            self._time = stream_time(entry for entry in entries if topic_of(entry.topic) == self._topic)
            self._first_day = self._first_day if self._is_old else first_day(entries)
            # a change within the same tick of the file system's clock would go unnoticed: then read again
            self._changed = changed if abs(time.time() - changed / 1e9) > _GRAIN_S else None
        return self._time

    def timetable(self, settings: BatchSettings, zone: Zone) -> Timetable:
        """The times of nights at `now`, as it was asked for last."""
        if self._time is None or self._first_day is None:
            return Timetable(settings.night_at, zone)
        days = zone.day_number(self._time) - day_number(self._first_day)
        self._is_old = days >= settings.young_archive_days
        return timetable_on(days, settings, zone)


def timetable_on(day: int, settings: BatchSettings, zone: Zone) -> Timetable:
    """The times of nights on a day of an archive; day 0 is the one on which it begins."""
    every_ms = round(settings.young_archive_hours * HOUR_MS) if day < settings.young_archive_days else None
    return Timetable(settings.night_at, zone, every_ms)


def first_day(entries: Iterable[LedgerEntry]) -> str | None:
    """The first day of an archive, by the events' times; None without one.

    One event with a wrong time is no beginning, so a day counts from so many events on as confirm the stream's time.
    """
    events: Counter[str] = Counter()
    for entry in entries:
        for count in entry.counts:
            if count.kind is not None:
                events[count.day] += count.lines
    return min((day for day, count in events.items() if count >= Quorum().lines), default=None)


def run(
    streaming: StreamSettings,
    settings: BatchSettings,
    stop: threading.Event,
    command: Sequence[str] | None = None,
    tidying: Sequence[str] = (),
) -> None:
    """Start a night (`command`) whenever one is due, until `stop` is set; `tidying` after each, and for room."""
    var, zone = streaming.var, zone_named(streaming.timezone)
    clock, metrics = StreamClock(Archive(var), streaming.topic), outcomes.NightMetrics(var)
    probe, space = ApiProbe(streaming, settings), SpaceWatch(var, settings.least_free_mb)
    metrics.refresh(clock.now())
    again_at = 0.0
    while not stop.wait(POLL_S):
        now = clock.now()
        metrics.refresh(now)
        if space.is_time_to_make_room():
            _tidy([*tidying, "--make-room"] if tidying else [], stop)
        if now is None or time.monotonic() < again_at:
            continue
        timetable = clock.timetable(settings, zone)
        tried = tries_made(var, now, timetable)
        if tried is None and probe.is_night_due():
            tried = 0
        if tried is None:
            continue
        log.info("night begins (try %d%s)", tried + 1, f" of {TRIES}" if publish.read_publications(var) else "")
        began = time.monotonic()
        code = _night(command or (sys.executable, "-m", "batch", "nightly"), stop, lambda: metrics.refresh(clock.now()))
        if code is not None:
            outcomes.note_outcome(var, code, time.monotonic() - began, now)
            _log_ending(code)
            _tidy(tidying, stop)
            still_due = tries_made(var, now, timetable) is not None
            again_at = time.monotonic() + RETRY_S if still_due else 0.0
    metrics.refresh(clock.now())


def _night(command: Sequence[str], stop: threading.Event, meanwhile: Callable[[], object]) -> int | None:
    """Run a night in a separate process, so its memory is freed; returns its exit code, None if stopped."""
    # a new process group, so that its children can be ended with it
    with subprocess.Popen(command, cwd=Path.cwd(), process_group=0) as process:
        try:
            while not stop.wait(min(POLL_S, 0.2)):
                if process.poll() is not None:
                    return process.returncode
                meanwhile()
        finally:
            _end(process)
    return None


def _tidy(command: Sequence[str], stop: threading.Event) -> None:
    """Remove what is not kept, in a separate process: what it reads is freed. A failure stops no night."""
    if command and (code := _night(command, stop, lambda: None)):
        log.error("%s failed with exit code %d; old files stay for now", " ".join(command[1:]), code)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    with suppress(ProcessLookupError):  # the whole group has ended
        os.killpg(process.pid, signal.SIGKILL)


def _log_ending(code: int) -> None:
    ending = outcomes.ENDINGS.get(code, "failed")
    if ending == "published":
        log.info("night ended well")
    elif ending == "failed":
        log.error("night failed with exit code %d", code)
    else:
        log.error("night is %s; the next one is due at its time, or by hand", _DESCRIPTIONS[ending])


_DESCRIPTIONS = {"held": "held back", "refused": "refused by the gate"}


def _stop_at_signals(stop: threading.Event) -> None:
    """Set `stop` at SIGTERM, SIGINT or SIGHUP; in a thread, as the main thread may hold the lock of the event."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
    for number in (signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())


@click.command("schedule")
@click.option("--at", type=click.DateTime(["%H:%M"]), help="Instead of the setting: night_at (on the service's clock).")
def command(at: datetime | None) -> None:
    """Run a night whenever the stream's clock passes the hour, until SIGTERM; keep the metrics of nights up to date."""
    settings, stop = load("batch", BatchSettings), threading.Event()
    _stop_at_signals(stop)
    if at is not None:
        settings = msgspec.structs.replace(settings, night_at=f"{at:%H:%M}")
    if settings.model != "best":
        from batch import models  # a schedule runs for ever, and rarely needs them

        models.require_model(settings.model)
    run(load("stream", StreamSettings), settings, stop, tidying=_TIDYING)
