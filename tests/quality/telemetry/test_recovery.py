"""Damaged files: each is named, set aside, and made again from the archive; the reports stay what they were."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from quality.errors import StoreDamaged
from quality.telemetry.batch import batch_of
from quality.telemetry.consumer import Telemetry
from quality.telemetry.day_report import read_report
from quality.telemetry.recovery import repair_reports, sound_store
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream.kafka import FetchedRecords
from stream.settings import StreamSettings
from stream.zone import day_number, zone_named
from tests.quality.telemetry.archived_stream import CollectedStream, records_of
from tests.quality.telemetry.known_day import DAY, EVENTS, FIRST, HOUR, SETTINGS, answer, one_line, watch

ZONE = zone_named("America/New_York")
NUMBER = day_number(DAY)
MANY = [answer(2, user, ("a+2001", "b+2002")) for user in range(100, 400)]
MANY += [watch(3, user, "a+2001") for user in range(100, 400, 2)]
LATER = [watch(48, 7, "d+2004"), watch(49, 7, "d+2004")]


def take(store: Store, streaming: StreamSettings, records: FetchedRecords) -> None:
    telemetry = Telemetry(store, streaming, SETTINGS)
    telemetry.ingest.take(batch_of([records], {0: int(records.offsets[-1]) + 1}, ZONE))
    telemetry.report(now=True)


def half_a_day(var: Path, archived: int) -> StreamSettings:
    """A store with the known day and many users, of which the archive has so many lines."""
    streaming, records = one_line(var), records_of([*EVENTS, *MANY])
    with closing(Store(var / "telemetry.db")) as store:
        take(store, streaming, records)
    cut = FetchedRecords(0, records.values[:archived], records.offsets[:archived], records.times[:archived])
    CollectedStream(streaming, SETTINGS).take(cut)
    return streaming


def flip(path: Path, seed: int, bits: int = 20) -> None:
    data, draw = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(bits):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_in_the_store_reach_no_final_report(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    clean = half_a_day(tmp_path / "clean", len(EVENTS) + 200)
    dirty = half_a_day(tmp_path / "dirty", len(EVENTS) + 200)
    flip(dirty.var / "telemetry.db", seed)
    reports = []
    for streaming in (clean, dirty):
        collected, every = CollectedStream(streaming, SETTINGS), records_of([*EVENTS, *MANY, *LATER])
        with closing(sound_store(streaming, SETTINGS)) as store:
            first = store.positions("movielog1")[0]
            rest = slice(len(EVENTS) + 200, None)
            collected.take(FetchedRecords(0, every.values[rest], every.offsets[rest], every.times[rest]))
            take(store, streaming, FetchedRecords(0, every.values[first:], every.offsets[first:], every.times[first:]))
        reports.append(read_report(streaming.var / "reports" / f"{DAY}.json"))
    assert reports[0] is not None
    assert reports[0].final
    assert reports[1] is not None
    assert reports[0].figures() == reports[1].figures()
    aside = list(dirty.var.glob("telemetry.db.damaged-*"))
    assert len(aside) == len([said for said in caplog.messages if "it is set aside as telemetry.db.damaged-" in said])


def test_a_store_that_is_no_database_is_made_again_from_the_archive(tmp_path: Path) -> None:
    streaming = half_a_day(tmp_path, len(EVENTS) + len(MANY))
    with closing(Store(tmp_path / "telemetry.db")) as store:
        expected = store.day_rows(NUMBER, Reports(streaming, SETTINGS).days)
        positions, marks, reached = store.positions("movielog1"), store.marks("movielog1"), store.reached("movielog1")
    (tmp_path / "telemetry.db").write_bytes(b"not a database, but long enough to be looked at " * 100)
    with closing(sound_store(streaming, SETTINGS)) as store:
        rows = store.day_rows(NUMBER, Reports(streaming, SETTINGS).days)
        assert (rows.answers.time == expected.answers.time).all()
        assert (rows.sessions.start == expected.sessions.start).all()
        assert (store.positions("movielog1"), store.marks("movielog1")) == (positions, marks)
        assert store.reached("movielog1") == reached
        assert store.days(final=False) == [NUMBER, NUMBER + 1]
    (aside,) = tmp_path.glob("telemetry.db.damaged-*")
    assert aside.read_bytes().startswith(b"not a database")
    assert not list(tmp_path.glob(".telemetry.db*"))


def test_a_changed_position_is_noticed(tmp_path: Path) -> None:
    streaming = half_a_day(tmp_path, 5)
    with sqlite3.connect(tmp_path / "telemetry.db") as db:
        db.execute("UPDATE positions SET next = next + 1024")
    db.close()
    with (
        closing(Store(tmp_path / "telemetry.db")) as store,
        pytest.raises(StoreDamaged, match="partition 0 is not what"),
    ):
        store.positions("movielog1")
    with closing(sound_store(streaming, SETTINGS)) as store:
        assert store.positions("movielog1") == {0: 5}


def test_a_damaged_store_without_an_archive_is_begun_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "telemetry.db").write_bytes(b"not a database, but long enough to be looked at " * 100)
    with closing(sound_store(one_line(tmp_path), SETTINGS)) as store:
        assert store.positions("movielog1") == {}
    assert "the topic is read again from its beginning" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 40])
def test_a_damaged_final_report_is_made_again_at_the_start(tmp_path: Path, damage: bytes) -> None:
    streaming = one_line(tmp_path)
    CollectedStream(streaming, SETTINGS).take(records_of([*EVENTS, *LATER]))
    with closing(Store(tmp_path / "telemetry.db")) as store:
        take(store, streaming, records_of([*EVENTS, *LATER]))
    reports = Reports(streaming, SETTINGS)
    path = reports.path(NUMBER)
    final = path.read_bytes(), path.with_suffix(".html").read_bytes()
    (path.parent / "notes-2022.json").write_bytes(b"not a report")
    repair_reports(reports)
    assert not list(path.parent.glob("*.damaged"))
    path.write_bytes(damage)
    repair_reports(reports)
    assert (path.read_bytes(), path.with_suffix(".html").read_bytes()) == final
    assert path.with_suffix(".json.damaged").read_bytes() == damage


def test_a_torn_line_of_the_history_stops_no_report(tmp_path: Path) -> None:
    streaming = one_line(tmp_path)
    (tmp_path / "releases").mkdir()
    whole = b'{"release":"first","stream_time":%d}\n' % (FIRST + HOUR)
    (tmp_path / "releases" / "history.jsonl").write_bytes(whole + b'{"release":"sec')
    with closing(Store(tmp_path / "telemetry.db")) as store:
        take(store, streaming, records_of([*EVENTS, *LATER]))
    report = read_report(tmp_path / "reports" / f"{DAY}.json")
    assert report is not None
    assert report.final
    assert [figures.name for figures in report.by_release] == ["first"]
    assert any("history.jsonl, line 2, cannot be read" in note for note in report.notes)
