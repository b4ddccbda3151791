"""Replay: lines that pass the current rules become events, each once, and all else stays as it was."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.catalog import KnownIds
from quality.lines import archive_writer
from quality.lines.context_checks import JudgingContext
from quality.lines.quarantine import quarantined_lines, replay_quarantine
from quality.lines.verdicts import ParsedLines, judge
from stream.archive import Archive
from stream.ledger_entry import FATES, count_by_fate
from stream.zone import DAY_MS
from tests.ledger_entries import TOPIC, entry
from tests.quality.lines.collected_batches import (
    BEFORE,
    CLOCK,
    LINES,
    MENDED,
    Row,
    collected,
    digests,
    is_whole,
    rows_of,
)


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
        batch = entry(0, 9, partition=3, lines=len(aside), counts=fates.counts(kafka_times, CLOCK))
        origin = archive_writer.provenance_columns(TOPIC, 3, np.array([row[6] for row in aside], np.int64), kafka_times)
        today.commit(batch.with_files(archive_writer.write_batch(today, batch, fates, values, origin, CLOCK)))
        return {**rows, **rows_of(today)}


@pytest.mark.parametrize("mended", MENDED.values(), ids=MENDED.keys())
def test_after_a_rule_change_lines_that_pass_are_archived_once_and_nothing_else_changes(
    archive: Archive, mended: JudgingContext
) -> None:
    before = collected(archive, [*LINES, LINES[0], LINES[4], LINES[12]])
    rows = rows_of(archive)
    replayed = replay_quarantine(archive, mended)
    [after] = archive.entries()
    assert rows_of(archive) == anew(rows, LINES, mended) != rows
    assert after.revision == 1
    assert is_whole(archive)
    kept = msgspec.structs.replace(after, counts=before.counts, files=before.files, revision=0, written=before.written)
    assert kept == before
    taken = count_by_fate([before])["quarantined"] - count_by_fate([after])["quarantined"]
    assert taken == replayed["accepted"] + replayed["repaired"] > 0
    assert replayed["quarantined"] == count_by_fate([after])["quarantined"]
    assert replayed["duplicate"] == 0
    assert count_by_fate([after])["duplicate"] == count_by_fate([before])["duplicate"] == 3


def test_each_changed_rule_accepts_its_own_lines(archive: Archive) -> None:
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
def test_any_lines_replayed_by_any_rules_have_one_fate_each(lines: list[bytes], steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        collected(archive, lines)
        for name in steps:
            expected = anew(rows_of(archive), lines, MENDED[name])
            replayed = replay_quarantine(archive, MENDED[name])
            assert rows_of(archive) == expected
            assert is_whole(archive)
            assert dict(count_by_fate(archive.entries())) == dict.fromkeys(FATES, 0) | Counter(
                row[0] for row in expected.values()
            ) | {"duplicate": len(lines) - len(set(lines))}
            assert replayed["quarantined"] == count_by_fate(archive.entries())["quarantined"]


def test_a_replay_replaces_quarantine_files_and_keeps_event_files(archive: Archive) -> None:
    collected(archive, LINES)
    before = digests(archive.var)
    replay_quarantine(archive, MENDED["all of it"])
    after = digests(archive.var)
    removed, kept = set(before) - set(after), set(before) & set(after)
    assert removed == {name for name in before if name.startswith("quarantine/")}
    assert {name for name in kept if before[name] != after[name]} == {
        f"archive/ledger/{archive.entries()[0].name}.json"
    }
    assert all("-r1.parquet" in name for name in set(after) - set(before))


@pytest.mark.parametrize("write", [True, False], ids=["", "dry run"])
def test_a_replay_by_unchanged_rules_writes_nothing(archive: Archive, write: bool) -> None:
    collected(archive, LINES)
    collected(archive, LINES[:9], first=29)
    before = digests(archive.var)
    replayed = replay_quarantine(archive, BEFORE, write=write)
    assert digests(archive.var) == before
    assert (replayed["quarantined"], replayed["accepted"]) == (count_by_fate(archive.entries())["quarantined"], 0)


def test_a_second_replay_writes_nothing(archive: Archive) -> None:
    collected(archive, LINES)
    replay_quarantine(archive, MENDED["all of it"])
    before = digests(archive.var)
    replay_quarantine(archive, MENDED["all of it"])
    assert digests(archive.var) == before


def test_a_dry_run_reports_the_same_and_writes_nothing(archive: Archive) -> None:
    collected(archive, LINES)
    before = digests(archive.var)
    replayed = replay_quarantine(archive, MENDED["all of it"], write=False)
    assert digests(archive.var) == before
    assert replay_quarantine(archive, MENDED["all of it"]) == replayed


def test_only_the_entries_with_lines_of_the_day_are_replayed(archive: Archive) -> None:
    late, early = collected(archive, LINES[2:3], first=2), collected(archive, LINES[2:3], first=3)
    assert [entry.files[0].day for entry in (late, early)] == ["2022-10-08", "2022-10-07"]
    replay_quarantine(archive, MENDED["more users"], day="2022-10-08")
    assert {entry.first: entry.revision for entry in archive.entries()} == {2: 1, 3: 0}


def test_a_replay_of_a_day_judges_only_the_lines_of_that_day(archive: Archive) -> None:
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


def test_where_the_clocks_were_apart_a_replay_ignores_kafkas_times(archive: Archive) -> None:
    lines = [b"2022-10-01T09:40,7801,GET /create_account", b"yesterday,5,GET /create_account"]
    collected(archive, lines, clocks_apart_ms=6 * DAY_MS)
    replay_quarantine(archive, MENDED["more users"])
    rows = rows_of(archive)
    assert [(rows[at][0], rows[at][1]) for at in (0, 2)] == [("accepted", None), ("quarantined", "time")]
    assert archive.entries()[0].clocks_apart_ms == 6 * DAY_MS


def test_where_the_clocks_agreed_a_replay_compares_times_with_kafkas(archive: Archive) -> None:
    lines = [b"2022-10-01T09:40,7801,GET /create_account", b"yesterday,7801,GET /create_account"]
    collected(archive, lines)
    replay_quarantine(archive, MENDED["more users"])
    rows = rows_of(archive)
    assert [(rows[at][0], rows[at][1]) for at in (0, 2)] == [("quarantined", "time_behind"), ("repaired", "kafka_time")]


def test_a_replay_does_not_accept_a_movie_that_was_never_looked_up(archive: Archive) -> None:
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


def test_without_a_catalogue_a_replay_accepts_any_movie(archive: Archive) -> None:
    collected(archive, [b"2022-10-07T09:40,5,GET /rate/stranger+1999=9"])
    assert replay_quarantine(archive, replace(MENDED["another generation"], known=KnownIds()))["accepted"] == 1


def test_lines_that_change_only_their_reason_are_stored_under_the_new_one(archive: Archive) -> None:
    collected(archive, [b"2022-10-07T09:40,7801,GET /rate/new+2022=3"])
    replay_quarantine(archive, MENDED["more users"])
    [aside] = quarantined_lines(archive)
    assert aside.reason == "movie_unknown"
    assert archive.entries()[0].counts[0].reason == "movie_unknown"


def test_two_lines_that_exchange_their_reasons_are_stored_under_the_new_ones(archive: Archive) -> None:
    lines = [f"2022-10-07T09:40,5,GET /data/m/{movie}/345.mpg".encode() for movie in ("one+1999", "two+1999")]
    one, two = (replace(BEFORE, known=KnownIds({a: 90}, frozenset({b}))) for a, b in (ONE_TWO, ONE_TWO[::-1]))
    collected(archive, [lines[0], b"nonsense", lines[1]], held=one)
    assert [aside.reason for aside in quarantined_lines(archive)] == ["minute_runtime", "fields", "movie_unknown"]
    replay_quarantine(archive, two)
    assert [aside.reason for aside in quarantined_lines(archive)] == ["movie_unknown", "fields", "minute_runtime"]


ONE_TWO = ("one+1999", "two+1999")
