"""The alert file, `var/alerts.jsonl`: every alert once, one JSON object per line.

It is both the record of alerts and the webhook's queue: alerts after the mark of `quality.alerts.webhook` have not been
posted yet. An alert's id names its cause, so raising the same alert again changes nothing.

| event | guarantee |
|---|---|
| an alert was raised | it is on disk before `append` returns |
| killed during a write, or the disk was full | half a line does not count; the next append removes it |
| several processes raise alerts | one after the other, under `alerts.lock`; each id is in the file once |
| the file is moved away | the next alert begins a new file |
"""

import datetime as dt
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import filelock
import msgspec

from stream import durable
from stream.archive import Archive
from stream.decoding import decode_json
from stream.errors import TopicRemade

log = logging.getLogger(__name__)

LOCK_S = 30.0
"""How long to wait for the lock, seconds. It is held for one write to disk, so a longer wait is an error."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert: a line of the file, and the body that the webhook posts."""

    id: str = ""
    """Its cause: a cause raises one alert, however often it is seen."""
    alert: str
    """Its name: a fate, `retention_gap`, `night_held`, …"""
    text: str
    """One sentence; chat programs show this field."""
    reason: str | None = None
    """The reason within the fate; None: all reasons of the fate."""
    hour: str | None = None
    """The hour of the stream, `YYYY-MM-DDTHHZ`."""
    stream_time: int | None = None
    """The beginning of that hour, or the stream time of another cause, ms UTC."""
    lines: int = 0
    """Lines at fault."""
    of: int | None = None
    """All lines of the hour so far."""
    share: float | None = None
    """`lines` by `of`."""
    threshold: float | None = None
    """The largest normal share."""
    week: float | None = None
    """The share in the week before; None if that week has too few lines."""
    reasons: dict[str, int] = {}
    """Lines of the fate by reason."""
    batch: str | None = None
    """Name of the ledger entry that caused it."""
    hold: bool = False
    """Whether it holds the night."""
    raised: str = ""
    """When it was raised, by the clock of this machine: ISO time in UTC."""


class AlertLine(NamedTuple):
    """An alert and its place in the file."""

    end: int
    """The offset after its line end, in bytes."""
    line: bytes
    """Its text in the file, without the line end."""
    alert: Alert


def decode_alert(line: bytes) -> Alert | None:
    """The alert in a line; None if the line is not an alert. Old alerts without an id get one."""
    try:
        alert = decode_json(line, Alert)
    except msgspec.DecodeError:
        return None
    return alert if alert.id else msgspec.structs.replace(alert, id=f"{alert.alert}:{alert.batch}")


class AlertFile:
    """The alert file of one `var` folder, and a cache of its contents."""

    def __init__(self, var: Path) -> None:
        self.path = var / "alerts.jsonl"
        self.ids: set[str] = set()
        self.raised: Counter[tuple[str, str]] = Counter()
        """Alerts by name and reason."""
        self._inode, self._end = 0, 0
        """The file that was read, and the end of its last whole line in bytes."""

    def lock(self) -> AbstractContextManager[object]:
        """Held while the file is read or written, so that no reader sees a write that may be rolled back."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.path.with_name("alerts.lock"), timeout=LOCK_S)

    def refresh(self) -> None:
        """Read alerts that other processes have raised since."""
        with self.lock():
            self._catch_up()

    def read(self, start: int = 0) -> list[AlertLine]:
        """The alerts from a byte of the file on."""
        with self.lock():
            lines = _whole_lines(self.path, start)
        alerts = ((end, line, decode_alert(line)) for end, line in lines)
        return [AlertLine(end, line, alert) for end, line, alert in alerts if alert is not None]

    def append(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Durably add and log the alerts whose ids are not in the file yet; returns these."""
        with self.lock():
            self._catch_up()
            now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            new = {alert.id: msgspec.structs.replace(alert, raised=now) for alert in alerts if alert.id not in self.ids}
            if new:
                self._write(b"".join(msgspec.json.encode(alert) + b"\n" for alert in new.values()))
                self._catch_up()
        for alert in new.values():
            log.warning("alert %s: %s", alert.id, alert.text)
        return list(new.values())

    def trimmable(self, before: dt.datetime, keep: int) -> int:
        """How many bytes `trim` would remove."""
        with self.lock():
            return self._old_end(before, keep)

    def trim(self, before: dt.datetime, keep: int) -> None:
        """Remove the alerts that were raised before a time, up to the first that was not, but not the last `keep`.

        The file is replaced: other processes read it anew, and the poster goes on after the last alert that it has
        posted, if that is still there.
        """
        with self.lock():
            if end := self._old_end(before, keep):
                durable.write_bytes(self.path, self.path.read_bytes()[end:])

    def _old_end(self, before: dt.datetime, keep: int) -> int:
        lines = _whole_lines(self.path, 0)
        old = 0
        for end, line in lines[: max(0, len(lines) - keep)]:
            alert = decode_alert(line)
            if alert is not None and (not alert.raised or dt.datetime.fromisoformat(alert.raised) >= before):
                break
            old = end
        return old

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
                log.error("%s: the line that ends at byte %d is not an alert; skipped", self.path, end)
                continue
            self.ids.add(alert.id)
            self.raised[alert.alert, alert.reason or ""] += 1

    def _forget(self, inode: int) -> None:
        self.ids.clear()
        self.raised.clear()
        self._inode, self._end = inode, 0

    def _write(self, data: bytes) -> None:
        """Append whole lines; a failed write leaves no trace."""
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
    """Raise an alert unless its id is in the file already. Returns whether it is new."""
    return bool(AlertFile(var).append([alert]))


@asynccontextmanager
async def alert_if_remade(var: Path) -> AsyncIterator[None]:
    """Raise an alert if the block ends because the topic was deleted and made anew."""
    try:
        yield
    except TopicRemade as error:
        name = "topic_remade"
        id_ = f"{name}:{Archive(var).name_of(error.topic)}"  # once, however often the processes are restarted
        raise_alert(var, Alert(id=id_, alert=name, text=str(error)))
        raise


def _whole_lines(path: Path, start: int) -> list[tuple[int, bytes]]:
    """The lines from an offset on, each with the offset of its end; an unfinished last line is left out."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            *lines, _ = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    _, *ends = accumulate((len(line) + 1 for line in lines), initial=start)
    return list(zip(ends, lines, strict=True))
