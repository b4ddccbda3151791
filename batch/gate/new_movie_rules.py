"""The gate's rules on movies that nobody has watched: what they take of the lists, and where they lie.

Models know nothing about them, so every place that such a movie has in a list is one of the budget.
"""

import numpy as np
import scipy.sparse as sp

from batch.gate import list_relevance
from batch.gate.candidate import SEED, Candidate
from batch.gate.verdict import Wrong
from stream.event import LIST_LENGTH

_FEW_MOVIES = 20
"""Fewer movies may lie anywhere by chance."""
_LEAST_ERRORS = 3.0
"""Movies lie near their like if these are so many standard errors more alike than others are."""


def new_movies_keep_to_their_budget(candidate: Candidate) -> str | None:
    """Movies that nobody has watched have no more places of a list, and no more lists each, than their budget allows.

    There are none that were shown in vain, none in popular lists, and none at all if the model is not personal.
    """
    is_unwatched = candidate.lists >= candidate.watched
    counts = np.bincount(candidate.lists[is_unwatched], minlength=len(candidate.movies))
    budget, movies = candidate.budget, np.flatnonzero(counts)
    fallbacks = candidate.release.fallbacks
    popular = int(((fallbacks >= candidate.watched) & (fallbacks < len(candidate.movies))).sum())
    most = budget.users_of_one(len(candidate.with_history))
    vain = budget.is_given_up(candidate.shown[movies], np.zeros(len(movies), np.int64))
    problems = {
        f"a list has {is_unwatched.sum(axis=1).max(initial=0)} of them, {budget.places} are allowed": (
            is_unwatched.sum(axis=1) > budget.places
        ).any(),
        f"one is in {counts.max(initial=0)} lists, {most} are allowed": (counts > most).any(),
        f"{vain.sum()} were shown in vain": vain.any(),
        f"popular lists have {popular} of them": popular > 0,
        "lists that are not personal have some": len(movies) > 0 and not candidate.is_personal,
    }
    if wrong := [text for text, is_wrong in problems.items() if is_wrong]:
        return Wrong(f"of the movies that nobody has watched, {'; '.join(wrong)}")
    share = counts.sum() / max(int((candidate.lists >= 0).sum()), 1)
    return f"{len(movies)} in {share:.1%} of the places" if len(movies) else None


def new_movies_lie_near_their_like(candidate: Candidate) -> str | None:
    """Movies that nobody has watched have embeddings near those of movies with the same content."""
    rows = np.arange(candidate.watched, len(candidate.movies))
    lengths = np.sqrt(np.asarray(candidate.content.multiply(candidate.content).sum(axis=1))).ravel()
    unit = sp.csr_matrix(sp.diags_array(1 / np.maximum(lengths, 1e-9)) @ candidate.content)
    rows = np.random.default_rng(SEED).permutation(rows[lengths[rows] > 0])[: list_relevance.ROWS]
    if len(rows) < _FEW_MOVIES or candidate.watched < LIST_LENGTH:
        return "too few to tell" if len(rows) else None
    items = candidate.release.items
    watched = list_relevance.neighbours_among(items, rows, candidate.watched)
    alike = np.array([(unit[near] @ unit[[row]].T).mean() for row, near in zip(rows, watched, strict=True)])
    usual = unit[rows] @ np.asarray(unit[: candidate.watched].mean(axis=0)).ravel()
    gain = alike - usual
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    if gain.mean() > _LEAST_ERRORS * error:
        return None
    return Wrong(f"they lie no nearer to movies of their kind than to others: {gain.mean():+.3f} ± {error:.3f}")
