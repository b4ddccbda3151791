"""Outcomes of the nights and age of the release: `var/metrics/nights.prom`, for node_exporter's textfile collector.

All figures are read from disk, never from memory, so they are exact after a crash and include releases that were moved
by hand. The outcomes of nights are in `var/night/outcomes.jsonl`, one line per attempt; only the newest lines are kept,
and each has the totals up to it.

| metric | meaning |
|---|---|
| `marquee_release_stream_time_seconds` | how far the night of the current release had read the stream |
| `marquee_release_age_seconds` | how far the stream has come since then, by its own clock |
| `marquee_release_current_since_seconds` | when the current release became current, by the stream's clock |
| `marquee_night_last_success_seconds` | when a night last ended well, by this machine's clock |
| `marquee_night_last_failure_seconds` | when a night last failed |
| `marquee_night_last_exit_code` | of the last try; negative for a signal |
| `marquee_nights_total{outcome}` | tries by outcome: published, refused, held, failed |

While the stream stands still, no night is due and the age does not grow. To detect this, alert on the time since the
last success: `time() - marquee_night_last_success_seconds > 26 * 3600`.
"""

import datetime as dt
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from batch.errors import GateRefusal, NightHeld, ReleaseError
from batch.releases import publish
from quality.metrics_file import MetricsFile
from quality.telemetry.release_history import ReleaseChange
from stream import durable
from stream.decoding import decode_json

log = logging.getLogger(__name__)

Ending = Literal["published", "refused", "held", "failed"]
ENDINGS: dict[int, Ending] = {0: "published", GateRefusal.exit_code: "refused", NightHeld.exit_code: "held"}
"""By exit code; any other is a failure."""
KEPT = 200
"""Lines that are kept."""
_LOGGED: set[tuple[int, int]] = set()
"""Damaged files that were logged: inode and time of change."""
REFRESH_S = 30.0


class NightOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one try of a night ended."""

    ended: float
    """When, by this machine's clock, seconds since 1970."""
    stream_time: int
    """How far the stream had come when it began, ms UTC."""
    exit_code: int
    seconds: float
    last: dict[Ending, float]
    """By ending: when a try last ended so."""
    totals: dict[Ending, int]
    """By ending: how many tries have, this one among them."""

    @property
    def ending(self) -> Ending:
        return ENDINGS.get(self.exit_code, "failed")


def note_outcome(var: Path, exit_code: int, seconds: float, stream_time: int) -> None:
    """Add the outcome of a try that began at a time of the stream (ms UTC) and took some seconds."""
    earlier = read_outcomes(var)
    ending = ENDINGS.get(exit_code, "failed")
    last, totals = (earlier[-1].last, earlier[-1].totals) if earlier else ({}, {})
    outcome = NightOutcome(
        ended=time.time(),
        stream_time=stream_time,
        exit_code=exit_code,
        seconds=round(seconds, 1),
        last={**last, ending: time.time()},
        totals={**totals, ending: totals.get(ending, 0) + 1},
    )
    lines = [msgspec.json.encode(entry) + b"\n" for entry in [*earlier[1 - KEPT :], outcome]]
    durable.write_bytes(_path(var), b"".join(lines))


def read_outcomes(var: Path) -> list[NightOutcome]:
    """The newest tries, oldest first; none if the file is damaged, which then starts over."""
    try:
        return [decode_json(line, NightOutcome) for line in _path(var).read_bytes().splitlines()]
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        if (state := _stamp(_path(var))) not in _LOGGED:  # the schedule reads it every second
            _LOGGED.add(state)
            log.error("%s cannot be read, counting starts over: %s", _path(var), error)
        return []


def _path(var: Path) -> Path:
    return var / "night" / "outcomes.jsonl"


class NightMetrics(Collector):
    """The metrics file of one `var` folder."""

    def __init__(self, var: Path) -> None:
        self._var, self._file = var, MetricsFile(var, "nights", self, (OSError, ReleaseError))
        self._now_ms: int | None = None
        self._state: object = None
        self._written_s = -REFRESH_S

    def refresh(self, now_ms: int | None) -> None:
        """Replace the file if a figure or the stream's time (ms UTC) has changed, or it is older than 30 s."""
        state = now_ms, _stamp(self._var / "releases" / "history.jsonl"), _stamp(_path(self._var))
        if state == self._state and time.monotonic() - self._written_s < REFRESH_S:
            return
        self._now_ms = now_ms
        if self._file.write():
            self._state, self._written_s = state, time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """Read the figures from disk; called by the registry."""
        until_ms, changes = publish.data_until(self._var), publish.read_publications(self._var)
        tries = read_outcomes(self._var)
        if until_ms is not None:
            yield _gauge("release_stream_time_seconds", "How far the current release had read.", until_ms / 1000)
            if self._now_ms is not None:
                age_s = (self._now_ms - until_ms) / 1000
                yield _gauge("release_age_seconds", "How far the stream has come since then, by its clock.", age_s)
        if changes:
            since_s = changes[-1].stream_time / 1000
            yield _gauge("release_current_since_seconds", "When it became current, by the stream's clock.", since_s)
        last, totals = (tries[-1].last, tries[-1].totals) if tries else ({}, {})
        succeeded = [_wall_s(change) for change in changes if change.by == "night" and change.wall_time]
        succeeded += [ended for ending, ended in last.items() if ending == "published"]
        failed = [ended for ending, ended in last.items() if ending != "published"]
        if succeeded:
            yield _gauge("night_last_success_seconds", "When a night last ended well, wall clock.", max(succeeded))
        if failed:
            yield _gauge("night_last_failure_seconds", "When a night last failed, wall clock.", max(failed))
        if tries:
            yield _gauge("night_last_exit_code", "Exit code of the last try of a night.", tries[-1].exit_code)
        nights = CounterMetricFamily("marquee_nights", "Tries of nights by outcome.", labels=["outcome"])
        for ending in (*ENDINGS.values(), "failed"):
            nights.add_metric([ending], totals.get(ending, 0))
        yield nights


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"marquee_{name}", documentation, value)


def _wall_s(change: ReleaseChange) -> float:
    return dt.datetime.fromisoformat(change.wall_time).timestamp()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns
