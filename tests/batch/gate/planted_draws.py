"""Candidates some of whose users explore: drawn as they should be, and drawn wrongly."""

from collections.abc import Callable

import numpy as np

from batch.models import exploring
from server.release import Explored
from tests.batch.gate.candidate_evaluations import NOW
from tests.batch.gate.candidates import CandidateParts, Spoil

SHARE = 0.25
RULE = "explorers_are_drawn"


def pools(parts: CandidateParts, rows: np.ndarray) -> np.ndarray:
    """The first 50 unseen movies by the scores and by popularity: int64 [k, 100], -1 for none."""
    is_hidden = np.array([movie in parts.hidden for movie in parts.movies])
    made = np.full((len(rows), 100), -1)
    for place, row in enumerate(rows.tolist()):
        is_open = ~parts.seen[row] & ~is_hidden
        ranked = (np.argsort(-scores, kind="stable") for scores in (parts.scores[row], parts.made_popularity()))
        pool = sorted({movie for ranking in ranked for movie in ranking[is_open[ranking]][:50].tolist()})
        made[place, : len(pool)] = pool
    return made


def explore(
    parts: CandidateParts,
    share: float = SHARE,
    night_ms: int = NOW,
    make_pools: Callable[[CandidateParts, np.ndarray], np.ndarray] = pools,
) -> np.ndarray:
    """Let a share of the users explore; returns their rows."""
    has_history = parts.seen.any(axis=1)
    rows = np.flatnonzero(exploring.explores(parts.users, night_ms, share) & has_history)
    parts.lists = parts.made_lists()
    parts.lists[rows], chances = exploring.draw_lists(make_pools(parts, rows), parts.users[rows], NOW)
    parts.explored = Explored(rows.astype(np.uint32), chances)
    parts.manifest["settings"]["explore_share"] = share
    parts.manifest["exploring"] = {"share": share, "users": len(rows)}
    return rows


def exploring_with(change: Callable[[CandidateParts, Explored], object]) -> Spoil:
    def spoil(parts: CandidateParts) -> None:
        explore(parts)
        assert parts.explored is not None
        change(parts, parts.explored)

    return spoil


def next_explorers(parts: CandidateParts, explored: Explored) -> None:
    """The users behind those who were drawn have drawn lists."""
    rows = explored.rows[:-1] + np.uint32(1)
    parts.lists = None
    parts.lists = parts.made_lists()
    parts.lists[rows], chances = exploring.draw_lists(pools(parts, rows), parts.users[rows], NOW)
    parts.explored = Explored(rows, chances)


def own_lists(parts: CandidateParts, explored: Explored) -> None:
    """Explorers are shown what the model would show them."""
    parts.lists = None


def in_order_of_scores(parts: CandidateParts, explored: Explored) -> None:
    assert parts.lists is not None
    lists = parts.lists[explored.rows]
    scores = np.take_along_axis(parts.scores[explored.rows], lists, axis=1)
    parts.lists[explored.rows] = np.take_along_axis(lists, np.argsort(-scores, axis=1), axis=1)


def without_popular(parts: CandidateParts, rows: np.ndarray) -> np.ndarray:
    """Pools of the model alone, twice as deep."""
    scores = np.where(parts.seen[rows], -np.inf, parts.scores[rows] - 9 * parts.made_popularity())
    return np.argsort(-scores, axis=1)[:, :60]


def times(factor: float) -> Spoil:
    return exploring_with(lambda parts, explored: np.multiply(explored.propensities, factor, explored.propensities))


def by_rank(parts: CandidateParts, explored: Explored) -> None:
    explored.propensities[:, 10:] /= 2


def larger_pools(parts: CandidateParts, explored: Explored) -> None:
    """Chances as of pools larger by a third than those that were drawn from."""
    sizes = np.rint(20 / explored.propensities[:, :1])
    explored.propensities[:] = 20 / np.minimum(np.rint(sizes * 4 / 3), 80)


PLANTED_DRAWS: list[tuple[str, str, dict[str, int], Spoil]] = [
    (RULE, "nobody explores", {}, lambda parts: parts.manifest["settings"].update(explore_share=0.02)),
    (RULE, "the next users explore", {}, exploring_with(next_explorers)),
    (RULE, "the users of another night explore", {}, lambda parts: explore(parts, night_ms=NOW - 1)),
    (RULE, "fewer explore than were drawn", {}, exploring_with(
        lambda parts, explored: parts.manifest["settings"].update(explore_share=0.5))),
    (RULE, "the manifest counts others", {}, exploring_with(
        lambda parts, explored: parts.manifest["exploring"].update(users=7))),
    (RULE, "the manifest does not say who explores", {}, exploring_with(
        lambda parts, explored: parts.manifest.pop("exploring"))),
    (RULE, "the manifest says nothing of shares", {}, exploring_with(
        lambda parts, explored: parts.manifest["settings"].update(explore_share="some"))),
    (RULE, "explorers see the lists of the model", {}, exploring_with(own_lists)),
    (RULE, "drawn lists in the order of the model", {}, exploring_with(in_order_of_scores)),
    (RULE, "pools without the popular list", {}, lambda parts: explore(parts, make_pools=without_popular)),
    (RULE, "chances twice as large", {}, times(2.0)),
    (RULE, "chances a tenth smaller", {}, times(0.9)),
    (RULE, "chances that depend on the rank", {}, exploring_with(by_rank)),
    (RULE, "chances of larger pools", {}, exploring_with(larger_pools)),
]  # fmt: skip
"""Spoilt first releases: rule, name, sizes of the service, what is done to it."""
