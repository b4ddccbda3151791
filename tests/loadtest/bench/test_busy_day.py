"""The lines of a synthetic day: each session writes all of its lines, in order of time."""

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from loadtest.bench.night import busy_day
from loadtest.bench.night.busy_day import RATING, REQUEST, lines_of
from loadtest.bench.night.synthetic_crowd import CrowdVisits
from loadtest.bench.night.synthetic_history import RunningSessions
from stream.zone import DAY_MS
from tests.loadtest.small_crowd import BEGINS, make_crowd


def visits_of(starts_s: list[int], minutes: list[int]) -> CrowdVisits:
    count = len(starts_s)
    return CrowdVisits(
        np.arange(count, dtype=np.int32),
        np.arange(count, dtype=np.int32),
        BEGINS + np.array(starts_s, np.int64) * 1000,
        np.array(minutes, np.int32),
        np.full(count, 4, np.int8),
        np.full(count, True),
    )


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 86_399), st.integers(1, 200)), max_size=12), st.integers(0, 99))
def test_every_session_writes_its_lines(sessions: list[tuple[int, int]], seed: int) -> None:
    visits = visits_of([start for start, _ in sessions], [minutes for _, minutes in sessions])
    lines = lines_of(visits, 7, BEGINS, np.random.default_rng(seed))
    for row, (start, minutes) in enumerate(sessions):
        own = lines.rows(lines.session == row + 7)
        watched_at = own.time[own.code >= 0]
        assert own.code[own.code >= 0].tolist() == list(range(minutes))
        assert watched_at[0] == start
        assert minutes == 1 or np.diff(watched_at).min() >= 20
        assert own.time[own.code == RATING].tolist() == [watched_at[-1] + 60]
        assert (start - own.time[own.code == REQUEST]).tolist()[0] in range(3, 41)
        assert len(own.code) == minutes + 2


def test_lines_are_in_order_and_none_is_lost() -> None:
    visits = make_crowd().day(BEGINS, 3_000)
    slots = list(busy_day.in_order(visits, RunningSessions.none().lines, BEGINS, np.random.default_rng(1)))
    time, session = (np.concatenate([getattr(slot, name) for slot in slots]) for name in ("time", "session"))
    assert (np.diff(time) >= 0).all()
    assert time[0] >= 0
    assert time[-1] < DAY_MS // 1000
    ends = visits.starts + visits.minutes.astype(np.int64) * 62_000 + 90_000
    counts = np.bincount(session, minlength=len(visits.users))
    whole = ends < BEGINS + DAY_MS
    expected = visits.minutes + (visits.ratings > 0) + visits.asked
    assert (counts == expected)[whole].all()
    assert (counts < expected)[~whole].any()


def test_requests_of_the_first_sessions_are_not_before_midnight() -> None:
    visits = visits_of([0, 1, 30], [2, 2, 2])
    slots = busy_day.in_order(visits, RunningSessions.none().lines, BEGINS, np.random.default_rng(1))
    first = next(slots)
    assert (first.time[first.code == REQUEST] >= 0).all()
    assert len(first.time) == 12
    assert (np.diff(first.time) >= 0).all()
