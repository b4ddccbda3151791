"""A day small enough to know every figure of its report."""

from dataclasses import dataclass
from pathlib import Path

from quality.settings import QualitySettings
from quality.telemetry.day_report import DayReport
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream.event import Event
from stream.settings import StreamSettings
from stream.zone import day_number, zone_named

HOUR = 3_600_000
DAY = "2022-03-18"
FIRST, END = zone_named("America/New_York").bounds(DAY)
SETTINGS = QualitySettings()


def one_line(var: Path) -> StreamSettings:
    """Settings by which each line confirms its time: with few lines, days close when one of them says so."""
    return StreamSettings(var=var, clock_lines=1, clock_users=1)


@dataclass(frozen=True)
class KnownDay:
    """A store with lines of the day, and the reports of it."""

    store: Store
    reports: Reports


def answer(hour: int, user: int, movies: tuple[str, ...], latency_ms: int = 10) -> Event:
    return Event(
        "recommend", FIRST + hour * HOUR, user, host="us:8082", status=200, movies=movies, latency_ms=latency_ms
    )


def watch(hour: int, user: int, movie: str) -> Event:
    return Event("watch", FIRST + hour * HOUR + 60_000, user, movie, minute=0)


EVENTS = [
    answer(1, 1, ("a+2001", "b+2002")),  # before the first release; hit at rank 2
    answer(3, 2, ("a+2001", "b+2002"), 20),  # hit at rank 1, and the popular list has it as well
    answer(4, 3, ("c+2003",), 30),  # no hit, but the popular list would have been one
    Event("recommend", FIRST + 5 * HOUR, 4, host="us:8082", status=0, latency_ms=800, error="Request timeout"),
    answer(6, 5, ("c+2003",), 900),  # hit at rank 1, not popular
    watch(2, 1, "b+2002"),
    watch(5, 2, "a+2001"),
    watch(5, 3, "a+2001"),
    watch(29, 5, "c+2003"),  # the day after, within the window
]
"""The release `first` is in force from the second hour on; its popular list is `a+2001`."""


def report_after(known: KnownDay, hours: float = 1000.0) -> DayReport:
    """The day's report when the stream was read up to so many hours after the day's beginning."""
    day, watermark = day_number(DAY), FIRST + round(hours * HOUR)
    rows = known.store.day_rows(day, known.reports.days)
    return known.reports.build(day, rows, watermark, final=known.reports.days.closes(day) <= watermark)
