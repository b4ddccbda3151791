"""The journal of a night, `night/journal.json`: its finished steps, so that a killed night can be resumed.

It is rewritten atomically after each step. An entry names the entry that it follows, so a step counts as done only
while the steps before it are the same runs: running a step again makes all later ones undone.
"""

import resource
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec

from batch.nights.step_results import RESULT_TYPES, StepName, StepResult
from stream import durable
from stream.decoding import decode_json

_PEAK = Path("/proc/self/clear_refs")


class FinishedStep(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the journal: a step that was finished."""

    step: StepName
    id: str
    after: str
    """The id of the entry of the step before; empty for the first."""
    seconds: float
    peak_memory_mb: int
    """The most memory that was resident while it ran, MiB."""
    told: msgspec.Raw
    """The JSON of its result."""

    def result(self) -> StepResult:
        """The result of the step. Raises `msgspec.DecodeError` and `ValueError` for JSON of another type."""
        return decode_json(self.told, RESULT_TYPES[self.step])


class NightStart(msgspec.Struct, frozen=True, kw_only=True):
    """The start of a night. An interrupted night is resumed if the settings are the same and it is recent enough."""

    began: str
    """By the machine's clock, UTC; for readers only."""
    stream_time: int
    """How far the stream had come, ms UTC."""
    settings: str
    """Digest of the settings and of the versions of code and libraries."""


class _File(msgspec.Struct):
    night: NightStart | None = None
    done: list[FinishedStep] = []


class Journal:
    """The journal in one folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.json"
        try:
            self._file = _parse(self._path.read_bytes())
        except (OSError, msgspec.DecodeError, ValueError):  # the night starts over, which costs time and nothing else
            self._file = _File()

    @property
    def night(self) -> NightStart | None:
        """The night that is under way; None for none."""
        return self._file.night

    def done(self, steps: Sequence[StepName]) -> list[FinishedStep]:
        """The finished ones of `steps`, in their order, up to the first that is not."""
        entries = {entry.step: entry for entry in self._file.done}
        finished: list[FinishedStep] = []
        for step in steps:
            entry = entries.get(step)
            if entry is None or entry.after != (finished[-1].id if finished else ""):
                break
            finished.append(entry)
        return finished

    def begin(self, night: NightStart) -> None:
        """Begin a night: nothing is done."""
        self._file = _File(night)
        self._write()

    def end(self) -> None:
        """End the night: its steps stay done, but the next night starts over."""
        self._file.night = None
        self._write()

    def forget(self) -> None:
        """Files that steps have written are lost: no step is done."""
        self._file = _File()
        self._write()

    def undo(self, step: StepName) -> None:
        """Invalidate a step that is about to run, and all later ones, until they are done again."""
        self._file.done = [entry for entry in self._file.done if entry.step != step]
        self._write()

    def note(self, step: StepName, before: Sequence[FinishedStep], seconds: float, result: StepResult) -> FinishedStep:
        """A step is done; `before` are the steps that it follows."""
        done = FinishedStep(
            step=step,
            id=uuid.uuid4().hex,
            after=before[-1].id if before else "",
            seconds=seconds,
            peak_memory_mb=_peak_memory_mb(),
            told=msgspec.Raw(msgspec.json.encode(result)),
        )
        self._file.done = [*(entry for entry in self._file.done if entry.step != step), done]
        self._write()
        return done

    def _write(self) -> None:
        durable.write_bytes(self._path, msgspec.json.format(msgspec.json.encode(self._file)) + b"\n")


def _parse(data: bytes) -> _File:
    file = decode_json(data, _File)
    for entry in file.done:
        entry.result()  # an entry whose result cannot be read is found now, not at the end of the night
    return file


def forget_peak() -> None:
    """Measure the peak of this process's memory from here on, where the system can."""
    try:
        _PEAK.write_text("5")
    except OSError:
        return


def _peak_memory_mb() -> int:
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
