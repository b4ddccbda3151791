"""The rows that the report of one day is computed from, whether they come from the store or from the archive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.metrics.watch_sessions import TimeSpans, split_key
from stream.event import Kind


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

    def __getitem__(self, rows: np.ndarray | slice) -> "AnswerRows":
        return AnswerRows(*(getattr(self, name)[rows] for name in self.__slots__))

    def identities(self) -> tuple[np.ndarray, ...]:
        """Time, user, status, latency and length of the list: int64 each."""
        return self.time, self.user, self.status, self.latency_ms, (self.movies >= 0).sum(axis=1)


@dataclass(frozen=True, slots=True)
class RatingRows:
    """Ratings, ascending by time; all int64."""

    time: np.ndarray
    """ms UTC."""
    user: np.ndarray
    movie: np.ndarray
    """Numbers of movies."""
    rating: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "RatingRows":
        return RatingRows(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class LineGap:
    """Lines that Kafka had dropped before they were read."""

    lines: int
    after: int | None
    """The time that their partition had reached, ms UTC; None if they were its first."""
    until: int | None
    """The earliest time of the lines that followed, ms UTC; None if none did."""


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
    ratings: RatingRows
    """Ratings of the same time."""
    movies: Mapping[str, int]
    """By id: the number of each movie that the answers and sessions mention."""
    left_out: dict[str, int]
    """Lines of the day (of Kafka's time) that are in no figure, by reason."""
    gaps: Sequence[LineGap]
    """Lost lines that may have been of the day or of its windows."""
    known_from: int | None
    """The earliest Kafka time of any line, ms UTC."""
    lines: int | None = None
    """Lines of the day: of its time, refused ones of its Kafka time. None: not counted."""

    @property
    def events(self) -> int:
        """How many answers, starts and ratings there are."""
        return len(self.answers.time) + len(self.sessions) + len(self.ratings.time)

    def starts(self) -> tuple[np.ndarray, ...]:
        """Time, user and movie of each session's start: int64 each."""
        return self.sessions.start, *split_key(self.sessions.key)


def milliseconds(table: pa.Table, column: str) -> np.ndarray:
    """A column of times as int64, ms UTC."""
    times: np.ndarray = table[column].to_numpy().view(np.int64)
    return times


def late_reason(kind: Kind) -> str:
    """Why a line of a kind is left out that reached Kafka after the report of its day had closed."""
    return f"late_{kind}"


def answer_digests(table: pa.Table) -> list[int]:
    """A digest of each answer's other fields (host, status, list, error, latency): 64 bits, signed.

    Two lines with the same time, user and digest are copies of one answer.
    """
    text = pa.string()
    fields = [
        table["host"].cast(text), table["status"].cast(text), pc.binary_join(table["movies"], ","),
        pc.fill_null(table["error"], "\0"), table["latency_ms"].cast(text),
    ]  # fmt: skip
    rows = pc.binary_join_element_wise(*fields, "\n").to_pylist()
    return [int.from_bytes(blake2b(row.encode(), digest_size=8).digest(), "big", signed=True) for row in rows]
