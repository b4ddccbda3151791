"""Splits of the history: the data that models may know, and the slices that they are measured on.

`by_time` is for the evaluation of a release: two slices of `test_hours` each are cut off the history's end, and models
know what came before a slice. A slice that begins in hours without enough users, such as those of an outage, grows
backwards until it has enough. `by_order` is for comparison with published results: the last tenth of each user's events
is held out, whenever they were. It lets models see what others did later, so it does not measure a release.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp

from batch.errors import NotEnoughData
from batch.evaluation_file import LEAST_USERS, enough_users
from batch.history.interactions import Interactions, TrainingHistory
from batch.settings import BatchSettings
from stream.zone import HOUR_MS

Split = Literal["time", "last"]
LAST_SHARE = 0.1
"""Share of each user's events that `by_order` holds out; of users with fewer than ten, nothing is held out."""


@dataclass(frozen=True)
class Slice:
    """What was known before a slice, and what happened in it. n users, m movies."""

    known: Interactions
    relevant: sp.csr_matrix
    """bool [n, m]: what each user started in the slice and had not started before; at least one."""
    from_ms: int
    until_ms: int
    """The slice is [from, until), ms UTC."""

    @property
    def users(self) -> np.ndarray:
        """int64: rows of the users who started anything new, ascending."""
        return np.flatnonzero(np.diff(self.relevant.indptr))


@dataclass(frozen=True)
class Splits:
    """Two slices: models are tuned and chosen on the first, and measured on the second. Each is made when it is called
    for, since what is known of a large history is large."""

    choice: Callable[[], Slice]
    test: Callable[[], Slice]


def by_time(history: TrainingHistory, settings: BatchSettings) -> Splits:
    """The last two stretches of `test_hours`; of a short history, its last two quarters.

    A stretch with too few users grows backwards (`_begin`), but leaves the first quarter of the history. Half of the
    users of the choice slice are tuned on. The test slice grows for fewer users, since it is compared with the current
    release only in hours which that had not read.

    Making a slice raises `NotEnoughData` where nothing was watched before it, or nothing new in it.
    """
    first, until = int(history.start.min()), history.until
    latest = _latest_starts(history, until)
    # not the very last start: a single sender's clock may be wrong
    quarter = ((int(latest[LEAST_USERS - 1]) + 1 if len(latest) >= LEAST_USERS else until) - first) // 4
    step = min(round(settings.test_hours * HOUR_MS), quarter)
    test = _begin(history, until, step, LEAST_USERS)
    choice = max(_begin(history, test, step, 2 * enough_users(len(latest))), first + quarter)

    def cut(since_ms: int, until_ms: int) -> Slice:
        rows = (history.start >= since_ms) & (history.start < until_ms)
        return _slice(history, history.before(since_ms, settings.half_life_days), rows, since_ms, until_ms)

    return Splits(lambda: cut(choice, test), lambda: cut(test, until))


def _begin(history: TrainingHistory, until_ms: int, step_ms: int, least: int) -> int:
    """Where a slice begins that ends at a moment, ms UTC: a step before it, if enough users began something since then.

    Else it begins a step before the latest moment since which enough have, and so holds a whole step of usual hours.
    """
    latest = _latest_starts(history, until_ms)
    is_sparse = len(latest) >= least and latest[least - 1] < until_ms - step_ms
    return (int(latest[least - 1]) if is_sparse else until_ms) - step_ms


def _latest_starts(history: TrainingHistory, until_ms: int) -> np.ndarray:
    """The last start before a moment of each user who began anything, the latest first: int64."""
    rows = np.flatnonzero(history.start < until_ms)
    user = history.user[rows]
    is_last = np.append(user[1:] != user[:-1], True)[: len(rows)]
    return np.sort(history.start[rows[is_last]])[::-1]


def by_order(history: TrainingHistory) -> Splits:
    """The last tenth of each user's events for the test, and the last tenth of the others for the choice.

    Every user has a different cut time, so the popular list counts no start as more recent than another.
    """
    before_test = _but_last(history.user, np.ones(len(history.user), bool))
    before_choice = _but_last(history.user, before_test)

    def cut(known: np.ndarray, rows: np.ndarray) -> Slice:
        # the known events are among the rows; they are not new, and so not relevant
        first = int(history.start.min())
        return _slice(history, history.part(known, history.until, math.inf), rows, first, history.until)

    all_rows = np.ones(len(history.user), bool)
    return Splits(lambda: cut(before_choice, before_test), lambda: cut(before_test, all_rows))


def _but_last(user: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows (bool [s], by user and time), without the last tenth of each user's."""
    events = np.flatnonzero(rows)
    counts = np.bincount(user[events], minlength=1)
    ends = np.cumsum(counts)
    from_end = ends[user[events]] - 1 - np.arange(len(events))
    kept = np.zeros(len(rows), bool)
    kept[events[from_end >= np.floor(counts * LAST_SHARE)[user[events]]]] = True
    return kept


def _slice(history: TrainingHistory, known: Interactions, rows: np.ndarray, since_ms: int, until_ms: int) -> Slice:
    relevant = _new(known, history.touched(rows))
    if not len(known.movies) or not relevant.nnz:
        raise NotEnoughData("no sessions before one of the slices, or nothing new within it")
    return Slice(known, relevant, since_ms, until_ms)


def _new(known: Interactions, started: sp.csr_matrix) -> sp.csr_matrix:
    """The started movies that were not known to be seen: bool [n, m]."""
    users = np.flatnonzero(np.diff(started.indptr))
    seen = known.matrix[users]
    width = started.shape[1]
    before = np.sort(np.repeat(users, np.diff(seen.indptr)) * width + seen.indices)
    now = np.repeat(users, np.diff(started.indptr)[users]) * width + started.indices
    if len(before):  # np.isin hashes since NumPy 2.3, at fifty times the price
        now = now[before[np.minimum(np.searchsorted(before, now), len(before) - 1)] != now]
    return sp.csr_matrix((np.ones(len(now), bool), (now // width, now % width)), started.shape)
