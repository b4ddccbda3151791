"""Runs the night: all steps under one lock, or one alone. A killed night goes on with the step that was not done.

What a night begins with is noted in its journal. It is gone on with where the settings and versions are the same and
the stream has not moved on by more than a few hours; else it begins anew. A night that ended, by a release or by the
gate's refusal, is over: the next one begins anew.
"""

import datetime as dt
import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from batch.errors import BatchError, GateRefusal, NightFilesDamaged, NotEnoughData
from batch.nights import alert_hold
from batch.nights.journal import Journal, NightStart, StepResult, forget_peak
from batch.nights.steps import NightSteps
from batch.releases import publish
from batch.settings import BatchSettings
from quality.settings import QualitySettings
from stream import durable
from stream.archive import Archive, stream_time
from stream.settings import StreamSettings
from stream.zone import HOUR_MS

log = logging.getLogger(__name__)

STEPS: dict[str, Callable[[NightSteps], dict[str, Any]]] = {
    "sessions": NightSteps.sessions,
    "catalog": NightSteps.catalog,
    "history": NightSteps.history,
    "evaluate": NightSteps.evaluate,
    "train": NightSteps.train,
    "publish": NightSteps.publish,
}
_NAMES = list(STEPS)
_RESUME_MS = 6 * HOUR_MS
"""A night that was interrupted so long ago, by the stream's clock, begins anew: its release would be stale."""


def run_night(
    streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings, despite_alerts: bool
) -> dict[str, Any]:
    """All steps, or those that an interrupted night has left. The caller holds the lock.

    Returns the summary: `steps` by name with seconds, peak memory and what they tell of themselves. Raises `NightHeld`,
    `GateRefusal`, and whatever a step raises.
    """
    began = time.monotonic()
    _sweep(streaming.var)
    folder, entries = streaming.var / "night", Archive(streaming.var).entries()
    alert_hold.require_no_blocking_alerts(entries, streaming, quality, despite_alerts)
    journal = Journal(folder)
    now = NightStart(
        began=f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}",
        stream_time=stream_time(entries) or 0,
        settings=_digest(streaming, quality, settings),
    )
    earlier = journal.done(_NAMES) if _goes_on(journal.night, now) else []
    if not earlier:
        journal.begin(now)
    for done in earlier:
        log.info("%s: done by the night that was interrupted", done.step)
    night, steps = NightSteps(streaming, quality, settings, despite_alerts), list(earlier)
    try:
        for name in _NAMES[len(earlier) :]:
            steps.append(_run(night, name, journal, steps))
    except GateRefusal:
        journal.end()
        raise
    journal.end()
    summary = _summary(steps, len(earlier), time.monotonic() - began)
    durable.write_json(folder / "summary.json", summary)
    return summary


def _sweep(var: Path) -> None:
    """Remove what nights that were killed had half written. The caller holds the lock."""
    for path in [*(var / "night").glob(".*"), *(var / "sessions").glob("day=*/.*")]:
        # the outcomes are the schedule's, which writes them without the lock
        if durable.is_leftover(path) and not path.name.startswith(".outcomes."):
            log.info("removed %s: left behind by a night that was killed", path)
            path.unlink(missing_ok=True)


def run_step(name: str, streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings) -> dict[str, Any]:
    """One step, after those before it. The caller holds the lock. Raises `NotEnoughData` where these are not done."""
    journal = Journal(streaming.var / "night")
    needed = _NAMES[: _NAMES.index(name)]
    before = journal.done(needed)
    if len(before) < len(needed):
        missing = needed[len(before)]
        raise NotEnoughData(
            f"{name}: {missing} is to be done before it, on the data of today: python -m batch {missing}"
        )
    return _run(NightSteps(streaming, quality, settings), name, journal, before).told


def _run(night: NightSteps, name: str, journal: Journal, before: list[StepResult]) -> StepResult:
    began = time.monotonic()
    forget_peak()
    try:
        journal.undo(name)
        told = STEPS[name](night)
        return journal.note(name, before, round(time.monotonic() - began, 2), told)
    except NightFilesDamaged:
        journal.forget()
        raise
    except (OSError, pa.ArrowException) as error:  # a full disk, most likely, and not all of them name the file
        free = shutil.disk_usage(night.var).free >> 20
        raise BatchError(
            f"{name}: {error}; {free:,} MB are free in {night.var}; once there is room, it goes on where it stopped:"
            " python -m batch nightly"
        ) from error


def _goes_on(earlier: NightStart | None, now: NightStart) -> bool:
    """Whether a night that was interrupted is still worth going on with."""
    if earlier is None or earlier.settings != now.settings:
        return False
    return 0 <= now.stream_time - earlier.stream_time <= _RESUME_MS


def _digest(streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings) -> str:
    told = [msgspec.to_builtins(settings), streaming.generation, quality.session_gap_hours, publish.versions()]
    return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()


def _summary(steps: list[StepResult], earlier: int, seconds: float) -> dict[str, Any]:
    return {
        "release": steps[-1].told["release"],
        "seconds": round(seconds, 2),
        "peak_memory_mb": max(done.peak_memory_mb for done in steps),
        "steps": {
            done.step: {
                "seconds": done.seconds,
                "peak_memory_mb": done.peak_memory_mb,
                **({"by": "the night that was interrupted"} if place < earlier else {}),
                **done.told,
            }
            for place, done in enumerate(steps)
        },
    }
