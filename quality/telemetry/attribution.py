"""Attribution: which answers were hits. Pure functions of arrays. The definitions:

A session of a movie that *starts* at s is credited to the latest answer with status 200 that its user got strictly
before s (last touch). That answer, at t, is a *hit* if s ≤ t + window and the movie is in its list; its rank is the
place of the movie that started first, or the better place of two that started at once. A session that began at or
before t never counts, because its start is not after t. Further starts change nothing: an answer is a hit once. The
*baseline* applies the same rule to the same answers and starts, with another list instead of the shown one.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from quality.metrics.watch_sessions import TimeSpans, split_key
from quality.telemetry.day_rows import AnswerRows

_CHUNK = 1 << 16
"""Starts compared at a time, to bound memory."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Starts, each credited to an answer, ascending by time; all int64."""

    answer: np.ndarray
    """Row of the answer."""
    movie: np.ndarray
    """Number of the started movie."""
    time: np.ndarray
    """Time of the start, ms UTC."""
    last: np.ndarray
    """Time of the last minute of its session, ms UTC."""

    def __getitem__(self, rows: np.ndarray) -> "Attribution":
        return Attribution(*(getattr(self, name)[rows] for name in self.__slots__))


def attribute_starts(answers: AnswerRows, starts: TimeSpans, window_ms: int) -> Attribution:
    """Credit starts to `answers` (status 200 only, ascending by time). Starts without an answer in the window are left
    out."""
    user, movie = split_key(starts.key)
    started = pd.DataFrame({"time": starts.start, "user": user, "movie": movie, "last": starts.last})
    started = started.sort_values("time", kind="stable")
    asked = pd.DataFrame({"time": answers.time, "user": answers.user, "answer": np.arange(len(answers.time))})
    # of several simultaneous answers to a user, the last row: the later one
    joined = pd.merge_asof(started, asked, on="time", by="user", allow_exact_matches=False, tolerance=window_ms)
    joined = joined[joined["answer"].notna()]
    return Attribution(*(joined[name].to_numpy(np.int64) for name in Attribution.__slots__))


def hit_ranks(attribution: Attribution, places: np.ndarray, answers: int) -> np.ndarray:
    """int64[answers]: rank of the hit, from 1; 0 for an answer that is not a hit.

    `places` (int64[starts]) are the places of the started movies in the lists of their answers, from 1, 0 for none.
    """
    first = first_hits(attribution, places)
    ranks = np.zeros(answers, np.int64)
    ranks[attribution.answer[first]] = places[first]
    return ranks


def first_hits(attribution: Attribution, places: np.ndarray) -> np.ndarray:
    """int64[hits]: of each answer that is a hit, the row of the start that makes it one, ascending by answer.

    `places` are as those of `hit_ranks`.
    """
    listed = np.flatnonzero(places)
    listed = listed[np.lexsort((places[listed], attribution.time[listed], attribution.answer[listed]))]
    answers = attribution.answer[listed]
    return listed[np.diff(answers, prepend=-1) != 0]


def places_in_lists(lists: np.ndarray, rows: np.ndarray, movies: np.ndarray) -> np.ndarray:
    """int64: place, from 1, of `movies[i]` in `lists[rows[i]]`, 0 for none; `lists` is int[n, 20], may be mapped."""
    places = np.zeros(len(rows), np.int64)
    for chunk in np.array_split(np.arange(len(rows)), len(rows) // _CHUNK + 1):
        same = lists[rows[chunk]] == movies[chunk, None]
        places[chunk] = np.where(same.any(axis=1), same.argmax(axis=1) + 1, 0)
    return places
