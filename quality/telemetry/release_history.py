"""Which release was in force when.

`releases/history.jsonl` has one line per change of `current`, oldest first. A line overrides all lines before it, even
if stream time went back. The functions here are the only readers of the file and `append_release_change` the only
writer; publishing a release (`batch/releases/publish.py`) calls it.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from quality.errors import ReleaseHistoryError
from stream import durable
from stream.decoding import decode_json


class ReleaseChange(msgspec.Struct, frozen=True):
    """One line of the history: `current` moved to a release."""

    release: str
    stream_time: int
    """Stream time, ms UTC."""
    wall_time: str = ""
    """Time by this machine's clock: ISO, UTC."""
    by: str = "night"
    """The cause: a `night`, a `rollback` or a `pin`; missing in the oldest lines, which were nights."""


class ReleaseHistory:
    """Which release was in force when."""

    def __init__(self, changes: Sequence[ReleaseChange], damage: Sequence[str] = ()) -> None:
        self.damage = damage
        """What could not be read: which release was in force then is not known, and the one before it is taken."""
        self._changes: list[ReleaseChange] = []
        for change in changes:
            while self._changes and self._changes[-1].stream_time >= change.stream_time:
                self._changes.pop()
            self._changes.append(change)
        self._since = np.array([change.stream_time for change in self._changes], np.int64)
        self.releases = list(dict.fromkeys(change.release for change in self._changes))
        """Ids, each once; the number of a release is its place here."""
        numbers = {release: number for number, release in enumerate(self.releases)}
        self._numbers = np.array([-1] + [numbers[change.release] for change in self._changes], np.int64)

    def in_force(self, times: np.ndarray) -> np.ndarray:
        """Number of the release in force at each time (int64, ms UTC); -1 before the first."""
        numbers: np.ndarray = self._numbers[np.searchsorted(self._since, times, side="right")]
        return numbers

    def releases_since(self, time_ms: int) -> set[str]:
        """Ids of all releases that were in force at a time (ms UTC) or after it."""
        first = int(np.searchsorted(self._since, time_ms, side="right")) - 1
        return {change.release for change in self._changes[max(first, 0) :]}

    def around(self, time_ms: int) -> tuple[ReleaseChange | None, ReleaseChange | None, ReleaseChange | None]:
        """The change in force at a time (ms UTC), the one before it, and the one after it; None if there is none."""
        changes_before = int(np.searchsorted(self._since, time_ms, side="right"))
        padded = [None, None, *self._changes, None]
        return padded[changes_before + 1], padded[changes_before], padded[changes_before + 2]


def read_release_history(releases: Path) -> ReleaseHistory:
    """The history below the folder of the releases, without damaged lines: one must not stop all reports.

    Raises `ReleaseHistoryError` if the file cannot be read at all.
    """
    changes, damage = [], []
    for number, line in _lines(releases):
        try:
            changes.append(_change(_path(releases), number, line))
        except ReleaseHistoryError as error:
            damage.append(str(error))
    return ReleaseHistory(changes, damage)


def read_release_changes(releases: Path) -> list[ReleaseChange]:
    """The changes of `current`, oldest first; none if there is no file.

    Raises `ReleaseHistoryError` if the file is damaged: it is replaced atomically, so half a line is also damage.
    """
    return [_change(_path(releases), number, line) for number, line in _lines(releases)]


def append_release_change(releases: Path, change: ReleaseChange) -> None:
    """Add a change to the history, durably. Existing lines stay unchanged, byte for byte."""
    path = _path(releases)
    before = path.read_bytes() if path.exists() else b""
    line_end = b"\n" if before and not before.endswith(b"\n") else b""
    durable.write_bytes(path, before + line_end + msgspec.json.encode(change) + b"\n")


def _path(releases: Path) -> Path:
    return releases / "history.jsonl"


def _lines(releases: Path) -> list[tuple[int, bytes]]:
    path = _path(releases)
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise ReleaseHistoryError(f"releases: {path} cannot be read: {error}") from error
    return [(number, line) for number, line in enumerate(lines, 1) if line]


def _change(path: Path, number: int, line: bytes) -> ReleaseChange:
    try:
        return decode_json(line, ReleaseChange)
    except msgspec.DecodeError as error:
        mending = "restore it, or take the line out"
        raise ReleaseHistoryError(f"releases: {path}, line {number}, cannot be read: {error}; {mending}") from error
