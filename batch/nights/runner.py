"""Runs all steps of a night under one lock, or one step alone. A killed night is resumed at its first unfinished step.

The journal says what a night began with. The next run resumes it if settings and versions are the same and the stream
has moved on by a few hours at most; otherwise it starts over. A night that ended with a release or with the gate's
refusal is over.
"""

import datetime as dt
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from batch import models
from batch.errors import BatchError, GateRefusal, NightFilesDamaged, NotEnoughData
from batch.nights import alert_hold
from batch.nights.journal import FinishedStep, Journal, NightStart, forget_peak
from batch.nights.step_results import EvaluateResult, NightSummary, PublishResult, StepName, StepResult
from batch.nights.steps import NightSteps
from batch.releases import publish
from batch.settings import BatchSettings
from quality.settings import QualitySettings
from stream import durable
from stream.archive import Archive
from stream.decoding import decode_json
from stream.ledger_clock import stream_time
from stream.settings import StreamSettings
from stream.zone import HOUR_MS

log = logging.getLogger(__name__)

STEPS: dict[StepName, Callable[[NightSteps], StepResult]] = {
    "sessions": NightSteps.sessions,
    "catalog": NightSteps.catalog,
    "history": NightSteps.history,
    "evaluate": NightSteps.evaluate,
    "train": NightSteps.train,
    "publish": NightSteps.publish,
}
_NAMES = list(STEPS)
_RESUME_MS = 6 * HOUR_MS
"""A night interrupted longer ago than this, by the stream's clock, starts over: its release would be stale."""


def run_night(
    streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings, despite_alerts: bool
) -> NightSummary:
    """Run all steps, or the remaining ones of an interrupted night. The caller holds the lock.

    Raises `NightHeld`, `GateRefusal`, and the errors of the steps.
    """
    began = time.monotonic()
    _sweep(streaming.var)
    folder, entries = streaming.var / "night", Archive(streaming.var).condensed()
    alert_hold.require_no_blocking_alerts(entries, streaming, quality, despite_alerts)
    journal = Journal(folder)
    now = NightStart(
        began=f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}",
        stream_time=stream_time(entries) or 0,
        settings=_digest(streaming, quality, settings),
    )
    earlier = journal.done(_NAMES) if _is_resumable(journal.night, now) else []
    if not earlier:
        journal.begin(now)
    for done in earlier:
        log.info("%s: done by the night that was interrupted", done.step)
    night, steps = NightSteps(streaming, quality, settings, despite_alerts), list(earlier)
    try:
        for name in _NAMES[len(earlier) :]:
            steps.append(_run(night, name, journal, steps))
    except (GateRefusal, NotEnoughData):  # the same data would be no better: the next try reads what has come since
        journal.end()
        raise
    journal.end()
    summary = _summary(steps, len(earlier), time.monotonic() - began)
    durable.write_json(folder / "summary.json", msgspec.to_builtins(summary))
    return summary


def _sweep(var: Path) -> None:
    """Remove half-written files of nights that were killed. The caller holds the lock."""
    for path in [*(var / "night").glob(".*"), *(var / "sessions").glob("day=*/.*")]:
        # the outcomes are the schedule's, which writes them without the lock
        if durable.is_leftover(path) and not path.name.startswith(".outcomes."):
            log.info("removed %s: left behind by a night that was killed", path)
            path.unlink(missing_ok=True)


def run_step(
    name: StepName, streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings
) -> StepResult:
    """Run one step. The caller holds the lock. Raises `NotEnoughData` if a step before it is not done."""
    journal = Journal(streaming.var / "night")
    needed = _NAMES[: _NAMES.index(name)]
    before = journal.done(needed)
    if len(before) < len(needed):
        missing = needed[len(before)]
        raise NotEnoughData(f"{name}: {missing} has to be done before it: python -m batch {missing}")
    return _run(NightSteps(streaming, quality, settings), name, journal, before).result()


def _run(night: NightSteps, name: StepName, journal: Journal, before: Sequence[FinishedStep]) -> FinishedStep:
    began = time.monotonic()
    forget_peak()
    try:
        journal.undo(name)
        result = STEPS[name](night)
        return journal.note(name, before, round(time.monotonic() - began, 2), result)
    except NightFilesDamaged:
        journal.forget()
        raise
    except (OSError, pa.ArrowException) as error:  # most likely a full disk; not all of these errors name the file
        free = shutil.disk_usage(night.var).free >> 20
        raise BatchError(
            f"{name}: {error}; {free:,} MB are free in {night.var}; make room, then resume the night:"
            " python -m batch nightly"
        ) from error


def _is_resumable(earlier: NightStart | None, now: NightStart) -> bool:
    """Whether a night can resume the one that was interrupted."""
    if earlier is None or earlier.settings != now.settings:
        return False
    return 0 <= now.stream_time - earlier.stream_time <= _RESUME_MS


def _digest(streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings) -> str:
    """Digest of what a result depends on besides the data."""
    parts = [msgspec.to_builtins(settings), streaming.generation, quality.session_gap_hours, publish.versions()]
    parts.append(models.source_version(settings.model))
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _summary(steps: Sequence[FinishedStep], earlier: int, seconds: float) -> NightSummary:
    """The summary of finished steps, of which an interrupted night did the first `earlier`."""
    published = decode_json(steps[-1].told, PublishResult)
    evaluated = decode_json(next(done.told for done in steps if done.step == "evaluate"), EvaluateResult)
    results = {
        done.step: msgspec.structs.replace(
            done.result(),
            seconds=done.seconds,
            peak_memory_mb=done.peak_memory_mb,
            by="the night that was interrupted" if number < earlier else None,
        )
        for number, done in enumerate(steps)
    }
    return NightSummary(
        release=published.release,
        model=evaluated.chosen,
        chosen_by=evaluated.chosen_by,
        seconds=round(seconds, 2),
        peak_memory_mb=max(done.peak_memory_mb for done in steps),
        steps=results,
    )
