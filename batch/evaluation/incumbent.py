"""The incumbent: the lists of the current release, so that a candidate can be compared with it.

It was made of what it had read, so the two can be compared only on what happened afterwards, and only on starts that no
list suggested (`exposure.py`): those that its own lists suggested would speak for it.
"""

from dataclasses import dataclass

import numpy as np

from batch.evaluation.figures import MeasuredLists, measure_lists, score_difference
from batch.evaluation.splits import Slice
from batch.evaluation_file import LEAST_USERS, AgainstCurrent
from batch.history.interactions import TrainingHistory
from server.release import Release
from stream.zone import HOUR_MS

_OVERLAP_MS = HOUR_MS
"""So much of the slice the incumbent may have read, since nights do not begin to the minute. That is to its
disadvantage: it does not list what its users began in that hour, having seen it in their histories."""


@dataclass(frozen=True)
class Incumbent:
    """What a release shows the users of a history. n users."""

    release: str
    until: int
    """How far it had read the stream, ms UTC."""
    lists: np.ndarray
    """int32 [n, 20]: movie indices of the history, -1 for none and for movies that the history does not have."""
    is_drawn: np.ndarray
    """bool [n]: users whose lists were drawn by lot, which says nothing of the release's model."""


def incumbent_of(release: Release, history: TrainingHistory) -> Incumbent:
    """What a release shows each user of a history, in the history's movie indices."""
    index_of = {movie: index for index, movie in enumerate(history.movies)}
    indices = np.array([*(index_of.get(movie, -1) for movie in release.movies), -1], np.int32)
    lists = indices[release.shown_lists(history.users)]  # the last entry, index -1, stands for none
    is_drawn = np.isin(history.users, release.explorers)
    return Incumbent(release.id, release.manifest.require_stream_time(), lists, is_drawn)


def compare_with_incumbent(
    incumbent: Incumbent | None,
    part: Slice,
    users: np.ndarray,
    model: MeasuredLists,
) -> AgainstCurrent:
    """How much better a model ranks than the incumbent on a slice, paired by user; or why that cannot be said.

    `users` (int64) are those that the model was measured on.
    """
    if incumbent is None:
        return AgainstCurrent(reason="there is no current release")
    if incumbent.until > part.from_ms + _OVERLAP_MS:
        return AgainstCurrent(release=incumbent.release, reason="the current release had read what is held out")
    if part.counts_exposed:
        return AgainstCurrent(release=incumbent.release, reason="shown lists may have suggested what is held out")
    # the model's lists are made without what is barred and have twenty movies still, the incumbent's cannot be
    compared = ~incumbent.is_drawn[users]
    if part.known.barred is not None:
        compared &= np.diff(part.known.barred[users].indptr) == 0
    count = int(compared.sum())
    if count < LEAST_USERS:
        too_few = f"only {count} users watched something new that no list suggested, {LEAST_USERS} are needed"
        return AgainstCurrent(release=incumbent.release, reason=too_few)
    current = measure_lists(part, users, incumbent.lists[users])
    ahead = score_difference(model.scores.ndcg[compared], current.scores.ndcg[compared])
    return AgainstCurrent(
        release=incumbent.release, users=count, metric=ahead.metric, mean=ahead.mean, low=ahead.low, high=ahead.high
    )
