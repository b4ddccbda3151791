"""Checks of lists that were drawn by lot: whoever weighs answers by their chances relies on every one of these.

The lots are known (`batch.models.exploring`), the pools are not, since the gate has no model. Yet of each pool half is
known, the popular list; and the last lot on a list tells how large its pool was: the 20th smallest of n uniform numbers
is 20 / (n + 1) on average, with the variance of Beta(20, n - 19) (David & Nagaraja, Order Statistics, 2003).
"""

import numpy as np

from batch.gate.candidate import Candidate
from batch.models import exploring
from server.manifest import Exploring
from server.release import Explored
from stream.event import LIST_LENGTH

_ERRORS = 5.0
"""Lots contradict the chances if their sum is so many standard errors off."""
_ROUNDING = 1e-5
"""Relative error of a chance in single precision, and room for it."""


def exploring_fault(candidate: Candidate, explored: Explored, share: float) -> str | None:
    """What is wrong with who explores, and with the lists and chances of those; None for nothing."""
    rows, night_ms = explored.rows.astype(np.int64), candidate.facts.stream_time
    drawn = exploring.explores(candidate.users, night_ms, share)
    due = candidate.with_history[drawn[candidate.with_history]]
    if not np.array_equal(rows, due):
        return f"{len(rows)} users explore, {np.isin(rows, due).sum()} of the {len(due)} who were drawn"
    if candidate.release.manifest.exploring != Exploring(share=share, users=len(rows)):
        return "the manifest does not say how many users explore, and with which chance each was drawn"
    lists, users = candidate.lists[rows], candidate.users[rows]
    lots = np.where(lists >= 0, exploring.lots(users, lists, night_ms), np.inf)
    if wrong := int((np.diff(np.where(lists >= 0, lots, 1), axis=1) < 0).any(axis=1).sum()):
        return f"{wrong} of {len(rows)} lists are not in the order of their lots"
    if wrong := int(_passed_over(candidate, rows, lots, night_ms).sum()):
        return f"{wrong} of {len(rows)} lists lack a popular movie with a smaller lot than others on them"
    chance = explored.propensities[:, 0].astype(np.float64)
    sizes = LIST_LENGTH / np.where(chance > 0, chance, 1)
    if wrong := int((~_may_be_chances(candidate, rows, explored.propensities, sizes)).sum()):
        return f"the chances of {wrong} of {len(rows)} lists are not those of 20 movies of any pool"
    errors = _errors_of_lots(lots[:, -1], np.rint(sizes))
    if abs(errors) > _ERRORS:
        return f"the chances are not those of the draws: the last lots are {errors:+.1f} standard errors off"
    return None


def _passed_over(candidate: Candidate, rows: np.ndarray, lots: np.ndarray, night_ms: int) -> np.ndarray:
    """Which lists (bool [k]) should hold another movie of the popular list: its lot is smaller than the last one."""
    ranking = candidate.release.fallbacks[0].astype(np.int64)
    ranking = ranking[ranking < candidate.seen.shape[1]]
    is_unseen = candidate.seen[rows][:, ranking].toarray() == 0
    in_pool = is_unseen & (np.cumsum(is_unseen, axis=1) <= exploring.POOL)
    own = exploring.lots(candidate.users[rows], np.tile(ranking, (len(rows), 1)), night_ms)
    listed = (candidate.lists[rows][:, :, None] == ranking).any(axis=1)
    return np.asarray((in_pool & ~listed & (own < lots[:, -1:])).any(axis=1))


def _may_be_chances(candidate: Candidate, rows: np.ndarray, propensities: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which rows of propensities (float32 [k, 20]) are one chance, that of a pool (float64 [k], its size) which can be:
    bool [k]. A list that is not full is its whole pool.
    """
    lists, is_off = candidate.lists[rows], candidate.is_left_out | candidate.caps.not_for_everyone
    is_off_seen = is_off[candidate.seen[rows].indices]
    row_of = np.repeat(np.arange(len(rows)), np.diff(candidate.seen[rows].indptr))
    seen = np.diff(candidate.seen[rows].indptr) - np.bincount(row_of[is_off_seen], minlength=len(rows))
    unseen = int((~is_off).sum()) - seen
    is_one = np.where(lists >= 0, propensities == propensities[:, :1], True).all(axis=1)
    is_one &= (lists >= 0).sum(axis=1) == np.minimum(unseen, LIST_LENGTH)
    can_be = (np.rint(sizes) >= np.minimum(exploring.POOL, unseen)) & (sizes <= unseen + _ROUNDING * sizes)
    can_be &= (sizes <= 2 * exploring.POOL + 0.5) & (np.abs(sizes - np.rint(sizes)) <= _ROUNDING * sizes)
    return np.asarray(is_one & np.where(unseen <= LIST_LENGTH, propensities[:, 0] == (unseen > 0), can_be))


def _errors_of_lots(last: np.ndarray, sizes: np.ndarray) -> float:
    """How far the last lots of full lists (float64 [k], inf for others) are from what pools of such sizes let expect,
    in standard errors of their sum; 0 without such lists."""
    is_full = np.isfinite(last)
    size = sizes[is_full]
    expected = LIST_LENGTH / (size + 1)
    variance = LIST_LENGTH * (size - LIST_LENGTH + 1) / ((size + 1) ** 2 * (size + 2))
    return float((last[is_full] - expected).sum() / np.sqrt(variance.sum())) if is_full.any() else 0.0
