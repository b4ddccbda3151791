"""The wall clock against Python's own zone data, around every change of it; arrays and single values alike."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import SettingsError
from stream.zone import DAY_MS, HOUR_MS, Zone, day_name, day_number, zone_named

ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",  # half an hour of daylight saving time
    "America/Sao_Paulo",  # changed at midnight
    "Africa/Casablanca",  # four changes a year
    "Asia/Kathmandu",
    "Pacific/Apia",  # has no 30 December 2011
]
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - a reading of the wall clock has no zone
SECOND = dt.timedelta(milliseconds=1)


def changes(name: str) -> list[int]:
    """Hours (ms UTC) within which the offset of a zone changes, by its own data, for some years."""
    changed_at, info = [], ZoneInfo(name)
    for year in (2000, 2007, 2011, 2018, 2022, 2024, 2040, 2098):
        first = day_number(f"{year}-01-01") * DAY_MS
        offsets = [dt.datetime.fromtimestamp(time_ms / 1000, info).utcoffset() for time_ms in hours_from(first)]
        pairs = zip(hours_from(first), offsets, offsets[1:], strict=False)
        changed_at += [time_ms for time_ms, before, after in pairs if before != after]
    return changed_at


def hours_from(first: int) -> range:
    return range(first, first + 366 * DAY_MS, HOUR_MS)


CHANGES = {name: changes(name) or [day_number("2022-01-01") * DAY_MS] for name in ZONES}
anywhere = st.integers(day_number("2000-01-02") * DAY_MS, day_number("2099-12-30") * DAY_MS)


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, int]:
    """A zone, and a time that lies anywhere or near one of its changes."""
    name = draw(st.sampled_from(ZONES))
    near = st.builds(
        lambda time_ms, ms: time_ms + ms, st.sampled_from(CHANGES[name]), st.integers(-26 * HOUR_MS, 26 * HOUR_MS)
    )
    return name, draw(st.one_of(anywhere, near, near.map(lambda time_ms: time_ms // (HOUR_MS // 2) * (HOUR_MS // 2))))


def shown(name: str, utc_ms: int) -> int:
    moment = dt.datetime.fromtimestamp(utc_ms // 1000, ZoneInfo(name)).replace(tzinfo=None)
    return (moment - EPOCH) // SECOND + utc_ms % 1000


def meant(name: str, local_ms: int) -> int:
    moment = (EPOCH + local_ms * SECOND).replace(tzinfo=ZoneInfo(name), fold=0)
    return (moment.astimezone(dt.UTC).replace(tzinfo=None) - EPOCH) // SECOND


@settings(deadline=None, max_examples=200)
@given(moments())
def test_both_conversions_agree_with_zoneinfo(moment: tuple[str, int]) -> None:
    name, time_ms = moment
    assert zone_named(name).to_local(time_ms) == shown(name, time_ms)
    assert zone_named(name).to_utc(time_ms) == meant(name, time_ms)


@pytest.mark.parametrize("name", ZONES)
def test_arrays_are_converted_as_their_values_are(name: str) -> None:
    # every half hour for a day around each change: so also the very moments of it, in UTC and on either clock
    clock, halves = zone_named(name), [half * HOUR_MS // 2 for half in range(-50, 51)]
    times = [time_ms + off + late for time_ms in CHANGES[name] for off in halves for late in (-1, 0, 1)]
    array = np.array(times, np.int64)
    assert clock.to_local(array).tolist() == [clock.to_local(time_ms) for time_ms in times]
    assert clock.to_utc(array).tolist() == [clock.to_utc(time_ms) for time_ms in times]
    assert clock.day_number(array).tolist() == [clock.day_number(time_ms) for time_ms in times]
    assert clock.to_local(array.reshape(-1, 1)).shape == (len(times), 1)


@pytest.mark.parametrize(
    ("day", "hours"), [("2022-03-13", 23), ("2022-11-06", 25), ("2022-07-01", 24), ("2024-02-29", 24)]
)
def test_days_of_new_york_are_23_24_or_25_hours_long(day: str, hours: int) -> None:
    first, end = zone_named("America/New_York").bounds(day)
    assert end - first == hours * HOUR_MS


@settings(deadline=None, max_examples=200)
@given(moments())
def test_the_bounds_of_a_day_enclose_exactly_its_times(moment: tuple[str, int]) -> None:
    name, time_ms = moment
    clock = zone_named(name)
    day = clock.day(time_ms)
    first, end = clock.bounds(day)
    assert first <= time_ms < end
    assert [clock.day(first), clock.day(end - 1)] == [day, day]
    assert clock.day(first - 1) < day < clock.day(end)


def test_a_repeated_hour_means_the_first_and_a_skipped_one_the_old_offset() -> None:
    clock = zone_named("America/New_York")
    twice, never = (day_number(day) * DAY_MS for day in ("2022-11-06", "2022-03-13"))
    assert clock.to_utc(twice + HOUR_MS * 3 // 2) == twice + HOUR_MS * 11 // 2
    assert clock.to_local(twice + HOUR_MS * 13 // 2) == twice + HOUR_MS * 3 // 2
    assert clock.to_utc(never + HOUR_MS * 5 // 2) == never + HOUR_MS * 15 // 2


def repeated_after(name: str, utc_ms: int) -> int:
    """How much later the clock shows the same again, by Python's own data: PEP 495 tells both readings apart."""
    local, info = EPOCH + shown(name, utc_ms) * SECOND, ZoneInfo(name)
    both = [local.replace(tzinfo=info, fold=fold).astimezone(dt.UTC).replace(tzinfo=None) for fold in (0, 1)]
    first, second = ((moment - EPOCH) // SECOND for moment in both)
    return second - first if utc_ms == first < second and shown(name, second) == shown(name, first) else 0


@settings(deadline=None, max_examples=200)
@given(moments())
def test_repeated_times_agree_with_zoneinfo(moment: tuple[str, int]) -> None:
    name, time_ms = moment
    assert zone_named(name).repeats_after(time_ms) == repeated_after(name, time_ms)


@settings(deadline=None, max_examples=100)
@given(moments())
def test_a_repeated_time_is_shown_twice_and_read_as_the_first(moment: tuple[str, int]) -> None:
    name, time_ms = moment
    clock = zone_named(name)
    later = clock.repeats_after(time_ms)
    if later:
        assert clock.to_local(time_ms + later) == clock.to_local(time_ms)
        assert clock.to_utc(clock.to_local(time_ms + later)) == time_ms
        assert clock.repeats_after(time_ms + later) == 0
    else:
        assert clock.to_utc(clock.to_local(time_ms)) in (time_ms, time_ms - HOUR_MS, time_ms - HOUR_MS // 2)


@pytest.mark.parametrize("name", ZONES)
def test_repeated_times_of_arrays_are_those_of_their_values(name: str) -> None:
    clock, halves = zone_named(name), [half * HOUR_MS // 2 for half in range(-6, 7)]
    times = [time_ms + off + late for time_ms in CHANGES[name] for off in halves for late in (-1, 0, 1)]
    repeats = clock.repeats_after(np.array(times, np.int64))
    assert repeats.dtype == np.int64
    assert repeats.tolist() == [repeated_after(name, time_ms) for time_ms in times]


def test_the_hour_before_new_york_sets_its_clock_back_is_repeated() -> None:
    clock, two = (
        zone_named("America/New_York"),
        day_number("2022-11-06") * DAY_MS + 6 * HOUR_MS,
    )  # 06:00 UTC: from 2 to 1
    assert [clock.repeats_after(two + off) for off in (-HOUR_MS - 1, -HOUR_MS, -1, 0, HOUR_MS)] == [
        0, HOUR_MS, HOUR_MS, 0, 0,
    ]  # fmt: skip


def test_a_zone_that_never_changes_repeats_nothing() -> None:
    assert zone_named("Asia/Kathmandu").repeats_after(np.arange(0, 4 * 10**12, 10**11)).tolist() == [0] * 40


@given(st.integers(-20_000, 60_000))
def test_day_names_and_numbers_are_inverse(number: int) -> None:
    assert day_number(day_name(number)) == number


@pytest.mark.parametrize("text", ["2022-02-30", "2022-13-01", "yesterday", "", "2022-1-1", "2022-01-01T00:00"])
def test_an_invalid_day_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        day_number(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "America", "New\0York", "America/New_York\n"])
def test_an_unknown_zone_is_a_settings_error(name: str) -> None:
    with pytest.raises(SettingsError, match="no zone"):
        Zone(name)


def test_zones_are_cached() -> None:
    assert zone_named("Europe/Berlin") is zone_named("Europe/Berlin")
