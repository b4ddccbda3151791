"""The figures of a service's first days, by day: as a table and as JSON (`summary.json`), from Marquee's own files."""

from collections import Counter
from pathlib import Path

import msgspec
from msgspec import Struct

from batch import models
from batch.nights import outcomes
from batch.releases import publish
from loadtest.demo.summary import broken_counts, broken_reports, lines_by_fate
from loadtest.errors import DemoError
from loadtest.simulation.service import ServiceCounts
from quality.errors import ReportError
from quality.metrics.intervals import Interval, interval_text
from quality.telemetry.day_report import DayReport, read_report
from server.manifest import parse_manifest
from stream import durable
from stream.settings import StreamSettings
from stream.zone import zone_named

NEAR = 0.1
"""The last day is as good as with history if its uplift is at most this share below."""


class DayRelease(Struct, frozen=True, kw_only=True):
    """A release that was in force on a day."""

    id: str | None
    """None before the first one."""
    model: str | None
    """The model that made its lists."""
    requests: int
    """Of the day, while it was in force."""


class DayFigures(Struct, frozen=True, kw_only=True):
    """One day."""

    day: str
    nights: dict[str, int]
    """Tries of nights that began on the day, by ending."""
    releases: list[DayRelease]
    """In the order in which they became current."""
    answers: int
    """With status 200 and a closed window."""
    hit_rate: Interval
    baseline: Interval
    """Hit rate of the popular list, on the same answers."""
    uplift: Interval
    movies_shown: int
    """Different movies."""

    @property
    def is_personal(self) -> bool:
        """Whether the last release of the day is one of personal lists."""
        return models.is_personal(self.releases[-1].model or "")


class DaysSummary(Struct, frozen=True, kw_only=True):
    """One run."""

    seconds: float
    history_days: int
    """Days of history before the first day; 0 for an empty archive."""
    first_release_s: float | None
    """From the first line until every worker answered, seconds of the machine's clock; None with history."""
    failed_at_first: int
    """Requests until then: there was nothing to answer."""
    lines: dict[str, dict[str, int]]
    """By topic: lines read (`in`), and lines by fate."""
    days: list[DayFigures]
    broken: list[str]
    """The invariants that do not hold, in words."""


class DaysComparison(Struct, frozen=True, kw_only=True):
    """`summary.json`."""

    runs: list[DaysSummary]
    """The empty archive; and the one with history, if that was played."""
    targets: dict[str, bool]
    """By target, in words: whether it is met."""


def summarise(
    streaming: StreamSettings,
    service: ServiceCounts,
    days: list[str],
    *,
    history_days: int,
    failed_at_first: int,
    first_release_s: float | None,
    seconds: float,
) -> DaysSummary:
    """The summary of a run, from its files and the counts of the service."""
    var, lines = streaming.var, lines_by_fate(streaming.var)
    reports = {day: report for day in days if (report := _read(var, day))}
    failed = service.statuses.total() - service.statuses[200] - failed_at_first
    return DaysSummary(
        seconds=round(seconds, 1),
        history_days=history_days,
        first_release_s=None if first_release_s is None else round(first_release_s, 1),
        failed_at_first=failed_at_first,
        lines=lines,
        days=[_figures(streaming, day, report) for day, report in reports.items()],
        broken=[
            *broken_counts(lines, streaming.topic, service),
            *([f"{failed} requests failed after the first release"] if failed else []),
            *broken_reports(var, days),
        ],
    )


def targets(runs: list[DaysSummary]) -> dict[str, bool]:
    """What a service may expect of its first days, by target: whether the run with the empty archive meets it."""
    empty = runs[0].days
    met: dict[str, bool] = {}
    if len(empty) > 1:
        second = empty[1]
        met["personal lists on the second day"] = second.is_personal
        met["uplift above 0 on the second day, beyond noise"] = (second.uplift.low or 0) > 0
    if len(runs) > 1:
        own, other = empty[-1].uplift.mean, runs[1].days[-1].uplift.mean
        text = f"uplift on the last day at most {NEAR:.0%} below that with {runs[1].history_days} days of history"
        met[text] = own is not None and other is not None and own >= (1 - NEAR) * other
    return met


def write_summary(path: Path, runs: list[DaysSummary]) -> None:
    """Write `summary.json`."""
    durable.write_json(path, msgspec.to_builtins(DaysComparison(runs=runs, targets=targets(runs))))


def as_text(runs: list[DaysSummary]) -> str:
    """The figures for people."""
    rows = [row for run in runs for row in _run_rows(run)]
    rows += [f"{'met' if is_met else 'MISSED'}: {text}" for text, is_met in targets(runs).items()]
    broken = [f"BROKEN: {text}" for run in runs for text in run.broken]
    return "\n".join([*rows, *(broken or ["All invariants hold."])])


def _run_rows(run: DaysSummary) -> list[str]:
    name = f"After {run.history_days} days of history" if run.history_days else "From an empty archive"
    rows = [f"\n{name}: {run.seconds:.0f} s"]
    if run.first_release_s is not None:
        first = f"{run.first_release_s:.0f} s after the first line, {run.failed_at_first:,} requests before it"
        rows.append(f"  the first release answers {first}")
    heads = "hit rate", "popular list", "uplift"
    rows.append(
        f"  {'day':<12}" + "".join(f"{head:<24}" for head in heads) + "movies  answers  releases by model; nights"
    )
    return [*rows, *map(_day_row, run.days)]


def _day_row(day: DayFigures) -> str:
    rates = "".join(f"{interval_text(rate, '.3f'):<24}" for rate in (day.hit_rate, day.baseline, day.uplift))
    by_model = ", ".join(release.model or "none" for release in day.releases)
    nights = ", ".join(f"{count} {ending}" for ending, count in day.nights.items()) or "none"
    return f"  {day.day:<12}{rates}{day.movies_shown:>6,}{day.answers:>9,}  {by_model}; {nights}"


def _read(var: Path, day: str) -> DayReport | None:
    try:
        return read_report(var / "reports" / f"{day}.json")
    except ReportError as error:
        raise DemoError(f"demo: {error}; see telemetry.log") from error


def _figures(streaming: StreamSettings, day: str, report: DayReport) -> DayFigures:
    zone, var, total = zone_named(streaming.timezone), streaming.var, report.total
    nights = Counter(str(tried.ending) for tried in outcomes.read_outcomes(var) if zone.day(tried.stream_time) == day)
    by_release = {group.name: group.answers.requests for group in report.by_release}
    moves = [None, *(change.release for change in publish.read_publications(var))]
    return DayFigures(
        day=day,
        nights=dict(nights),
        releases=[
            DayRelease(id=release, model=_model(var, release), requests=by_release[release])
            for release in moves
            if release in by_release
        ],
        answers=total.answers.closed,
        hit_rate=total.hit_rate,
        baseline=total.baseline.hit_rate,
        uplift=total.uplift,
        movies_shown=total.shown.movies,
    )


def _model(var: Path, release: str | None) -> str | None:
    """The model of a release that is there or was removed."""
    paths = [] if release is None else [var / "releases" / release / "manifest.json",
                                       var / "releases" / "manifests" / f"{release}.json"]  # fmt: skip
    manifest = next((path for path in paths if path.exists()), None)
    return None if manifest is None else parse_manifest(manifest.read_bytes()).model.lists
