"""Sessions: the minutes that a user watched of one movie, with pauses no longer than a gap. Pure functions of
arrays.

A session is a span, first minute to last. Spans of one user and movie that lie within the gap of each other are one,
and which minutes end up together does not depend on the order they come in: spans are joined whenever a line closes
the gap between them, so the spans of any minutes in any order are those of all the minutes sorted.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans of time, one a row. A span may be a single minute."""

    key: np.ndarray
    """uint64: user << 32 | number of the movie."""
    start: np.ndarray
    """int64: time of the first minute, ms UTC."""
    last: np.ndarray
    """int64: time of the last minute, ms UTC."""

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, rows: np.ndarray) -> "Spans":
        return Spans(self.key[rows], self.start[rows], self.last[rows])

    def __add__(self, other: "Spans") -> "Spans":
        return Spans(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__slots__))


def key_of(user: np.ndarray, movie: np.ndarray) -> np.ndarray:
    """User (uint32) and number of the movie (int32, not negative) in one uint64."""
    return user.astype(np.uint64) << np.uint64(32) | movie.astype(np.uint64)


def user_movie(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `key_of`, both as int64."""
    return (key >> np.uint64(32)).astype(np.int64), (key & np.uint64(0xFFFFFFFF)).astype(np.int64)


def united(spans: Spans, gap_ms: int) -> tuple[Spans, np.ndarray]:
    """Sessions made of spans in any order, ascending by key and start; and each span's row in them (int64)."""
    if not len(spans):
        return spans, np.zeros(0, np.int64)
    order = np.lexsort((spans.start, spans.key))
    ordered = spans[order]
    other_key = np.concatenate([[True], ordered.key[1:] != ordered.key[:-1]])
    reached = _reached(ordered, other_key)
    begins = other_key.copy()
    begins[1:] |= ordered.start[1:] - reached[:-1] > gap_ms
    firsts = np.flatnonzero(begins)
    ends = np.append(firsts[1:], len(order)) - 1
    rows = np.empty(len(order), np.int64)
    rows[order] = np.cumsum(begins) - 1
    return Spans(ordered.key[firsts], ordered.start[firsts], reached[ends]), rows


def _reached(ordered: Spans, other_key: np.ndarray) -> np.ndarray:
    """For each span: the latest minute of its key so far. One running maximum, each key lifted above those before."""
    base = ordered.start.min()
    height = ordered.last.max() - base + 1  # at most a century of ms, 2**42: leaves room for two million keys
    lift = (np.cumsum(other_key) - 1) * height
    reached: np.ndarray = np.maximum.accumulate(ordered.last - base + lift) - lift + base
    return reached
