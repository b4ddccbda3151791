"""The service's wall clock: local times of a zone to UTC and back, for one value or for arrays.

All times are milliseconds since 1970: `int`s, or int64 arrays of any shape. A zone is a short table of its offset
changes, from Python's own zone data, so both parsers of the grammar convert by one rule (PEP 495, fold = 0): a time
that occurs twice means the first occurrence, one that never occurs is read with the offset before the change.
"""

import datetime as dt
from bisect import bisect_right
from functools import lru_cache
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from stream.errors import SettingsError

FIRST_YEAR, LAST_YEAR = 2000, 2099
"""Years that a time may lie in; the grammar refuses all others."""

HOUR_MS = 3_600_000
EARLIEST_MS, LATEST_MS = 946_684_800_000, 4_102_444_799_999
"""The first millisecond of 2000 and the last of 2099, UTC."""
DAY_MS = 24 * HOUR_MS

Times = TypeVar("Times", int, npt.NDArray[np.int64])


class _Offsets:
    """Offsets by time: `offsets[i]` holds from `since[i - 1]` (or the beginning) to `since[i]`; int64 ms."""

    def __init__(self, since: list[int], offsets: list[int]) -> None:
        self._since, self._offsets = since, offsets
        self._arrays = np.array(since, np.int64), np.array(offsets, np.int64)

    def at(self, time_ms: Times) -> Times:
        """The offset in force at each time."""
        if isinstance(time_ms, np.ndarray):
            since, offsets = self._arrays
            return offsets[np.searchsorted(since, time_ms, side="right")]
        return self._offsets[bisect_right(self._since, time_ms)]


class Zone:
    """One time zone, from 1999 to 2101."""

    def __init__(self, name: str) -> None:
        try:
            zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise SettingsError(
                f"settings: [stream] timezone: no zone '{name}'; give an IANA name such as Europe/Berlin"
            ) from error
        self.name = name
        changes = _changes(zone)
        offsets = [_offset_ms(zone, _start_ms()), *(after for _, _, after in changes)]
        self._by_utc = _Offsets([change_ms for change_ms, _, _ in changes], offsets)
        # fold = 0: the old offset holds until the later of the two readings of the clock at the change
        self._by_local = _Offsets([change_ms + max(before, after) for change_ms, before, after in changes], offsets)
        set_back = [(change_ms, before - after) for change_ms, before, after in changes if before > after]
        self._repeats = _Offsets(
            [edge for change_ms, width in set_back for edge in (change_ms - width, change_ms)],
            [0, *(offset for _, width in set_back for offset in (width, 0))],
        )

    def to_utc(self, local_ms: Times) -> Times:
        """Milliseconds of the wall clock (as if it showed UTC) to milliseconds UTC."""
        return local_ms - self._by_local.at(local_ms)

    def to_local(self, utc_ms: Times) -> Times:
        """Milliseconds UTC to milliseconds of the wall clock."""
        return utc_ms + self._by_utc.at(utc_ms)

    def repeats_after(self, utc_ms: Times) -> Times:
        """After how many ms the wall clock shows the same time again; 0 except in the last hour before a set-back."""
        return self._repeats.at(utc_ms)

    def day_number(self, utc_ms: Times) -> Times:
        """The zone's day at a time, counted from 1970-01-01."""
        return self.to_local(utc_ms) // DAY_MS

    def day(self, utc_ms: int) -> str:
        """The zone's day at a time, `YYYY-MM-DD`."""
        return day_name(self.day_number(int(utc_ms)))

    def bounds(self, day: str) -> tuple[int, int]:
        """First millisecond (UTC) of a day and of the next day: 23, 24 or 25 hours apart."""
        number = day_number(day)
        return self.to_utc(number * DAY_MS), self.to_utc((number + 1) * DAY_MS)


@lru_cache(maxsize=8)
def zone_named(name: str) -> Zone:
    """The zone of an IANA name, cached. Raises `SettingsError` for an unknown name."""
    return Zone(name)


def day_name(number: int) -> str:
    """Day count since 1970-01-01 to `YYYY-MM-DD`."""
    return (dt.date(1970, 1, 1) + dt.timedelta(days=int(number))).isoformat()


def day_number(day: str) -> int:
    """`YYYY-MM-DD` to the day count since 1970-01-01. Raises `ValueError` for anything else."""
    return (dt.date.fromisoformat(day) - dt.date(1970, 1, 1)).days


def _start_ms() -> int:
    return day_number(f"{FIRST_YEAR - 1}-01-01") * DAY_MS


def _offset_ms(zone: ZoneInfo, utc_ms: int) -> int:
    offset = dt.datetime.fromtimestamp(utc_ms / 1000, zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds() * 1000)


def _changes(zone: ZoneInfo) -> list[tuple[int, int, int]]:
    """(time of the change, offset before, offset after), all ms: compared day by day, then bisected to the second."""
    changes = []
    day_ms, end_ms = _start_ms(), day_number(f"{LAST_YEAR + 2}-01-01") * DAY_MS
    before = _offset_ms(zone, day_ms)
    while day_ms < end_ms:
        after = _offset_ms(zone, day_ms + DAY_MS)
        if after != before:
            low, high = day_ms, day_ms + DAY_MS
            while high - low > 1000:
                middle = (low + high) // 2000 * 1000
                low, high = (middle, high) if _offset_ms(zone, middle) == before else (low, middle)
            changes.append((high, before, after))
        day_ms, before = day_ms + DAY_MS, after
    return changes
