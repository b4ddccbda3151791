"""The incumbent: the lists of the current release, so that a candidate can be compared with it.

Its lists were made of what it had read. They can be compared with a candidate's only on what happened afterwards, and
only for users who were not shown them: who is shown a list tends to watch what is on it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from batch.evaluation.figures import MeasuredLists, difference, measure_lists
from batch.evaluation.splits import Slice
from batch.history.interactions import Requests, TrainingHistory
from server.release import Release
from stream.zone import HOUR_MS

LEAST_USERS = 30
"""With fewer, an interval says little."""
_OVERLAP_MS = HOUR_MS
"""So much of what is held out it may have read: nights do not begin to the minute. It is the incumbent's loss: what its
users began in that time it takes as seen, and does not list."""


@dataclass(frozen=True)
class Incumbent:
    """What a release shows the users of a history. n users."""

    release: str
    until: int
    """How far it had read the stream, ms UTC."""
    lists: np.ndarray
    """int32 [n, 20]: movie indices of the history, -1 for none and for movies that the history does not have."""


def incumbent_of(release: Release, history: TrainingHistory) -> Incumbent:
    """What a release shows each user of a history, in the history's movie indices."""
    index_of = {movie: index for index, movie in enumerate(history.movies)}
    indices = np.array([*(index_of.get(movie, -1) for movie in release.movies), -1], np.int32)
    lists = indices[release.shown_lists(history.users)]  # the last entry, index -1, stands for none
    return Incumbent(release.id, int(release.manifest["stream_time"]), lists)


def compare_with_incumbent(
    incumbent: Incumbent | None,
    part: Slice,
    users: np.ndarray,
    model: MeasuredLists,
    requests: Requests | None,
    seed: int,
) -> dict[str, Any]:
    """How much better a model ranks than the incumbent on a slice, paired by user; or why that cannot be said.

    `users` (int64) are those that the model was measured on.
    """
    if incumbent is None:
        return {"none": "there is no current release"}
    if incumbent.until > part.from_ms + _OVERLAP_MS:
        return {"release": incumbent.release, "none": "the current release had read what is held out"}
    unmoved = np.ones(len(users), bool)
    if requests is not None:
        unmoved = ~requests.within(part.from_ms, part.until_ms, part.known.shape[0])[users]
    if unmoved.sum() < LEAST_USERS:
        few = f"only {unmoved.sum()} users watched something new and were shown no list, {LEAST_USERS} are needed"
        return {"release": incumbent.release, "none": few}
    current = measure_lists(part, users, incumbent.lists[users])
    found = difference(model.scores.ndcg[unmoved], current.scores.ndcg[unmoved], seed)
    return {"release": incumbent.release, "users": int(unmoved.sum()), **found}
