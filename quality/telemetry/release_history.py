"""Which release was in force when, and its popular list: read from `var/releases`, never written here.

`history.jsonl` has one line a change of `current`, in order: `release`, `stream_time` (ms UTC, the stream's time of
the change), `wall_time`, and `by`, what made the change. A line takes over from all lines before it, also where the
stream's time went back. The popular list is row 0 of `<id>/fallbacks.npy` ([segments + 1, 20 or more] item indices,
the largest value for none) by `<id>/movies.txt`.
"""

from pathlib import Path

import msgspec
import numpy as np

from quality.errors import ReleaseHistoryError
from stream.event import LIST_LENGTH


class ReleaseChange(msgspec.Struct, frozen=True):
    """One line of the history."""

    release: str
    stream_time: int
    wall_time: str = ""
    by: str = "night"
    """What moved it: a night, a `rollback` or a `pin`; lines of the time before that was noted say nothing."""


class ReleaseHistory:
    """Changes of the release in force."""

    def __init__(self, changes: list[ReleaseChange]) -> None:
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

    def around(self, time_ms: int) -> tuple[ReleaseChange | None, ReleaseChange | None, ReleaseChange | None]:
        """The change that put in force what was so at a time (ms UTC), the one before it, and the one after it."""
        place = int(np.searchsorted(self._since, time_ms, side="right"))
        padded = [None, None, *self._changes, None]
        return padded[place + 1], padded[place], padded[place + 2]


def read_release_history(releases: Path) -> ReleaseHistory:
    """Read the history below a folder; none is an empty one. Raises `ReleaseHistoryError` for one unreadable."""
    path = releases / "history.jsonl"
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        # what follows the last line break is a line still being written
        return ReleaseHistory([msgspec.json.decode(line, type=ReleaseChange) for line in lines[:-1] if line])
    except (OSError, msgspec.DecodeError) as error:
        raise ReleaseHistoryError(f"releases: cannot read {path}: {error}") from error


def popular_list(releases: Path, release: str) -> list[str] | None:
    """The popular list of a release, best first; None where the release is gone (pruned) or cannot be read."""
    try:
        row = np.load(releases / release / "fallbacks.npy", mmap_mode="r")[0, :LIST_LENGTH]
        movies = (releases / release / "movies.txt").read_text("utf-8").splitlines()
        return [movies[item] for item in row[row != np.iinfo(row.dtype).max].tolist()]
    except (OSError, ValueError, IndexError):
        return None
