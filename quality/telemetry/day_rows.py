"""The rows that the report of one day is computed from, whether they come from the store or from the archive."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from quality.metrics.watch_sessions import TimeSpans


@dataclass(frozen=True, slots=True)
class AnswerRows:
    """Answers, ascending by time; of several simultaneous answers to one user the last row is the later one."""

    time: np.ndarray
    """int64, ms UTC."""
    user: np.ndarray
    """int64."""
    status: np.ndarray
    """int64."""
    latency_ms: np.ndarray
    """int64."""
    movies: np.ndarray
    """int32[answers, 20]: numbers of movies, best first, -1 for none; all -1 unless status is 200."""

    def __getitem__(self, rows: np.ndarray) -> "AnswerRows":
        return AnswerRows(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class DayRows:
    """What is known of the answers of one day."""

    first: int
    """Where the day begins, ms UTC."""
    end: int
    """Where it ends."""
    answers: AnswerRows
    """Answers of every status from `first` to the end of the last window; lists only of those before `end`."""
    sessions: TimeSpans
    """Sessions that started in the same time; movies by their numbers."""
    movies: Mapping[str, int]
    """By id: the number of each movie that the answers and sessions mention."""
    left_out: dict[str, int]
    """Lines of the day (of Kafka's time) that are in no figure, by reason."""
    known_from: int | None
    """The earliest Kafka time of any line, ms UTC."""
