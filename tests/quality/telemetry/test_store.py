"""The telemetry store and ingest: one transaction a batch, duplicates, late lines, pruning, flat memory."""

import os
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.errors import StoreError
from quality.metrics.watch_sessions import TimeSpans, merge_spans, session_key, split_key
from quality.settings import QualitySettings
from quality.telemetry.batch import TelemetryBatch, batch_of
from quality.telemetry.consumer import Telemetry
from quality.telemetry.day_rows import LineGap
from quality.telemetry.ingest import Ingest
from quality.telemetry.store import Store, pack_lists, unpack_lists
from stream import kafka
from stream.event import Event
from stream.grammar import render
from stream.zone import day_name, zone_named
from tests.quality.telemetry.known_day import one_line

HOUR = 3_600_000
NOON = 1_650_000_000_000 // HOUR * HOUR
STREAM = one_line(Path("none"))
ZONE = zone_named(STREAM.timezone)
SETTINGS = QualitySettings(session_gap_hours=1, grace_minutes=10)
FOREVER = 2**62


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "telemetry.db")
    yield opened
    opened.close()


def ingest(store: Store) -> Ingest:
    return Ingest(store, STREAM, SETTINGS)


def watch(minute: int, user: int = 7, movie: str = "aliens+1986") -> Event:
    return Event("watch", NOON + minute * 60_000, user, movie, minute=0)


def answer(minute: int, user: int = 7, movies: tuple[str, ...] = ("aliens+1986",), latency_ms: int = 5) -> Event:
    time = NOON + minute * 60_000
    return Event("recommend", time, user, host="us:8082", status=200, movies=movies, latency_ms=latency_ms)


def spans(store: Store) -> list[tuple[int, int]]:
    """Sessions as minutes after noon."""
    sessions = store.sessions(-1, FOREVER)
    times = zip(sessions.start, sessions.last, strict=True)
    return [((start - NOON) // 60_000, (last - NOON) // 60_000) for start, last in times]


def test_minutes_become_sessions_across_batches(store: Store, batch_of: Callable[..., TelemetryBatch]) -> None:
    taker = ingest(store)
    taker.take(batch_of([watch(0), watch(1)]))
    assert spans(store) == [(0, 1)]
    taker.take(batch_of([watch(30, user=8, movie="zardoz+1974"), answer(30)], 2))
    taker.take(batch_of([watch(61), watch(122)], 4))  # a gap of 60 minutes is within, one of 61 is not
    assert spans(store) == [(0, 61), (30, 30), (122, 122)]


def test_a_line_that_comes_late_joins_two_sessions(store: Store, batch_of: Callable[..., TelemetryBatch]) -> None:
    taker = ingest(store)
    taker.take(batch_of([watch(0), watch(100)]))
    assert spans(store) == [(0, 0), (100, 100)]
    taker.take(batch_of([watch(50)], 2))
    assert spans(store) == [(0, 100)]


def test_a_session_that_is_no_longer_held_is_found_again(store: Store, batch_of: Callable[..., TelemetryBatch]) -> None:
    taker = ingest(store)
    taker.take(batch_of([watch(0), watch(300, user=8)]))
    taker.take(batch_of([watch(301, user=8)], 2))
    assert (taker.open_since - NOON) // 60_000 == 301 - 70  # watermark, less gap and grace
    taker.take(batch_of([watch(30), watch(-10)], 3))
    assert spans(store) == [(-10, 30), (300, 301)]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 2**32 - 1), st.integers(0, 2**31 - 1), st.integers(0, 40)), max_size=30))
def test_sessions_are_those_of_the_sorted_minutes(minutes: list[tuple[int, int, int]]) -> None:
    minutes = [(user % 2 + 2**32 - 2, movie % 2 + 2**31 - 2, time) for user, movie, time in minutes]
    expected: dict[tuple[int, int], list[list[int]]] = {}
    for user, movie, time in sorted(minutes):
        runs = expected.setdefault((user, movie), [])
        if runs and time - runs[-1][-1] <= 5:
            runs[-1].append(time)
        else:
            runs.append([time])
    user_, movie_, times = np.array(minutes, np.int64).reshape(-1, 3).T
    got, rows = merge_spans(TimeSpans(session_key(user_, movie_), times, times), 5)
    named = zip(*(column.tolist() for column in (*split_key(got.key), got.start, got.last)), strict=True)
    assert list(named) == [(*key, run[0], run[-1]) for key, runs in expected.items() for run in runs]
    assert (got.key[rows] == session_key(user_, movie_)).all()
    assert ((got.start[rows] <= times) & (times <= got.last[rows])).all()


def test_redelivery_counts_once_and_another_answer_at_the_same_time_counts(
    store: Store, batch_of: Callable[..., TelemetryBatch]
) -> None:
    taker = ingest(store)
    taker.take(batch_of([answer(0), answer(0), answer(0, latency_ms=6)]))
    taker.take(batch_of([answer(0), answer(0, user=8)], 3))
    got = store.answers(NOON, NOON + 1)
    assert list(zip(got.user.tolist(), got.latency_ms.tolist(), strict=True)).count((7, 5)) == 1
    assert len(got.time) == 3


def test_lists_come_back_as_they_were_shown(store: Store, batch_of: Callable[..., TelemetryBatch]) -> None:
    failed = Event("recommend", NOON, 9, host="us:8082", status=0, latency_ms=800, error="Request timeout")
    full = tuple(f"film+{2000 + place}" for place in range(20))
    ingest(store).take(batch_of([answer(1, movies=full), failed, answer(2, movies=("b+2001", "a+2000"))]))
    got = store.answers(NOON, FOREVER)
    names = {number: movie for movie, number in store.movies().items()}
    shown = [[names[number] for number in row if number >= 0] for row in got.movies.tolist()]
    assert shown == [[], list(full), ["b+2001", "a+2000"]]
    assert got.status.tolist() == [0, 200, 200]
    lists = np.arange(40, dtype=np.int32).reshape(2, 20)
    assert (unpack_lists(pack_lists(lists)) == lists).all()


def test_a_batch_is_taken_whole_or_not_at_all(
    store: Store, batch_of: Callable[..., TelemetryBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(store).take(batch_of([watch(0)]))
    with monkeypatch.context() as broken:
        broken.setattr(Ingest, "_take_positions", lambda *_: 1 / 0)  # the last step of a batch
        with pytest.raises(ZeroDivisionError):
            ingest(store).take(batch_of([watch(1), answer(2)], 1))
    assert spans(store) == [(0, 0)]
    assert not len(store.answers(0, FOREVER).time)
    assert store.positions(STREAM.topic) == {0: 1}
    assert store.movies() == {"aliens+1986": 1}


def test_the_watermark_is_that_of_the_slowest_partition(store: Store, batch_of: Callable[..., TelemetryBatch]) -> None:
    taker = ingest(store)
    assert ingest(store).watermark is None
    taker.take(batch_of([watch(5), watch(3)]))
    assert taker.watermark == NOON + 5 * 60_000
    taker.take(batch_of([watch(2)], partition=1))
    assert taker.watermark == ingest(store).watermark == NOON + 2 * 60_000
    assert store.positions(STREAM.topic) == {0: 2, 1: 1}
    assert store.reached(STREAM.topic) == NOON + 5 * 60_000
    assert store.reached("another") is None
    taker.idle = {1}
    assert taker.watermark == NOON + 5 * 60_000
    taker.idle = {0, 1}
    assert taker.watermark == NOON + 5 * 60_000


def test_refused_lines_and_lost_offsets_are_counted_by_day(store: Store) -> None:
    lines = [render(watch(0), ZONE), b"", b"x", render(watch(1), ZONE)]
    times = np.array([NOON, NOON, NOON + 24 * HOUR, NOON + 24 * HOUR])
    taker = ingest(store)
    taker.take(batch_of([kafka.FetchedRecords(0, lines, np.arange(4), times)], {0: 4}, ZONE))
    taker.take(batch_of([kafka.RetentionGap(0, 4, 13)], {0: 14}, ZONE))
    today = ZONE.day_number(NOON)
    assert store.left_out(today) == {"empty": 1}
    assert store.left_out(today + 1) == {"fields": 1}
    assert store.gaps(0, FOREVER) == [LineGap(10, NOON + 24 * HOUR, None)]
    after = [render(watch(25 * 60), ZONE)]
    taker.take(batch_of([kafka.FetchedRecords(0, after, np.array([14]), times[3:] + HOUR)], {0: 15}, ZONE))
    times_of_the_gap = NOON + 24 * HOUR, NOON + 25 * HOUR
    assert store.gaps(0, FOREVER) == store.gaps(NOON, times_of_the_gap[0] + 1) == [LineGap(10, *times_of_the_gap)]
    assert store.gaps(0, times_of_the_gap[0]) == store.gaps(times_of_the_gap[1] + 1, FOREVER) == []
    assert store.positions(STREAM.topic) == {0: 15}


@pytest.mark.parametrize("size", [1, 2])
def test_a_gap_ends_at_the_first_event_after_it_whatever_the_batches(store: Store, size: int) -> None:
    taker = ingest(store)
    taker.take(batch_of([kafka.RetentionGap(0, 0, 9)], {0: 10}, ZONE))
    lines, times = [b"x", render(watch(9), ZONE), render(watch(8), ZONE)], np.array([7, 9, 8]) * 60_000 + NOON
    for first in range(0, 3, size):
        rows, offsets = slice(first, first + size), np.arange(10, 13)
        records = kafka.FetchedRecords(0, lines[rows], offsets[rows], times[rows])
        taker.take(batch_of([records], {0: int(offsets[rows][-1]) + 1}, ZONE))
    assert store.gaps(0, FOREVER) == [LineGap(10, None, int(times[1]))]


def test_a_topic_made_anew_is_read_from_its_beginning_and_rows_stay(store: Store) -> None:
    fetched = kafka.FetchedRecords(0, [render(watch(0), ZONE)], np.array([7]), np.array([NOON]))
    ingest(store).take(batch_of([fetched], {0: 8}, ZONE))
    store.follow_topic(STREAM.topic, 0)
    assert (store.positions(STREAM.topic), store.marks(STREAM.topic)) == ({0: 8}, {0: fetched.last_mark})
    for _ in range(2):  # the second time it is the topic that is read
        store.follow_topic(STREAM.topic, 1)
        assert spans(store) == [(0, 0)]
    assert (store.positions(STREAM.topic), store.marks(STREAM.topic)) == ({}, {})
    again = kafka.FetchedRecords(0, [render(watch(1), ZONE)], np.array([0]), np.array([NOON]))
    ingest(store).take(batch_of([again], {0: 1}, ZONE))
    store.follow_topic(STREAM.topic, 1)
    assert store.positions(STREAM.topic) == {0: 1}


def test_a_store_of_another_layout_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="layout 99") as other_layout:
        Store(path)
    with pytest.raises(StoreError, match="no store"):
        Store(tmp_path / "other.db", create=False)
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at " * 100)
    with pytest.raises(StoreError, match="cannot open") as no_database:
        Store(tmp_path / "text.db")
    # closed by hand: the errors are still held, and with them whatever the store had opened
    assert other_layout.tb
    assert no_database.tb
    assert not [file for file in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if str(tmp_path) in file]


def a_day(day: int, rng: np.random.Generator) -> list[Event]:
    """400 sessions, 300 answers, and 50 movie ids that a stray character made, of one day."""
    begin, _ = ZONE.bounds(day_name(day))
    minutes = np.sort(rng.integers(0, 24 * 60, size=400)).tolist()
    events = [Event("watch", begin + m * 60_000, m % 50 + 1, f"film+{2000 + m % 30}", minute=0) for m in minutes]
    events += [
        Event("recommend", begin + m * 60_000 + 1, m % 50 + 1, host="us:8082", status=200, latency_ms=3,
              movies=(f"film+{2000 + m % 30}", f"film+{2001 + m % 30}"))
        for m in minutes[:300]
    ]  # fmt: skip
    events += [Event("watch", begin + m * 60_000, 99, f"film{day}x{m}+2000", minute=0) for m in range(50)]
    return sorted(events, key=lambda event: event.time)


def test_days_become_final_rows_are_pruned_and_the_store_stays_small(
    tmp_path: Path, store: Store, batch_of: Callable[..., TelemetryBatch]
) -> None:
    telemetry = Telemetry(store, one_line(tmp_path), QualitySettings())
    rng, first, offset = np.random.default_rng(1), ZONE.day_number(NOON), 0
    sizes = []
    tracemalloc.start()
    for day in range(first, first + 12):
        events = a_day(day, rng)
        telemetry.ingest.take(batch_of(events, offset))
        telemetry.report()
        offset += len(events)
        sizes.append((len(store.answers(0, FOREVER).time), len(spans(store)), len(store.movies())))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert store.days(final=True) == list(range(first, first + 10))
    assert [path.stem for path in sorted((tmp_path / "reports").glob("*.json"))] == [
        day_name(day) for day in range(first, first + 12)
    ]
    answers, sessions, movies = (max(column) for column in zip(*sizes, strict=True))
    assert answers <= 3 * 300
    assert sessions <= 3 * 450
    assert movies <= 31 + 3 * 50
    assert held < 20_000_000


def test_an_answer_to_a_final_day_is_counted_as_late_and_changes_nothing(
    tmp_path: Path, store: Store, batch_of: Callable[..., TelemetryBatch]
) -> None:
    telemetry = Telemetry(store, one_line(tmp_path), QualitySettings(late_hours=100))
    telemetry.ingest.take(batch_of([answer(0), watch(72 * 60)]))
    telemetry.report()
    today = ZONE.day_number(NOON)
    assert store.days(final=True) == [today]
    path = tmp_path / "reports" / f"{day_name(today)}.json"
    before = path.read_bytes()
    telemetry.ingest.take(batch_of([answer(1)], 2, times=[NOON + 72 * HOUR]))
    telemetry.report(now=True)
    assert path.read_bytes() == before
    assert store.left_out(today + 3) == {"late_recommend": 1}
    assert not len(store.answers(0, FOREVER).time)
