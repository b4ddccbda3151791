"""The gate's rules on what a release shows: lists, popular lists, the baseline of reports, and embeddings."""

import numpy as np
import scipy.sparse as sp

from batch.evaluation_file import what_speaks_against
from batch.gate import (
    baseline_checks,
    cap_checks,
    embedding_parts,
    explored_checks,
    first_list_checks,
    list_checks,
    list_order,
    list_relevance,
)
from batch.gate.candidate import PARTS, SEED, Candidate
from batch.gate.verdict import Wrong
from batch.models import own_rankings
from stream.event import LIST_LENGTH

_FEW_USERS, _FEW_MOVIES = 100, 100
"""With fewer, lists may be alike by chance, or because there is nothing else to list."""
_PERSONAL = 0.05
"""Any personal model gives different rankings to at least this share of pairs of users."""
_WELL_SEEN, _MOSTLY = 0.75, 0.5
"""A movie is frequently seen if it is seen at least as often as this share of all movies; at least the second share of
the popular list must be frequently seen."""


def lists_are_full(candidate: Candidate) -> str | None:
    """Every list of a user with a history, and every popular list, has 20 movies, or all that it may hold and anyone
    has watched.
    """
    caps, fallbacks = candidate.caps, candidate.release.fallbacks
    are_short = list_checks.are_short(candidate.lists, candidate.seen, candidate.is_left_out | caps.too_dear, caps)
    short = int((are_short & ~candidate.is_drawn).sum())  # for those that were drawn see `explorers_are_drawn`
    lengths = (fallbacks != np.iinfo(fallbacks.dtype).max).sum(axis=1)
    short += int((lengths < np.minimum(LIST_LENGTH, (~candidate.off_lists).sum(axis=1))).sum())
    return Wrong(f"{short} lists are not as long as they could be") if short else None


def lists_are_fresh(candidate: Candidate) -> str | None:
    """No list holds a movie that its user has seen, or that is hidden."""
    seen, hidden = list_checks.count_repeats(candidate.lists, candidate.seen, candidate.is_hidden)
    fallbacks = candidate.release.fallbacks
    hidden += int(candidate.is_hidden[fallbacks[fallbacks < len(candidate.is_hidden)]].sum())
    if seen or hidden:
        return Wrong(f"{seen} entries of lists were seen by their user before, {hidden} are hidden")
    return None


def lists_differ(candidate: Candidate) -> str | None:
    """The lists of a personal model are not all one ranking without what each user has seen; those of others are.

    Users whose history is too short for the model, according to the evaluation, have the popular list.
    """
    if not candidate.is_personal:
        wrong = baseline_checks.off_shared_ranking(candidate, candidate.sampled_rows())
        return Wrong("lists that are not personal are not of one ranking") if wrong else "no personal model"
    short = candidate.sampled_rows(most_seen=candidate.popular_below - 1)
    if wrong := baseline_checks.off_popular_list(candidate, short):
        return Wrong(f"{wrong} of {len(short)} users with a short history do not have the popular list")
    rows = candidate.sampled_rows(candidate.popular_below)
    if len(rows) < _FEW_USERS or int((~candidate.is_left_out).sum()) < _FEW_MOVIES:
        return "too few users or movies to tell"
    share = own_rankings.personal_share(candidate.model_lists[rows], candidate.out_of_reach(rows))
    return Wrong(f"only {share:.1%} of the users get a ranking of their own") if share < _PERSONAL else None


def lists_suit_their_users(candidate: Candidate) -> str | None:
    """The lists of a personal model match the histories of their own users better than those of others, in order."""
    if not candidate.is_personal:
        return "no personal model"
    rows = candidate.sampled_rows(candidate.popular_below)
    seen, lists, co_occurrence = candidate.seen[rows], candidate.model_lists[rows], candidate.co_occurrence
    match = list_relevance.lists_match(seen, lists, co_occurrence, PARTS)
    if match is False:
        return Wrong("the lists go with their users' histories no better than with those of others")
    reach = candidate.out_of_reach(rows)
    is_one_ranking = len(rows) < 2 or own_rankings.personal_share(lists, reach) < _PERSONAL  # see lists_differ
    correlations = [] if is_one_ranking else list_order.order_correlations(seen, lists, co_occurrence, PARTS)
    if wrong := [f"{found.value:+.3f}, at best {found.most:+.3f}" for found in correlations if found.is_too_small]:
        return Wrong(f"movies stand no higher in the lists of users whom they suit more: correlation {wrong[0]}")
    return None if match else "too little data to tell"


def explorers_are_drawn(candidate: Candidate) -> str | None:
    """Who explores, and what those users are shown, was drawn by lot, with the chances that the release states."""
    share, explored = candidate.release.manifest.settings.get("explore_share", 0.0), candidate.release.explored
    if not isinstance(share, float):
        return Wrong("the manifest does not say how many users explore")
    if explored is None:
        return Wrong(f"nobody explores, though {share:.1%} of the users should") if share else None
    fault = explored_checks.exploring_fault(candidate, explored, share)
    return Wrong(fault) if fault else f"{len(explored.rows)} users explore"


def first_lists_suit_their_users(candidate: Candidate) -> str | None:
    """Users who have seen nothing have a list only where such lists were measured to be better than the segment's, and
    only if they have described themselves; lists of similar descriptions are similar.
    """
    users, first_lists = candidate.with_first_list, candidate.evaluation.first_lists
    if first_lists is None or not first_lists.shipped:
        return Wrong(f"{len(users)} users who have seen nothing have a list") if len(users) else None
    if not candidate.is_personal:
        return Wrong("lists by self-description are shipped beside lists that are not personal")
    if first_lists.choice is None:
        return Wrong("lists by self-description are shipped without being measured")
    if why_not := what_speaks_against(first_lists.choice, first_lists.test):
        return Wrong(f"lists by self-description are shipped, though {why_not}")
    if not len(users):
        return "nobody who has seen nothing wrote a known word"
    if candidate.descriptions is None:
        return Wrong("what the users wrote is unknown")
    if silent := int((~candidate.descriptions.written_by(users)).sum()):
        return Wrong(f"{silent} users who have neither seen nor written anything have a list")
    suit = first_list_checks.lists_suit_texts(candidate.lists, candidate.segments, users, candidate.descriptions)
    if suit is False:
        return Wrong("users with similar self-descriptions get lists no more similar than others")
    return None if suit else "too few first lists to tell whether they suit"


def embeddings_suit_their_movies(candidate: Candidate) -> str | None:
    """Movies with nearby embeddings are watched by the same users."""
    items = candidate.release.items
    if not np.ptp(items, axis=0).any():
        return Wrong("all movies have the same embedding")
    watched = np.flatnonzero(np.bincount(candidate.seen.indices, minlength=len(items)))
    rows = np.random.default_rng(SEED).permutation(watched)[: list_relevance.ROWS]
    one_movie_each = sp.csr_matrix(
        (np.ones(len(rows), np.float32), (np.arange(len(rows)), rows)), (len(rows), len(items))
    )
    nearest = list_relevance.neighbours(items, rows)
    order = np.argsort(rows)
    scores = embedding_parts.neighbour_scores(nearest[order], rows[order], candidate.co_occurrence.everyone)
    if embedding_parts.has_wrong_part(scores):
        return Wrong("in a part of the catalogue, movies that are near each other are watched by others")
    match = list_relevance.lists_match(one_movie_each, nearest, candidate.co_occurrence)
    if match is None:
        return "too little data to tell"
    return None if match else Wrong("movies that are near each other are watched by the same users no more than others")


def popular_lists_are_popular(candidate: Candidate) -> str | None:
    """Popular lists are in order, and at least half of everyone's is in the most seen quarter of movies."""
    release, off_lists = candidate.release, candidate.off_lists
    if list_checks.is_out_of_order(release.fallbacks[0], [candidate.popularity], off_lists[0]):
        return Wrong("the popular list is not what is started most, in order")
    if wrong := list_checks.wrong_segments(
        candidate.seen, candidate.segments, release.fallbacks, candidate.popularity, off_lists
    ):
        return Wrong(f"the popular lists of {len(wrong)} segments are not what these have seen most, in order")
    counts = np.bincount(candidate.seen.indices, minlength=len(release.names))
    shown = release.fallbacks[0, :LIST_LENGTH].astype(np.int64)
    shown = shown[shown < len(counts)]
    if int((~off_lists[0]).sum()) < _FEW_MOVIES:
        return "too few movies to tell"
    share = (counts[shown] >= np.quantile(counts[~off_lists[0]], _WELL_SEEN)).mean()
    return Wrong(f"only {share:.0%} of the popular list is seen much") if share < _MOSTLY else None


def lists_keep_to_caps(candidate: Candidate) -> str | None:
    """No list of a minor has more adult movies than the settings allow, none for everyone has any, and none has a movie
    that costs too much; reports and workers are told the same.
    """
    if faults := cap_checks.cap_faults(candidate):
        return Wrong("; ".join(faults))
    return cap_checks.unknown_flags(candidate.caps)


def baseline_is_popular(candidate: Candidate) -> str | None:
    """The baseline of each user is whole: the popular list of everyone without what the user has seen."""
    fault = baseline_checks.baseline_fault(candidate)
    return Wrong(fault) if fault else None
