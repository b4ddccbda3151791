"""The verdict of a day: does it keep to the limits of `[quality.verdict]`? Each check is red, green or unknown.

A check of too little is unknown, never green: a provisional report judges what is known of its day. One that is red
says where to look.
"""

import datetime as dt
from typing import Annotated, Literal

import msgspec

from quality.telemetry import report_figures
from quality.telemetry.day_rows import LineGap, late_reason
from quality.telemetry.judged_day import JudgedDay
from stream.event import KINDS, LIST_LENGTH

State = Literal["red", "unknown", "green"]
Unit = Literal["share", "ms", "lines"]
_STATES: tuple[State, ...] = ("red", "unknown", "green")
"""The worst first."""
_LATE = {late_reason(kind) for kind in KINDS}


class DayCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One check of the verdict."""

    name: str
    unit: Unit
    """Of value and limit."""
    state: State
    value: float | None
    """Null if it is unknown."""
    limit: float
    why: Annotated[str, msgspec.Meta(min_length=1)]
    """One sentence."""


class DayVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the day was good, check by check."""

    state: State
    """The worst state of the checks: red before unknown before green."""
    checks: list[DayCheck]


def day_verdict(day: JudgedDay) -> DayVerdict:
    """Judge a day by `[quality.verdict]`."""
    checks = [check(day) for check in CHECKS]
    return DayVerdict(state=min((check.state for check in checks), key=_STATES.index), checks=checks)


def _judged(name: str, value: float, limit: float, is_good: bool, why: str, unit: Unit = "share") -> DayCheck:
    return DayCheck(name=name, unit=unit, state="green" if is_good else "red", value=value, limit=limit, why=why)


def _unknown(name: str, limit: float, why: str, unit: Unit = "share") -> DayCheck:
    return DayCheck(name=name, unit=unit, state="unknown", value=None, limit=limit, why=why)


def _too_few(name: str, limit: float, count: int, of: str, day: JudgedDay, unit: Unit = "share") -> DayCheck:
    least = day.settings.verdict.least_answers
    return _unknown(name, limit, f"Only {count:,} {of} are known; fewer than {least:,} are not judged.", unit)


def _availability(day: JudgedDay) -> DayCheck:
    limits, requests = day.settings.verdict, len(day.requests.user)
    value = report_figures.availability(day)
    if value is None or requests < limits.least_answers:
        return _too_few("availability", limits.availability, requests, "requests", day)
    failed = requests - len(day.judged.user)
    why = f"{failed:,} of {requests:,} requests got no list; the statuses by hour say when."
    return _judged("availability", value, limits.availability, value >= limits.availability, why)


def _latency(day: JudgedDay) -> DayCheck:
    limit, requests = day.settings.deadline_ms, len(day.requests.user)
    latency = report_figures.latency_percentiles(day)
    if latency.p99 is None or requests < day.settings.verdict.least_answers:
        return _too_few("latency_p99", limit, requests, "requests", day, "ms")
    why = f"{100 * (latency.over_deadline or 0):.2f} % of the requests took longer than the caller's {limit:,} ms."
    return _judged("latency_p99", latency.p99, limit, latency.p99 <= limit, why, "ms")


def _personalised(day: JudgedDay) -> DayCheck:
    limits, sources = day.settings.verdict, report_figures.sources(day)
    known, value = len(day.judged.user) - sources.unknown, sources.personalised
    if value is None or known < limits.least_answers:
        return _too_few("personalised", limits.personalised, known, "answers with a known source", day)
    why = f"Of {known:,} answers with a known source; users without a list of their own get a popular one."
    return _judged("personalised", value, limits.personalised, value >= limits.personalised, why)


def _uplift(day: JudgedDay) -> DayCheck:
    compared, uplift = len(day.compared.user), report_figures.uplift(day)
    if uplift.mean is None or uplift.high is None or compared < day.settings.verdict.least_answers:
        return _too_few("uplift", 0, compared, "closed answers with a known popular list", day)
    is_good = uplift.high >= 0
    words = "not below it beyond noise" if is_good else "below it beyond noise: consider a rollback"
    why = f"Over {compared:,} answers, the hit rate less that of the popular list is {words}."
    return _judged("uplift", uplift.mean, 0, is_good, why)


def _coverage(day: JudgedDay) -> DayCheck:
    limit, shown = day.settings.verdict.coverage, report_figures.shown_movies(day)
    places = LIST_LENGTH * len(day.judged.user)
    if shown.coverage is None:
        return _unknown("coverage", limit, "No catalogue is known: no release was in force, or it is gone.")
    if places < shown.catalogue:
        return _unknown("coverage", limit, f"{places:,} places in lists cannot show {shown.catalogue:,} movies.")
    why = f"{shown.movies:,} different movies were shown, of a catalogue of {shown.catalogue:,}."
    return _judged("coverage", shown.coverage, limit, shown.coverage >= limit, why)


def _left_out(day: JudgedDay) -> DayCheck:
    lines = sum(day.left_out.values())
    return _share_of_lines("left_out", day, lines, day.settings.verdict.left_out, "are in no figure")


def _late(day: JudgedDay) -> DayCheck:
    lines = sum(count for reason, count in day.left_out.items() if reason in _LATE)
    return _share_of_lines(
        "late", day, lines, day.settings.verdict.late, "came after the report of their day was final"
    )


def _share_of_lines(name: str, day: JudgedDay, lines: int, limit: float, words: str) -> DayCheck:
    if not day.lines:
        return _unknown(name, limit, f"{lines:,} lines {words}; how many lines the day has is not known.")
    value = lines / day.lines
    return _judged(name, value, limit, value <= limit, f"{lines:,} of {day.lines:,} lines {words}.")


def _lost(day: JudgedDay) -> DayCheck:
    lines = sum(gap.lines for gap in day.gaps)
    gaps = "; ".join(map(_gap_text, day.gaps))
    why = f"{gaps}: what users did then is in no figure." if gaps else "Kafka dropped no line before it was read."
    return _judged("lost", lines, 0, not day.gaps, why, "lines")


def _gap_text(gap: LineGap) -> str:
    when = f"until {moment(gap.until)}" if gap.until is not None else ""
    if gap.after is not None:
        when = f"between {moment(gap.after)} and {moment(gap.until)}" if gap.until else f"after {moment(gap.after)}"
    return f"{gap.lines:,} lines lost {when or 'at an unknown time'}"


def moment(time_ms: int) -> str:
    """ISO 8601, UTC."""
    at = dt.datetime.fromtimestamp(time_ms // 1000, dt.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03}Z"


CHECKS = (_availability, _latency, _personalised, _uplift, _coverage, _left_out, _late, _lost)
"""In the order of the report."""
