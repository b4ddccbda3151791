"""Ratings of what was watched after an answer: was what the answer recommended liked better?

A rating belongs to the latest start of its movie by its user before it, and through the start to an answer. So movies
that were recommended are compared with others that the same users started after an answer.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from quality.metrics.watch_sessions import session_key
from quality.telemetry.attribution import Attribution
from quality.telemetry.day_rows import RatingRows


@dataclass(frozen=True, slots=True)
class RatedStarts:
    """Starts that were rated; arrays [ratings], int64."""

    answer: np.ndarray
    """Row of the answer that the start is credited to."""
    rating: np.ndarray
    """The latest of the user and the movie."""
    is_listed: np.ndarray
    """bool: the answer's list had the movie."""

    def __getitem__(self, rows: np.ndarray) -> "RatedStarts":
        return RatedStarts(*(getattr(self, name)[rows] for name in self.__slots__))


def rated_starts(ratings: RatingRows, starts: Attribution, user: np.ndarray, is_listed: np.ndarray) -> RatedStarts:
    """Match ratings to `starts`; of each start, `user` (int64) and `is_listed` (bool)."""
    key = session_key(ratings.user, ratings.movie)
    rated = pd.DataFrame({"key": key, "time": ratings.time, "rating": ratings.rating})
    rated = rated.sort_values(["time", "rating"]).drop_duplicates("key", keep="last")
    started = pd.DataFrame({
        "key": session_key(user, starts.movie), "time": starts.time, "answer": starts.answer, "is_listed": is_listed
    }).sort_values("time", kind="stable")  # fmt: skip
    joined = pd.merge_asof(rated, started, on="time", by="key").dropna()
    answer, rating = (joined[name].to_numpy(np.int64) for name in ("answer", "rating"))
    return RatedStarts(answer, rating, joined["is_listed"].to_numpy(bool))
