"""The demo's summary: the same figures as text and as JSON (`summary.json`), and the invariants that they must keep.

Every figure is read back from the files that Marquee wrote, and compared with what the simulated service counted.
"""

from pathlib import Path

import msgspec
import numpy as np
import orjson
from msgspec import Struct, field

from batch.evaluation_file import read_evaluation
from batch.releases import publish
from loadtest.errors import DemoError
from loadtest.simulation.service import ServiceCounts
from quality.errors import ReportError
from quality.metrics.intervals import Interval, interval_text
from quality.metrics.ranking import HIT_RATE, MRR, NDCG, RECALL
from quality.telemetry.day_report import read_report
from quality.telemetry.day_verdict import DayVerdict
from quality.telemetry.equal_hours import EqualHours
from quality.telemetry.report_figures import AdultListed, AnswerCounts, Baseline, LicenceCosts
from quality.telemetry.report_schema import validate_report
from server.manifest import InputCounts, parse_manifest
from stream import durable
from stream.archive import Archive
from stream.ledger_entry import count_by_fate

_PERCENTILES = {"p50": 50, "p95": 95, "p99": 99, "p99.9": 99.9, "max": 100}


class ServiceSummary(Struct, frozen=True, kw_only=True):
    """What the simulated service did and saw."""

    lines_written: int
    corrupted: int
    """Lines with a stray character."""
    repeated: int
    """Lines that equal an earlier one."""
    requests: int
    by_status: dict[str, int]
    """Requests by status, as the service logs it: 200, 400, or 0 for no usable answer."""
    by_source: dict[str, int]
    """Answers by source of the list: personal, segment or popular."""
    by_release: dict[str, int]
    lists_taken_from: int
    """Lists from which the user took a movie."""
    latency_ms: dict[str, float]
    """By percentile; empty without requests."""


class OfflineFigures(Struct, frozen=True, kw_only=True):
    """A model on the test slice of a night."""

    hit_rate: Interval = field(name=HIT_RATE.name)
    recall: Interval = field(name=RECALL.name)
    ndcg: Interval = field(name=NDCG.name)
    mrr: Interval = field(name=MRR.name)
    coverage: float


class ReleaseSummary(Struct, frozen=True, kw_only=True):
    """One release that became current."""

    id: str
    model: str
    """The model that made its lists."""
    counts: InputCounts
    """What the night learned from: users, movies, sessions …"""
    offline: dict[str, OfflineFigures]
    """By model; empty if nothing could be held out."""


class RateSummary(Struct, frozen=True, kw_only=True):
    """The main figures of a day or of a release, see `quality.telemetry.group_figures`."""

    name: str | None
    answers: AnswerCounts
    hits: int
    hit_rate: Interval
    baseline: Baseline
    uplift: Interval
    licence_costs: LicenceCosts | None = None
    adult_listed: AdultListed | None = None


class ReportSummary(Struct, frozen=True, kw_only=True):
    """The main figures of a day's report, see `quality.telemetry.day_report`."""

    final: bool
    window_hours: float
    verdict: DayVerdict
    total: RateSummary
    by_release: list[RateSummary]
    equal_hours: list[EqualHours]


class SummaryFiles(Struct, frozen=True, kw_only=True):
    """Where everything is."""

    archive: str
    releases: str
    reports: str
    logs: str


class DemoSummary(Struct, frozen=True, kw_only=True):
    """A run of the demo."""

    seconds: float
    lines: dict[str, dict[str, int]]
    """By topic: lines read (`in`), and lines by fate."""
    service: ServiceSummary
    releases: list[ReleaseSummary]
    """In the order in which they became current."""
    reports: dict[str, ReportSummary]
    """By day."""
    files: SummaryFiles
    broken: list[str]
    """The invariants that do not hold, in words."""


def is_final(var: Path, day: str) -> bool:
    """Whether a day has a report, and it is final."""
    report = _read_report(var, day)
    return report is not None and report.final


def summarise(
    var: Path, topic: str, service: ServiceCounts, days: list[str], logs: Path, seconds: float
) -> DemoSummary:
    """The summary of a run, from its files and the counts of the service; `topic` is that of the live service."""
    lines = lines_by_fate(var)
    reports = {day: report for day in days if (report := _read_report(var, day))}
    return DemoSummary(
        seconds=round(seconds, 1),
        lines=lines,
        service=_service(service),
        releases=[_release(var, change.release) for change in publish.read_publications(var)],
        reports=reports,
        files=SummaryFiles(
            archive=str(var / "archive"), releases=str(var / "releases"), reports=str(var / "reports"), logs=str(logs)
        ),
        broken=[
            *broken_counts(lines, topic, service),
            *_broken_answers(service),
            *broken_reports(var, days),
        ],
    )


def write_summary(path: Path, summary: DemoSummary) -> None:
    """Write a summary as JSON."""
    durable.write_json(path, msgspec.to_builtins(summary))


def lines_by_fate(var: Path) -> dict[str, dict[str, int]]:
    """By topic of the archive: lines read (`in`), and lines by fate."""
    entries = Archive(var).entries()
    by_topic: dict[str, dict[str, int]] = {}
    for topic in sorted({entry.topic for entry in entries}):
        own = [entry for entry in entries if entry.topic == topic]
        by_topic[topic] = {"in": sum(entry.lines for entry in own)}
        by_topic[topic] |= {str(fate): lines for fate, lines in count_by_fate(own).items()}
    return by_topic


def _service(counts: ServiceCounts) -> ServiceSummary:
    shares = _PERCENTILES.items() if counts.latencies_ms else ()
    return ServiceSummary(
        lines_written=counts.lines,
        corrupted=counts.corrupted,
        repeated=counts.repeated,
        requests=sum(counts.statuses.values()),
        by_status={str(status): count for status, count in sorted(counts.statuses.items())},
        by_source={str(source): count for source, count in counts.sources.items()},
        by_release={str(release): count for release, count in counts.releases.items()},
        lists_taken_from=counts.taken,
        latency_ms={name: round(float(np.percentile(counts.latencies_ms, share)), 2) for name, share in shares},
    )


def _read_report(var: Path, day: str) -> ReportSummary | None:
    try:
        report = read_report(var / "reports" / f"{day}.json")
    except ReportError as error:
        raise DemoError(f"demo: {error}; see telemetry.log") from error
    return msgspec.convert(report, ReportSummary, from_attributes=True) if report else None


def _release(var: Path, release: str) -> ReleaseSummary:
    folder = var / "releases" / release
    evaluation = read_evaluation(folder)
    manifest = parse_manifest((folder / "manifest.json").read_bytes())
    return ReleaseSummary(
        id=release,
        model=evaluation.chosen,
        counts=manifest.require_input().counts,
        offline={
            name: msgspec.convert(figures, OfflineFigures, from_attributes=True)
            for name, figures in evaluation.test_models.items()
        },
    )


def broken_counts(lines: dict[str, dict[str, int]], topic: str, service: ServiceCounts) -> list[str]:
    """What is wrong with the lines of the archive: each one that the service wrote is there, and has one fate."""
    live = lines.get(topic, {"in": 0})
    archived, duplicates = live["in"], live.get("duplicate")
    checks = {
        f"{archived} lines archived, {service.lines} written": archived == service.lines,
        "the fates of the lines do not add up": all(
            fates["in"] == sum(count for fate, count in fates.items() if fate != "in") for fates in lines.values()
        ),
        f"{duplicates} duplicates found, {service.repeated} lines sent twice": duplicates == service.repeated,
    }
    return [text for text, holds in checks.items() if not holds]


def _broken_answers(service: ServiceCounts) -> list[str]:
    requests, failed = service.statuses.total(), service.statuses.total() - service.statuses[200]
    releases = len([release for release in service.releases if release])
    checks = {
        f"{failed} of {requests} requests failed": failed == 0,
        f"{releases} releases answered, not 2": releases == 2,
    }
    return [text for text, holds in checks.items() if not holds]


def broken_reports(var: Path, days: list[str]) -> list[str]:
    """What is wrong with the reports of some days."""
    broken = []
    for day in days:
        path = var / "reports" / f"{day}.json"
        try:
            report = read_report(path)
            if report is None:
                broken.append(f"there is no report of {day}")
                continue
            validate_report(orjson.loads(path.read_bytes()))
        except ReportError as error:
            broken.append(str(error))
            continue
        if not report.final:
            broken.append(f"the report of {day} is not final")
        broken += broken_shares(day, report.total.adult_listed)
    return broken


def broken_shares(day: str, adult: AdultListed | None) -> list[str]:
    """What the report of a day says of lists that broke a cap."""
    return [f"minors were shown adult movies on {day}"] if adult and adult.share_minors else []


def as_text(summary: DemoSummary) -> str:
    """The summary for people."""
    return "\n".join(
        [
            f"\nMarquee demo: {summary.seconds:.0f} s\n",
            *_line_rows(summary.lines),
            *_service_rows(summary.service),
            *_release_rows(summary.releases),
            *_report_rows(summary.reports),
            "Files",
            *(f"  {name:<9} {path}" for name, path in msgspec.structs.asdict(summary.files).items()),
            *([f"BROKEN: {text}" for text in summary.broken] or ["All invariants hold."]),
        ]
    )


def _line_rows(lines: dict[str, dict[str, int]]) -> list[str]:
    rows = ["Lines of the stream, by topic and fate"]
    for topic, fates in lines.items():
        rows.append(f"  {topic:<12}" + "  ".join(f"{name} {count:,}" for name, count in fates.items()))
    return rows


def _service_rows(service: ServiceSummary) -> list[str]:
    return [
        "Requests of the simulated service",
        "  by status: " + ", ".join(f"{status} {count:,}" for status, count in service.by_status.items()),
        "  by source of the list: " + ", ".join(f"{name} {count:,}" for name, count in service.by_source.items()),
        "  latency, ms: " + ", ".join(f"{name} {value:g}" for name, value in service.latency_ms.items()),
    ]


def _release_rows(releases: list[ReleaseSummary]) -> list[str]:
    rows = ["Releases, with each model's figures on held-out data (mean and 95 % interval)"]
    for release in releases:
        rows.append(f"  {release.id}: lists by {release.model}")
        for name, figures in release.offline.items():
            metrics = {NDCG.name: figures.ndcg, RECALL.name: figures.recall, HIT_RATE.name: figures.hit_rate}
            shown = (f"{metric} {interval_text(interval)}" for metric, interval in metrics.items())
            rows.append(f"    {name:<8} " + "  ".join(shown))
    return rows


def _report_rows(reports: dict[str, ReportSummary]) -> list[str]:
    rows = ["Hit rate on the stream, compared with the popular list"]
    for day, report in reports.items():
        state = "final" if report.final else "provisional"
        rows.append(f"  {day} ({state}, {report.window_hours:g} h window): {_rates(report.total)}")
        rows += [f"    {rates.name or 'no release'}: {_rates(rates)}" for rates in report.by_release]
        rows += [f"    {_compared(pair)}" for pair in report.equal_hours]
        rows += [f"    {text}" for text in _costs_and_minors(report.total)]
        rows += [f"    {check.state}: {check.name}. {check.why}" for check in report.verdict.checks
                 if check.state != "green"]  # fmt: skip
    return rows


def _costs_and_minors(total: RateSummary) -> list[str]:
    costs, adult = total.licence_costs, total.adult_listed
    rows = []
    if costs and costs.per_hit is not None:
        rows.append(f"cost per hit {costs.per_hit:.2f}, per answer {costs.per_answer:.2f}")
    if adult and adult.share_minors is not None:
        rows.append(f"adult movies in the {adult.minors:,} lists of minors: {adult.share_minors:.2%}")
    return rows


def _compared(pair: EqualHours) -> str:
    if not pair.comparable:
        return f"{pair.later} and {pair.earlier}: not comparable, they served at no common hour"
    hours = ", ".join(pair.hours)
    return f"{pair.later} less {pair.earlier} at equal hours ({hours}): {interval_text(pair.difference)}"


def _rates(rates: RateSummary) -> str:
    popular = interval_text(rates.baseline.hit_rate)
    return f"{interval_text(rates.hit_rate)}, popular list {popular}, uplift {interval_text(rates.uplift)}"
