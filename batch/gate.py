"""The gate: what a candidate must be like before it may become the release. A refusal names the rule; nothing is moved.

A rule is a function that returns what is wrong, or None. `RULES` is all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from batch.errors import Refusal
from server.release import Release
from stream.archive import Entry

_SHRINK = 0.5
"""A release with fewer than this share of the current one's users or movies has lost its input somewhere."""
_SAMPLE = 10_000


@dataclass(frozen=True)
class Candidate:
    """What is judged: the release as a worker would open it, and what it was made of."""

    release: Release
    evaluation: dict[str, Any]
    entries: list[Entry]
    seen: sp.csr_matrix
    """Who has seen what, [n, m]."""
    current: Release | None


def ledger_balances(candidate: Candidate) -> str | None:
    wrong = [entry.name for entry in candidate.entries if not entry.balances()]
    return f"the ledger does not add up: {', '.join(wrong[:5])}" if wrong else None


def not_below_popular(candidate: Candidate) -> str | None:
    difference = candidate.evaluation["against_popular"]
    if difference["high"] is not None and difference["high"] < 0:
        return f"ranks below the popular list: NDCG@20 {difference['mean']:+.4f}, at best {difference['high']:+.4f}"
    return None


def counts_hold(candidate: Candidate) -> str | None:
    if candidate.current is None:
        return None
    for what in ("users", "movies"):
        new, old = len(getattr(candidate.release, what)), len(getattr(candidate.current, what))
        if new < _SHRINK * old:
            return f"only {new} {what}, the current release has {old}"
    return None


def lists_are_fresh(candidate: Candidate) -> str | None:
    """No list holds what its user has seen, or a movie twice (looked at for up to 10,000 users, evenly taken)."""
    release = candidate.release
    rows = np.arange(0, len(release.users), max(1, len(release.users) // _SAMPLE))
    lists = release.lists[rows].astype(np.int64)
    real = lists != np.iinfo(release.lists.dtype).max
    user, movie = np.repeat(rows, real.sum(axis=1)), lists[real]
    shown = sp.csr_matrix((np.ones(len(user), np.int32), (user, movie)), candidate.seen.shape)
    if shown.nnz and shown.data.max() > 1:
        return "a list names a movie twice"
    stale = int(shown.multiply(candidate.seen > 0).nnz)
    return f"{stale} entries of lists were seen by their user before" if stale else None


def lists_differ(candidate: Candidate) -> str | None:
    """Different users get different lists: constant scores are no model (the popular lists differ by what was seen)."""
    lists = candidate.release.lists
    personal = lists[lists[:, 0] != np.iinfo(lists.dtype).max][:_SAMPLE]
    if len(personal) >= 100 and len(np.unique(personal, axis=0)) < 2:
        return "all users would get the same list"
    return None


RULES: tuple[Callable[[Candidate], str | None], ...] = (
    ledger_balances, counts_hold, lists_are_fresh, lists_differ, not_below_popular,
)  # fmt: skip


def judge(candidate: Candidate) -> dict[str, str]:
    """The verdict for the manifest: every rule that was passed. Raises `Refusal` with the rules that were not."""
    verdicts = {rule.__name__: rule(candidate) for rule in RULES}
    broken = [f"{name}: {why}" for name, why in verdicts.items() if why]
    if broken:
        raise Refusal(f"gate: the candidate is refused, current stays: {'; '.join(broken)}")
    return dict.fromkeys(verdicts, "passed")
