"""Checks of lists that must be of one ranking: the baseline of reports, which no worker opens and so nothing else
verifies, the lists of models that are not personal, and those of users whose history is too short for a model.
"""

import numpy as np

from batch.gate.candidate import Candidate
from batch.gate.list_checks import count_off_ranking, has_other_orders
from batch.models.own_rankings import personal_share
from server.manifest import FileDigest
from server.release import BASELINE, sha256


def baseline_fault(candidate: Candidate) -> str | None:
    """What is wrong with the baseline of a candidate; None for nothing. Raises `OSError` if it is missing.

    Every byte is checked against the manifest, the lists of a sample of users against what these have seen.
    """
    path, release = candidate.folder / BASELINE, candidate.release
    if release.manifest.files.get(BASELINE) != FileDigest(size=path.stat().st_size, sha256=sha256(path)):
        return f"{BASELINE} is not what the manifest says"
    baseline, rows = np.load(path, mmap_mode="r"), candidate.sampled_rows()
    if (baseline.shape, baseline.dtype) != (release.lists.shape, release.lists.dtype):
        return f"{BASELINE} is {baseline.dtype} {baseline.shape}, not as lists.npy"
    if not len(rows):
        return None
    wrong = count_off_ranking(baseline[rows], candidate.seen[rows], release.fallbacks[0])
    return f"{wrong} of {len(rows)} are not the popular list without what was seen" if wrong else None


def off_shared_ranking(candidate: Candidate, rows: np.ndarray) -> int:
    """How many of some users (int64 rows) do not have the popular list, if that was chosen.

    Otherwise: in how many segments the users do not share one ranking.
    """
    if candidate.evaluation.chosen == "popular":
        return off_popular_list(candidate, rows)
    lists, seen, segments = candidate.lists[rows], candidate.out_of_reach(rows), candidate.release.segments[rows]
    groups = [np.flatnonzero(segments == segment) for segment in np.unique(segments)]
    return sum(
        personal_share(lists[own], seen[own]) > 0 or has_other_orders(lists[own]) for own in groups if len(own) > 1
    )


def off_popular_list(candidate: Candidate, rows: np.ndarray) -> int:
    """How many of some users (int64 rows) have a list that is not of the most popular movies that they may be shown and
    have not seen.
    """
    ranking, caps = candidate.popular_ranking, candidate.caps
    return count_off_ranking(candidate.lists[rows], candidate.seen[rows], ranking, caps, rows)
