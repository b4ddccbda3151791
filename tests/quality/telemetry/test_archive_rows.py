"""A day's rows from the archive: what the store has, whatever the order and the batches, late lines, gaps."""

import asyncio
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from batch.collecting.collector import Collector
from batch.settings import BatchSettings
from quality.settings import QualitySettings
from quality.telemetry import archive_rows
from quality.telemetry.archive_rows import ArchiveRows
from quality.telemetry.batch import TelemetryBatch
from quality.telemetry.day_report import DayReport
from quality.telemetry.day_rows import LineGap
from quality.telemetry.ingest import Ingest
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream.event import Event
from stream.kafka import FetchedRecords
from stream.ledger_entry import LedgerEntry
from stream.settings import StreamSettings
from stream.zone import day_number
from tests.quality.telemetry.archived_stream import CollectedStream, records_of
from tests.quality.telemetry.known_day import DAY, END, EVENTS, FIRST, HOUR, answer, one_line, watch
from tests.quality.telemetry.test_attribution import SETTINGS, arrivals

NUMBER = day_number(DAY)
SHORT = QualitySettings(window_hours=1, late_hours=100)


def archived_report(streaming: StreamSettings, quality: QualitySettings, day: int = NUMBER) -> DayReport:
    rows = ArchiveRows.of(streaming, quality).day_rows(day)
    reports = Reports(streaming, quality)
    return reports.build(day, rows, reports.days.closes(day), final=True)


@settings(deadline=None, max_examples=60)
@given(arrivals())
def test_the_archive_gives_what_the_store_gives(
    batch_of: Callable[..., TelemetryBatch], arrived: tuple[list[list[Event]], list[bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(archive_rows, "_MERGED_AT", 3)  # sessions are merged several times
        streaming = one_line(Path(folder))
        store, collected, first = Store(streaming.var / "telemetry.db"), CollectedStream(streaming, SETTINGS), 0
        taker = Ingest(store, streaming, SETTINGS)
        for events in filter(None, arrived[0]):
            taker.take(batch_of(events, first))
            collected.take(records_of(events, first))
            first += len(events)
        reports = Reports(streaming, SETTINGS)
        rows = store.day_rows(NUMBER, reports.days)
        expected = reports.build(NUMBER, rows, reports.days.closes(NUMBER), final=True)
        store.close()
        assert archived_report(streaming, SETTINGS) == expected


def scattered(events: list[Event], partitions: int, seed: int) -> list[list[Event]]:
    """The events in another order, in so many partitions."""
    parts: list[list[Event]] = [[] for _ in range(partitions)]
    for event in random.Random(seed).sample(events, len(events)):
        parts[(event.user + seed) % partitions].append(event)
    return parts


def test_order_batches_and_partitions_do_not_matter(tmp_path: Path) -> None:
    events = [*EVENTS, answer(8, 1, ("a+2001",)), watch(8, 1, "a+2001"), watch(14, 1, "a+2001"), EVENTS[1]]
    reports = []
    for seed in range(8):
        streaming = one_line(tmp_path / str(seed))
        collected = CollectedStream(streaming, SETTINGS)
        for partition, own in enumerate(scattered(events, seed % 3 + 1, seed)):
            collected.take(*(records_of([event], first, partition) for first, event in enumerate(own)))
        reports.append(archived_report(streaming, SETTINGS))
    assert reports == reports[:1] * 8
    assert (reports[0].total.answers.requests, reports[0].total.hits) == (6, 3)


def test_a_line_counts_if_it_came_before_the_report_closes(tmp_path: Path) -> None:
    """Its Kafka time decides, and a copy of a line that came in time is no late line."""
    streaming = one_line(tmp_path)
    closes = END + SHORT.window_ms + SHORT.grace_ms
    lines = [
        (answer(1, 1, ("a+2001",)), closes - 1),
        (answer(1, 2, ("a+2001",)), closes),
        (watch(1, 1, "a+2001"), closes - 1),
        (watch(1, 3, "a+2001"), closes + 5 * HOUR),
        (Event("rate", FIRST, 1, "a+2001", rating=3), closes + HOUR),
        (answer(1, 1, ("a+2001",)), closes + HOUR),
        (watch(1, 3, "a+2001"), closes + 30 * HOUR),
        (answer(26, 1, ("a+2001",)), closes),
    ]
    for first, (event, time_ms) in enumerate(random.Random(3).sample(lines, len(lines))):
        CollectedStream(streaming, SHORT).take(records_of([event], first, times=[time_ms]))
    report, day_after = archived_report(streaming, SHORT), archived_report(streaming, SHORT, NUMBER + 1)
    assert (report.total.answers.requests, report.total.hits, report.left_out.by_reason) == (1, 1, {})
    assert day_after.left_out.by_reason == {"late_rate": 1, "late_recommend": 1, "late_watch": 1}
    assert day_after.total.answers.requests == 1
    assert archived_report(streaming, SHORT, NUMBER + 2).left_out.by_reason == {}


def test_a_damaged_line_of_a_jump_counts_when_its_day_is_made_again(tmp_path: Path) -> None:
    """It was ahead of the stream's clock when it came; the collector archives it once others confirm the jump."""
    events = [answer(24 * (user > 8), user, ("a+2001",)) for user in range(17)]
    records = records_of(events, times=[event.time + event.user for event in events])
    records.values[9] = b"2022-03-18Tnone" + records.values[9][records.values[9].index(b",") :]
    reports = []
    for size in (1, 17):
        streaming = StreamSettings(var=tmp_path / str(size), clock_lines=3, clock_users=2)
        collector = Collector(streaming, SHORT, BatchSettings(api="http://127.0.0.1:1"))
        collector.resume()
        for rows in (slice(first, first + size) for first in range(0, 17, size)):
            poll = FetchedRecords(0, records.values[rows], records.offsets[rows], records.times[rows])
            asyncio.run(collector.take([poll]))
            asyncio.run(collector.flush())
        reports.append(archived_report(streaming, SHORT, NUMBER + 1))
    assert reports[0] == reports[1]
    assert (reports[0].total.answers.requests, reports[0].left_out.lines) == (8, 0)


def test_a_gap_is_of_every_day_that_it_touches(tmp_path: Path) -> None:
    streaming = one_line(tmp_path)
    collected = CollectedStream(streaming, SHORT)
    before, after = watch(1, 1, "a+2001"), watch(60, 1, "a+2001")
    collected.take(records_of([before]))
    collected.archive.commit(LedgerEntry(topic="movielog1", partition=0, first=1, last=7, lines=0, lost=7))
    collected.take(records_of([after], 8), records_of([watch(-80, 1, "a+2001")], partition=1))
    gaps = {day - NUMBER: ArchiveRows.of(streaming, SHORT).day_rows(day).gaps for day in range(NUMBER - 3, NUMBER + 5)}
    gap = [LineGap(7, before.time, after.time)]
    assert gaps == {-3: [], -2: [], -1: [], 0: gap, 1: gap, 2: gap, 3: [], 4: []}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_times_of_a_gap_do_not_depend_on_batches(tmp_path: Path, size: int) -> None:
    streaming = one_line(tmp_path)
    collected = CollectedStream(streaming, SHORT)
    before = records_of([watch(minute, minute, "a+2001") for minute in (4, 5, 2, 3)])
    after = records_of([watch(minute, minute, "a+2001") for minute in (61, 62, 60, 63)], 8)
    for records in (before, after):
        for first in range(0, 4, size):
            rows = slice(first, first + size)
            collected.take(FetchedRecords(0, records.values[rows], records.offsets[rows], records.times[rows]))
        if records is before:
            collected.archive.commit(LedgerEntry(topic="movielog1", partition=0, first=4, last=7, lines=0, lost=4))
    assert ArchiveRows.of(streaming, SHORT).day_rows(NUMBER).gaps == [
        LineGap(4, int(before.times[1]), int(after.times[0]))
    ]


@pytest.mark.parametrize("size", [1, 2, 6])
def test_a_refused_line_counts_once_in_however_many_batches_its_copies_are(tmp_path: Path, size: int) -> None:
    records = records_of([watch(1, user, "a+2001") for user in range(1, 7)])
    records.values[0] = records.values[2] = records.values[4] = b"nonsense"
    records.values[3] = b"2022-03"
    collected = CollectedStream(one_line(tmp_path), SHORT)
    for rows in (slice(first, first + size) for first in range(0, 6, size)):
        collected.take(FetchedRecords(0, records.values[rows], records.offsets[rows], records.times[rows]))
    assert archived_report(one_line(tmp_path), SHORT).left_out.by_reason == {"fields": 2}


@pytest.mark.parametrize("size", [1, 2])
def test_the_stream_is_known_from_its_first_event_on_however_refused_lines_are_batched(
    tmp_path: Path, size: int
) -> None:
    records = records_of([watch(1, 1, "a+2001"), watch(2, 1, "a+2001")])
    records.values[0] = b"nonsense"
    collected = CollectedStream(one_line(tmp_path), SHORT)
    for rows in (slice(first, first + size) for first in range(0, 2, size)):
        collected.take(FetchedRecords(0, records.values[rows], records.offsets[rows], records.times[rows]))
    assert ArchiveRows.of(one_line(tmp_path), SHORT).day_rows(NUMBER).known_from == records.times[1]


def test_refused_lines_are_those_of_the_ledger(tmp_path: Path) -> None:
    streaming = one_line(tmp_path)
    records = records_of([watch(1, 1, "a+2001"), watch(1, 2, "a+2001")])
    records.values[1] = b"nonsense"
    CollectedStream(streaming, SHORT).take(records)
    assert archived_report(streaming, SHORT).left_out.by_reason == {"fields": 1}
    assert ArchiveRows.of(streaming, SHORT).known_days() == [NUMBER]
    assert np.array_equal(ArchiveRows.of(streaming, SHORT).day_rows(NUMBER).sessions.start, [FIRST + HOUR + 60_000])


def test_rows_wait_for_records_that_the_collector_is_about_to_archive(tmp_path: Path) -> None:
    """They were set aside, and the clock has come near to them: the next thing that the collector does."""
    streaming = StreamSettings(var=tmp_path, clock_lines=3, clock_users=2, clock_ahead_minutes=60)
    collected, ahead = CollectedStream(streaming, SHORT), answer(9, 50, ("a+2001",))
    collected.take(records_of([watch(1, user, "a+2001") for user in range(1, 9)]), records_of([ahead], 8))
    *_, clock = (entry.clock for entry in collected.archive.entries())
    assert clock is not None
    assert clock.ahead_from == ahead.time
    assert not ArchiveRows.of(streaming, SHORT).is_waiting()
    collected.take(records_of([watch(9, user, "a+2001") for user in range(1, 9)], 9))
    assert ArchiveRows.of(streaming, SHORT).is_waiting()
    assert not ArchiveRows.of(one_line(tmp_path / "empty"), SHORT).is_waiting()
