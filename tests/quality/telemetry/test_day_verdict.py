"""The verdict: red beyond a limit, green within it, unknown for want of data."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from quality.settings import VerdictLimits
from quality.telemetry.day_rows import LineGap
from quality.telemetry.day_verdict import DayCheck, day_verdict
from quality.telemetry.judged_day import JudgedDay, judge_day
from stream.zone import HOUR_MS
from tests.quality.telemetry.drawn_days import (
    END,
    FIRST,
    FIRST_RELEASE,
    MINUTE,
    SETTINGS,
    ZONE,
    Answer,
    DrawnDay,
    Session,
    rows_of,
    write_release,
)

LIMITS = VerdictLimits(
    availability=0.9, personalised=0.5, coverage=0.4, left_out=0.1, late=0.05, least_answers=10
)  # fmt: skip
CLOSED = END + SETTINGS.window_ms


def answers(
    count: int, *, user: int = 1, status: int = 200, ms: int = 5, movies: Sequence[int] = (1, 2)
) -> list[Answer]:
    """Requests of one user after noon, a minute apart."""
    begin = FIRST + 12 * HOUR_MS + (user * 1000 + status) * 7
    shown = tuple(movies) if status == 200 else ()
    return [Answer(begin + place * MINUTE, user, status, ms, shown) for place in range(count)]


def started(asked: list[Answer], movie: int) -> list[Session]:
    return [Session(each.time + 1000, each.user, movie, each.time + 1000) for each in asked]


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """User 1 has a personal list; movies 1 and 5 are popular; the catalogue has five movies."""
    write_release(tmp_path, FIRST_RELEASE)
    return tmp_path


def judged(
    releases: Path,
    asked: list[Answer],
    sessions: Sequence[Session] = (),
    *,
    left_out: dict[str, int] | None = None,
    lines: int | None = 1000,
    gaps: Sequence[LineGap] = (),
    watermark: int = CLOSED,
) -> JudgedDay:
    settings = msgspec.structs.replace(SETTINGS, verdict=LIMITS)
    day = DrawnDay(asked, list(sessions), [], watermark, left_out or {}, lines, gaps)
    return judge_day(rows_of(day), releases, watermark, settings, ZONE, {})


def check(day: JudgedDay, name: str) -> DayCheck:
    (own,) = [each for each in day_verdict(day).checks if each.name == name]
    return own


def test_a_good_day_is_green(releases: Path) -> None:
    asked = answers(20)
    day = judged(releases, asked, started(asked[:10], 2), left_out={"fields": 3, "late_recommend": 1})
    verdict = day_verdict(day)
    assert {each.name: each.state for each in verdict.checks} == dict.fromkeys(
        ("availability", "latency_p99", "personalised", "uplift", "coverage", "left_out", "late", "lost"), "green"
    )
    assert verdict.state == "green"
    values = {each.name: (each.value, each.limit) for each in verdict.checks}
    assert values == {
        "availability": (1, 0.9), "latency_p99": (5, 600), "personalised": (1, 0.5), "uplift": (0.5, 0),
        "coverage": (0.4, 0.4), "left_out": (0.004, 0.1), "late": (0.001, 0.05), "lost": (0, 0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "name", "value", "why"),
    [
        (answers(20) + answers(3, status=0), "availability", 20 / 23, "3 of 23 requests got no list"),
        (answers(20) + answers(1, user=2, ms=601), "latency_p99", 601, "4.76 % of the requests took longer"),
        (answers(9) + answers(10, user=9), "personalised", 9 / 19, "Of 19 answers"),
        (answers(20, movies=(1,)), "coverage", 0.2, "1 different movies were shown, of a catalogue of 5"),
    ],
)
def test_answers_beyond_a_limit_are_red(releases: Path, asked: list[Answer], name: str, value: float, why: str) -> None:
    day = judged(releases, asked)
    red = check(day, name)
    assert red.state == "red"
    assert red.value == pytest.approx(value)
    assert why in red.why
    assert day_verdict(day).state == "red"


def test_a_hit_rate_below_the_popular_list_is_red_only_beyond_noise(releases: Path) -> None:
    asked = [answer for user in range(11, 41) for answer in answers(1, user=user)]  # they have seen no popular movie
    # movie 5 is popular, and was not shown
    clear = check(judged(releases, asked, started(asked[:15], 5)), "uplift")
    assert (clear.state, clear.value) == ("red", -0.5)
    assert "consider a rollback" in clear.why
    noise = check(judged(releases, asked, started(asked[:2], 5) + started(asked[2:3], 2)), "uplift")
    assert noise.state == "green"
    assert noise.value == pytest.approx(-1 / 30)


def test_lines_left_out_and_late_are_judged_by_their_share(releases: Path) -> None:
    day = judged(releases, answers(20), left_out={"fields": 60, "late_recommend": 50, "late_watch": 1}, lines=1000)
    assert [check(day, name).state for name in ("left_out", "late")] == ["red", "red"]
    assert check(day, "late").why == "51 of 1,000 lines came after the report of their day was final."
    unknown = judged(releases, answers(20), left_out={"fields": 60}, lines=None)
    assert (check(unknown, "left_out").state, check(unknown, "left_out").value) == ("unknown", None)


@pytest.mark.parametrize(
    ("after", "until", "when"),
    [
        (FIRST, FIRST + 90_000, "between 2026-02-10T05:00:00.000Z and 2026-02-10T05:01:30.000Z"),
        (FIRST, None, "after 2026-02-10T05:00:00.000Z"),
        (None, FIRST, "until 2026-02-10T05:00:00.000Z"),
        (None, None, "at an unknown time"),
    ],
)
def test_a_gap_is_red_and_named(releases: Path, after: int | None, until: int | None, when: str) -> None:
    lost = check(judged(releases, answers(20), gaps=[LineGap(1234, after, until), LineGap(3, None, None)]), "lost")
    assert (lost.state, lost.value, lost.limit) == ("red", 1237, 0)
    assert lost.why == f"1,234 lines lost {when}; 3 lines lost at an unknown time: what users did then is in no figure."


def test_a_provisional_day_is_judged_by_what_is_known(releases: Path) -> None:
    asked = answers(20)
    day = judged(releases, asked, started(asked, 2), watermark=FIRST + 13 * HOUR_MS)
    states = {each.name: each.state for each in day_verdict(day).checks}
    assert (states["availability"], states["personalised"], states["coverage"]) == ("green", "green", "green")
    assert (states["uplift"], day_verdict(day).state) == ("unknown", "unknown")


def test_too_little_is_unknown_and_never_green(releases: Path) -> None:
    few, none = day_verdict(judged(releases, answers(9))), day_verdict(judged(releases, [], lines=None))
    assert [each.name for each in few.checks if each.state == "unknown"] == [
        "availability", "latency_p99", "personalised", "uplift"
    ]  # fmt: skip
    assert "Only 9 requests are known; fewer than 10 are not judged." in few.checks[0].why
    assert [each.name for each in none.checks if each.state != "unknown"] == ["lost"]
    assert (few.state, none.state) == ("unknown", "unknown")
    # a hundred places could not show a catalogue of five, were there only four answers
    assert check(judged(releases, []), "coverage").state == "unknown"


def test_defaults_of_the_limits() -> None:
    limits = VerdictLimits()
    assert (limits.availability, limits.personalised, limits.coverage) == (0.99, 0.4, 0.02)
    assert (limits.left_out, limits.late, limits.least_answers) == (0.01, 0.001, 100)
