"""The alert file, `var/alerts.jsonl`: every alert once, one JSON object a line.

It is the record and the outbox in one: what has been raised stands in it, what has not been posted yet is what stands
behind the mark of `quality.alerts.webhook`. An alert's id is made of what it tells of, so raising it again changes
nothing.

| what happens | what holds |
|---|---|
| an alert was raised | it is on disk before `append` returns |
| killed while it was written, or the disk was full | half a line does not count, and goes with the next append |
| several processes raise alerts | one after the other, under `alerts.lock`; an id stands in the file once |
| the file is moved away | the next alert begins a new one |
"""

import datetime as dt
import logging
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import filelock
import msgspec

from stream import durable

log = logging.getLogger(__name__)

LOCK_S = 30.0
"""Nobody holds the lock for longer than a write to disk takes; whoever waits longer ends with an error."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert."""

    id: str = ""
    """What it tells of: of one thing there is one alert, however often it is seen."""
    alert: str
    """Its name: a fate, `retention_gap`, `night_held`, …"""
    text: str
    """In one sentence; the field that chat programs show."""
    reason: str | None = None
    """Of a fate: the reason that it is about, None for all of them."""
    hour: str | None = None
    """The hour of the stream, `YYYY-MM-DDTHHZ`."""
    stream_time: int | None = None
    """The beginning of that hour, or when it was otherwise, ms UTC."""
    lines: int = 0
    """How many lines are at fault."""
    of: int | None = None
    """Of how many, so far."""
    share: float | None = None
    threshold: float | None = None
    """The share that is still normal."""
    week: float | None = None
    """The share in the week before; None where that has too few lines."""
    reasons: dict[str, int] = {}
    """Of a fate: lines by reason."""
    batch: str | None = None
    """The ledger entry that it is about."""
    hold: bool = False
    """Whether it holds the night back."""
    raised: str = ""
    """When, by the clock of this machine."""


_DECODER = msgspec.json.Decoder(Alert)


def decode_alert(line: bytes) -> Alert | None:
    """The alert of a line, None where it holds none; those of the time before ids get one."""
    try:
        alert = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return alert if alert.id else msgspec.structs.replace(alert, id=f"{alert.alert}:{alert.batch}")


class AlertFile:
    """The file of one `var` folder, as far as it has been read."""

    def __init__(self, var: Path) -> None:
        self.path = var / "alerts.jsonl"
        self.ids: set[str] = set()
        self.raised: Counter[tuple[str, str]] = Counter()
        """Alerts by name and reason."""
        self._inode, self._end = 0, 0
        """Which file was read, and how far: the end of its last whole line."""

    def lock(self) -> AbstractContextManager[object]:
        """Held while the file is read or written: nobody sees what may still be taken back."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.path.with_name("alerts.lock"), timeout=LOCK_S)

    def refresh(self) -> None:
        """Read what others have raised since."""
        with self.lock():
            self._catch_up()

    def read(self, start: int = 0) -> list[tuple[int, bytes, Alert]]:
        """The alerts from a place of the file on, each with its line and where that ends."""
        with self.lock():
            lines = _whole_lines(self.path, start)
        alerts = ((end, line, decode_alert(line)) for end, line in lines)
        return [(end, line, alert) for end, line, alert in alerts if alert is not None]

    def append(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Raise those that have not been raised yet, durably, and log them. Returns these."""
        with self.lock():
            self._catch_up()
            now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            new = {one.id: msgspec.structs.replace(one, raised=now) for one in alerts if one.id not in self.ids}
            if new:
                self._write(b"".join(msgspec.json.encode(alert) + b"\n" for alert in new.values()))
                self._catch_up()
        for alert in new.values():
            log.warning("alert %s: %s", alert.id, alert.text)
        return list(new.values())

    def _catch_up(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._forget(0)
            return
        if status.st_ino != self._inode or status.st_size < self._end:
            self._forget(status.st_ino)
        for end, line in _whole_lines(self.path, self._end):
            self._end = end
            alert = decode_alert(line)
            if alert is None:
                log.error("%s: the line that ends at byte %d is no alert; it is passed over", self.path, end)
                continue
            self.ids.add(alert.id)
            self.raised[alert.alert, alert.reason or ""] += 1

    def _forget(self, inode: int) -> None:
        self.ids.clear()
        self.raised.clear()
        self._inode, self._end = inode, 0

    def _write(self, data: bytes) -> None:
        """Put whole lines behind the last one; where that fails, nothing of them stays."""
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.ftruncate(file, self._end)  # half a line that a crash left
            os.lseek(file, self._end, os.SEEK_SET)
            left = memoryview(data)
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, self._end)
            raise
        finally:
            os.close(file)
        durable.sync(self.path.parent)


def raise_alert(var: Path, alert: Alert) -> bool:
    """Raise an alert, unless its id stands in the file. Returns whether it is new."""
    return bool(AlertFile(var).append([alert]))


def _whole_lines(path: Path, start: int) -> list[tuple[int, bytes]]:
    """The lines from a byte on, each with where it ends; what has no end yet is not among them."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            *lines, _ = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    found, end = [], start
    for line in lines:
        end += len(line) + 1
        found.append((end, line))
    return found
