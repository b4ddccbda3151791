"""When reports become final: from the archive, once the ledger has what telemetry has read."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import msgspec
import orjson
import pytest
from click.testing import CliRunner, Result

from quality.__main__ import commands
from quality.alerts.alert_file import AlertFile
from quality.errors import ReportError
from quality.settings import QualitySettings
from quality.telemetry import reporting
from quality.telemetry.archive_rows import ArchiveRows
from quality.telemetry.archived_reports import ArchivedReports
from quality.telemetry.batch import batch_of
from quality.telemetry.consumer import Telemetry
from quality.telemetry.day_report import DayReport, read_report
from quality.telemetry.report import Reports
from quality.telemetry.report_html import render_html
from quality.telemetry.store import Store
from stream.event import Event
from stream.kafka import FetchedRecords
from stream.settings import StreamSettings
from stream.zone import day_number, zone_named
from tests.polling import until
from tests.quality.telemetry.archived_stream import CollectedStream, records_of
from tests.quality.telemetry.known_day import DAY, EVENTS, FIRST, HOUR, SETTINGS, answer, one_line, watch

ZONE = zone_named("America/New_York")
NUMBER = day_number(DAY)
LATER = [watch(48, 7, "d+2004"), watch(49, 7, "d+2004")]
"""The report closes ten minutes after the 48th hour, and is final another ten minutes later."""


AtOnce = Callable[[Callable[[], object], Callable[[], object]], None]


class ReadAndCollected:
    """Telemetry and a collector on one partition."""

    def __init__(self, var: Path, quality: QualitySettings = SETTINGS) -> None:
        self.streaming = one_line(var)
        self.collected = CollectedStream(self.streaming, quality)
        self._store = Store(var / "telemetry.db")
        self._telemetry = Telemetry(self._store, self.streaming, quality)
        self._seen = 0.0

    def read(self, *batches: FetchedRecords) -> None:
        """Telemetry reads the batches; time goes on, so that it looks into the ledger again."""
        for records in batches:
            positions = {records.partition: int(records.offsets[-1]) + 1}
            self._telemetry.ingest.take(batch_of([records], positions, ZONE))
        self._telemetry.report(now=True)

    @property
    def report(self) -> DayReport | None:
        return read_report(self.streaming.var / "reports" / f"{DAY}.json")

    def is_final(self) -> bool:
        return self.report is not None and self.report.final

    def is_anything_due(self) -> bool:
        return self._telemetry.due() is not None

    def final_days(self) -> list[int]:
        """The days with a final report, by their distance from `DAY`."""
        reports = map(read_report, sorted((self.streaming.var / "reports").glob("*.json")))
        return [day_number(report.day) - NUMBER for report in reports if report is not None and report.final]

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def day(tmp_path: Path) -> Iterator[ReadAndCollected]:
    with closing(ReadAndCollected(tmp_path)) as made:
        yield made


def test_a_report_is_final_once_the_ledger_has_what_was_read(day: ReadAndCollected) -> None:
    known, later = records_of(EVENTS), records_of(LATER, len(EVENTS))
    day.collected.take(known)
    day.read(known, later)
    assert not day.is_final()
    assert day.report is not None
    assert day.report.watermark == "2022-03-20T04:10:00.000Z"
    day.collected.take(later)
    day.read()
    assert day.is_final()
    assert day.report.figures() == ArchivedReports(Reports(day.streaming, SETTINGS)).build(NUMBER).figures()
    assert day.report == ArchivedReports(Reports(day.streaming, SETTINGS)).build(NUMBER)


def test_a_report_is_not_final_before_another_grace(day: ReadAndCollected) -> None:
    known = records_of([*EVENTS, watch(48, 7, "d+2004")])
    end = records_of([Event("watch", FIRST + 48 * HOUR + 20 * 60_000 - 1, 7, "d+2004", minute=0)], len(EVENTS) + 1)
    day.collected.take(known, end)
    day.read(known, end)
    assert not day.is_final()
    last = records_of([Event("watch", FIRST + 48 * HOUR + 20 * 60_000, 7, "d+2004", minute=0)], len(EVENTS) + 2)
    day.collected.take(last)
    day.read(last)
    assert day.is_final()


def test_without_an_archive_the_store_makes_the_final_report(day: ReadAndCollected) -> None:
    day.read(records_of([*EVENTS, *LATER]))
    assert day.is_final()
    assert day.report is not None
    assert day.report.total.hits == 3
    assert "There is no archive of this topic" in day.report.notes[-1]


def test_what_the_archive_judged_otherwise_counts_as_there_and_is_said(day: ReadAndCollected) -> None:
    """The store has one answer and two starts that the archive does not have."""
    known = records_of([*EVENTS, *LATER])
    day.collected.take(known)
    others = [answer(7, 8, ("c+2003",)), watch(7, 8, "c+2003"), watch(20, 8, "c+2003"), LATER[1]]
    day.read(known, records_of(others, 0, partition=1))
    assert not day.is_final()  # the ledger does not have partition 1
    day.collected.take(records_of([watch(-80, 1, "z+1950")] * 3 + LATER[1:], 0, partition=1))
    day.read()
    assert day.report is not None
    assert (day.report.final, day.report.total.answers.requests, day.report.total.hits) == (True, 5, 3)
    [line] = AlertFile(day.streaming.var).read()
    assert (line.alert.id, line.alert.lines) == (f"report_differs:{DAY}", 3)
    assert day.report == ArchivedReports(Reports(day.streaming, SETTINGS)).build(NUMBER)


def test_a_day_of_which_telemetry_refused_all_lines_has_the_report_of_the_archive(day: ReadAndCollected) -> None:
    """In a batch of which most lines came much too late, the collector refuses none for its time."""
    late, came = [watch(-72, user, "a+2001") for user in range(1, 31)], FIRST + HOUR
    collected = records_of(late, 1, times=[came] * 30)
    single = [records_of([event], first, times=[came]) for first, event in enumerate(late, 1)]
    first, later = records_of([watch(-73, 1, "a+2001")]), records_of(LATER, 31)
    day.collected.take(first)
    day.read(first, *single, later)
    assert day.final_days() == []  # the ledger does not have what telemetry has read
    day.collected.take(collected, later)
    day.read()
    assert day.final_days() == [-4, -3, 0]
    assert day.report is not None
    assert day.report.left_out.by_reason == {"late_watch": 30}
    assert day.report == ArchivedReports(Reports(day.streaming, SETTINGS)).build(NUMBER)
    assert not day.is_anything_due()


def test_a_day_without_lines_has_a_report_once_the_ledger_has_a_late_one(tmp_path: Path) -> None:
    with closing(ReadAndCollected(tmp_path, msgspec.structs.replace(SETTINGS, late_hours=100))) as day:
        known, late = records_of([watch(-30, 1, "a+2001"), LATER[1]]), records_of([watch(1, 1, "a+2001")], 2)
        late.times[:] = LATER[1].time
        day.collected.take(known)
        day.read(known)
        assert day.final_days() == [-2]
        assert not day.is_anything_due()
        day.read(late)
        assert day.final_days() == [-2]
        day.collected.take(late)
        day.read()
        assert day.final_days() == [-2, 0]


def test_a_final_report_is_made_again_only_for_a_reason(day: ReadAndCollected) -> None:
    day.collected.take(records_of([*EVENTS, *LATER]))
    archived = ArchivedReports(Reports(day.streaming, SETTINGS))
    assert archived.make_final(NUMBER, None) == "final"
    assert archived.make_final(NUMBER, None) == archived.make_final(NUMBER, "none") == "unchanged"
    before, path = day.report, archived.reports.path(NUMBER)
    assert before is not None
    page = path.with_suffix(".html").read_bytes()
    wider = Reports(day.streaming, msgspec.structs.replace(SETTINGS, window_hours=23))
    with pytest.raises(ReportError, match="differs from what the archive gives now; give --reason"):
        ArchivedReports(wider).make_final(NUMBER, None)
    assert day.report == before
    assert ArchivedReports(wider).make_final(NUMBER, "the window was wrong") == "revision 1"
    after = day.report
    assert after is not None
    assert (after.revision, after.revision_reason, after.window_hours) == (1, "the window was wrong", 23)
    assert read_report(path.with_suffix(".revision-0.json")) == before
    assert path.with_suffix(".revision-0.html").read_bytes() == page
    assert archived.make_final(NUMBER, "it was right") == "revision 2"
    assert read_report(path.with_suffix(".revision-1.json")) == after


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> AtOnce:
    """Does two things in two threads: the second begins while the first is between looking at a report and replacing
    it, and gets as far as it can."""

    def run(first: Callable[[], object], second: Callable[[], object]) -> None:
        waits, done = threading.Event(), threading.Event()
        lock = Reports.lock

        def run_second() -> None:
            second()
            done.set()

        beside = threading.Thread(target=run_second)

        def locked(reports: Reports) -> AbstractContextManager[object]:
            if threading.current_thread() is beside:
                waits.set()
            return lock(reports)

        def render(report: DayReport) -> str:
            if beside.ident is None:
                beside.start()
                until(lambda: waits.is_set() or done.is_set())
            return render_html(report)

        monkeypatch.setattr(Reports, "lock", locked)
        monkeypatch.setattr("quality.telemetry.report.render_html", render)
        first()
        beside.join()
        assert done.is_set()

    return run


def archived_reports(day: ReadAndCollected, window_hours: float) -> ArchivedReports:
    settings = msgspec.structs.replace(SETTINGS, window_hours=window_hours)
    return ArchivedReports(Reports(day.streaming, settings))


def test_no_provisional_report_replaces_a_final_one_that_is_written_beside_it(
    day: ReadAndCollected, at_once: AtOnce
) -> None:
    day.collected.take(records_of([*EVENTS, *LATER]))
    telemetry, command = archived_reports(day, 24), archived_reports(day, 23)
    provisional = telemetry.reports.build(NUMBER, telemetry.rows.day_rows(NUMBER), FIRST + 30 * HOUR)
    assert not provisional.final
    at_once(lambda: telemetry.reports.write(provisional), lambda: command.make_final(NUMBER, None))
    assert day.is_final()
    assert "provisional" not in telemetry.reports.path(NUMBER).with_suffix(".html").read_text()
    telemetry.reports.write(provisional)
    assert day.is_final()


def test_of_two_revisions_each_keeps_what_it_replaces(day: ReadAndCollected, at_once: AtOnce) -> None:
    day.collected.take(records_of([*EVENTS, *LATER]))
    archived_reports(day, 24).make_final(NUMBER, None)
    one, other = archived_reports(day, 23), archived_reports(day, 22)
    at_once(lambda: one.make_final(NUMBER, "one"), lambda: other.make_final(NUMBER, "other"))
    path = one.reports.path(NUMBER)
    kept = [read_report(path.with_suffix(f".revision-{number}.json")) for number in (0, 1)]
    reports = [report for report in (*kept, day.report) if report is not None]
    assert [(report.revision, report.revision_reason, report.window_hours) for report in reports] == [
        (0, None, 24), (1, "one", 23), (2, "other", 22),
    ]  # fmt: skip


def test_a_day_that_is_not_over_has_no_final_report(tmp_path: Path) -> None:
    streaming: StreamSettings = one_line(tmp_path)
    CollectedStream(streaming, SETTINGS).take(records_of(EVENTS))
    archived = ArchivedReports(Reports(streaming, QualitySettings()))
    with pytest.raises(ReportError, match=f"report: {DAY} is not over"):
        archived.make_final(NUMBER, None)
    assert not archived.reports.folder.exists()
    assert list(archived.partitions_behind(NUMBER)) == [0]


def test_the_command_makes_days_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(tmp_path))
    monkeypatch.setenv("MARQUEE_STREAM_CLOCK_LINES", "1")
    monkeypatch.setenv("MARQUEE_STREAM_CLOCK_USERS", "1")
    CollectedStream(one_line(tmp_path), SETTINGS).take(records_of([*EVENTS, *LATER]))

    def report(*arguments: str) -> Result:
        return CliRunner().invoke(commands, ["report", *arguments])

    printed = report("--from", DAY, "--to", "2022-03-20")
    days = [orjson.loads(line) for line in printed.stdout.splitlines()]
    assert [(day["day"], day["final"], day["total"]["hits"]) for day in days] == [
        (DAY, True, 3), ("2022-03-19", False, 0), ("2022-03-20", False, 0),
    ]  # fmt: skip
    assert not (tmp_path / "reports").exists()
    made = report("--from", DAY, "--to", "2022-03-20", "--final")
    assert (made.exit_code, made.stdout) == (1, f"{DAY}: final\n")
    assert made.stderr.count("is not over") == 2
    assert orjson.loads((tmp_path / "reports" / f"{DAY}.json").read_bytes()) == days[0]
    assert orjson.loads(report("--day", DAY).stdout) == days[0]
    assert report("--day", DAY, "--final").stdout == f"{DAY}: unchanged\n"
    assert report("--day", "2022-01-01").exit_code == 1
    for wrong in (["--day", DAY, "--from", DAY], [], ["--day", DAY, "--reason", "x"]):
        assert report(*wrong).exit_code == 2


def test_a_report_waits_for_records_that_were_set_aside_but_not_for_ever(
    day: ReadAndCollected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ArchiveRows, "is_waiting", lambda _: True)
    known = records_of([*EVENTS, *LATER])
    day.collected.take(known)
    day.read(known)
    assert not day.is_final()
    monkeypatch.setattr(reporting, "_SET_ASIDE_S", 0.0)
    day.read()
    assert day.is_final()
