"""A young archive is learnt from several times a day: which nights are due, and when it is no longer young."""

from pathlib import Path

import pytest

from batch.nights import outcomes
from batch.nights.schedule import TRIES, StreamClock, Timetable, first_day, timetable_on, tries_made
from batch.releases import publish
from batch.settings import BatchSettings
from stream.archive import Archive
from stream.ledger_entry import FateCount, LedgerEntry, TimeRange
from stream.zone import HOUR_MS, day_name, day_number, zone_named
from tests.batch.nights.running_schedule import scheduled
from tests.batch.nights.small_nights import write_manifest
from tests.ledger_entries import TOPIC, entry
from tests.polling import until

CLOCK = zone_named("America/New_York")
THREE = 1_770_710_400_000  # 2026-02-10T03:00 in New York
TODAY = "2026-02-10"
YOUNG = Timetable("03:00", CLOCK, 4 * HOUR_MS)


def shipped(var: Path, name: str, read_ms: int) -> None:
    publish.make_current(var, write_manifest(var, name, read_ms), read_ms + 600_000)


def lines(day: str, count: int, first: int = 0, topic: str = TOPIC) -> LedgerEntry:
    """An entry with events of a day; the clock stands at 03:00 of it."""
    counts = [FateCount("accepted", "watch", day, None, count)]
    at_three = CLOCK.bounds(day)[0] + 3 * HOUR_MS
    return entry(first, first + count - 1, counts=counts, kafka_time=TimeRange(at_three, at_three), topic=topic)


@pytest.mark.parametrize("code", [0, 3, 4])
def test_a_night_that_ended_is_followed_four_hours_after_the_hour(tmp_path: Path, code: int) -> None:
    shipped(tmp_path, "a", THREE - HOUR_MS)
    assert tries_made(tmp_path, THREE - 1, YOUNG) is None
    outcomes.note_outcome(tmp_path, code, 1, THREE + HOUR_MS)
    assert tries_made(tmp_path, THREE + 4 * HOUR_MS - 1, YOUNG) is None
    assert tries_made(tmp_path, THREE + 4 * HOUR_MS, YOUNG) == 0


def test_a_failing_night_is_tried_three_times_a_period(tmp_path: Path) -> None:
    shipped(tmp_path, "a", THREE - HOUR_MS)
    for period in (THREE, THREE + 4 * HOUR_MS, THREE + 20 * HOUR_MS):
        for tried in range(TRIES):
            assert tries_made(tmp_path, period + tried, YOUNG) == tried
            outcomes.note_outcome(tmp_path, 1, 1, period + tried)
        assert tries_made(tmp_path, period + 4 * HOUR_MS - 1, YOUNG) is None


def test_a_night_by_hand_is_the_one_of_its_period(tmp_path: Path) -> None:
    shipped(tmp_path, "a", THREE + 3 * HOUR_MS)
    assert tries_made(tmp_path, THREE + 5 * HOUR_MS, YOUNG) == 0
    shipped(tmp_path, "b", THREE + 5 * HOUR_MS)
    assert tries_made(tmp_path, THREE + 6 * HOUR_MS, YOUNG) is None


def test_an_archive_is_young_on_its_first_days() -> None:
    settings = BatchSettings(young_archive_days=2, young_archive_hours=0.5)
    assert [timetable_on(day, settings, CLOCK).every_ms for day in range(4)] == [HOUR_MS // 2, HOUR_MS // 2, None, None]
    assert timetable_on(0, BatchSettings(young_archive_days=0), CLOCK).every_ms is None


def test_an_archive_begins_on_the_first_day_with_a_quorum_of_events_of_any_topic() -> None:
    assert first_day([]) is None
    assert first_day([lines(TODAY, 19)]) is None
    assert first_day([lines(TODAY, 19), lines(TODAY, 1, first=19)]) == TODAY
    history = [lines("2026-01-01", 19, topic="history"), lines("2026-01-02", 20, topic="history")]
    assert first_day([lines(TODAY, 20), *history]) == "2026-01-02"
    refused = [FateCount("quarantined", None, "2026-01-01", "time", 1000)]
    assert first_day([lines(TODAY, 20), entry(0, 999, counts=refused)]) == TODAY


def test_the_clock_knows_whether_the_archive_is_young_and_an_old_one_stays_old(tmp_path: Path) -> None:
    archive, settings = Archive(tmp_path), BatchSettings(night_at="03:00")
    clock = StreamClock(archive, "movielog1")

    def every_ms() -> int | None:
        clock.now()
        return clock.timetable(settings, CLOCK).every_ms

    assert every_ms() is None
    for day in range(5):
        archive.commit(lines(day_name(day_number(TODAY) + day), 40, first=40 * day))
        assert every_ms() == (4 * HOUR_MS if day < 3 else None)
    archive.commit(lines("2025-01-01", 40, topic="history"))
    assert every_ms() is None


def test_history_of_another_topic_makes_an_archive_old(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.commit(lines(day_name(day_number(TODAY) - 14), 40, topic="history"))
    archive.commit(lines(TODAY, 40))
    clock = StreamClock(archive, "movielog1")
    assert clock.now() == THREE
    assert clock.timetable(BatchSettings(), CLOCK).every_ms is None


def test_each_period_of_the_first_days_has_one_night_whatever_restarts(tmp_path: Path) -> None:
    archive, calls = Archive(tmp_path), tmp_path / "calls"
    hours = [3, 5, 7, 8, 14, 23, 24 + 2, 24 + 3, 48 + 23, 72, 72 + 3, 72 + 7, 72 + 23, 96 + 3]
    expected = [3, 7, 14, 23, 24 + 3, 48 + 23, 72 + 3, 96 + 3]
    midnight = THREE - 3 * HOUR_MS
    shipped(tmp_path, "a", midnight)
    for number, hour in enumerate(hours):
        day = day_name(day_number(TODAY) + hour // 24)
        now = TimeRange(midnight + hour * HOUR_MS, midnight + hour * HOUR_MS)
        counts = [FateCount("accepted", "watch", day, None, 40)]
        archive.commit(entry(40 * number, 40 * number + 39, counts=counts, kafka_time=now))
        due = sum(other <= hour for other in expected)
        with scheduled(tmp_path, f"echo night >> {calls}"):  # started anew each time
            until(lambda: len(outcomes.read_outcomes(tmp_path)) >= due)  # noqa: B023
            metrics = tmp_path / "metrics" / "nights.prom"
            age = f"marquee_release_age_seconds {float(hour * 3600)}"
            until(lambda: metrics.exists() and age in metrics.read_text())  # noqa: B023
        assert calls.read_text().count("night") == due
    assert [(outcome.stream_time - midnight) // HOUR_MS for outcome in outcomes.read_outcomes(tmp_path)] == expected
