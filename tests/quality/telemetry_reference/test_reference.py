"""The reference against worlds whose figures are computed by hand."""

from datetime import UTC, datetime

import pytest

from stream.event import Event
from stream.zone import DAY_MS, HOUR_MS
from tests.quality.telemetry_reference.reference import (
    Figures,
    Line,
    Rules,
    figures_by_day,
    hit_rate,
    mean_reciprocal_rank,
)

DAY = "2022-02-09"
T = int(datetime(2022, 2, 9, 12, tzinfo=UTC).timestamp() * 1000)
WINDOW, GRACE, GAP = 24 * HOUR_MS, HOUR_MS, 6 * HOUR_MS
RULES = Rules("UTC", WINDOW, GRACE, GAP)
CLOSING = T + DAY_MS // 2 + WINDOW + GRACE


def watched(time: int, movie: str = "a+2000", user: int = 1, kafka_time: int | None = None) -> Line:
    return Line(Event("watch", time, user, movie, 0), time if kafka_time is None else kafka_time)


def answered(
    time: int, *movies: str, user: int = 1, status: int = 200, host: str = "a:1", kafka_time: int | None = None
) -> Line:
    error = None if status == 200 else "timed out"
    event = Event("recommend", time, user, host=host, status=status, movies=movies, latency_ms=5, error=error)
    return Line(event, time if kafka_time is None else kafka_time)


def figures(*lines: Line, day: str = DAY, rules: Rules = RULES) -> Figures:
    return figures_by_day(lines, rules)[day]


@pytest.mark.parametrize(
    ("start", "hits"), [(T - 1, 0), (T, 0), (T + 1, 1), (T + WINDOW, 1), (T + WINDOW + 1, 0)], ids=str
)
def test_a_hit_starts_after_the_answer_and_at_most_a_window_later(start: int, hits: int) -> None:
    assert figures(answered(T, "a+2000"), watched(start)).hits == hits


@pytest.mark.parametrize(("pause", "hits"), [(GAP - 1, 0), (GAP, 0), (GAP + 1, 1)], ids=str)
def test_a_minute_more_than_the_gap_after_the_last_one_is_a_start(pause: int, hits: int) -> None:
    assert figures(watched(T - 10), answered(T, "a+2000"), watched(T - 10 + pause)).hits == hits


def test_minutes_of_other_users_and_movies_are_other_sessions() -> None:
    others = [watched(T - 10, user=2), watched(T - 10, "b+2000")]
    assert figures(*others, answered(T, "a+2000"), watched(T + 10)).hits == 1


def test_the_place_of_the_movie_is_the_rank() -> None:
    shown = figures(answered(T, "c+2000", "b+2000", "a+2000"), watched(T + 10))
    assert shown.hits_by_rank == {3: 1}
    assert mean_reciprocal_rank(shown.hits_by_rank, shown.closed) == pytest.approx(1 / 3)


def test_a_start_is_credited_to_the_latest_answer_only_whether_that_lists_the_movie_or_not() -> None:
    assert figures(answered(T, "a+2000"), answered(T + 5, "b+2000"), watched(T + 10)).hits == 0
    both = figures(answered(T, "a+2000"), answered(T + 5, "b+2000", "a+2000"), watched(T + 10))
    assert (both.closed, both.hits_by_rank, hit_rate(both.hits_by_rank, both.closed)) == (2, {2: 1}, 0.5)


def test_an_answer_at_the_time_of_the_start_is_not_before_it() -> None:
    assert figures(answered(T, "a+2000"), answered(T + 10, "b+2000"), watched(T + 10)).hits == 1


def test_a_failed_request_is_no_answer() -> None:
    shown = figures(answered(T, "a+2000"), answered(T + 5, status=0), answered(T + 6, status=400), watched(T + 10))
    assert (shown.requests, shown.closed, shown.hits) == ({200: 1, 0: 1, 400: 1}, 1, 1)


def test_an_answer_is_a_hit_once_by_its_first_start() -> None:
    shown = figures(answered(T, "a+2000", "b+2000"), watched(T + 10, "b+2000"), watched(T + 11, "a+2000"))
    assert shown.hits_by_rank == {2: 1}


def test_of_starts_at_the_same_time_the_better_place_counts() -> None:
    shown = figures(answered(T, "a+2000", "b+2000"), watched(T + 10, "b+2000"), watched(T + 10, "a+2000"))
    assert shown.hits_by_rank == {1: 1}


def test_of_answers_at_the_same_time_any_one_may_be_the_latest() -> None:
    shown = figures(answered(T, "b+2000", "a+2000"), answered(T, "c+2000"), answered(T, "d+2000"), watched(T + 10))
    assert sorted(shown.possible_hits, key=len) == [{}, {2: 1}]
    assert shown.closed == 3


def test_copies_count_once() -> None:
    lines = [answered(T, "a+2000"), answered(T, "b+2000"), watched(T + 10), watched(T - 10)]
    assert figures(*lines, *lines, watched(T + 10, kafka_time=T + 99)) == figures(*lines)
    assert figures(*lines).requests == {200: 2}


@pytest.mark.parametrize(("kafka_time", "requests"), [(CLOSING - 1, 1), (CLOSING, 0)], ids=["in time", "late"])
def test_a_request_counts_if_it_came_before_its_day_closed(kafka_time: int, requests: int) -> None:
    lines = [answered(T, kafka_time=kafka_time), watched(T + 1)]
    assert sum(figures(*lines).requests.values()) == requests
    assert figures(*lines, day="2022-02-11").late == ({} if requests else {"recommend": 1})


@pytest.mark.parametrize(("kafka_time", "hits"), [(CLOSING - 1, 1), (CLOSING, 0)], ids=["in time", "after closing"])
def test_a_start_counts_if_it_came_before_the_day_of_the_answer_closed(kafka_time: int, hits: int) -> None:
    start = watched(T + WINDOW, kafka_time=kafka_time)  # of the next day, so it is not late
    assert figures(answered(T, "a+2000"), start).hits == hits
    assert figures(answered(T, "a+2000"), start, day="2022-02-11").late == {}


def test_an_earlier_minute_that_came_after_the_closing_does_not_move_the_start() -> None:
    earlier = watched(T - 10, kafka_time=CLOSING)
    assert figures(earlier, answered(T, "a+2000"), watched(T + 10)).hits == 1


def test_a_late_line_of_one_day_counts_for_a_later_day_that_is_open() -> None:
    asked = T + DAY_MS // 2 + 5 * HOUR_MS  # at five in the morning of the next day
    lines = [answered(asked, "a+2000"), watched(asked + 1)]
    late = watched(asked + 1 - GAP, kafka_time=CLOSING)
    assert figures(*lines, day="2022-02-10").hits == 1
    assert figures(*lines, late, day="2022-02-10").hits == 0
    assert figures(*lines, late, day="2022-02-11").late == {"watch": 1}


def test_a_copy_that_came_in_time_makes_the_line_one_that_came_in_time() -> None:
    late, copy = answered(T, "a+2000", kafka_time=CLOSING), answered(T, "a+2000", kafka_time=CLOSING - 1)
    assert figures(late, copy).requests == {200: 1}
    assert figures(late, copy, late, day="2022-02-11").late == {}


def test_late_lines_count_by_kind_on_the_day_on_which_they_came() -> None:
    lines = [watched(T + number, kafka_time=CLOSING) for number in range(3)]
    lines.append(Line(Event("rate", T, 1, "a+2000", rating=3), CLOSING + DAY_MS))
    days = figures_by_day([*lines, *lines], RULES)
    assert {day: shown.late for day, shown in days.items()} == {
        DAY: {},
        "2022-02-11": {"watch": 3},
        "2022-02-12": {"rate": 1},
    }


@pytest.mark.parametrize(
    ("day", "hours"), [("2022-03-12", 24), ("2022-03-13", 23), ("2022-11-05", 24), ("2022-11-06", 25)]
)
def test_days_end_at_the_midnight_of_the_zone(day: str, hours: int) -> None:
    rules = Rules("America/New_York", 0, 0, GAP)
    end = rules.closing(day)
    assert rules.day_of(end - 1) == rules.day_of(end - hours * HOUR_MS) == day
    assert rules.day_of(end) > day > rules.day_of(end - hours * HOUR_MS - 1)


def test_a_day_without_answers_has_no_rates() -> None:
    shown = figures(watched(T))
    assert (shown.requests, shown.closed, shown.hits_by_rank) == ({}, 0, {})
    assert (hit_rate({}, 0), mean_reciprocal_rank({}, 0)) == (None, None)
