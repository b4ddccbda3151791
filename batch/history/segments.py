"""Segments: age band × gender. Each has its own popular list and its own figures in the evaluation."""

from collections.abc import Sequence

import numpy as np

AGE_BANDS = (18, 25, 35, 45, 55)
"""First age of every band but the youngest."""
GENDERS = ("F", "M")
"""Ascending."""
_LABELS = ("under 18", "18-24", "25-34", "35-44", "45-54", "55 and over")
NAMES = ("everyone", *(f"{label}, {gender}" for label in _LABELS for gender in GENDERS))
"""Name of each segment; 0 is everyone, and who is not known."""


def segments_of(users: np.ndarray, people: Sequence[tuple[int, int, str]]) -> np.ndarray:
    """Segment of each user (ids, ascending), 0 for one who is not among the people (id, age, gender): uint8 [n]."""
    found = np.zeros(len(users), np.uint8)
    if not people or not len(users):
        return found
    ids, ages, genders = (np.array(column) for column in zip(*people, strict=True))
    place = np.minimum(np.searchsorted(users, ids), len(users) - 1)
    asked = users[place] == ids
    band = np.searchsorted(AGE_BANDS, ages[asked], side="right")
    found[place[asked]] = 1 + band * len(GENDERS) + np.searchsorted(GENDERS, genders[asked])
    return found


def without_small(segments: np.ndarray, minimum: int) -> np.ndarray:
    """The segments, with those of fewer than `minimum` users made 0: too few to speak for themselves."""
    sizes = np.bincount(segments, minlength=len(NAMES))
    return np.where(sizes[segments] >= minimum, segments, 0).astype(np.uint8)
