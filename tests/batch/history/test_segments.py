"""Segments: age band × gender; the ends of a band belong to it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.history.segments import NAMES, segments_of, without_small


def segment(age: int, gender: str) -> str:
    return NAMES[segments_of(np.array([7], np.uint32), [(7, age, gender)])[0]]


@pytest.mark.parametrize(
    ("ages", "name"),
    [
        ((8, 17), "under 18"),
        ((18, 24), "18-24"),
        ((25, 34), "25-34"),
        ((35, 44), "35-44"),
        ((45, 54), "45-54"),
        ((55, 90), "55 and over"),
    ],
)
def test_an_age_band_includes_both_its_ends(ages: tuple[int, int], name: str) -> None:
    for age in ages:
        assert [segment(age, gender) for gender in "FM"] == [f"{name}, F", f"{name}, M"]


def test_unknown_users_belong_to_no_segment() -> None:
    got = segments_of(np.array([1, 2, 4_294_967_295], np.uint32), [(2, 30, "F"), (3, 40, "M")])
    assert got.tolist() == [0, NAMES.index("25-34, F"), 0]
    assert got.dtype == np.uint8
    assert segments_of(np.zeros(0, np.uint32), [(2, 30, "F")]).shape == (0,)


@given(st.lists(st.integers(0, len(NAMES) - 1), max_size=40), st.integers(1, 6))
def test_users_of_small_segments_belong_to_no_segment(members: list[int], minimum: int) -> None:
    got = without_small(np.array(members, np.uint8), minimum)
    assert got.tolist() == [segment if members.count(segment) >= minimum else 0 for segment in members]
    assert got.dtype == np.uint8
