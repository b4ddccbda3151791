"""The archive: the ledger entry is the commit, so a crash at any step neither loses nor repeats, and sums must hold."""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import durable
from stream.archive import (
    FATES,
    Archive,
    ArchiveFile,
    Fate,
    FateCount,
    LedgerEntry,
    count_by_fate,
    stream_time,
)
from stream.errors import ArchiveBusy, ArchiveError
from tests.ledger_entries import TOPIC, entry, gap

TABLE = pa.table({"user": pa.array([1, 2, 3], pa.uint32())})


def files_below(var: Path) -> set[str]:
    return {path.relative_to(var).as_posix() for path in var.rglob("*") if path.is_file()}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "var")


def test_an_archive_that_is_not_there_is_empty(archive: Archive) -> None:
    assert archive.entries() == []
    assert archive.positions(TOPIC) == {}
    assert archive.files("watch") == {}
    assert archive.sweep() == []
    assert stream_time(archive.entries()) is None
    assert not archive.var.exists()


def test_what_was_committed_is_read_again_with_the_time_of_its_writing(archive: Archive) -> None:
    counts = [
        FateCount("accepted", "watch", "2022-10-07", None, 90),
        FateCount("repaired", "rate", "2022-10-07", "one_character", 1),
        FateCount("quarantined", None, "2022-10-08", "time", 5),
        FateCount("duplicate", None, "2022-10-07", None, 4),
    ]
    written = archive.commit(
        entry(100, 199, counts=counts, files=[ArchiveFile("archive/watch/day=2022-10-07/x.parquet", 90)])
    )
    assert archive.entries() == [written]
    assert written.written
    assert count_by_fate([written, written]) == {"accepted": 180, "repaired": 2, "quarantined": 10, "duplicate": 8}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(FATES), st.integers(0, 9)), max_size=6), st.integers(0, 30))
def test_only_what_adds_up_is_committed(fates: list[tuple[Fate, int]], lines: int) -> None:
    counts = [FateCount(fate, None, "2022-10-07", None, number) for fate, number in fates]
    balances = sum(number for _, number in fates) == lines
    with tempfile.TemporaryDirectory() as folder:
        archive, one = Archive(Path(folder)), entry(0, 99, lines=lines, counts=counts)
        assert one.balances() is balances
        if balances:
            archive.commit(one)
        else:
            with pytest.raises(ArchiveError, match="not committed"):
                archive.commit(one)
        assert len(archive.entries()) == balances
        assert len(files_below(archive.var)) == balances


def test_positions_are_where_each_partition_of_the_topic_ends(archive: Archive) -> None:
    for one in (
        entry(1000, 2999), gap(3000, 3999), entry(0, 999), entry(0, 9, partition=1),
        entry(50, 59, partition=2), entry(0, 99, topic="history"), entry(0, 99, partition=7, topic="movielog10"),
    ):  # fmt: skip
        archive.commit(one)
    assert archive.positions(TOPIC) == {0: 4000, 1: 10, 2: 60}
    assert archive.positions("history") == {0: 100}
    assert archive.positions("other") == {}
    assert [one.first for one in archive.entries(TOPIC) if one.partition == 0] == [0, 1000, 3000]
    assert stream_time(archive.entries()) == 2999


def test_offsets_beyond_the_width_of_a_name_are_still_in_order(archive: Archive) -> None:
    ranges = [(10**12, 10**13 - 1), (0, 4), (10**13, 10**13 + 2), (5, 10**12 - 1)]
    for first, last in ranges:
        archive.commit(entry(first, last))
    assert [one.first for one in archive.entries()] == [0, 5, 10**12, 10**13]
    assert archive.positions(TOPIC) == {0: 10**13 + 3}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20), st.integers(0, 5)), max_size=5, unique=True))
def test_entries_lie_end_to_end_or_it_is_an_error(spans: list[tuple[int, int, int]]) -> None:
    end_to_end = True
    for partition in (0, 1):
        ranges = sorted((first, first + more) for at, first, more in spans if at == partition)
        end_to_end &= all(two[0] == one[1] + 1 for one, two in itertools.pairwise(ranges))
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        for partition, first, more in spans:
            archive.commit(entry(first, first + more, partition=partition))
        if end_to_end:
            assert len(archive.entries()) == len(spans)
        else:
            with pytest.raises(ArchiveError, match=r"overlap|is missing between"):
                archive.entries()


def test_a_commit_that_is_lost_is_told_and_its_files_are_not_swept(archive: Archive) -> None:
    for first in (0, 10, 20):
        one = entry(first, first + 9)
        archive.commit(one.with_files([archive.write_events(one, "watch", "2022-10-07", TABLE)]))
    before = files_below(archive.var) - {f"archive/ledger/{entry(10, 19).name}.json"}
    (archive.ledger / f"{entry(10, 19).name}.json").unlink()
    for ask in (archive.entries, archive.sweep, lambda: archive.positions(TOPIC)):
        with pytest.raises(ArchiveError, match="is missing between"):
            ask()
    assert files_below(archive.var) == before


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b'{"topic": "movielog1"}', b"\x00" * 200])
def test_a_ledger_entry_that_cannot_be_read_is_an_error_that_names_it(archive: Archive, damage: bytes) -> None:
    one = archive.commit(entry(0, 9))
    (archive.ledger / f"{one.name}.json").write_bytes(damage)
    for ask in (archive.entries, archive.sweep, lambda: archive.positions(TOPIC)):
        with pytest.raises(ArchiveError, match=f"{one.name}.json"):
            ask()


def test_an_entry_cut_off_anywhere_is_never_taken_for_whole(archive: Archive) -> None:
    one = archive.commit(entry(0, 9, files=[ArchiveFile("a/b/c/d", 1)]))
    path = archive.ledger / f"{one.name}.json"
    whole = path.read_bytes()
    for end in range(len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ArchiveError):
            archive.entries()


def test_files_are_listed_by_kind_and_day(archive: Archive) -> None:
    one, two = entry(0, 9), entry(10, 19)
    for batch, days in ((two, ["2022-10-08"]), (one, ["2022-10-07", "2022-10-08"])):
        files = [archive.write_events(batch, "watch", day, TABLE) for day in days]
        files += [archive.write_events(batch, "rate", "2022-10-07", TABLE)]
        files += [archive.write_quarantine(batch, "2022-10-07", TABLE)]
        archive.commit(batch.with_files(files))
    folder = archive.var / "archive/watch"
    assert archive.files("watch") == {
        "2022-10-07": [folder / f"day=2022-10-07/{one.name}.parquet"],
        "2022-10-08": [folder / f"day=2022-10-08/{batch.name}.parquet" for batch in (one, two)],
    }
    assert list(archive.files("watch")) == ["2022-10-07", "2022-10-08"]
    assert archive.files("account") == {}
    assert list(archive.files("watch", archive.entries()[1:])) == ["2022-10-08"]
    assert pq.read_table(archive.files("rate")["2022-10-07"][0]).equals(TABLE)


def test_what_no_entry_names_does_not_count(archive: Archive) -> None:
    archive.write_events(entry(0, 9), "watch", "2022-10-07", TABLE)
    assert archive.files("watch") == {}


Step = int
"""How far a batch came before a crash: one file, all files, a half-written file, a half-written entry, all."""


def written(archive: Archive, batch: LedgerEntry, step: Step) -> None:
    files = [archive.write_events(batch, "watch", "2022-10-07", TABLE)]
    if step == 0:
        return
    files.append(archive.write_events(batch, "recommend", "2022-10-08", TABLE))
    files.append(archive.write_quarantine(batch, "2022-10-07", TABLE))
    if step == 2:
        half_written(archive.var / files[0].path)
    if step == 3:
        half_written(archive.ledger / f"{batch.name}.json")
    if step == 4:
        archive.commit(batch.with_files(files))


def half_written(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f".{path.name}.4711.tmp").write_bytes(b"PAR1half")


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 4), max_size=6))
def test_after_a_crash_at_any_step_the_disk_holds_what_the_ledger_names(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        for step in steps:
            first = archive.positions(TOPIC).get(0, 0)
            written(archive, entry(first, first + 9), step)
            before, entries = files_below(archive.var), archive.entries()
            named = {file.path for one in entries for file in one.files}
            named |= {f"archive/ledger/{one.name}.json" for one in entries}
            removed = {path.relative_to(archive.var).as_posix() for path in archive.sweep()}
            assert files_below(archive.var) == named
            assert removed == before - named
            assert archive.entries() == entries
        assert archive.positions(TOPIC).get(0, 0) == 10 * steps.count(4)


def revised(archive: Archive, batch: LedgerEntry, user: int) -> LedgerEntry:
    """The next revision of a batch, with a file of its own beside the one that it had."""
    new = msgspec.structs.replace(batch, revision=batch.revision + 1)
    table = pa.table({"user": pa.array([user], pa.uint32())})
    return new.with_files([*batch.files, archive.write_events(new, "watch", "2022-10-07", table)])


def test_a_revision_takes_the_place_of_its_entry_and_its_files_have_names_of_their_own(archive: Archive) -> None:
    one = entry(0, 9)
    one = archive.commit(one.with_files([archive.write_events(one, "watch", "2022-10-07", TABLE)]))
    assert archive.entries() == [one]  # read once, so that what was read is remembered
    two = archive.commit(revised(archive, one, 7))
    three = archive.commit(revised(archive, two, 8))
    assert archive.entries() == [three] == Archive(archive.var).entries()
    assert [path.name for path in archive.files("watch")["2022-10-07"]] == [
        f"{one.name}.parquet", f"{one.name}-r1.parquet", f"{one.name}-r2.parquet",
    ]  # fmt: skip
    assert [pq.read_table(path).num_rows for path in archive.files("watch")["2022-10-07"]] == [3, 1, 1]
    assert archive.positions(TOPIC) == {0: 10}
    assert archive.sweep() == []


def test_a_revision_that_was_not_committed_is_swept(archive: Archive) -> None:
    one = entry(0, 9)
    one = archive.commit(one.with_files([archive.write_events(one, "watch", "2022-10-07", TABLE)]))
    revised(archive, one, 7)
    half_written(archive.ledger / f"{one.name}.json")
    assert archive.entries() == [one]
    assert {path.name for path in archive.sweep()} == {f"{one.name}-r1.parquet", f".{one.name}.json.4711.tmp"}
    assert archive.files("watch") == {"2022-10-07": [archive.var / one.files[0].path]}


def test_a_revision_that_does_not_add_up_leaves_the_entry_as_it_was(archive: Archive) -> None:
    one = archive.commit(entry(0, 9))
    with pytest.raises(ArchiveError, match="not committed"):
        archive.commit(msgspec.structs.replace(one, revision=1, lines=11))
    assert archive.entries() == [one]


def test_what_only_some_entries_have_is_read_again_and_need_not_be_there(archive: Archive) -> None:
    one = archive.commit(entry(0, 9, redelivered=3, clocks_apart_ms=-7_200_000))
    assert archive.entries() == [one]
    path = archive.ledger / f"{one.name}.json"
    told = msgspec.json.decode(path.read_bytes())
    for name in ("redelivered", "clocks_apart_ms", "revision", "lost", "files"):
        del told[name]
    path.write_bytes(msgspec.json.encode(told))
    [old] = archive.entries()
    assert (old.redelivered, old.clocks_apart_ms, old.revision) == (0, None, 0)


def test_only_one_writes_the_archive_at_a_time(archive: Archive) -> None:
    with archive.writing():
        with pytest.raises(ArchiveBusy, match="another process"), Archive(archive.var).writing():
            raise AssertionError("two writers")
        assert Archive(archive.var).entries() == []
    with Archive(archive.var).writing():
        pass


HOLDER = """
import sys
from pathlib import Path
from stream.archive import Archive
with Archive(Path(sys.argv[1])).writing():
    print("holding", flush=True)
    sys.stdin.read()
"""


def test_a_writer_that_is_killed_holds_nothing(archive: Archive) -> None:
    command = [sys.executable, "-c", HOLDER, str(archive.var)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holding\n"
        with pytest.raises(ArchiveBusy), archive.writing():
            raise AssertionError("two writers")
        holder.kill()
    with archive.writing():
        pass


def test_the_lock_is_given_back_after_an_error(archive: Archive) -> None:
    with pytest.raises(ArchiveError, match="not committed"), archive.writing():
        archive.commit(entry(0, 9, lines=11))
    with archive.writing():
        archive.commit(entry(0, 9))


def test_the_sweep_leaves_alone_what_is_not_the_collectors(archive: Archive) -> None:
    others = ["archive/writer.lock", "catalog/catalog.sqlite", "releases/x/lists.npy", "telemetry.db", "alerts.jsonl"]
    for name in others:
        durable.write_bytes(archive.var / name, b"x")
    half_written(archive.ledger / "x.json")
    assert [path.name for path in archive.sweep()] == [".x.json.4711.tmp"]
    assert files_below(archive.var) == set(others)


def test_an_entry_is_readable_by_others_as_json(archive: Archive) -> None:
    one = archive.commit(entry(0, 9))
    told = msgspec.json.decode((archive.ledger / f"{one.name}.json").read_bytes())
    assert (told["first"], told["last"], told["lines"], told["counts"][0]["fate"]) == (0, 9, 10, "accepted")
