"""Reports: figures of a small known day, the schema, files that are final once and for all, the page, the command."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest

from quality.errors import ReportError
from quality.settings import QualitySettings
from quality.telemetry.consumer import Telemetry
from quality.telemetry.ingest import Ingest, TelemetryBatch
from quality.telemetry.report import Reports, validate_report
from quality.telemetry.report_html import render_html
from quality.telemetry.store import Store
from stream.event import Event
from stream.settings import StreamSettings, load
from stream.zone import day_number, zone_named

HOUR = 3_600_000
DAY = "2022-03-18"
FIRST, END = zone_named("America/New_York").bounds(DAY)
SETTINGS = QualitySettings(bootstrap_samples=200)


def answer(hour: int, user: int, movies: tuple[str, ...], latency_ms: int = 10) -> Event:
    return Event(
        "recommend", FIRST + hour * HOUR, user, host="us:8082", status=200, movies=movies, latency_ms=latency_ms
    )


def watch(hour: int, user: int, movie: str) -> Event:
    return Event("watch", FIRST + hour * HOUR + 60_000, user, movie, minute=0)


DAY_OF_FOUR = [
    answer(1, 1, ("a+2001", "b+2002")),  # before the first release; hit at rank 2
    answer(3, 2, ("a+2001", "b+2002"), 20),  # hit at rank 1, and the popular list has it as well
    answer(4, 3, ("c+2003",), 30),  # no hit, but the popular list would have been one
    Event("recommend", FIRST + 5 * HOUR, 4, host="us:8082", status=0, latency_ms=800, error="Request timeout"),
    answer(6, 5, ("c+2003",), 900),  # hit at rank 1, not popular
    watch(2, 1, "b+2002"),
    watch(5, 2, "a+2001"),
    watch(5, 3, "a+2001"),
    watch(29, 5, "c+2003"),  # the day after, within the window
]


@pytest.fixture
def reports(tmp_path: Path, batch_of: Callable[..., TelemetryBatch], publish: Callable[..., None]) -> Iterator[Reports]:
    publish(tmp_path / "releases", "first", FIRST + 2 * HOUR, ("a+2001",))
    store = Store(tmp_path / "telemetry.db")
    stream = StreamSettings(var=tmp_path)
    Ingest(store, stream.topic, zone_named(stream.timezone), SETTINGS).take(batch_of(DAY_OF_FOUR))
    yield Reports(store, stream, SETTINGS)
    store.close()


def built(reports: Reports, hours: float = 1000.0) -> dict[str, Any]:
    report = reports.build(day_number(DAY), FIRST + round(hours * HOUR))
    validate_report(report)
    return report


def test_figures_of_a_known_day(reports: Reports) -> None:
    report = built(reports)
    assert report["final"] is True
    assert report["watermark"] == "2022-03-20T04:10:00.000Z"  # when it could be closed, not when it was made
    assert report["answers"] == {"requests": 5, "by_status": {"0": 1, "200": 4}, "closed": 4, "provisional": 0}
    assert report["latency_ms"] == {"p50": 30, "p95": 900, "p99": 900, "max": 900}
    assert (report["hits"], report["hit_rate"]["mean"]) == (3, 0.75)
    assert report["hit_rate"]["low"] < 0.75 < report["hit_rate"]["high"]
    assert report["hits_by_rank"][:3] == [2, 1, 0]
    assert report["mean_reciprocal_rank"] == pytest.approx((0.5 + 1 + 0 + 1) / 4)
    assert report["movies_shown"] == 3
    baseline = report["baseline"]
    assert (baseline["answers"], baseline["unknown"], baseline["hits"]) == (3, 1, 2)
    assert report["uplift"]["mean"] == pytest.approx((2 - 2) / 3)
    before, first = report["by_release"]
    assert (before["release"], before["hits"], before["baseline"]["hit_rate"]["mean"]) == (None, 1, None)
    assert (first["release"], first["answers"], first["closed"], first["hits"]) == ("first", 3, 3, 2)
    assert first["uplift"] == report["uplift"]
    assert "not a randomised experiment" in report["notes"][0]
    assert any("baseline of 1 answers is unknown" in note for note in report["notes"])


def test_open_windows_are_in_no_rate(reports: Reports) -> None:
    report = built(reports, 27.5)  # the windows of the answers at 1 and 3 hours have closed
    assert report["final"] is False
    assert (report["answers"]["closed"], report["answers"]["provisional"], report["hits"]) == (2, 2, 2)
    assert any("windows of 2 answers are still open" in note for note in report["notes"])


def test_an_answer_of_the_day_after_takes_the_start(tmp_path: Path, batch_of: Callable[..., TelemetryBatch]) -> None:
    store, stream = Store(tmp_path / "telemetry.db"), StreamSettings(var=tmp_path)
    events = [answer(23, 1, ("a+2001",)), answer(23, 2, ("a+2001",)), answer(25, 2, ("b+2002",))]
    events += [watch(26, 1, "a+2001"), watch(26, 2, "a+2001")]
    Ingest(store, stream.topic, zone_named(stream.timezone), SETTINGS).take(batch_of(events))
    report = built(Reports(store, stream, SETTINGS))
    store.close()
    assert (report["answers"]["closed"], report["hits"], report["movies_shown"]) == (2, 1, 1)


def test_a_day_without_answers_has_no_figures(reports: Reports) -> None:
    report = reports.build(day_number("2022-03-19"), END + 1)
    validate_report(report)
    nothing = {"mean": None, "low": None, "high": None}
    assert report["hit_rate"] == report["uplift"] == report["baseline"]["hit_rate"] == nothing
    assert report["latency_ms"]["p50"] is report["mean_reciprocal_rank"] is None
    assert "NaN" not in orjson.dumps(report).decode()
    assert render_html(report)


def test_a_release_that_is_gone_has_no_baseline_and_says_so(
    reports: Reports, tmp_path: Path, publish: Callable[..., None]
) -> None:
    publish(tmp_path / "releases", "pruned", FIRST + 4 * HOUR, None)
    report = built(reports)
    assert (report["baseline"]["answers"], report["baseline"]["unknown"]) == (1, 3)
    assert report["by_release"][2]["baseline"]["hit_rate"]["mean"] is None
    assert (report["hits"], report["hit_rate"]["mean"]) == (3, 0.75)


def test_a_final_report_is_never_touched_again(reports: Reports) -> None:
    day, path = day_number(DAY), reports.path(day_number(DAY))
    reports.write(day, FIRST + 28 * HOUR)
    assert orjson.loads(path.read_bytes())["final"] is False
    assert reports.written(day) is None
    reports.write(day, FIRST + 100 * HOUR)
    final = path.read_bytes(), path.with_suffix(".html").read_bytes(), path.stat().st_mtime_ns
    assert reports.written(day) is not None
    reports.write(day, FIRST + 28 * HOUR)
    assert (path.read_bytes(), path.with_suffix(".html").read_bytes(), path.stat().st_mtime_ns) == final


def test_open_reports_are_rewritten_once_in_an_hour_of_the_stream(
    tmp_path: Path, batch_of: Callable[..., TelemetryBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "telemetry.db")
    stream = StreamSettings(var=tmp_path)
    telemetry = Telemetry(
        store, Ingest(store, stream.topic, zone_named(stream.timezone), SETTINGS), Reports(store, stream, SETTINGS)
    )
    made: list[int] = []
    monkeypatch.setattr(Reports, "write", lambda _, day, watermark: made.append((watermark - FIRST) // 60_000))
    for at, minute in enumerate([0, 30, 59, 60, 90, 119]):
        telemetry.ingest.take(batch_of([Event("watch", FIRST + minute * 60_000, 1, "a+2001", minute=0)], at))
        telemetry.report()
    telemetry.report(now=True)
    store.close()
    assert made == [0, 60, 119]  # and once more at the end


@pytest.mark.parametrize(
    "change",
    [{"surprise": 1}, {"hits": -1}, {"hits_by_rank": [1]}, {"watermark": "yesterday"}, {"layout": 2}],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses_what_is_not_a_report(reports: Reports, change: dict[str, Any]) -> None:
    with pytest.raises(ReportError):
        validate_report(built(reports) | change)
    without = built(reports)
    del without["notes"]
    with pytest.raises(ReportError, match="notes"):
        validate_report(without)


class Page(HTMLParser):
    """Collects tags, and whether every opened one is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)
        assert not any(name.startswith("on") or name in {"src", "href"} for name, _ in attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_self_contained_and_escaped(reports: Reports) -> None:
    report = built(reports)
    report["by_release"][1]["release"] = "<script>alert(1)</script>"
    report["notes"].append('a "note" with <b> & more')
    html = render_html(report)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 3
    assert "http" not in html
    assert "&lt;b&gt; &amp; more" in html
    assert "75.00 %" in html


def run_report(folder: Path, day: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "quality", "report", "--day", day]
    environ = {"MARQUEE_STREAM_VAR": str(folder), "MARQUEE_QUALITY_BOOTSTRAP_SAMPLES": "200", "PATH": "/usr/bin"}
    return subprocess.run(command, env=environ, capture_output=True, timeout=600, check=False)


def test_the_command_prints_the_report_as_of_the_watermark(reports: Reports, tmp_path: Path) -> None:
    got = run_report(tmp_path, DAY)
    assert orjson.loads(got.stdout) == built(reports, 29 + 1 / 60)  # the last line read
    assert not list(tmp_path.glob("reports/*"))
    missing = run_report(tmp_path, "2022-01-01")
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert b"no lines of 2022-01-01" in missing.stderr
    assert b"Traceback" not in missing.stderr


def test_defaults_of_the_settings() -> None:
    settings = load("quality", QualitySettings, {})
    assert (settings.window_hours, settings.grace_minutes, settings.session_gap_hours) == (24.0, 10.0, 6.0)
    assert (settings.report_every_minutes, settings.bootstrap_samples, settings.seed) == (60.0, 1000, 1)
    assert settings.window_ms == 86_400_000
