"""Segments: age band × gender, for whom a popular list of their own is made and the evaluation looked at apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np

AGE_BANDS = (18, 25, 35, 45, 55)
"""First age of every band but the youngest."""
GENDERS = ("F", "M")
_LABELS = ("under 18", "18-24", "25-34", "35-44", "45-54", "55 and over")
NAMES = ("everyone", *(f"{label}, {gender}" for label in _LABELS for gender in GENDERS))
"""Name of each segment; 0 is everyone, and who is not known."""


def segments_of(users: np.ndarray, records: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """Segment of each user (ids), 0 for one whom the API does not know: uint8 [n]."""
    return np.array([_segment(records.get(str(user))) for user in users.tolist()], np.uint8)


def without_small(segments: np.ndarray, minimum: int) -> np.ndarray:
    """The segments, with those of fewer than `minimum` users made 0: too few to speak for themselves."""
    sizes = np.bincount(segments, minlength=len(NAMES))
    return np.where(sizes[segments] >= minimum, segments, 0).astype(np.uint8)


def _segment(record: Mapping[str, Any] | None) -> int:
    if record is None:
        return 0
    band = int(np.searchsorted(AGE_BANDS, record["age"], side="right"))
    return 1 + band * len(GENDERS) + GENDERS.index(record["gender"])
