"""The demo's summary: the same figures as text and as JSON, and the invariants that they must keep.

Every figure is read back from what Marquee left on disk, and held against what the simulated service knows of its own
doing.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson

from batch.evaluation_file import HIT_RATE, MRR, NDCG, RECALL, ModelFigures, read_evaluation
from batch.releases import publish
from loadtest.simulation.service import ServiceCounts
from quality.errors import ReportError
from quality.telemetry.report_schema import validate_report
from stream.archive import Archive, count_by_fate


def is_final(var: Path, day: str) -> bool:
    """Whether a day's report is there and final."""
    return bool(_report(var, day).get("final"))


def summarise(
    var: Path, topic: str, service: ServiceCounts, days: list[str], logs: Path, seconds: float
) -> dict[str, Any]:
    """All figures of a run; `broken` lists the invariants that do not hold, in words."""
    entries = Archive(var).entries()
    topics = sorted({entry.topic for entry in entries})
    releases = [change.release for change in publish.read_publications(var)]
    reports = {day: _report(var, day) for day in days}
    found: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "lines": {
            name: {
                "in": sum(entry.lines for entry in entries if entry.topic == name),
                **count_by_fate(entry for entry in entries if entry.topic == name),
            }
            for name in topics
        },
        "service": {
            "lines_written": service.lines,
            "corrupted": service.corrupted,
            "repeated": service.repeated,
            "requests": sum(service.statuses.values()),
            "by_status": {str(status): count for status, count in sorted(service.statuses.items())},
            "by_source": {str(source): count for source, count in service.sources.items()},
            "by_release": {str(release): count for release, count in service.releases.items()},
            "lists_taken_from": service.taken,
            "latency_ms": _latency(service.latencies_ms),
        },
        "releases": [_release(var, release) for release in releases],
        "reports": {day: _headline(report) for day, report in reports.items()},
        "files": {
            "archive": str(var / "archive"),
            "releases": str(var / "releases"),
            "reports": str(var / "reports"),
            "logs": str(logs),
        },
    }
    return {**found, "broken": [*_broken(found, topic, service), *_invalid(reports)]}


def _report(var: Path, day: str) -> dict[str, Any]:
    path = var / "reports" / f"{day}.json"
    return orjson.loads(path.read_bytes()) if path.exists() else {}


def _release(var: Path, release: str) -> dict[str, Any]:
    folder = var / "releases" / release
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    evaluation = read_evaluation(folder)
    return {
        "id": release,
        "model": evaluation.chosen,
        "counts": manifest["input"]["counts"],
        "offline": {name: _offline(figures) for name, figures in evaluation.test_models.items()},
    }


def _offline(figures: ModelFigures) -> dict[str, Any]:
    shown = msgspec.to_builtins(figures)
    return {metric: shown[metric] for metric in (HIT_RATE, RECALL, NDCG, MRR, "coverage")}


def _headline(report: dict[str, Any]) -> dict[str, Any]:
    names = ("final", "window_hours", "answers", "hits", "hit_rate", "baseline", "uplift", "by_release")
    return {name: report.get(name) for name in names}


def _latency(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    shares = {"p50": 50, "p95": 95, "p99": 99, "p99.9": 99.9, "max": 100}
    return {name: round(float(np.percentile(values, share)), 2) for name, share in shares.items()}


def _broken(found: dict[str, Any], topic: str, service: ServiceCounts) -> list[str]:
    live = found["lines"].get(topic, {"in": 0})
    failed = sum(count for status, count in service.statuses.items() if status != 200)
    releases = len([release for release in service.releases if release])
    checks = {
        f"{live['in']} lines archived, {service.lines} written": live["in"] == service.lines,
        "the fates of the lines do not add up": all(
            fates["in"] == sum(count for fate, count in fates.items() if fate != "in")
            for fates in found["lines"].values()
        ),
        f"{live.get('duplicate')} duplicates found, {service.repeated} lines sent twice": live.get("duplicate")
        == service.repeated,
        f"{failed} of {sum(service.statuses.values())} requests failed": failed == 0,
        f"{releases} releases answered, not 2": releases == 2,
    }
    return [text for text, holds in checks.items() if not holds]


def _invalid(reports: dict[str, dict[str, Any]]) -> list[str]:
    broken = []
    for day, report in reports.items():
        try:
            validate_report(report)
        except ReportError as error:
            broken.append(str(error))
        if not report.get("final"):
            broken.append(f"the report of {day} is not final")
    return broken


def as_text(found: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [f"\nMarquee demo: {found['seconds']:.0f} s\n", "Lines by fate"]
    for topic, fates in found["lines"].items():
        lines.append(f"  {topic:<12}" + "  ".join(f"{name} {count:,}" for name, count in fates.items()))
    service = found["service"]
    lines.append("Requests")
    lines.append("  " + ", ".join(f"status {status}: {count:,}" for status, count in service["by_status"].items()))
    lines.append("  answered by " + ", ".join(f"{name}: {count:,}" for name, count in service["by_source"].items()))
    lines.append("  latency ms " + ", ".join(f"{name} {value:g}" for name, value in service["latency_ms"].items()))
    lines.append("Releases (offline, last hours held out)")
    for release in found["releases"]:
        lines.append(f"  {release['id']}  lists by {release['model']}")
        for name, figures in release["offline"].items():
            shown = (f"{metric} {_shown(figures[metric])}" for metric in ("ndcg@20", "recall@20", "hr@20"))
            lines.append(f"    {name:<8} " + "  ".join(shown))
    lines.append("Hit rate on the stream, against the popular list")
    for day, report in found["reports"].items():
        state = "final" if report["final"] else "provisional"
        lines.append(f"  {day} ({state}, {report['window_hours']:g} h): {_rates(report)}")
        lines += [f"    {part['release'] or 'no release'}: {_rates(part)}" for part in report["by_release"] or []]
    lines.append("Files")
    lines += [f"  {name:<9} {path}" for name, path in found["files"].items()]
    lines += [f"BROKEN: {text}" for text in found["broken"]] or ["All invariants hold."]
    return "\n".join(lines)


def _rates(part: dict[str, Any]) -> str:
    rate, base = part["hit_rate"], part["baseline"]["hit_rate"]
    return f"{_shown(rate)} vs {_shown(base)}, uplift {_shown(part['uplift'])}"


def _shown(interval: dict[str, float | None]) -> str:
    if interval["mean"] is None:
        return "none"
    return f"{interval['mean']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]"
