"""The schedule: one night a day, at an hour of the service's clock, as the stream itself shows it.

The clock that counts is the latest Kafka time in the archive, not this machine's: in production the two agree, and
where event time runs faster, as in a simulation, the night comes with it. A night that fails is tried again, a few
times, and then left to the next day, but for the first one: until there is a release, it is tried on and on. A night
that is held back by alerts is left to the next day at once: the data do not mend by themselves, and somebody is told.
Every failure is in the log, and the night's own exit code says why.
"""

import logging
import subprocess
import sys
import threading
from pathlib import Path

from batch import publish
from batch.errors import Held
from batch.settings import BatchSettings
from stream.archive import Archive, stream_time
from stream.settings import StreamSettings
from stream.zone import DAY_MS, Zone, zone

log = logging.getLogger("batch.schedule")

POLL_S = 1.0
RETRY_S = 60.0
TRIES = 3


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


def run(streaming: StreamSettings, settings: BatchSettings, stop: threading.Event) -> None:
    """Start a night whenever one is due, until `stop` is set."""
    archive, clock = Archive(streaming.var), zone(streaming.timezone)
    tried: int | None = None
    while not stop.wait(POLL_S):
        now = stream_time(archive.entries(streaming.topic))
        last = max([night["stream_time"] for night in publish.history(streaming.var)] + [tried or 0]) or None
        if now is not None and is_due(now, last, settings.night_at, clock):
            _night(stop)
            # until there is a first release, a night that failed is tried again and again
            tried = now if publish.history(streaming.var) else None


def _night(stop: threading.Event) -> None:
    """One night in a process of its own, so that its memory is given back; again after a failure, but not if held."""
    for attempt in range(1, TRIES + 1):
        log.info("night begins (try %d of %d)", attempt, TRIES)
        with subprocess.Popen([sys.executable, "-m", "batch", "nightly"], cwd=Path.cwd()) as process:
            while process.poll() is None:
                if stop.wait(0.2):
                    process.terminate()
        if process.returncode == 0 or stop.is_set():
            return
        if process.returncode == Held.exit_code:
            log.error("night is held back; the next one is due at its hour, or by hand")
            return
        log.error("night failed with exit code %d", process.returncode)
        if attempt < TRIES and stop.wait(RETRY_S):
            return
