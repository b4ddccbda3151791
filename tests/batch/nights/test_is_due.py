"""When a night is due: once a day at its hour of the service's clock, on days of 23 and 25 hours too."""

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.nights.schedule import Timetable
from stream.zone import DAY_MS, HOUR_MS, day_name, day_number, zone_named

ZONES = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "UTC"]
DAYS = ("2022-03-12", "2022-11-05", "2018-11-03", "2018-02-16", "2022-07-01")
BEGINNINGS = [day_number(day) * DAY_MS for day in DAYS]


def moments(hour_text: str, name: str, around_ms: int) -> list[int]:
    """When the clock shows `at` on the days around a time; the first time, or as the old clock would have shown."""
    day = dt.datetime.fromtimestamp(around_ms / 1000, ZoneInfo(name)).date()
    hour, minute = map(int, hour_text.split(":"))
    days = [day + dt.timedelta(days=off) for off in range(-9, 10)]
    shown = [dt.datetime(d.year, d.month, d.day, hour, minute, tzinfo=ZoneInfo(name)) for d in days]
    return [round(moment.timestamp() * 1000) for moment in shown]


hours = st.builds(lambda hour, minute: f"{hour:02}:{minute:02}", st.integers(0, 23), st.sampled_from([0, 1, 30, 59]))


@settings(deadline=None, max_examples=250)
@given(
    st.sampled_from(ZONES),
    hours,
    st.sampled_from(BEGINNINGS),
    st.integers(0, 4 * 96),
    st.integers(0, 4 * 96),
    st.sampled_from([-1, 0, 1, 777]),
)
def test_a_night_is_due_when_the_hour_has_passed_since_the_last_one(
    name: str, at: str, beginning: int, last_quarters: int, more_quarters: int, off: int
) -> None:
    last = beginning + last_quarters * HOUR_MS // 4
    now = last + more_quarters * HOUR_MS // 4 + off
    expected = any(last < moment <= now for moment in moments(at, name, now))
    assert Timetable(at, zone_named(name)).is_due(now, last) is expected


@settings(deadline=None, max_examples=250)
@given(
    st.sampled_from(ZONES),
    hours,
    st.sampled_from(BEGINNINGS),
    st.integers(0, 4 * 96),
    st.integers(0, 4 * 30),
    st.sampled_from([-1, 0, 1, 777]),
    st.sampled_from([0.1, 1.0, 4.0, 7.0, 24.0, 25.0]),
)
def test_a_young_archive_has_nights_between_those_of_the_hour(
    name: str, at: str, beginning: int, last_quarters: int, more_quarters: int, off: int, every_hours: float
) -> None:
    last, every_ms = beginning + last_quarters * HOUR_MS // 4, round(every_hours * HOUR_MS)
    now = last + more_quarters * HOUR_MS // 4 + off
    daily = moments(at, name, now)
    times = [time for moment, after in itertools.pairwise(daily) for time in range(moment, after, every_ms)]
    expected = any(last < time <= now for time in times)
    assert Timetable(at, zone_named(name), every_ms).is_due(now, last) is expected


@pytest.mark.parametrize("at", ["00:00", "01:30", "02:30", "03:00", "23:59"])
@pytest.mark.parametrize("first", ["2022-03-12", "2022-11-05", "2022-07-01"])
def test_every_day_has_one_night(at: str, first: str) -> None:
    clock = zone_named("America/New_York")
    days = [day_name(day_number(first) + off) for off in range(3)]
    last, nights = clock.bounds(days[0])[0] - 1, []
    for now in range(clock.bounds(days[0])[0], clock.bounds(days[-1])[1], 60_000):
        if Timetable(at, clock).is_due(now, last):
            last = now
            nights.append(clock.day(now))
    assert nights == days


def test_the_first_night_is_due_at_once() -> None:
    assert Timetable("03:00", zone_named("America/New_York")).is_due(BEGINNINGS[0], None)


def test_a_night_on_the_hour_is_not_due_again() -> None:
    clock = zone_named("America/New_York")
    moment = clock.bounds("2022-07-01")[0] + 3 * HOUR_MS
    at_three = Timetable("03:00", clock)
    assert at_three.is_due(moment, moment - 1)
    assert not at_three.is_due(moment, moment)
    assert not at_three.is_due(moment - 1, moment - DAY_MS)
    assert not at_three.is_due(moment + DAY_MS - 1, moment)


def changes(name: str) -> list[int]:
    """The hours, ms UTC, within which the clock of a zone was or will be set forward or back."""
    hours = range(day_number("2020-01-01") * 24, day_number("2037-12-31") * 24)
    offsets = [dt.datetime.fromtimestamp(hour * 3600, ZoneInfo(name)).utcoffset() for hour in hours]
    return [hour * HOUR_MS for hour, one, two in zip(hours, offsets, offsets[1:], strict=False) if one != two]


CHANGES = {name: changes(name) for name in ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe")}
"""Australia/Lord_Howe is set by half an hour."""


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([*CHANGES]),
    hours | st.sampled_from(["01:30", "01:45", "02:00", "02:15", "02:30", "03:00"]),
    st.lists(st.integers(1, 22 * HOUR_MS), min_size=10, max_size=60),
)
def test_each_day_has_one_night_across_clock_changes(name: str, at: str, gaps: list[int]) -> None:
    assert len(CHANGES[name]) == 36
    clock = zone_named(name)
    for change in CHANGES[name]:
        start = change - 4 * DAY_MS
        looks = [start + after for after in itertools.accumulate(gaps) if after < 8 * DAY_MS]
        nights: list[int] = []
        for now in looks:
            if Timetable(at, clock).is_due(now, nights[-1] if nights else start):
                nights.append(now)
        due = [moment for moment in moments(at, name, change) if start < moment <= looks[-1]]
        assert nights == [next(look for look in looks if look >= moment) for moment in due]
