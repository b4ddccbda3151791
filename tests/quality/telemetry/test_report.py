"""Reports: figures of a small known day, files that are final once and for all, the command."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import orjson
import pytest

from quality.catalog import Catalog
from quality.errors import ReportError
from quality.metrics.intervals import Interval
from quality.settings import QualitySettings
from quality.telemetry.batch import TelemetryBatch
from quality.telemetry.consumer import Telemetry
from quality.telemetry.day_report import read_report
from quality.telemetry.ingest import Ingest
from quality.telemetry.report import Reports
from quality.telemetry.report_figures import AnswerCounts, HitSessions, LatencyPercentiles
from quality.telemetry.report_html import render_html
from quality.telemetry.report_schema import validate_report
from quality.telemetry.store import Store
from stream.event import Event
from stream.settings import load
from stream.zone import day_number
from tests.quality.telemetry.known_day import (
    DAY,
    END,
    FIRST,
    HOUR,
    SETTINGS,
    KnownDay,
    answer,
    one_line,
    report_after,
    watch,
)

OLD_FILES = Path(__file__).parent / "old_files"


def test_figures_of_a_known_day(known: KnownDay) -> None:
    report = report_after(known)
    assert report.final is True
    assert report.watermark == "2022-03-20T04:10:00.000Z"  # when it could be closed, not when it was made
    assert report.total.answers == AnswerCounts(requests=5, by_status={"0": 1, "200": 4}, closed=4, provisional=0)
    assert report.total.latency_ms == LatencyPercentiles(p50=30, p95=900, p99=900, max=900, over_deadline=0.4)
    assert (report.total.hits, report.total.hit_rate.mean) == (3, 0.75)
    assert report.total.hit_rate.low is not None
    assert report.total.hit_rate.high is not None
    assert report.total.hit_rate.low < 0.75 < report.total.hit_rate.high
    assert report.total.hits_by_rank[:3] == [2, 1, 0]
    assert report.total.mean_reciprocal_rank == pytest.approx((0.5 + 1 + 0 + 1) / 4)
    assert report.total.shown.movies == 3
    assert (report.total.baseline.answers, report.total.baseline.unknown, report.total.baseline.hits) == (3, 1, 2)
    assert report.total.uplift.mean == pytest.approx((2 - 2) / 3)
    before, first = report.by_release
    assert (before.name, before.hits, before.baseline.hit_rate.mean) == (None, 1, None)
    assert (first.name, first.answers.requests, first.answers.closed, first.hits) == ("first", 4, 3, 2)
    assert first.uplift == report.total.uplift
    assert "not a randomised experiment" in report.notes[0]
    assert any("baseline of 1 answers is unknown" in note for note in report.notes)


def test_the_baseline_leaves_out_what_a_user_had_seen_and_a_note_says_where_it_cannot(
    known: KnownDay, tmp_path: Path, publish: Callable[..., None]
) -> None:
    """Users 2, 3 and 5 are answered at 3, 4 and 6 hours; 2 and 3 then start `a+2001`, 5 `c+2003`."""
    publish(tmp_path / "releases", "second", FIRST + 4 * HOUR, ("a+2001", "c+2003"), {3: ("a+2001",)})
    report = report_after(known)
    assert (report.total.baseline.answers, report.total.baseline.unknown, report.total.baseline.hits) == (3, 1, 2)
    assert [figures.baseline.hits for figures in report.by_release] == [0, 1, 1]
    assert not any("may hold movies" in note for note in report.notes)
    publish(tmp_path / "releases", "old", FIRST + 4 * HOUR, ("a+2001", "c+2003"))
    report = report_after(known)
    assert [figures.baseline.hits for figures in report.by_release] == [0, 1, 2]
    assert any("baseline of 2 answers may hold movies that their users had seen" in note for note in report.notes)


def test_open_windows_are_in_no_rate(known: KnownDay) -> None:
    report = report_after(known, 27.5)  # the windows of the answers at 1 and 3 hours have closed
    assert report.final is False
    assert (report.total.answers.closed, report.total.answers.provisional, report.total.hits) == (2, 2, 2)
    assert any("windows of 2 answers are still open" in note for note in report.notes)


def test_an_answer_of_the_day_after_takes_the_start(tmp_path: Path, batch_of: Callable[..., TelemetryBatch]) -> None:
    store, stream = Store(tmp_path / "telemetry.db"), one_line(tmp_path)
    events = [answer(23, 1, ("a+2001",)), answer(23, 2, ("a+2001",)), answer(25, 2, ("b+2002",))]
    events += [watch(26, 1, "a+2001"), watch(26, 2, "a+2001")]
    Ingest(store, stream, SETTINGS).take(batch_of(events))
    report = report_after(KnownDay(store, Reports(stream, SETTINGS)))
    store.close()
    assert (report.total.answers.closed, report.total.hits, report.total.shown.movies) == (2, 1, 1)


def test_a_day_without_answers_has_no_figures(known: KnownDay) -> None:
    day = day_number("2022-03-19")
    report = known.reports.build(day, known.store.day_rows(day, known.reports.days), END + 1)
    document = msgspec.to_builtins(report)
    validate_report(document)
    assert report.total.hit_rate == report.total.uplift == report.total.baseline.hit_rate == Interval(None, None, None)
    assert report.total.latency_ms.p50 is report.total.mean_reciprocal_rank is None
    assert "NaN" not in orjson.dumps(document).decode()
    assert render_html(report)


def test_a_release_that_is_gone_has_no_baseline_and_says_so(
    known: KnownDay, tmp_path: Path, publish: Callable[..., None]
) -> None:
    publish(tmp_path / "releases", "pruned", FIRST + 4 * HOUR, None)
    report = report_after(known)
    assert (report.total.baseline.answers, report.total.baseline.unknown) == (1, 3)
    assert report.by_release[2].baseline.hit_rate.mean is None
    assert (report.total.hits, report.total.hit_rate.mean) == (3, 0.75)


def test_a_final_report_is_never_touched_again(known: KnownDay) -> None:
    reports, day = known.reports, day_number(DAY)
    path = reports.path(day)
    reports.write(report_after(known, 28))
    provisional = read_report(path)
    assert provisional is not None
    assert provisional.final is False
    assert reports.written(day) is None
    reports.write(report_after(known))
    final = path.read_bytes(), path.with_suffix(".html").read_bytes(), path.stat().st_mtime_ns
    assert reports.written(day) is not None
    reports.write(report_after(known, 28))
    assert (path.read_bytes(), path.with_suffix(".html").read_bytes(), path.stat().st_mtime_ns) == final


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"final": true}', b"\xff"])
def test_a_damaged_report_is_set_aside_and_made_again(
    known: KnownDay, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = known.reports.path(day_number(DAY))
    path.parent.mkdir()
    path.write_bytes(damaged)
    with pytest.raises(ReportError, match=f"report: cannot read .*{DAY}.json"):
        known.reports.written(day_number(DAY))
    known.reports.write(report_after(known))
    assert read_report(path) == report_after(known)
    assert path.with_suffix(".json.damaged").read_bytes() == damaged
    (said,) = caplog.messages
    assert said.startswith(f"report: cannot read {path}: ")
    assert said.endswith(f"; it is set aside as {DAY}.json.damaged and made again")


def test_open_reports_are_rewritten_once_in_an_hour_of_the_stream(
    tmp_path: Path, batch_of: Callable[..., TelemetryBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "telemetry.db")
    telemetry = Telemetry(store, one_line(tmp_path), SETTINGS)
    minutes_written: list[str] = []
    monkeypatch.setattr(Reports, "write", lambda _, report: minutes_written.append(report.watermark[11:16]))
    for offset, minute in enumerate([0, 30, 59, 60, 90, 119]):
        telemetry.ingest.take(batch_of([Event("watch", FIRST + minute * 60_000, 1, "a+2001", minute=0)], offset))
        telemetry.report()
    telemetry.report(now=True)
    store.close()
    assert minutes_written == ["04:00", "05:00", "05:59"]  # and once more at the end


def test_runtimes_are_those_of_the_catalogue_and_a_damaged_one_costs_only_them(
    known: KnownDay, caplog: pytest.LogCaptureFixture
) -> None:
    def sessions() -> HitSessions:
        return report_after(known).total.hit_sessions

    assert sessions() == HitSessions(over=3, unknown=0, minutes=1, with_runtime=0, finished=None)
    catalog = Catalog(known.reports.stream.var)
    catalog.keep("movie", [("a+2001", "known", {"id": "a+2001", "runtime": 1}, "")])
    catalog.keep("movie", [("c+2003", "known", {"id": "c+2003", "runtime": 90}, "")])
    assert sessions() == HitSessions(over=3, unknown=0, minutes=1, with_runtime=2, finished=0.5)
    catalog.path.write_bytes(b"no database" * 1000)
    assert sessions().with_runtime == 0
    assert "report: no runtimes, costs and adult flags: catalogue: " in caplog.text


def run_report(folder: Path, day: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "quality", "report", "--day", day]
    environ = {"MARQUEE_STREAM_VAR": str(folder), "PATH": "/usr/bin"}
    return subprocess.run(command, env=environ, capture_output=True, timeout=600, check=False)


def test_the_command_prints_the_report_as_of_the_watermark(known: KnownDay, tmp_path: Path) -> None:
    got = run_report(tmp_path, DAY)
    as_of_the_last_line = report_after(known, 29 + 1 / 60)
    assert orjson.loads(got.stdout) == msgspec.to_builtins(as_of_the_last_line)
    assert not list(tmp_path.glob("reports/*"))
    final = known.reports.path(day_number(DAY))
    final.parent.mkdir()
    final.write_bytes((OLD_FILES / "final.json").read_bytes())  # as it is, of an older version as well
    assert run_report(tmp_path, DAY).stdout == final.read_bytes()
    missing = run_report(tmp_path, "2022-01-01")
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert b"no lines of 2022-01-01" in missing.stderr
    assert b"Traceback" not in missing.stderr


def test_defaults_of_the_settings() -> None:
    settings = load("quality", QualitySettings, {})
    assert (settings.window_hours, settings.grace_minutes, settings.session_gap_hours) == (24.0, 10.0, 6.0)
    assert settings.report_every_minutes == 60.0
    assert settings.window_ms == 86_400_000
