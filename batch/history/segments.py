"""Segments: age band × gender. Each has its own popular list and its own figures in the evaluation."""

from collections.abc import Sequence

import numpy as np

People = Sequence[tuple[int, int, str]]
"""Id, age in years and gender of users, as `Catalog.people` gives them."""

AGE_BANDS = (18, 25, 35, 45, 55)
"""First age of every band but the youngest."""
GENDERS = ("F", "M")
"""Ascending."""
_LABELS = ("under 18", "18-24", "25-34", "35-44", "45-54", "55 and over")
NAMES = ("everyone", *(f"{label}, {gender}" for label in _LABELS for gender in GENDERS))
"""Name of each segment; 0 is for users without a known age and gender."""


def segments_of(users: np.ndarray, people: People) -> np.ndarray:
    """Segment of each user (ids, ascending): uint8 [n], 0 for users who are not among `people` (id, age, gender)."""
    segments = np.zeros(len(users), np.uint8)
    if not people or not len(users):
        return segments
    ids, ages, genders = (np.array(column) for column in zip(*people, strict=True))
    row = np.minimum(np.searchsorted(users, ids), len(users) - 1)
    is_user = users[row] == ids
    band = np.searchsorted(AGE_BANDS, ages[is_user], side="right")
    segments[row[is_user]] = 1 + band * len(GENDERS) + np.searchsorted(GENDERS, genders[is_user])
    return segments


def are_for(age: int) -> np.ndarray:
    """The segments that a user younger than `age` may be in: bool [segments]. Segment 0 is one of them."""
    first_ages = np.repeat((0, *AGE_BANDS), len(GENDERS))
    return np.concatenate([[True], first_ages < age])


def without_small(segments: np.ndarray, minimum: int) -> np.ndarray:
    """The segments, with 0 for those with fewer than `minimum` users."""
    sizes = np.bincount(segments, minlength=len(NAMES))
    return np.where(sizes[segments] >= minimum, segments, 0).astype(np.uint8)
