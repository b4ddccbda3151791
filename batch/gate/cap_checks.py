"""Checks of the caps on lists: adult movies in lists of minors, and movies whose licence costs too much.

They go by ages, flags and costs themselves, not by the masks that lists are made with: a fault in these would otherwise
be in both. Every list is checked, and all of the popular lists: what stands far down replaces hidden movies.
"""

from collections.abc import Iterator

import numpy as np

from batch.gate.candidate import Candidate
from batch.models.list_caps import ListCaps
from quality.catalog import LARGEST_COST
from server.manifest import FileDigest
from server.release import MINORS, sha256
from stream.event import LIST_LENGTH


def cap_faults(candidate: Candidate) -> list[str]:
    """What breaks the caps. Raises `OSError` if `minors.npy` is missing."""
    is_minor = candidate.caps.facts.ages < candidate.caps.below_age  # an unknown age is 0
    return [*_adult_faults(candidate, is_minor), *_cost_faults(candidate), *_told_faults(candidate, is_minor)]


def unknown_flags(caps: ListCaps) -> str | None:
    """Of how many movies a cap cannot tell, in words; None if it can of all."""
    unknown = {
        "is adult": int((caps.facts.adult < 0).sum()) if caps.most_adult < LIST_LENGTH else 0,
        "costs too much": int(np.isnan(caps.facts.costs).sum()) if caps.max_cost < LARGEST_COST else 0,
    }
    gaps = [f"of {count} movies that it {what}" for what, count in unknown.items() if count]
    return f"the catalogue does not say {' and '.join(gaps)}; they count as if it were not so" if gaps else None


def _adult_faults(candidate: Candidate, is_minor: np.ndarray) -> Iterator[str]:
    if (most := candidate.caps.most_adult) >= LIST_LENGTH:
        return
    is_adult = candidate.caps.facts.adult == 1
    listed = _flags(candidate.lists[is_minor], is_adult).sum(axis=1)
    if too_many := int((listed > most).sum()):
        yield f"{too_many} lists of minors have more than {most} adult movies"
    # a worker takes the list of everyone for users whom it does not know, and where it has none of a segment
    shown = np.unique(np.append(candidate.release.segments[is_minor], 0))
    if held := int(_flags(_popular(candidate)[shown], is_adult).sum()):
        yield f"popular lists that minors get have {held} adult movies"


def _cost_faults(candidate: Candidate) -> Iterator[str]:
    is_too_dear = candidate.caps.facts.costs > candidate.caps.max_cost
    if not is_too_dear.any():
        return
    listed = sum(int(_flags(lists, is_too_dear).sum()) for lists in (candidate.lists, _popular(candidate)))
    if listed:
        yield f"lists have {listed} movies that cost more than {candidate.caps.max_cost:g}"


def _told_faults(candidate: Candidate, is_minor: np.ndarray) -> Iterator[str]:
    """Whether reports get the right minors, and workers the right movies to leave out."""
    caps, release, path = candidate.caps, candidate.release, candidate.folder / MINORS
    expected = np.where(caps.facts.ages == 0, 2, is_minor)
    if release.manifest.files.get(MINORS) != FileDigest(size=path.stat().st_size, sha256=sha256(path)):
        yield f"{MINORS} is not what the manifest says"
    elif not np.array_equal(np.load(path), expected):
        yield f"{MINORS} does not go with the ages of the users"
    restricted = caps.facts.costs > caps.max_cost
    if caps.most_adult < LIST_LENGTH:
        restricted = restricted | (caps.facts.adult == 1)
    wrong = set(release.manifest.restricted) ^ {candidate.movies[item] for item in np.flatnonzero(restricted).tolist()}
    if wrong:
        yield f"the manifest is wrong about {len(wrong)} movies that are not for everyone"


def _popular(candidate: Candidate) -> np.ndarray:
    """int64 [s + 1, 100]: the popular lists, -1 for none."""
    fallbacks = candidate.release.fallbacks
    return np.where(fallbacks == np.iinfo(fallbacks.dtype).max, -1, fallbacks.astype(np.int64))


def _flags(lists: np.ndarray, movies: np.ndarray) -> np.ndarray:
    """Which places of lists (movie indices, -1 for none) hold one of some movies (bool [m]): bool, as `lists`."""
    held: np.ndarray = np.append(movies, False)[lists]
    return held
