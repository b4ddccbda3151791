"""What is old goes, what anything needs stays, and the ledger knows of both."""

import datetime as dt
import itertools
import os
from pathlib import Path

import msgspec
import pytest

from batch.history.day_store import DayStore
from batch.nights.journal import Journal, NightStart
from batch.tidying.tidy_command import tidy
from quality.alerts.alert_file import Alert, AlertFile
from quality.alerts.webhook import Outbox
from quality.lines.ledger_summary import damaged_files, dropped_days, summarize
from quality.settings import QualitySettings
from quality.telemetry.archived_reports import ArchivedReports
from quality.telemetry.report import Reports
from stream import durable
from stream.errors import ArchiveError
from stream.zone import day_number
from tests.batch.tidying.old_world import DAYS, QUALITY, OldWorld, aged, archive_day, old_world
from tests.dying_disk import dying_at


def went(world: OldWorld, make_room: bool = False) -> list[str]:
    return [removal.what for removal in tidy(world.retention(), make_room)]


def files_of(folder: Path) -> dict[str, bytes]:
    """All files but locks."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {str(path): path.read_bytes() for path in files}


@pytest.fixture
def world(tmp_path: Path) -> OldWorld:
    return old_world(tmp_path, keep_archive_days=14, keep_quarantine_days=20)


def test_old_days_go_and_their_sessions_reports_and_counts_stay(world: OldWorld) -> None:
    before, sessions = summarize(world.archive.entries()), files_of(world.var / "sessions")
    assert went(world) == [f"archive of {day}" for day in DAYS[:16]] + [f"quarantine of {day}" for day in DAYS[:10]]
    assert (world.days_there(), world.days_there("quarantine")) == (DAYS[16:], DAYS[10:])
    archive = world.archive
    assert summarize(archive.entries()) == before
    assert (archive.sweep(), damaged_files(archive, archive.condensed())) == ([], [])
    assert dropped_days(archive, DAYS[0])[0].startswith(f"events of {DAYS[0]} was dropped on 20")
    assert dropped_days(archive, DAYS[20]) == []
    assert (world.compact()["days"], files_of(world.var / "sessions")) == (0, sessions)
    assert went(world) == []


def test_a_report_of_a_dropped_day_says_so(world: OldWorld) -> None:
    went(world)
    archived = ArchivedReports(Reports(world.streaming, QUALITY))
    with pytest.raises(ArchiveError, match=f"watch of {DAYS[2]} was dropped on .* by retention: 10 lines in 1 files"):
        archived.build(day_number(DAYS[3]))
    assert len(archived.days(day_number(DAYS[0]), day_number(DAYS[-1]))) == 30


def test_a_missing_file_of_a_day_that_was_not_dropped_is_damage(world: OldWorld) -> None:
    went(world)
    next((world.var / "archive" / "watch" / f"day={DAYS[20]}").iterdir()).unlink()
    assert len(damaged_files(world.archive, world.archive.condensed())) == 1


def test_a_day_without_sessions_of_all_its_lines_stays(world: OldWorld) -> None:
    DayStore(world.var).remove(DAYS[2])
    archive_day(world.archive, DAYS[4], 330, lines=5, came=DAYS[-1])  # late lines, that no night has read
    went(world)
    assert world.days_there() == [DAYS[2], DAYS[4], *DAYS[16:]]
    assert world.retention().days.waiting(14) == [DAYS[2], DAYS[4]]
    world.compact()
    assert went(world) == [f"archive of {DAYS[2]}", f"archive of {DAYS[4]}"]


def test_days_that_an_open_report_reads_stay(tmp_path: Path) -> None:
    world = old_world(tmp_path, reported=10, keep_archive_days=3, keep_quarantine_days=3)
    went(world, make_room=True)
    assert world.days_there() == DAYS[9:] == world.days_there("quarantine")


def test_without_any_report_telemetry_needs_all_and_without_telemetry_none(tmp_path: Path) -> None:
    world = old_world(tmp_path, reported=0)
    assert went(world) == []
    (tmp_path / "telemetry.db").unlink()
    assert world.days_there() == DAYS
    assert len(went(world)) == 16
    assert world.days_there() == DAYS[16:]


def test_lines_that_come_for_a_dropped_day_leave_its_sessions_and_go_next_time(world: OldWorld) -> None:
    went(world)
    sessions = files_of(world.var / "sessions")
    archive_day(world.archive, DAYS[1], 330, lines=5, came=DAYS[-1])
    assert (world.compact()["days"], files_of(world.var / "sessions")) == (0, sessions)
    assert went(world) == [f"archive of {DAYS[1]}"]
    assert world.archive.dropped.of("events")[DAYS[1]].rows == 15
    assert world.archive.dropped.of("events")[DAYS[1]].files == 2


def test_tidying_killed_at_any_write_is_finished_by_the_next_and_damages_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = None
    for number in itertools.count():
        world = old_world(tmp_path / str(number), keep_archive_days=26, keep_quarantine_days=27)
        before = before or summarize(world.archive.entries())
        with dying_at(number, monkeypatch) as disk:
            went(world)
        archive = world.archive
        assert (damaged_files(archive, archive.condensed()), summarize(archive.entries())) == ([], before)
        assert world.compact()["days"] == 0
        went(world)
        assert (world.days_there(), world.days_there("quarantine")) == (DAYS[4:], DAYS[3:])
        if not disk.died:
            break
    assert number > 15


def test_sessions_before_any_history_go_unless_a_night_is_pending(tmp_path: Path) -> None:
    world = old_world(tmp_path, history_days=10)
    went(world)
    assert list(DayStore(tmp_path).days()) == DAYS[13:]
    journal = Journal(tmp_path / "night")
    journal.begin(NightStart(began="", stream_time=0, settings=""))
    shorter = OldWorld(tmp_path, msgspec.structs.replace(world.settings, history_days=5))
    assert went(shorter) == []
    journal.end()
    assert went(shorter) == [f"sessions of {day}" for day in DAYS[13:16]]  # later ones can be made again: they stay


def test_what_was_set_aside_revised_or_tried_goes_when_it_is_old(world: OldWorld) -> None:
    went(world)
    old = [
        aged(world.var / "telemetry.db.damaged-20250101T000000Z", 31),
        aged(world.var / "reports" / "2025-01-01.json.damaged", 31),
        aged(world.var / "reports" / "2025-01-01.revision-0.html", 366),
        aged(world.var / "experiments" / "old" / "experiment.md", 366),
    ]
    experiment = world.var / "experiments" / "old"
    os.utime(experiment, (0, 0))
    kept = [
        aged(world.var / "telemetry.db.damaged-20260101T000000Z", 29),
        aged(world.var / "reports" / "2025-01-02.revision-0.html", 364),
        aged(world.var / "experiments" / "new" / "experiment.md", 364),
    ]
    assert len(went(world)) == 4
    assert [path.exists() for path in (*old, *kept)] == [False] * 4 + [True] * 3
    assert not experiment.exists()


def test_a_dry_run_names_what_then_goes_and_removes_nothing(world: OldWorld) -> None:
    before = files_of(world.var)
    due = [(removal.what, removal.size) for removal in world.retention().due()]
    assert files_of(world.var) == before
    assert [what for what, _ in due] == went(world)
    assert all(size > 0 for _, size in due)


@pytest.mark.parametrize("posted", [0, 2, 4])
def test_old_alerts_go_but_none_that_was_not_posted(tmp_path: Path, posted: int) -> None:
    world = OldWorld(tmp_path, old_world(tmp_path).settings)
    alerts = [Alert(id=f"a:{number}", alert="a", text="x") for number in range(5)]
    now = dt.datetime.now(dt.UTC)
    ages = [200, 150, 100, 50, 1]
    lines = [
        msgspec.structs.replace(alert, raised=(now - dt.timedelta(days=age)).isoformat(timespec="seconds"))
        for alert, age in zip(alerts, ages, strict=True)
    ]
    durable.write_bytes(tmp_path / "alerts.jsonl", b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    outbox, reader = Outbox(tmp_path), AlertFile(tmp_path)
    for line in outbox.pending()[:posted]:
        outbox.delivered(line)
    reader.refresh()
    waiting = [line.alert.id for line in outbox.pending()]
    retention = world.retention()
    quality = QualitySettings(webhook="http://127.0.0.1:1/")
    for removal in type(retention)(world.streaming, quality, world.settings).due():
        removal.remove()
    left = [line.alert.id for line in reader.read()]
    assert left == [alert.id for alert in alerts[min(3, max(posted - 1, 0)) :]]
    assert [line.alert.id for line in outbox.pending()] == waiting
    reader.refresh()
    assert reader.ids == set(left)
    assert reader.append([alerts[4]]) == []
