"""Sessions: the minutes that a user watched of one movie, with pauses no longer than a gap. Pure functions of
arrays.

A session is a span from its first to its last minute. Spans of one user and movie within the gap of each other are
joined. The result does not depend on the order of the minutes: a late minute that closes the gap between two spans
joins them, so any order gives the same spans as the sorted minutes.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class TimeSpans:
    """Spans of time, one per row. A span may be a single minute."""

    key: np.ndarray
    """uint64: user << 32 | number of the movie."""
    start: np.ndarray
    """int64: time of the first minute, ms UTC."""
    last: np.ndarray
    """int64: time of the last minute, ms UTC."""

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, rows: np.ndarray | slice) -> "TimeSpans":
        return TimeSpans(self.key[rows], self.start[rows], self.last[rows])

    def __add__(self, other: "TimeSpans") -> "TimeSpans":
        return TimeSpans(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__slots__))


def session_key(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
    """User (uint32) and number of the movie (int32, not negative) in one uint64."""
    return user.astype(np.uint64) << np.uint64(32) | movie.astype(np.uint64)


def split_key(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `session_key`, both as int64."""
    return (key >> np.uint64(32)).astype(np.int64), (key & np.uint64(0xFFFFFFFF)).astype(np.int64)


def merge_spans(spans: TimeSpans, gap_ms: int) -> tuple[TimeSpans, np.ndarray]:
    """Joins spans, in any order, into sessions, ascending by key and start; also returns each span's session (int64
    row)."""
    if not len(spans):
        return spans, np.zeros(0, np.int64)
    order = _order(spans)
    ordered = spans[order]
    other_key = np.concatenate([[True], ordered.key[1:] != ordered.key[:-1]])
    reached = _reached(ordered, other_key)
    begins = other_key.copy()
    begins[1:] |= ordered.start[1:] - reached[:-1] > gap_ms
    firsts = np.flatnonzero(begins)
    ends = np.append(firsts[1:], len(order)) - 1
    rows = np.empty(len(order), np.int64)
    rows[order] = np.cumsum(begins) - 1
    return TimeSpans(ordered.key[firsts], ordered.start[firsts], reached[ends]), rows


def _order(spans: TimeSpans) -> np.ndarray:
    """The rows by key and start: int64. The spans of a key are mostly in order of their starts, which saves a sort."""
    order = np.argsort(spans.key, kind="stable")
    key, start = spans.key[order], spans.start[order]
    if ((key[1:] > key[:-1]) | (start[1:] >= start[:-1])).all():
        return order
    return np.lexsort((spans.start, spans.key))


def _reached(ordered: TimeSpans, other_key: np.ndarray) -> np.ndarray:
    """For each span: the latest minute of its key so far."""
    if (other_key[1:] | (ordered.last[1:] >= ordered.last[:-1])).all():
        return ordered.last
    # one running maximum over the ranks of all times, with each key's ranks raised above those of earlier keys
    by_time = np.argsort(ordered.last)
    rank = np.empty(len(ordered), np.int64)
    rank[by_time] = np.arange(len(ordered))
    lift = (np.cumsum(other_key) - 1) * len(ordered)
    reached: np.ndarray = ordered.last[by_time][np.maximum.accumulate(rank + lift) - lift]
    return reached
