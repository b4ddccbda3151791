"""The sessions of the days whose reports are open, held between two reports: what is over is not read again.

Reading them from the store is most of the time of a report. A line changes sessions only by adding a minute. The
session that has it then ends then or later, and so did each one that is gone because it now begins earlier. So the
store is asked for the sessions that end at the earliest minute that came since, or later. They replace those that were
held with such an end, or with their key and start.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from quality.metrics.watch_sessions import TimeSpans
from quality.telemetry.store import Store

_NONE = int(np.iinfo(np.int64).max)


class EarliestMinute:
    """The earliest minute that came since a reader asked. One thread notes, another one asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._earliest = _NONE

    def note(self, minute: int) -> None:
        """Note a minute, ms UTC, before it is committed to the store."""
        with self._lock:
            self._earliest = min(self._earliest, minute)

    def peek(self) -> int:
        """The earliest minute, ms UTC; the largest int64 without one."""
        with self._lock:
            return self._earliest

    def take(self) -> int:
        """As `peek`; the next one is the earliest of those that come from now on."""
        with self._lock:
            earliest, self._earliest = self._earliest, _NONE
            return earliest


class OpenSessions:
    """Some 24 bytes a session. Asked by one thread at a time."""

    def __init__(self, changes: EarliestMinute) -> None:
        """`changes` notes each minute that is stored from now on."""
        self._changes = changes
        self._after = _NONE
        self._held = TimeSpans(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))
        """Those with start > `_after`, by start and key."""

    @contextmanager
    def reading(self, store: Store, after: int) -> Iterator[tuple[Store, TimeSpans]]:
        """A snapshot of the store, and its sessions with start > `after`, ascending by start, user and movie."""
        earliest = self._changes.take()
        with store.snapshot() as snapshot:
            # what was committed since then may be in the snapshot; the next report reads it as well
            earliest = min(earliest, self._changes.peek())
            if after < self._after:
                self._held, earliest = self._held[:0], -1
            held = self._held[(self._held.start > after) & (self._held.last < earliest)]
            spans = held + snapshot.sessions(after, _NONE, earliest)
            spans = spans[np.lexsort((spans.key, spans.start))]  # of two with one key and start the latter is new
            is_last = np.append((spans.key[1:] != spans.key[:-1]) | (spans.start[1:] != spans.start[:-1]), True)
            self._after, self._held = after, spans[is_last[: len(spans)]]
            yield snapshot, self._held
