"""Releases of one day are compared at equal hours, never across them."""

from pathlib import Path

import pytest

from quality.metrics.intervals import Interval
from quality.telemetry.equal_hours import compare_releases
from quality.telemetry.group_figures import figures_by
from stream.zone import HOUR_MS
from tests.quality.telemetry.drawn_days import (
    END,
    FIRST,
    FIRST_RELEASE,
    MINUTE,
    SECOND_RELEASE,
    SETTINGS,
    Answer,
    DrawnDay,
    Session,
    judged,
    write_release,
)

LATER = END + SETTINGS.window_ms


def day_of(*hours: tuple[int, int, int, int]) -> DrawnDay:
    """For each (hour, minute, answers, hits): answers with a movie that is in no popular list, the first are hits."""
    answers, sessions = [], []
    for hour, minute, count, hits in hours:
        for place in range(count):
            time, user = FIRST + hour * HOUR_MS + minute * MINUTE + place, 1000 * hour + 100 * minute + place
            answers.append(Answer(time, user, 200, 5, (7,)))
            if place < hits:
                sessions.append(Session(time + MINUTE, user, 7, time + MINUTE))
    return DrawnDay(answers, sessions, [], LATER)


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """`first` serves from 2:00 on, `second` from 13:30 on."""
    write_release(tmp_path, FIRST_RELEASE)
    write_release(tmp_path, SECOND_RELEASE)
    return tmp_path


def test_a_better_time_of_the_day_is_not_a_better_release(releases: Path) -> None:
    # by night more is chosen, by any list: the raw rates differ, in the hour of the swap nothing does
    day = judged(day_of((3, 0, 50, 10), (13, 0, 20, 10), (13, 40, 20, 10), (19, 0, 50, 40)), releases)
    raw = {group.name: group.hit_rate.mean for group in figures_by("release")(day)}
    assert raw == {"first": pytest.approx(20 / 70), "second": pytest.approx(50 / 70)}
    (pair,) = compare_releases(day)
    assert (pair.earlier, pair.later, pair.comparable, pair.hours) == ("first", "second", True, ["13:00"])
    assert (pair.earlier_answers, pair.later_answers) == (20, 20)
    assert (pair.earlier_hit_rate, pair.later_hit_rate) == (0.5, 0.5)
    assert pair.difference.mean == pytest.approx(0)
    assert pair.uplift_difference.mean == pytest.approx(0)


def test_a_better_release_is_seen_in_the_hour_of_the_swap(releases: Path) -> None:
    (pair,) = compare_releases(judged(day_of((13, 0, 80, 20), (13, 40, 80, 60)), releases))
    assert pair.difference.mean == pytest.approx(0.5)
    assert pair.difference.low is not None
    assert pair.difference.low > 0.3


def test_without_a_common_hour_nothing_is_compared(releases: Path) -> None:
    (pair,) = compare_releases(judged(day_of((3, 0, 50, 10), (19, 0, 50, 40)), releases))
    nothing = Interval(None, None, None)
    assert (pair.comparable, pair.hours, pair.earlier_hit_rate) == (False, [], None)
    assert (pair.difference, pair.uplift_difference) == (nothing, nothing)


def test_a_hit_of_the_popular_list_as_well_is_no_uplift(releases: Path) -> None:
    # movie 1 is popular in the first release only: its users would have been served by the popular list, too
    day = day_of((13, 0, 20, 10), (13, 40, 20, 10))
    popular = [Answer(each.time, each.user, 200, 5, (1,)) for each in day.answers]
    sessions = [Session(each.start, each.user, 1, each.last) for each in day.sessions]
    (pair,) = compare_releases(judged(DrawnDay(popular, sessions, [], LATER), releases))
    assert pair.difference.mean == pytest.approx(0)
    assert pair.uplift_difference.mean == pytest.approx(0.5)


def test_a_day_of_one_release_has_nothing_to_compare(releases: Path) -> None:
    assert compare_releases(judged(day_of((3, 0, 5, 1)), releases)) == []
    assert compare_releases(judged(DrawnDay([], [], [], LATER), releases)) == []
