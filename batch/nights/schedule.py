"""The schedule: one night a day, at an hour of the service's clock, as the stream itself shows it.

The clock that counts is the latest Kafka time in the archive, not this machine's: in production the two agree, and
where event time runs faster, as in a simulation, the night comes with it. While the stream stands still no night is
due; that the release grows old shows in the metrics, which are kept up to date here (`outcomes.py`).

| how a night ends | what happens |
|---|---|
| with a release | the next one is due when the stream's clock has passed the hour again |
| held back by alerts, or refused by the gate | the same: the data do not mend by themselves, and somebody is told |
| it fails | it is tried again, three times in all, and goes on where it stopped; then it is left to the next day |
| there is no release yet | whatever ends it, it is tried again, until there is one |
| SIGTERM or SIGHUP to it | the night is ended, with all that it has started, and begun again after the next start |

What was tried is read from disk, so that a schedule that was killed and started anew neither repeats a night nor
forgets one. An hour that happens twice on the service's clock is its first, one that is left out is where it would
have been: every day has one night.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import click
import msgspec

from batch.nights import outcomes
from batch.releases import publish
from batch.settings import BatchSettings
from server.manifest import parse_manifest
from stream.archive import Archive, stream_time
from stream.settings import StreamSettings, load
from stream.zone import DAY_MS, Zone, zone_named

log = logging.getLogger(__name__)

POLL_S = 1.0
RETRY_S = 60.0
TRIES = 3
GRACE_S = 5.0
"""How long a night that is ended may take for it."""
_GRAIN_S = 1.0
"""Longer than any file system needs to give two changes two times."""


def is_due(now_ms: int, last_ms: int | None, at: str, zone: Zone) -> bool:
    """Whether an `at` (HH:MM) of the zone lies in (last, now]; without a last night, one is due at once."""
    if last_ms is None:
        return True
    hour, minute = at.split(":")
    since_midnight = (int(hour) * 60 + int(minute)) * 60_000
    latest = zone.to_utc(zone.day_number(now_ms) * DAY_MS + since_midnight)
    if latest > now_ms:
        latest = zone.to_utc((zone.day_number(now_ms) - 1) * DAY_MS + since_midnight)
    return last_ms < latest


def tries_made(var: Path, now_ms: int, at: str, zone: Zone) -> int | None:
    """How often the night that was due last was tried, in vain; None where it is over, one way or another.

    A release tells how far its night had read, so that nights that were run by hand count as well, and moving a release
    does not; of one that was removed, or says nothing, it is known when it became current.
    """
    changes, tries = publish.read_publications(var), outcomes.read_outcomes(var)
    count = sum(not is_due(now_ms, outcome.stream_time, at, zone) for outcome in tries)
    if not changes:
        return count
    read_until = {change.release: change.stream_time for change in changes} | _read_until(var)
    ended = [*read_until.values(), *(outcome.stream_time for outcome in tries if outcome.ending != "failed")]
    return count if is_due(now_ms, max(ended), at, zone) and count < TRIES else None


def _read_until(var: Path) -> dict[str, int]:
    """By release, whether it was ever current or not: how far its night had read the stream, ms UTC."""
    read_until = {}
    for release in publish.sealed(var):
        with suppress(OSError, msgspec.DecodeError):  # a damaged manifest says nothing
            manifest = parse_manifest((var / "releases" / release / "manifest.json").read_bytes())
            if manifest.stream_time is not None:
                read_until[release] = manifest.stream_time
    return read_until


class StreamClock:
    """The stream's time as the ledger shows it; the ledger is read again only where something came to it."""

    def __init__(self, archive: Archive, topic: str) -> None:
        self._archive, self._topic = archive, topic
        self._changed: int | None = None
        self._time: int | None = None

    def now(self) -> int | None:
        """The stream's time, ms UTC; None while nothing was archived."""
        try:
            changed = self._archive.ledger.stat().st_mtime_ns
        except OSError:
            return None
        if changed != self._changed:
            self._time = stream_time(self._archive.entries(self._topic))
            # what comes within the grain of the file system's clock leaves no trace: then look again
            self._changed = changed if abs(time.time() - changed / 1e9) > _GRAIN_S else None
        return self._time


def run(
    streaming: StreamSettings, settings: BatchSettings, stop: threading.Event, command: Sequence[str] | None = None
) -> None:
    """Start a night (`command`) whenever one is due, until `stop` is set."""
    var, at, service_clock = streaming.var, settings.night_at, zone_named(streaming.timezone)
    clock, metrics = StreamClock(Archive(var), streaming.topic), outcomes.NightMetrics(var)
    metrics.refresh(clock.now())
    again_at = 0.0
    while not stop.wait(POLL_S):
        now = clock.now()
        metrics.refresh(now)
        if now is None or time.monotonic() < again_at:
            continue
        tried = tries_made(var, now, at, service_clock)
        if tried is None:
            continue
        log.info("night begins (try %d%s)", tried + 1, f" of {TRIES}" if publish.read_publications(var) else "")
        began = time.monotonic()
        code = _night(command or (sys.executable, "-m", "batch", "nightly"), stop, lambda: metrics.refresh(clock.now()))
        if code is not None:
            outcomes.note_outcome(var, code, time.monotonic() - began, now)
            _tell(code)
            still_due = tries_made(var, now, at, service_clock) is not None
            again_at = time.monotonic() + RETRY_S if still_due else 0.0
    metrics.refresh(clock.now())


def _night(command: Sequence[str], stop: threading.Event, meanwhile: Callable[[], object]) -> int | None:
    """One night in a process of its own, so that its memory is given back: its exit code, None where it was ended."""
    # a group of its own: what the night has started is ended with it
    with subprocess.Popen(command, cwd=Path.cwd(), process_group=0) as process:
        try:
            while not stop.wait(min(POLL_S, 0.2)):
                if process.poll() is not None:
                    return process.returncode
                meanwhile()
        finally:
            _end(process)
    return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process, and all of its group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    with suppress(ProcessLookupError):  # there is nothing left of it
        os.killpg(process.pid, signal.SIGKILL)


def _tell(code: int) -> None:
    ending = outcomes.ENDINGS.get(code, "failed")
    if ending == "published":
        log.info("night ended well")
    elif ending == "failed":
        log.error("night failed with exit code %d", code)
    else:
        log.error("night is %s; the next one is due at its hour, or by hand", _SAID[ending])


_SAID = {"held": "held back", "refused": "refused by the gate"}


def _ends(stop: threading.Event) -> None:
    """Set `stop` at a signal to end: from a thread, for the main one may just hold the lock of the event."""
    deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as nohup wants it
    for number in (signal.SIGTERM, signal.SIGINT, *([] if deaf else [signal.SIGHUP])):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())


@click.command("schedule")
@click.option("--at", type=click.DateTime(["%H:%M"]), help="Instead of the setting: night_at (on the service's clock).")
def command(at: datetime | None) -> None:
    """Run a night whenever the stream's clock passes the hour, until SIGTERM; keep the metrics of nights up to date."""
    settings, stop = load("batch", BatchSettings), threading.Event()
    _ends(stop)
    if at is not None:
        settings = msgspec.structs.replace(settings, night_at=f"{at:%H:%M}")
    run(load("stream", StreamSettings), settings, stop)
