"""Exposed starts: those before which a list was shown to the user within the window, and no others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.history import exposure
from batch.history.exposure import exposed_starts
from batch.history.interactions import Requests

WINDOW = 24
EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(-60, 60)), max_size=40)


def requests(*shown: tuple[int, int]) -> Requests:
    table = np.array(shown, np.int64).reshape(-1, 2)
    return Requests(table[:, 0].astype(np.int32), table[:, 1])


def exposed(starts: list[tuple[int, int]], shown: Requests, window: int = WINDOW) -> list[bool]:
    user, start = np.array(starts, np.int64).reshape(-1, 2).T
    found: list[bool] = exposed_starts(user.astype(np.int32), start, shown, window).tolist()
    return found


def test_a_start_counts_as_exposed_from_just_after_the_list_until_the_end_of_the_window() -> None:
    starts = [(1, moment) for moment in (99, 100, 101, 100 + WINDOW, 101 + WINDOW)]
    assert exposed(starts, requests((1, 100))) == [False, False, True, True, False]


def test_a_list_exposes_only_its_own_user() -> None:
    assert exposed([(0, 105), (1, 105), (2, 105)], requests((1, 100))) == [False, True, False]


@pytest.mark.parametrize("shown", [requests(), requests((7, 3))])
def test_without_lists_or_starts_nothing_is_exposed(shown: Requests) -> None:
    assert exposed([(0, 1), (3, 5)], shown) == [False, False]
    assert exposed([], shown) == []


@given(EVENTS, EVENTS, st.integers(1, 50), st.sampled_from([1, 7, 1 << 20]))
def test_agrees_with_the_definition(
    starts: list[tuple[int, int]], shown: list[tuple[int, int]], window: int, block: int
) -> None:
    starts = sorted(starts)
    defined = [any(user == own and 0 < start - time <= window for own, time in shown) for user, start in starts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exposure, "_BLOCK", block)
        assert exposed(starts, requests(*shown), window) == defined


def test_times_of_years_and_many_users_do_not_overflow() -> None:
    year, last = 365 * 86_400_000, 1_000_000
    shown = requests((0, year), (last, 2 * year))
    starts = [(0, 0), (0, year + 1), (0, 90 * year), (last, -year), (last, 2 * year + WINDOW), (last, 80 * year)]
    assert exposed(starts, shown) == [False, True, False, False, True, False]
    assert exposed(starts, shown, 10**15) == [False, True, True, False, True, True]
