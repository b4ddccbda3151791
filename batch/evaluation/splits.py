"""Splits of the history: the data that models may know, and the slices that they are measured on.

`by_time` is for the evaluation of a release: two slices of `test_hours` or more are cut off the history's end, and
models know what came before a slice. Lists of one's own are for users with a history, so a slice counts those of its
users who began something before it (*known* users; the others are *strangers*). Of recency and number:

Only starts count that no shown list suggested (`exposure.py`), if enough known users have any: else the model that was
shown would win by having been shown. What a list suggested in a slice is *barred*: no list of that user has it.

- The test slice says how good the lists of these days are, and is compared with the current release in hours which that
  had not read. Recency goes first: it grows only if it would have fewer than `LEAST_USERS` known users.
- The choice slice decides, and models are tuned on it. Number goes first: it grows until it has `CHOICE_USERS`, half to
  tune on and half to compare, or nine tenths of the most that a slice in the later half of the history has; what grows
  further gains few users and makes models forget many days. If it has fewer than `enough_users` of them, it grows on.

`by_order` holds out the last tenth of each user's events, whenever they were. It lets models see what others did later,
so it measures a release only if no slice by time can (`release_splits`): where users fill in one form when they sign up
and never return, as in MovieLens, all users of a slice are strangers, but for those whom its border cuts in the middle
of their form. It also serves comparisons with published results, as does `by_last_event`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from batch.errors import NotEnoughData
from batch.evaluation_file import LEAST_USERS, CountedStarts, Split, enough_users
from batch.history.exposure import with_exposure
from batch.history.interactions import Interactions, Requests, TrainingHistory
from batch.settings import BatchSettings
from stream.zone import HOUR_MS

CHOICE_USERS = 4_000
"""Known users that a choice slice should have: of 2,000 a difference of 0.015 in NDCG@20 is beyond noise."""
_NEARLY_ALL = 0.9
LAST_SHARE = 0.1
"""Share of each user's events that `by_order` holds out; of users with fewer than ten, nothing is held out."""
_TIES = 1
"""Seed of the order of a user's events at the same time."""


@dataclass(frozen=True)
class Slice:
    """What was known before a slice, and what happened in it. n users, m movies."""

    known: Interactions
    """What is barred in it was started in the slice because a list suggested it: no model can have the merit."""
    relevant: sp.csr_matrix
    """bool [n, m]: what each user started in the slice and had not started before, if the start counts; at least
    one."""
    from_ms: int
    until_ms: int
    """The slice is [from, until), ms UTC."""
    exposed_share: float = 0.0
    """Share of the known users' new starts that were exposed."""
    window_ms: int = 0
    """How long before a start a list exposed it."""
    counts_exposed: bool = False
    """Whether exposed starts count as well, since there are too few others."""

    @property
    def users(self) -> np.ndarray:
        """int64: rows of the known users who started anything new, ascending."""
        return np.flatnonzero(self._is_active & (self.lengths > 0))

    @property
    def strangers(self) -> np.ndarray:
        """int64: rows of the users of whom nothing was known before the slice, ascending."""
        return np.flatnonzero(self._is_active & (self.lengths == 0))

    @property
    def lengths(self) -> np.ndarray:
        """int64 [n]: events of each user that are known before the slice."""
        return np.diff(self.known.indptr)

    @property
    def counted(self) -> CountedStarts:
        """How many known users and starts count."""
        starts = int(np.diff(self.relevant.indptr)[self.users].sum())
        return CountedStarts(len(self.users), starts, self.exposed_share, self.window_ms / HOUR_MS, self.counts_exposed)

    @property
    def unlisted(self) -> sp.csr_matrix:
        """[n, m]: nonzero where no list of a user has a movie, as it is known or barred."""
        return self.known.matrix if self.known.barred is None else self.known.matrix + self.known.barred

    @property
    def _is_active(self) -> np.ndarray:
        return np.diff(self.relevant.indptr) > 0


@dataclass(frozen=True)
class Splits:
    """Two slices: models are tuned and chosen on the first, and measured on the second. Each is made when it is called
    for, since what is known of a large history is large."""

    choice: Callable[[], Slice]
    test: Callable[[], Slice]
    kind: Split = "time"


def release_splits(history: TrainingHistory, settings: BatchSettings) -> Splits:
    """The splits that a release is chosen and measured on: by time, if slices by time can hold enough known users.

    If they cannot, however far they grow, but the last events of users would be enough, those of the most recently
    active `evaluation_users` are held out.
    """
    begins = _Begins.of(history, settings)
    if begins.have_enough or begins.unexposed_only:
        return _cut_by_time(history, settings, begins)
    held = _latest_users(history, settings.evaluation_users)
    counts = np.bincount(history.user, minlength=len(history.users))[held]
    left = counts - np.floor(counts * LAST_SHARE)
    of_choice, of_test = ((events * LAST_SHARE >= 1).sum() for events in (left, counts))
    if of_choice >= 2 * enough_users(begins.users) and of_test >= LEAST_USERS:
        return by_order(history, settings.half_life_days, held)
    return _cut_by_time(history, settings, begins)


def marked(history: TrainingHistory, requests: Requests, window_ms: int, settings: BatchSettings) -> TrainingHistory:
    """The history with its exposed starts.

    What users start right after a list is exposed by any window; the longer it is, the fewer others are left. Tried are
    `window_ms`, its half, quarter and so on, an hour at least: it is the first that leaves enough known users to both
    slices by time, else the last that leaves so many that anything can be measured, else `window_ms`.
    """
    windows = [window_ms]
    while windows[-1] >= 2 * HOUR_MS:
        windows.append(windows[-1] // 2)
    usable = window_ms
    for window in windows:
        part = with_exposure(history, requests, window)
        begins = _Begins.of(part, settings)
        if (begins.are_precise and begins.unexposed_only) or not np.any(part.exposed):
            return part
        usable = window if begins.unexposed_only else usable
    return with_exposure(history, requests, usable)


def by_time(history: TrainingHistory, settings: BatchSettings) -> Splits:
    """The last two stretches of `test_hours`, or longer ones if these have too few known users; of a short history, its
    last two quarters.

    Making a slice raises `NotEnoughData` if no known user began anything new in it.
    """
    return _cut_by_time(history, settings, _Begins.of(history, settings))


def by_order(history: TrainingHistory, half_life_days: float = math.inf, held: np.ndarray | None = None) -> Splits:
    """The last tenth of each user's events for the test, and the last tenth of the others for the choice.

    Every user has a different cut time: without a half-life, the popular list counts no start as more recent than
    another. `held` are the users whose events are held out (int64 rows), all if it is None.
    """
    return _by_count(history, lambda counts: np.floor(counts * LAST_SHARE), half_life_days, held)


def by_last_event(history: TrainingHistory) -> Splits:
    """Leave-one-out: each user's last event for the test, and the one before it for the choice.

    At least one event of each user stays known. As in `by_order`, the popular list counts all starts alike.
    """
    return _by_count(history, lambda counts: counts > 1)


def _by_count(
    history: TrainingHistory,
    held_out: Callable[[np.ndarray], np.ndarray],
    half_life_days: float = math.inf,
    held: np.ndarray | None = None,
) -> Splits:
    """The last events of each user for the test, and the last of the rest for the choice.

    `held_out` maps the users' numbers of events to how many of them are held out: int64 [n] to number [n]. Which of
    several events at the same time is the last one is drawn: in the order of movies, a model could learn to guess it.
    """
    chance = np.random.default_rng(_TIES).random(len(history.user))
    order = np.lexsort((chance, history.start, history.user))
    may_hold = np.ones(len(history.users), bool) if held is None else np.zeros(len(history.users), bool)
    if held is not None:
        may_hold[held] = True

    def but_last(rows: np.ndarray) -> np.ndarray:
        events = order[rows[order]]
        user = history.user[events]
        counts = np.bincount(user, minlength=len(history.users))
        from_end = np.cumsum(counts)[user] - 1 - np.arange(len(events))
        kept = np.zeros(len(rows), bool)
        kept[events[from_end >= np.where(may_hold, held_out(counts), 0)[user]]] = True
        return kept

    all_rows = np.ones(len(history.user), bool)
    before_test = but_last(all_rows)
    before_choice = but_last(before_test)

    def cut(known: np.ndarray, rows: np.ndarray) -> Slice:
        # the known events are among the rows; they are not new, and so not relevant
        span = int(history.start.min()), history.until
        return _slice(history, history.part(known, history.until, half_life_days), rows, span)

    return Splits(lambda: cut(before_choice, before_test), lambda: cut(before_test, all_rows), "last")


@dataclass(frozen=True)
class _Begins:
    """Where the slices by time begin, ms UTC."""

    choice: int
    test: int
    of_choice: int
    of_test: int
    """Known users of the slices."""
    users: int
    """Users of the history who began anything."""
    unexposed_only: bool
    """Whether exposed starts are left out."""

    @property
    def have_enough(self) -> bool:
        """Whether both slices have enough known users."""
        return self.of_choice >= 2 * enough_users(self.users) and self.of_test >= LEAST_USERS

    @property
    def have_least(self) -> bool:
        """Whether they have so many that anything can be measured."""
        return self.of_choice >= 2 * LEAST_USERS and self.of_test >= LEAST_USERS

    @property
    def are_precise(self) -> bool:
        """Whether the test slice has as many as one half of the choice slice should have, and the choice slice too."""
        return self.have_enough and self.of_test >= enough_users(self.users)

    @staticmethod
    def of(history: TrainingHistory, settings: BatchSettings) -> "_Begins":
        """Slices of the unexposed starts; if these have too few known users to measure anything, of all starts."""
        if history.exposed is not None and history.exposed.any():
            begins = _Begins._of(history, settings, ~history.exposed)
            if begins.have_least:
                return begins
        return _Begins._of(history, settings, None)

    @staticmethod
    def _of(history: TrainingHistory, settings: BatchSettings, counted: np.ndarray | None) -> "_Begins":
        """The test slice takes none of the first half of the history, the choice slice none of the first quarter.

        `counted` are the sessions (bool [s]) of which slices are made, all if it is None.
        """
        first, until = int(history.start.min()), history.until
        everyone, users = (_ActiveSpans.of(history, until, rows) for rows in (None, counted))
        # not the very last start: a single sender's clock may be wrong
        end = int(everyone.last[-LEAST_USERS]) + 1 if len(everyone) >= LEAST_USERS else until
        quarter = (end - first) // 4
        step = min(round(settings.test_hours * HOUR_MS), quarter)
        test = users.begin(until, step, LEAST_USERS, first + 2 * quarter)
        before = _ActiveSpans.of(history, test, counted)
        needed = 2 * enough_users(len(everyone))
        choice = before.begin(test, step, needed, first + quarter)
        choice = before.longer(choice, first + 2 * quarter, CHOICE_USERS)
        of_choice, of_test = int(before.known_since(choice)), int(users.known_since(test))
        return _Begins(choice, test, of_choice, of_test, len(everyone), counted is not None)


@dataclass(frozen=True)
class _ActiveSpans:
    """When the users were active before a moment. n users with a start that counts."""

    first: np.ndarray
    """int64 [n]: the first starts of any kind, ascending: not in the order of users."""
    last: np.ndarray
    """int64 [n]: the last starts that count, ascending."""

    @staticmethod
    def of(history: TrainingHistory, until_ms: int, counted: np.ndarray | None = None) -> "_ActiveSpans":
        """`counted` are the starts that count (bool [s]), all if it is None."""
        rows = np.flatnonzero(history.start < until_ms)
        first = _ends_by_user(history.user[rows])[0]
        own = rows if counted is None else rows[counted[rows]]
        last = _ends_by_user(history.user[own])[1]
        has_counted = np.isin(history.user[rows[first]], history.user[own[last]], assume_unique=True, kind="sort")
        return _ActiveSpans(np.sort(history.start[rows[first[has_counted]]]), np.sort(history.start[own[last]]))

    def __len__(self) -> int:
        return len(self.first)

    def known_since(self, since_ms: np.ndarray | int) -> np.ndarray:
        """How many users began something before a moment, and something since: int64, for each of `since_ms`."""
        return np.searchsorted(self.first, since_ms) - np.searchsorted(self.last, since_ms)

    def begin(self, until_ms: int, step_ms: int, least: int, earliest_ms: int) -> int:
        """Where a slice begins that ends at a moment: a step before it, if it then has enough known users.

        Else it begins a step before the latest moment since which there are enough, and so holds a whole step of usual
        hours. If no beginning gives enough, it is the latest that gives most.
        """
        usual = max(until_ms - step_ms, earliest_ms)
        moments, counts = self._moments(earliest_ms, until_ms)
        is_enough = counts >= least
        if is_enough.any():
            latest = int(moments[is_enough][-1])
            begin = usual if latest >= usual else max(latest - step_ms, earliest_ms)
            if self.known_since(begin) >= least:
                return begin
        return self._most(earliest_ms, usual, least)

    def longer(self, begin_ms: int, earliest_ms: int, wanted: int) -> int:
        """An earlier beginning that gives so many known users, or nearly the most that any gives."""
        if earliest_ms >= begin_ms:
            return begin_ms
        _, counts = self._moments(earliest_ms, begin_ms)
        wanted = min(wanted, int(np.ceil(_NEARLY_ALL * counts.max())))
        return begin_ms if self.known_since(begin_ms) >= wanted else self._most(earliest_ms, begin_ms, wanted)

    def _most(self, earliest_ms: int, latest_ms: int, enough: int) -> int:
        """The latest beginning that gives enough known users, or else most."""
        moments, counts = self._moments(earliest_ms, latest_ms)
        return int(moments[counts >= min(enough, counts.max())][-1])

    def _moments(self, earliest_ms: int, latest_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """All beginnings between two moments that may give most known users, ascending, and how many each gives."""
        inside = self.last[(self.last >= earliest_ms) & (self.last <= latest_ms)]
        moments = np.unique(np.concatenate([[earliest_ms, latest_ms], inside]))
        return moments, self.known_since(moments)


def _cut_by_time(history: TrainingHistory, settings: BatchSettings, begins: _Begins) -> Splits:
    def cut(since_ms: int, until_ms: int) -> Slice:
        rows = (history.start >= since_ms) & (history.start < until_ms)
        known = history.before(since_ms, settings.half_life_days)
        return _slice(history, known, rows, (since_ms, until_ms), begins.unexposed_only)

    return Splits(lambda: cut(begins.choice, begins.test), lambda: cut(begins.test, history.until))


def _ends_by_user(user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last row of each user, of ascending ones: int64."""
    changes = np.flatnonzero(np.diff(user))
    if not len(user):
        return changes, changes
    return np.concatenate([[0], changes + 1]), np.append(changes, len(user) - 1)


def _latest_users(history: TrainingHistory, count: int) -> np.ndarray:
    """The users who were active last, at most so many: int64 rows."""
    last = np.full(len(history.users), -1, np.int64)
    last[history.user] = history.start  # rows of a user ascend by start
    active = np.flatnonzero(last >= 0)
    return active[np.argsort(-last[active], kind="stable")[:count]]


def _slice(
    history: TrainingHistory, known: Interactions, rows: np.ndarray, span: tuple[int, int], unexposed_only: bool = False
) -> Slice:
    """The slice [from, until), ms UTC, of some sessions (bool [s])."""
    new = _new_starts(history, known, rows)
    exposed = np.zeros(len(new), bool) if history.exposed is None else history.exposed[new]
    of_known = np.diff(known.indptr)[history.user[new]] > 0
    share = float(exposed[of_known].mean()) if of_known.any() else 0.0
    counts_exposed = bool(exposed.any()) and not unexposed_only
    if exposed.any() and unexposed_only:
        known = replace(known, barred=history.touched(new[exposed]))
        new = new[~exposed]
    part = Slice(known, history.touched(new), *span, share, history.window_ms, counts_exposed)
    if not len(part.users):
        raise NotEnoughData("no user with a history before one of the slices began anything new in it")
    return part


def _new_starts(history: TrainingHistory, known: Interactions, rows: np.ndarray) -> np.ndarray:
    """The first of some sessions (bool [s]) of each user and movie that were not known to be seen: int64 rows."""
    chosen = np.flatnonzero(rows)
    width = history.shape[1]
    keys = history.user[chosen].astype(np.int64) * width + history.movie[chosen]
    order = np.argsort(keys, kind="stable")
    first = order[np.diff(keys[order], prepend=-1) != 0]
    users = np.unique(history.user[chosen])
    seen = known.matrix[users]
    before = np.sort(np.repeat(users, np.diff(seen.indptr)).astype(np.int64) * width + seen.indices)
    if len(before):  # np.isin hashes since NumPy 2.3, at fifty times the price
        own = keys[first]
        first = first[before[np.minimum(np.searchsorted(before, own), len(before) - 1)] != own]
    return chosen[first]
