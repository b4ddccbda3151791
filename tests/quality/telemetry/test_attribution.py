"""Attribution against its definition, written down naively: any lines, any order, any batch borders and restarts."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.metrics.watch_sessions import TimeSpans, session_key
from quality.settings import QualitySettings
from quality.telemetry.attribution import attribute_starts, hit_ranks, places_in_lists
from quality.telemetry.batch import TelemetryBatch
from quality.telemetry.day_report import DayReport
from quality.telemetry.day_rows import AnswerRows, answer_digests
from quality.telemetry.ingest import Ingest
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream.event import Event
from stream.line_columns import table_of
from stream.zone import day_number, zone_named
from tests.quality.telemetry.known_day import one_line

HOUR = 3_600_000
DAY = "2022-11-06"  # 25 hours long in New York
STREAM = one_line(Path("none"))
SETTINGS = QualitySettings(window_hours=3, session_gap_hours=1, grace_minutes=30, report_every_minutes=60)
FIRST, END = zone_named(STREAM.timezone).bounds(DAY)
MOVIES = ("aliens+1986", "boxing+helena+1993", "das+boot+1981", "endeavour+")
POPULAR = {"early": ("das+boot+1981", "aliens+1986"), "late": ("endeavour+",)}
"""Popular list of the release in force before noon, and of the one after; a third release is gone from the disk."""
SEEN = {"early": {1: ("das+boot+1981",)}}
"""What the users that a release knows had seen; the later one is of an older version, which does not say."""
CHANGES = [("early", FIRST + 4 * HOUR), ("late", FIRST + 12 * HOUR), ("gone", FIRST + 20 * HOUR)]


@dataclass
class Expected:
    """What the definitions give for the day."""

    rank: dict[Event, int]
    baseline: dict[Event, int | None]


def last_touch(answers: list[Event], user: int, start: int) -> Event | None:
    before = [answer for answer in answers if answer.user == user and answer.time < start]
    return before[-1] if before else None


def session_starts(minutes: set[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
    return [
        (user, movie, time)
        for user, movie, time in minutes
        if not any((user, movie) == (u, m) and time - SETTINGS.gap_ms <= t < time for u, m, t in minutes)
    ]


def popular_at(time: int, user: int) -> list[str] | None:
    in_force = [release for release, since in CHANGES if since <= time]
    if not in_force or in_force[-1] not in POPULAR:
        return None
    seen = SEEN.get(in_force[-1], {}).get(user, ())
    return [movie for movie in POPULAR[in_force[-1]] if movie not in seen]


def by_definition(events: list[Event]) -> Expected:
    different = {event for event in events if event.kind == "recommend" and event.status == 200}
    answers = sorted(different, key=lambda answer: (answer.time, answer_digests(table_of("recommend", [answer]))))
    minutes = {(e.user, e.movie, e.time) for e in events if e.kind == "watch" and e.movie}
    hits: dict[Event, list[tuple[int, int]]] = {answer: [] for answer in answers}
    popular: dict[Event, list[tuple[int, int]]] = {answer: [] for answer in answers}
    for user, movie, start in session_starts(minutes):
        answer = last_touch(answers, user, start)
        if answer is None or start > answer.time + SETTINGS.window_ms:
            continue
        if movie in answer.movies:
            hits[answer].append((start, answer.movies.index(movie) + 1))
        if movie in (other := popular_at(answer.time, user) or ()):
            popular[answer].append((start, other.index(movie) + 1))
    ofday = [answer for answer in answers if FIRST <= answer.time < END]
    return Expected(
        {answer: min(hits[answer])[1] if hits[answer] else 0 for answer in ofday},
        {
            answer: None
            if popular_at(answer.time, answer.user) is None
            else (min(popular[answer])[1] if popular[answer] else 0)
            for answer in ofday
        },
    )


def check(report: DayReport, expected: Expected, watermark: int) -> None:
    closed = [answer for answer in expected.rank if answer.time + SETTINGS.window_ms <= watermark]
    ranks = [expected.rank[answer] for answer in closed]
    known = [answer for answer in closed if expected.baseline[answer] is not None]
    hits, popular_hits = sum(rank > 0 for rank in ranks), sum(bool(expected.baseline[answer]) for answer in known)
    total = report.total
    assert (total.answers.closed, total.answers.provisional) == (len(closed), len(expected.rank) - len(closed))
    assert total.hits == hits
    assert total.hits_by_rank == [ranks.count(rank) for rank in range(1, 21)]
    assert (total.baseline.answers, total.baseline.hits) == (len(known), popular_hits)
    if known:
        shown = sum(expected.rank[answer] > 0 for answer in known)
        assert total.uplift.mean == pytest.approx((shown - popular_hits) / len(known))


half_hours = st.one_of(st.integers(-4, 16), st.integers(34, 62)).map(lambda half: FIRST + half * HOUR // 2)
"""Around both ends of the day, close enough for ties, gaps and windows to meet exactly."""
users = st.integers(1, 2)
watches = st.builds(Event, st.just("watch"), half_hours, users, st.sampled_from(MOVIES), st.integers(0, 3))
shown = st.lists(st.sampled_from(MOVIES), min_size=1, max_size=4, unique=True).map(tuple)
answered = st.builds(
    Event, st.just("recommend"), half_hours, users, host=st.just("us:8082"), status=st.just(200), movies=shown,
    latency_ms=st.integers(1, 2),
)  # fmt: skip
failed = st.builds(
    Event, st.just("recommend"), half_hours, users, host=st.just("us:8082"), status=st.just(0),
    latency_ms=st.just(800), error=st.just("Request timeout"),
)  # fmt: skip


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[list[Event]], list[bool]]:
    """Events with duplicates, shuffled, cut into batches; and after which batches the process starts anew."""
    events = draw(st.lists(st.one_of(watches, answered, failed), max_size=24))
    events += draw(st.lists(st.sampled_from(events), max_size=3)) if events else []
    events = draw(st.permutations(events))
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=4)))
    batches = [events[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    return batches, [draw(st.booleans()) for _ in batches]


def ingest(store: Store) -> Ingest:
    return Ingest(store, STREAM, SETTINGS)


@settings(deadline=None, max_examples=150)
@given(arrivals(), st.integers(0, 31).map(lambda hours: FIRST + hours * HOUR))
def test_any_arrival_gives_what_the_definitions_give(
    batch_of: Callable[..., TelemetryBatch],
    publish: Callable[..., None],
    arrived: tuple[list[list[Event]], list[bool]],
    watermark: int,
) -> None:
    batches, restarts = arrived
    with tempfile.TemporaryDirectory() as folder:
        var = Path(folder)
        for release, since in CHANGES:
            publish(var / "releases", release, since, POPULAR.get(release), SEEN.get(release))
        store = Store(var / "telemetry.db")
        offset, taker = 0, ingest(store)
        for events, restart in zip(batches, restarts, strict=True):
            taker.take(batch_of(events, offset))
            offset += len(events)
            if restart:
                store.close()
                store = Store(var / "telemetry.db")
                taker = ingest(store)
        reports = Reports(one_line(var), SETTINGS)
        report = reports.build(day_number(DAY), store.day_rows(day_number(DAY), reports.days), watermark)
        store.close()
    check(report, by_definition([event for events in batches for event in events]), watermark)


def answers_at(*times: int, lists: list[list[int]]) -> AnswerRows:
    movies = np.full((len(times), 20), -1, np.int32)
    for row, listed in zip(movies, lists, strict=True):
        row[: len(listed)] = listed
    same = np.ones(len(times), np.int64)
    return AnswerRows(np.array(times), same, same * 200, same, movies)


def hits(answers: AnswerRows, *starts: tuple[int, int], window_ms: int = 100) -> list[int]:
    """Ranks of the answers' hits, all of user 1; starts are (time, movie)."""
    times, movies = np.array(starts, np.int64).reshape(-1, 2).T
    spans = TimeSpans(session_key(np.ones(len(times)), movies), times, times)
    attribution = attribute_starts(answers, spans, window_ms)
    places = places_in_lists(answers.movies, attribution.answer, attribution.movie)
    return hit_ranks(attribution, places, len(answers.time)).tolist()


def test_the_window_is_open_at_its_beginning_and_closed_at_its_end() -> None:
    answer = answers_at(1000, lists=[[5, 6, 7]])
    assert hits(answer, (1000, 6)) == [0]
    assert hits(answer, (1001, 6)) == [2]
    assert hits(answer, (1100, 6)) == [2]
    assert hits(answer, (1101, 6)) == [0]
    assert hits(answer) == [0]


def test_a_start_belongs_to_the_latest_answer_even_if_only_an_earlier_one_listed_it() -> None:
    both = answers_at(1000, 1010, lists=[[5], [6]])
    assert hits(both, (1020, 5)) == [0, 0]
    assert hits(both, (1005, 5), (1020, 6)) == [1, 1]
    # an answer at the very time of the start is not before it
    assert hits(both, (1010, 5)) == [1, 0]


def test_an_answer_is_hit_once_at_the_rank_of_what_started_first() -> None:
    answer = answers_at(1000, lists=[[5, 6, 7]])
    assert hits(answer, (1030, 5), (1020, 7), (1040, 6)) == [3]
    assert hits(answer, (1020, 7), (1020, 6)) == [2]


def test_another_user_of_the_same_time_takes_nothing() -> None:
    answer = answers_at(1000, lists=[[5]])
    spans = TimeSpans(session_key(np.array([2]), np.array([5])), np.array([1001]), np.array([1001]))
    assert len(attribute_starts(answer, spans, 100).answer) == 0
