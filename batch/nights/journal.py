"""The journal of a night: which steps are done, and on which input, so that a killed night can go on.

`night/journal.json` is rewritten whole after each step. An entry names the entry that it follows, so a step counts as
done only while all before it stand as they stood then: a step that is run again makes everything after it undone.
"""

import resource
import uuid
from pathlib import Path
from typing import Any

import msgspec

from stream import durable

_PEAK = Path("/proc/self/clear_refs")


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was finished."""

    step: str
    id: str
    after: str
    """The id of the entry of the step before; empty for the first."""
    seconds: float
    peak_memory_mb: int
    """The most memory that was resident while it ran."""
    told: dict[str, Any]
    """What the step says of itself: rows and the like."""


class NightStart(msgspec.Struct, frozen=True, kw_only=True):
    """What a night began with. One that was interrupted is gone on with where these still hold."""

    began: str
    """By the clock of this machine, UTC: for whoever reads the journal."""
    stream_time: int
    """How far the stream had come, ms UTC."""
    settings: str
    """Digest of the settings and of the versions of what learns."""


class _File(msgspec.Struct):
    night: NightStart | None = None
    done: list[StepResult] = []


class Journal:
    """The journal in one folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.json"
        try:
            self._file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except (OSError, msgspec.DecodeError):  # without it the night is begun anew: that costs time and nothing else
            self._file = _File()

    @property
    def night(self) -> NightStart | None:
        """The night that is under way; None for none."""
        return self._file.night

    def done(self, steps: list[str]) -> list[StepResult]:
        """The finished ones of `steps`, in their order, up to the first that is not."""
        entries = {entry.step: entry for entry in self._file.done}
        found: list[StepResult] = []
        for step in steps:
            entry = entries.get(step)
            if entry is None or entry.after != (found[-1].id if found else ""):
                break
            found.append(entry)
        return found

    def begin(self, night: NightStart) -> None:
        """Begin a night: nothing is done."""
        self._file = _File(night)
        self._write()

    def end(self) -> None:
        """End the night: what was done stands, but the next one begins anew."""
        self._file.night = None
        self._write()

    def forget(self) -> None:
        """What steps have left is not there any more: no step is done."""
        self._file = _File()
        self._write()

    def undo(self, step: str) -> None:
        """A step is about to be run: until it is done again, neither it nor what follows counts."""
        self._file.done = [entry for entry in self._file.done if entry.step != step]
        self._write()

    def note(self, step: str, before: list[StepResult], seconds: float, told: dict[str, Any]) -> StepResult:
        """A step is done; `before` are the steps that it follows."""
        after = before[-1].id if before else ""
        done = StepResult(
            step=step, id=uuid.uuid4().hex, after=after, seconds=seconds, peak_memory_mb=_peak_memory_mb(), told=told
        )
        self._file.done = [*(entry for entry in self._file.done if entry.step != step), done]
        self._write()
        return done

    def _write(self) -> None:
        durable.write_bytes(self._path, msgspec.json.format(msgspec.json.encode(self._file)) + b"\n")


def forget_peak() -> None:
    """Let the peak of this process's memory be measured from here on, where the system can."""
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
