"""Checks of the baseline of reports, which no worker opens and so nothing else verifies."""

import numpy as np

from batch.gate.candidate import Candidate
from batch.gate.list_checks import count_off_ranking
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
