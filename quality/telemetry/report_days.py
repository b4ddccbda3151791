"""When the report of a day begins, ends, closes and becomes final.

A line counts in the report of a day if its Kafka time is before the time at which that report *closes*: the end of the
day, its last window and the grace. That is a property of the line, so neither the order of arrival nor the borders of
batches decide it. A report is *final* once the stream has come another grace further, because lines may be in disorder
by that much.
"""

from dataclasses import dataclass

import numpy as np

from quality.settings import QualitySettings
from stream.settings import StreamSettings
from stream.zone import DAY_MS, Times, Zone, day_name, zone_named


@dataclass(frozen=True, slots=True)
class ReportDays:
    """The days of the service's zone, by number (counted from 1970-01-01), and their times in ms UTC."""

    zone: Zone
    window_ms: int
    grace_ms: int

    @classmethod
    def of(cls, streaming: StreamSettings, quality: QualitySettings) -> "ReportDays":
        """The days of the settings."""
        return cls(zone_named(streaming.timezone), quality.window_ms, quality.grace_ms)

    def bounds(self, day: int) -> tuple[int, int]:
        """Where a day begins and ends."""
        return self.zone.bounds(day_name(day))

    def closes(self, day: Times) -> Times:
        """The Kafka time from which on lines are too late for a day's report."""
        return self.zone.to_utc((day + 1) * DAY_MS) + (self.window_ms + self.grace_ms)

    def final_from(self, day: int) -> int:
        """The time of the stream's clock from which on a day's report is final."""
        return self.closes(day) + self.grace_ms

    def last_closed(self, time_ms: int) -> int:
        """The last day whose report closes at a time or before."""
        day = int(self.zone.day_number(time_ms - self.window_ms - self.grace_ms))
        return int(np.max([each for each in range(day - 2, day + 1) if self.closes(each) <= time_ms]))
