"""The days of the archive whose files retention has dropped, `archive/dropped.json`: what was there.

The note is written before the first file goes, so a day is never half there: readers take all of it for dropped. The
ledger keeps its counts.
"""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from stream import durable
from stream.decoding import decode_json
from stream.errors import ArchiveError

Share = Literal["events", "quarantine"]
"""What is dropped together: the events of all kinds, or the refused lines."""


class DroppedDay(msgspec.Struct, frozen=True, kw_only=True):
    """What retention has dropped of a day."""

    dropped: str
    """When it was last dropped, by the machine's clock: ISO 8601, UTC."""
    files: int
    rows: int
    size: int
    """Bytes."""


class _Note(msgspec.Struct, frozen=True):
    events: dict[str, DroppedDay] = {}
    quarantine: dict[str, DroppedDay] = {}


class DroppedDays:
    """The note of one `var` folder. Only the holder of the night's lock adds to it."""

    def __init__(self, var: Path) -> None:
        self.path = var / "archive" / "dropped.json"
        self._state: tuple[int, int] | None = None
        self._note = _Note()

    def of(self, share: Share) -> Mapping[str, DroppedDay]:
        """By day: what was dropped. Raises `ArchiveError` if the note is damaged."""
        self._refresh()
        return self._note.events if share == "events" else self._note.quarantine

    def get(self, room: str, day: str) -> DroppedDay | None:
        """What was dropped of the files of a kind, or of the `quarantine`, on a day; None if they are kept."""
        return self.of("quarantine" if room == "quarantine" else "events").get(day)

    def add(self, share: Share, day: str, files: int, rows: int, size: int) -> None:
        """Note, durably, that files of a day are about to go, possibly more of a day that was dropped before."""
        days = dict(self.of(share))
        before = days.get(day) or DroppedDay(dropped="", files=0, rows=0, size=0)
        days[day] = DroppedDay(
            dropped=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            files=before.files + files,
            rows=before.rows + rows,
            size=before.size + size,
        )
        note = msgspec.structs.replace(self._note, **{share: dict(sorted(days.items()))})
        durable.write_bytes(self.path, msgspec.json.format(msgspec.json.encode(note)) + b"\n")

    def _refresh(self) -> None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._state, self._note = None, _Note()
            return
        if (state := (stat.st_ino, stat.st_mtime_ns)) != self._state:
            try:
                self._note = decode_json(self.path.read_bytes(), _Note)
            except (OSError, msgspec.DecodeError) as error:
                raise ArchiveError(
                    f"archive: cannot read {self.path}: {error}; restore it: without it, dropped days look damaged"
                ) from error
            self._state = state


def describe_drop(day: str, dropped: DroppedDay) -> str:
    """What became of a day, in words."""
    return (
        f"{day} was dropped on {dropped.dropped[:10]} by retention: {dropped.rows:,} lines in {dropped.files:,} files"
    )
