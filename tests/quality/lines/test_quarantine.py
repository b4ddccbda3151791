"""The quarantine: what was set aside is found again, and a replay gives each line its one fate, whatever stops it."""

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.catalog import KnownIds
from quality.errors import QuarantineError
from quality.lines import archive_writer
from quality.lines.context_checks import JudgingContext
from quality.lines.ledger_summary import summarize
from quality.lines.quarantine import explain, quarantined_lines, replay_quarantine
from quality.lines.schemas import event_schemas
from quality.lines.verdicts import ParsedLines, judge
from stream.archive import FATES, Archive, LedgerEntry, TimeRange, count_by_fate
from stream.errors import ArchiveError
from stream.event import KINDS, Event, Kind
from stream.line_columns import events_of
from stream.settings import Generation, StreamSettings
from stream.tables import ARCHIVE_SCHEMAS, EVENT_SCHEMAS, QUARANTINE_SCHEMA
from stream.zone import DAY_MS, HOUR_MS, zone_named

CLOCK = zone_named("America/New_York")
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
TOPIC = "movielog1"


def context(
    max_user: int = 1_000,
    generation: Generation = "2022",
    missing: tuple[str, ...] = ("new+2022",),
    ahead_ms: int | None = HOUR_MS,
) -> JudgingContext:
    schemas = event_schemas(StreamSettings(generation=generation))
    known = KnownIds({"a+1984": 90, **({} if missing else {"new+2022": 90})}, frozenset(missing))
    return JudgingContext(CLOCK, schemas, max_user, ahead_ms, DAY_MS, known)


BEFORE = context()
MENDED = {
    "more users": context(max_user=10_000),
    "another generation": context(generation="2026"),
    "a movie that is new": context(missing=()),
    "all of it": context(max_user=10_000, generation="2026", missing=()),
}
LINES = [
    b"2022-10-07T09:40,5,GET /data/m/a+1984/5.mpg",
    b"2022-10-08T01:39,5,GET /data/m/a+1984/6.mpg-",
    b"2022-10-07T09:40,7801,GET /data/m/a+1984/5.mpg",
    b"2022-10-07T09:40,70809,GET /data/m/a+1984/5.mpg",
    b"2022-10-07T09:40,5,GET /rate/a+1984=9",
    b"2022-10-07T09:40,5,GET /rate/a+1984=10",
    b"2022-10-07T09:50,5,GET /rate/new+2022=3",
    b"2022-10-08T01:20,6,GET /rate/new+2022=3-",
    b"2022-10-07T09:40,5,recommendation request a:1, status 200, result: a+1984, new+2022, 5 ms",
    b"2022-10-07T09:40,5,GET /data/m/a+1984/05.mpg",
    b"2022-10-01T09:40,5,GET /create_account",
    b"yesterday,8801,GET /create_account",
    b"nonsense",
    b"\xff\x00",
    b"",
]


def collected(
    archive: Archive,
    lines: list[bytes],
    first: int = 0,
    held: JudgingContext = BEFORE,
    clocks_apart_ms: int | None = None,
    partition: int = 3,
) -> LedgerEntry:
    """A batch as the collector archives it: every third line comes to Kafka on the next day."""
    offsets = first + 2 * np.arange(len(lines), dtype=np.int64)
    kafka_times = NOW + 1_000 + (offsets % 3 == 2) * 16 * HOUR_MS
    read = ParsedLines.read(pa.array(lines, pa.binary()), kafka_times, CLOCK)
    fates = judge(read, held if clocks_apart_ms is None else replace(held, ahead_ms=None))
    entry = LedgerEntry(
        topic=TOPIC,
        partition=partition,
        first=first,
        last=int(offsets[-1]),
        lines=len(lines),
        counts=fates.counts(kafka_times, CLOCK),
        kafka_time=TimeRange(int(kafka_times.min()), int(kafka_times.max())),
        redelivered=2,
        clocks_apart_ms=clocks_apart_ms,
    )
    origin = archive_writer.provenance_columns(TOPIC, partition, offsets, kafka_times)
    return archive.commit(
        entry.with_files(archive_writer.write_batch(archive, entry, fates, read.values, origin, CLOCK))
    )


Row = tuple[str, str | None, Event | None, bytes | None, str, int, int, int]
"""Fate; reason or rule; event; raw bytes; topic, partition, offset and Kafka's time."""


def rows_of(archive: Archive) -> dict[int, Row]:
    """By offset: what the files of the ledger hold; a line that lies in two of them is an error."""
    found: dict[int, Row] = {}
    for file in (file for entry in archive.entries() for file in entry.files):
        table = pq.ParquetFile(archive.var / file.path).read()
        assert table.num_rows == file.rows > 0
        quarantined = file.room == "quarantine"
        for row in quarantined_in(table) if quarantined else events_in(file.room, table):  # type: ignore[arg-type]
            assert row[6] not in found
            moment = row[7] if row[2] is None else row[2].time
            assert file.day == CLOCK.day(moment)
            found[row[6]] = row
    return found


def provenance_of(table: pa.Table) -> Iterator[tuple[str, int, int, int]]:
    names = ("topic", "partition", "offset")
    columns = [table.column(name).to_pylist() for name in names]
    return zip(*columns, table.column("kafka_time").cast(pa.int64()).to_pylist(), strict=True)


def quarantined_in(table: pa.Table) -> Iterator[Row]:
    assert table.schema.equals(QUARANTINE_SCHEMA)
    raws, reasons = table.column("raw").to_pylist(), table.column("reason").to_pylist()
    assert set(table.column("room").to_pylist()) == {"quality"}
    for raw, reason, origin in zip(raws, reasons, provenance_of(table), strict=True):
        yield "quarantined", reason, None, raw, *origin


def events_in(kind: Kind, table: pa.Table) -> Iterator[Row]:
    assert table.schema.equals(ARCHIVE_SCHEMAS[kind])
    events = events_of(kind, table.select(EVENT_SCHEMAS[kind].names))
    rules, raws = table.column("repair").to_pylist(), table.column("raw").to_pylist()
    for event, rule, raw, origin in zip(events, rules, raws, provenance_of(table), strict=True):
        assert (rule is None) == (raw is None)
        yield "repaired" if rule else "accepted", rule, event, raw, *origin


def is_whole(archive: Archive) -> bool:
    """Whether the sums hold and the disk holds what the ledger names and nothing else."""
    named = {archive.var / file.path for entry in archive.entries() for file in entry.files}
    folders = [archive.var / "archive" / kind for kind in KINDS] + [archive.var / "quarantine"]
    there = {path for folder in folders for path in folder.glob("day=*/*")}
    return bool(summarize(archive.entries())["balanced"]) and there == named


def digests(var: Path) -> dict[str, tuple[str, int, int]]:
    """By path below a folder: the bytes of each file, and whether it is still the same one."""
    return {
        path.relative_to(var).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_ino, path.stat().st_mtime_ns,
        )
        for path in var.rglob("*")
        if path.is_file()
    }  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "var")


# looking into it ------------------------------------------------------------------------------------------------


def test_what_was_set_aside_is_listed_with_its_id_reason_time_and_bytes(archive: Archive) -> None:
    collected(archive, LINES)
    aside = list(quarantined_lines(archive))
    expected = [row for _, row in sorted(rows_of(archive).items()) if row[0] == "quarantined"]
    assert [(one.id, one.reason, one.raw, one.kafka_time) for one in aside] == [
        (f"{TOPIC}-3:{row[6]}", row[1], row[3], row[7]) for row in expected
    ]
    assert len(aside) > 8


def test_it_is_listed_by_entry_and_offset(archive: Archive) -> None:
    collected(archive, LINES, first=100)
    collected(archive, LINES[9:], partition=1)
    ids = [one.id for one in quarantined_lines(archive)]
    places = [tuple(map(int, name.removeprefix(f"{TOPIC}-").split(":"))) for name in ids]
    assert places == sorted(places)
    assert {partition for partition, _ in places} == {1, 3}


def test_it_is_listed_by_kafkas_day_and_by_reason(archive: Archive) -> None:
    collected(archive, LINES)
    everything = list(quarantined_lines(archive))
    for day in ("2022-10-07", "2022-10-08", "2022-10-09"):
        for reason in (None, "user_unknown", "movie_unknown", "no_such_reason"):
            expected = [one for one in everything if CLOCK.day(one.kafka_time) == day and reason in (None, one.reason)]
            assert list(quarantined_lines(archive, day, reason)) == expected


def test_an_archive_without_a_quarantine_lists_nothing(archive: Archive) -> None:
    assert list(quarantined_lines(archive)) == []
    collected(archive, LINES[:1])
    assert list(quarantined_lines(archive)) == []


def test_a_line_is_explained_with_all_that_it_could_mean(archive: Archive) -> None:
    collected(archive, LINES)
    [line] = [one for one in quarantined_lines(archive) if one.raw == LINES[9]]
    found = explain(archive, line.id, BEFORE)
    assert found == {
        "id": line.id,
        "reason": "minute",
        "detail": "minute: '05.mpg'",
        "raw": LINES[9].decode(),
        "kafka_time_ms": line.kafka_time,
        "could_mean": [
            "2022-10-07T09:40,5,GET /data/m/a+1984/0.mpg",
            "2022-10-07T09:40,5,GET /data/m/a+1984/5.mpg",
        ],
    }


def test_every_line_can_be_explained_whatever_its_bytes(archive: Archive) -> None:
    collected(archive, [*LINES, b"\xf0\x9f\x98\x80" * 9, b"\n\r\x1b[31m", b"9" * 70_000])
    for line in quarantined_lines(archive):
        found = explain(archive, line.id, BEFORE)
        assert (found["id"], found["reason"]) == (line.id, line.reason)
        assert msgspec.json.decode(msgspec.json.encode(found)) == found


@pytest.mark.parametrize("name", ["", "nonsense", "movielog1-3:1", "movielog1-3:", "other-3:4", "movielog1-3:4 "])
def test_an_id_of_no_line_is_an_error_that_names_it(archive: Archive, name: str) -> None:
    collected(archive, LINES)
    with pytest.raises(QuarantineError, match="no line"):
        explain(archive, name, BEFORE)


# judging anew ---------------------------------------------------------------------------------------------------


def anew(rows: dict[int, Row], lines: list[bytes], held: JudgingContext) -> dict[int, Row]:
    """What the rows of an archive must be after a replay: those that were set aside judged as if they came today."""
    aside = [row for _, row in sorted(rows.items()) if row[0] == "quarantined"]
    with tempfile.TemporaryDirectory() as folder:
        today = Archive(Path(folder))
        values, kafka_times = (
            pa.array([row[3] for row in aside], pa.binary()),
            np.array([row[7] for row in aside], np.int64),
        )
        read = ParsedLines.read(values, kafka_times, CLOCK)
        fates = judge(read, held)
        entry = LedgerEntry(
            topic=TOPIC, partition=3, first=0, last=9, lines=len(aside), counts=fates.counts(kafka_times, CLOCK)
        )
        origin = archive_writer.provenance_columns(TOPIC, 3, np.array([row[6] for row in aside], np.int64), kafka_times)
        today.commit(entry.with_files(archive_writer.write_batch(today, entry, fates, values, origin, CLOCK)))
        return {**rows, **rows_of(today)}


@pytest.mark.parametrize("mended", MENDED.values(), ids=MENDED.keys())
def test_after_a_rule_was_mended_what_passes_is_there_once_and_all_else_as_before(
    archive: Archive, mended: JudgingContext
) -> None:
    before = collected(archive, [*LINES, LINES[0], LINES[4], LINES[12]])
    rows = rows_of(archive)
    told = replay_quarantine(archive, mended)
    [after] = archive.entries()
    assert rows_of(archive) == anew(rows, LINES, mended) != rows
    assert after.revision == 1
    assert is_whole(archive)
    kept = msgspec.structs.replace(after, counts=before.counts, files=before.files, revision=0, written=before.written)
    assert kept == before
    taken = count_by_fate([before])["quarantined"] - count_by_fate([after])["quarantined"]
    assert taken == told["accepted"] + told["repaired"] > 0
    assert told["quarantined"] == count_by_fate([after])["quarantined"]
    assert told["duplicate"] == 0
    assert count_by_fate([after])["duplicate"] == count_by_fate([before])["duplicate"] == 3


def test_each_mended_rule_takes_its_own_lines(archive: Archive) -> None:
    collected(archive, LINES)
    expected = {
        "more users": {LINES[2]: "accepted", LINES[11]: "repaired"},
        "another generation": {LINES[4]: "accepted", LINES[5]: "accepted"},
        "a movie that is new": {LINES[6]: "accepted", LINES[7]: "repaired", LINES[8]: "accepted"},
    }
    raws = {row[6]: row[3] for row in rows_of(archive).values() if row[0] == "quarantined"}
    for name, taken in expected.items():
        before = {offset for offset, row in rows_of(archive).items() if row[0] == "quarantined"}
        replay_quarantine(archive, MENDED[name])
        rows = rows_of(archive)
        now = {raws[at]: rows[at][0] for at in before if rows[at][0] != "quarantined"}
        assert {raw: fate for raw, fate in now.items() if raw in taken} == taken
        assert set(now) == set(taken)
        assert is_whole(archive)
    assert archive.entries()[0].revision == 3


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.sampled_from(LINES), min_size=1, max_size=20),
    st.lists(st.sampled_from(sorted(MENDED)), min_size=1, max_size=3),
)
def test_any_lines_replayed_by_any_rules_have_each_one_fate(lines: list[bytes], steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        collected(archive, lines)
        for name in steps:
            expected = anew(rows_of(archive), lines, MENDED[name])
            told = replay_quarantine(archive, MENDED[name])
            assert rows_of(archive) == expected
            assert is_whole(archive)
            assert dict(count_by_fate(archive.entries())) == dict.fromkeys(FATES, 0) | Counter(
                row[0] for row in expected.values()
            ) | {"duplicate": len(lines) - len(set(lines))}
            assert told["quarantined"] == count_by_fate(archive.entries())["quarantined"]


def test_the_old_quarantine_is_gone_and_the_events_of_before_are_the_same_files(archive: Archive) -> None:
    collected(archive, LINES)
    before = digests(archive.var)
    replay_quarantine(archive, MENDED["all of it"])
    after = digests(archive.var)
    gone, kept = set(before) - set(after), set(before) & set(after)
    assert gone == {name for name in before if name.startswith("quarantine/")}
    assert {name for name in kept if before[name] != after[name]} == {
        f"archive/ledger/{archive.entries()[0].name}.json"
    }
    assert all("-r1.parquet" in name for name in set(after) - set(before))


@pytest.mark.parametrize("write", [True, False], ids=["", "dry run"])
def test_without_a_mended_rule_nothing_is_touched(archive: Archive, write: bool) -> None:
    collected(archive, LINES)
    collected(archive, LINES[:9], first=29)
    before = digests(archive.var)
    told = replay_quarantine(archive, BEFORE, write=write)
    assert digests(archive.var) == before
    assert (told["quarantined"], told["accepted"]) == (count_by_fate(archive.entries())["quarantined"], 0)


def test_a_second_replay_touches_nothing(archive: Archive) -> None:
    collected(archive, LINES)
    replay_quarantine(archive, MENDED["all of it"])
    before = digests(archive.var)
    replay_quarantine(archive, MENDED["all of it"])
    assert digests(archive.var) == before


def test_a_dry_run_tells_the_same_and_touches_nothing(archive: Archive) -> None:
    collected(archive, LINES)
    before = digests(archive.var)
    told = replay_quarantine(archive, MENDED["all of it"], write=False)
    assert digests(archive.var) == before
    assert replay_quarantine(archive, MENDED["all of it"]) == told


def test_only_the_entries_with_lines_of_the_day_are_replayed(archive: Archive) -> None:
    late, early = collected(archive, LINES[2:3], first=2), collected(archive, LINES[2:3], first=3)
    assert [entry.files[0].day for entry in (late, early)] == ["2022-10-08", "2022-10-07"]
    replay_quarantine(archive, MENDED["more users"], day="2022-10-08")
    assert {entry.first: entry.revision for entry in archive.entries()} == {2: 1, 3: 0}


def test_on_a_day_only_the_lines_of_that_day_are_judged_anew(archive: Archive) -> None:
    both = [b"2022-10-07T09:40,7801,GET /data/m/a+1984/5.mpg", b"2022-10-07T09:40,7802,GET /data/m/a+1984/5.mpg"]
    collected(archive, both)
    assert [file.day for file in archive.entries()[0].files] == ["2022-10-07", "2022-10-08"]
    assert replay_quarantine(archive, MENDED["more users"], day="2022-10-08") == {
        "accepted": 1, "repaired": 0, "quarantined": 0, "duplicate": 0,
    }  # fmt: skip
    assert [one.raw for one in quarantined_lines(archive)] == both[:1]


def test_a_replay_of_nothing_changes_nothing(archive: Archive) -> None:
    assert replay_quarantine(archive, BEFORE) == dict.fromkeys(FATES, 0)
    collected(archive, LINES[:1])
    before = digests(archive.var)
    assert replay_quarantine(archive, MENDED["all of it"]) == dict.fromkeys(FATES, 0)
    assert digests(archive.var) == before


def test_where_the_clocks_were_apart_a_replay_blames_no_time_and_takes_none_of_kafka(archive: Archive) -> None:
    lines = [b"2022-10-01T09:40,7801,GET /create_account", b"yesterday,5,GET /create_account"]
    collected(archive, lines, clocks_apart_ms=6 * DAY_MS)
    replay_quarantine(archive, MENDED["more users"])
    rows = rows_of(archive)
    assert [(rows[at][0], rows[at][1]) for at in (0, 2)] == [("accepted", None), ("quarantined", "time")]
    assert archive.entries()[0].clocks_apart_ms == 6 * DAY_MS


def test_where_the_clocks_agreed_a_replay_holds_times_against_kafkas(archive: Archive) -> None:
    lines = [b"2022-10-01T09:40,7801,GET /create_account", b"yesterday,7801,GET /create_account"]
    collected(archive, lines)
    replay_quarantine(archive, MENDED["more users"])
    rows = rows_of(archive)
    assert [(rows[at][0], rows[at][1]) for at in (0, 2)] == [("quarantined", "time_behind"), ("repaired", "kafka_time")]


def test_a_movie_that_nobody_has_asked_for_is_not_taken_by_a_replay(archive: Archive) -> None:
    lines = [b"2022-10-07T09:40,5,GET /rate/stranger+1999=9", b"2022-10-07T09:40,5,GET /rate/a+1984=9"]
    collected(archive, [lines[0], b"nonsense", lines[1]])
    newer = MENDED["another generation"]
    assert replay_quarantine(archive, newer)["accepted"] == 1
    assert {aside.raw: aside.reason for aside in quarantined_lines(archive)} == {
        lines[0]: "movie_unknown", b"nonsense": "fields",
    }  # fmt: skip
    known = replace(newer.known, runtimes={**newer.known.runtimes, "stranger+1999": None})
    assert replay_quarantine(archive, replace(newer, known=known))["accepted"] == 1
    assert is_whole(archive)


def test_without_a_catalogue_a_replay_takes_any_movie(archive: Archive) -> None:
    collected(archive, [b"2022-10-07T09:40,5,GET /rate/stranger+1999=9"])
    assert replay_quarantine(archive, replace(MENDED["another generation"], known=KnownIds()))["accepted"] == 1


def test_lines_that_change_only_their_reason_are_filed_under_it(archive: Archive) -> None:
    collected(archive, [b"2022-10-07T09:40,7801,GET /rate/new+2022=3"])
    replay_quarantine(archive, MENDED["more users"])
    [aside] = quarantined_lines(archive)
    assert aside.reason == "movie_unknown"
    assert archive.entries()[0].counts[0].reason == "movie_unknown"


def test_reasons_that_two_lines_exchange_are_filed_under_each(archive: Archive) -> None:
    lines = [f"2022-10-07T09:40,5,GET /data/m/{movie}/345.mpg".encode() for movie in ("one+1999", "two+1999")]
    one, two = (replace(BEFORE, known=KnownIds({a: 90}, frozenset({b}))) for a, b in (ONE_TWO, ONE_TWO[::-1]))
    collected(archive, [lines[0], b"nonsense", lines[1]], held=one)
    assert [aside.reason for aside in quarantined_lines(archive)] == ["minute_runtime", "fields", "movie_unknown"]
    replay_quarantine(archive, two)
    assert [aside.reason for aside in quarantined_lines(archive)] == ["movie_unknown", "fields", "minute_runtime"]


ONE_TWO = ("one+1999", "two+1999")


# crashes --------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """What ends a process at a step of a test: nobody catches it for long, and nothing is written after it."""


@contextmanager
def dying_at(step: int) -> Iterator[list[str]]:
    """Make the file operation of that number the last one, before (or amid) which the process dies.

    Yields the names of the operations that came before it.
    """
    done: list[str] = []

    def dying(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **more: Any) -> Any:
            if len(done) >= step:
                if len(done) == step and name == "write_table":
                    Path(arguments[1]).write_bytes(b"PAR1half")
                done.append(f"died at {name}")
                raise Crash
            done.append(name)
            return operation(*arguments, **more)

        return instead

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq, "write_table", dying("write_table", pq.write_table))
        patch.setattr(os, "fsync", dying("fsync", os.fsync))
        for name in ("mkdir", "replace", "unlink", "write_bytes"):
            patch.setattr(Path, name, dying(name, getattr(Path, name)))
        yield done


def plain(entries: list[LedgerEntry]) -> list[LedgerEntry]:
    """Entries without the time at which they were written."""
    return [msgspec.structs.replace(entry, written="") for entry in entries]


def test_a_crash_at_any_step_leaves_each_entry_as_it_was_or_as_it_will_be(tmp_path: Path) -> None:
    mended, begun = MENDED["all of it"], Archive(tmp_path / "begun")
    collected(begun, [LINES[2], LINES[12]])
    collected(begun, [LINES[4], LINES[5]], first=3)
    ended = Archive(tmp_path / "ended")
    shutil.copytree(begun.var, ended.var)
    with dying_at(10_000) as steps:
        replay_quarantine(ended, mended)
    assert set(steps) == {"write_table", "fsync", "mkdir", "replace", "unlink", "write_bytes"}
    rows = rows_of(begun), rows_of(ended)
    revisions = []
    for step in range(len(steps)):
        archive = Archive(tmp_path / f"dying-{step}")
        shutil.copytree(begun.var, archive.var)
        with pytest.raises(Crash), dying_at(step):
            replay_quarantine(archive, mended)
        found = plain(archive.entries())
        for one, before, after in zip(found, plain(begun.entries()), plain(ended.entries()), strict=True):
            assert one in (before, after)
        revisions.append(sum(entry.revision for entry in found))
        assert all(row in (rows[0][at], rows[1][at]) for at, row in rows_of(archive).items())
        archive.sweep()
        assert is_whole(archive)
        assert plain(archive.entries()) == found
        replay_quarantine(archive, mended)
        assert plain(archive.entries()) == plain(ended.entries())
        assert rows_of(archive) == rows[1]
        assert is_whole(archive)
    assert revisions == sorted(revisions)
    assert set(revisions) == {0, 1, 2}


@pytest.mark.parametrize("step", [0, 9, 20, 30])
def test_a_crash_is_made_good_by_a_replay_even_before_anybody_swept(tmp_path: Path, step: int) -> None:
    archive = Archive(tmp_path)
    collected(archive, LINES)
    with pytest.raises(Crash), dying_at(step):
        replay_quarantine(archive, MENDED["all of it"])
    replay_quarantine(archive, MENDED["all of it"])
    archive.sweep()
    assert is_whole(archive)
    assert archive.entries()[0].revision == 1


def test_a_disk_that_is_full_leaves_the_archive_as_it_was(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    collected(archive, LINES)
    before, entries = digests(archive.var), archive.entries()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            replay_quarantine(archive, MENDED["all of it"])
    assert archive.entries() == entries
    assert digests(archive.var) == before


def test_a_quarantine_file_that_is_lost_is_an_error_and_changes_nothing(archive: Archive) -> None:
    entry = collected(archive, LINES)
    [lost] = [file for file in entry.files if file.room == "quarantine" and file.day == "2022-10-07"]
    (archive.var / lost.path).unlink()
    before = digests(archive.var)
    with pytest.raises(ArchiveError, match=lost.path.rpartition("/")[2]):
        replay_quarantine(archive, MENDED["all of it"])
    assert digests(archive.var) == before


def test_a_quarantine_file_with_fewer_rows_than_the_ledger_says_is_not_committed(archive: Archive) -> None:
    entry = collected(archive, LINES)
    path = archive.var / next(file.path for file in entry.files if file.room == "quarantine")
    pq.write_table(pq.ParquetFile(path).read().slice(1), path)
    with pytest.raises(Exception, match="not committed"):
        replay_quarantine(archive, MENDED["all of it"])
    assert archive.entries() == [entry]
