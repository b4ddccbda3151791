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
from stream.archive import Archive
from stream.errors import ArchiveBusy, ArchiveError
from stream.ledger_clock import stream_time
from stream.ledger_entry import FATES, ArchiveFile, Fate, FateCount, LedgerEntry, count_by_fate
from tests.ledger_entries import TOPIC, entry, gap

TABLE = pa.table({"user": pa.array([1, 2, 3], pa.uint32())})


def files_below(var: Path) -> set[str]:
    return {path.relative_to(var).as_posix() for path in var.rglob("*") if path.is_file()}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "var")


def test_a_missing_archive_counts_as_empty(archive: Archive) -> None:
    assert archive.entries() == []
    assert archive.positions(TOPIC) == {}
    assert archive.files("watch") == {}
    assert archive.sweep() == []
    assert stream_time(archive.entries()) is None
    assert not archive.var.exists()


def test_a_committed_entry_is_read_back_with_its_time_of_writing(archive: Archive) -> None:
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
def test_only_entries_that_add_up_are_committed(fates: list[tuple[Fate, int]], lines: int) -> None:
    counts = [FateCount(fate, None, "2022-10-07", None, number) for fate, number in fates]
    balances = sum(number for _, number in fates) == lines
    with tempfile.TemporaryDirectory() as folder:
        archive, batch = Archive(Path(folder)), entry(0, 99, lines=lines, counts=counts)
        assert batch.balances() is balances
        if balances:
            archive.commit(batch)
        else:
            with pytest.raises(ArchiveError, match="not committed"):
                archive.commit(batch)
        assert len(archive.entries()) == balances
        assert len(files_below(archive.var)) == balances


def test_positions_are_the_ends_of_the_partitions_of_a_topic(archive: Archive) -> None:
    for batch in (
        entry(1000, 2999), gap(3000, 3999), entry(0, 999), entry(0, 9, partition=1),
        entry(50, 59, partition=2), entry(0, 99, topic="history"), entry(0, 99, partition=7, topic="movielog10"),
    ):  # fmt: skip
        archive.commit(batch)
    assert archive.positions(TOPIC) == {0: 4000, 1: 10, 2: 60}
    assert archive.positions("history") == {0: 100}
    assert archive.positions("other") == {}
    assert [batch.first for batch in archive.entries(TOPIC) if batch.partition == 0] == [0, 1000, 3000]
    assert stream_time(archive.entries()) == 2999


def test_offsets_wider_than_file_names_keep_their_order(archive: Archive) -> None:
    ranges = [(10**12, 10**13 - 1), (0, 4), (10**13, 10**13 + 2), (5, 10**12 - 1)]
    for first, last in ranges:
        archive.commit(entry(first, last))
    assert [batch.first for batch in archive.entries()] == [0, 5, 10**12, 10**13]
    assert archive.positions(TOPIC) == {0: 10**13 + 3}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20), st.integers(0, 5)), max_size=5, unique=True))
def test_a_gap_or_overlap_between_entries_is_an_error(spans: list[tuple[int, int, int]]) -> None:
    end_to_end = True
    for partition in (0, 1):
        ranges = sorted((first, first + more) for of_partition, first, more in spans if of_partition == partition)
        end_to_end &= all(right[0] == left[1] + 1 for left, right in itertools.pairwise(ranges))
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        for partition, first, more in spans:
            archive.commit(entry(first, first + more, partition=partition))
        if end_to_end:
            assert len(archive.entries()) == len(spans)
        else:
            with pytest.raises(ArchiveError, match=r"overlap|is missing between"):
                archive.entries()


def test_a_lost_commit_is_an_error_and_its_files_are_kept(archive: Archive) -> None:
    for first in (0, 10, 20):
        batch = entry(first, first + 9)
        archive.commit(batch.with_files([archive.write_events(batch, "watch", "2022-10-07", TABLE)]))
    before = files_below(archive.var) - {f"archive/ledger/{entry(10, 19).name}.json"}
    (archive.ledger / f"{entry(10, 19).name}.json").unlink()
    for ask in (archive.entries, archive.sweep, lambda: archive.positions(TOPIC)):
        with pytest.raises(ArchiveError, match="is missing between"):
            ask()
    assert files_below(archive.var) == before


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[]", b'{"topic": "movielog1"}', b"\x00" * 200])
def test_a_ledger_entry_that_cannot_be_read_is_an_error_that_names_it(archive: Archive, damage: bytes) -> None:
    batch = archive.commit(entry(0, 9))
    (archive.ledger / f"{batch.name}.json").write_bytes(damage)
    for ask in (archive.entries, archive.sweep, lambda: archive.positions(TOPIC)):
        with pytest.raises(ArchiveError, match=f"{batch.name}.json"):
            ask()


def test_a_truncated_entry_never_counts_as_whole(archive: Archive) -> None:
    batch = archive.commit(entry(0, 9, files=[ArchiveFile("a/b/c/d", 1)]))
    path = archive.ledger / f"{batch.name}.json"
    whole = path.read_bytes()
    for end in range(len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ArchiveError):
            archive.entries()


def test_files_are_listed_by_kind_and_day(archive: Archive) -> None:
    first, second = entry(0, 9), entry(10, 19)
    for batch, days in ((second, ["2022-10-08"]), (first, ["2022-10-07", "2022-10-08"])):
        files = [archive.write_events(batch, "watch", day, TABLE) for day in days]
        files += [archive.write_events(batch, "rate", "2022-10-07", TABLE)]
        files += [archive.write_quarantine(batch, "2022-10-07", TABLE)]
        archive.commit(batch.with_files(files))
    folder = archive.var / "archive/watch"
    assert archive.files("watch") == {
        "2022-10-07": [folder / f"day=2022-10-07/{first.name}.parquet"],
        "2022-10-08": [folder / f"day=2022-10-08/{batch.name}.parquet" for batch in (first, second)],
    }
    assert list(archive.files("watch")) == ["2022-10-07", "2022-10-08"]
    assert archive.files("account") == {}
    assert list(archive.files("watch", archive.entries()[1:])) == ["2022-10-08"]
    assert pq.read_table(archive.files("rate")["2022-10-07"][0]).equals(TABLE)


def test_files_that_no_entry_names_are_not_listed(archive: Archive) -> None:
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
            named = {file.path for batch in entries for file in batch.files}
            named |= {f"archive/ledger/{batch.name}.json" for batch in entries}
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


def test_a_revision_replaces_its_entry_and_has_its_own_file_names(archive: Archive) -> None:
    original = entry(0, 9)
    original = archive.commit(original.with_files([archive.write_events(original, "watch", "2022-10-07", TABLE)]))
    assert archive.entries() == [original]  # read once, so that what was read is remembered
    second = archive.commit(revised(archive, original, 7))
    third = archive.commit(revised(archive, second, 8))
    assert archive.entries() == [third] == Archive(archive.var).entries()
    assert [path.name for path in archive.files("watch")["2022-10-07"]] == [
        f"{original.name}.parquet", f"{original.name}-r1.parquet", f"{original.name}-r2.parquet",
    ]  # fmt: skip
    assert [pq.read_table(path).num_rows for path in archive.files("watch")["2022-10-07"]] == [3, 1, 1]
    assert archive.positions(TOPIC) == {0: 10}
    assert archive.sweep() == []


def test_an_uncommitted_revision_is_swept(archive: Archive) -> None:
    batch = entry(0, 9)
    batch = archive.commit(batch.with_files([archive.write_events(batch, "watch", "2022-10-07", TABLE)]))
    revised(archive, batch, 7)
    half_written(archive.ledger / f"{batch.name}.json")
    assert archive.entries() == [batch]
    assert {path.name for path in archive.sweep()} == {f"{batch.name}-r1.parquet", f".{batch.name}.json.4711.tmp"}
    assert archive.files("watch") == {"2022-10-07": [archive.var / batch.files[0].path]}


def test_a_revision_that_does_not_add_up_leaves_the_entry_as_it_was(archive: Archive) -> None:
    batch = archive.commit(entry(0, 9))
    with pytest.raises(ArchiveError, match="not committed"):
        archive.commit(msgspec.structs.replace(batch, revision=1, lines=11))
    assert archive.entries() == [batch]


def test_optional_fields_of_an_entry_are_read_back_and_may_be_missing(archive: Archive) -> None:
    batch = archive.commit(entry(0, 9, redelivered=3, clocks_apart_ms=-7_200_000))
    assert archive.entries() == [batch]
    path = archive.ledger / f"{batch.name}.json"
    fields = msgspec.json.decode(path.read_bytes())
    for name in ("redelivered", "clocks_apart_ms", "revision", "lost", "files"):
        del fields[name]
    path.write_bytes(msgspec.json.encode(fields))
    [old] = archive.entries()
    assert (old.redelivered, old.clocks_apart_ms, old.revision) == (0, None, 0)


def test_the_archive_has_one_writer_at_a_time(archive: Archive) -> None:
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


def test_a_killed_writer_releases_the_lock(archive: Archive) -> None:
    command = [sys.executable, "-c", HOLDER, str(archive.var)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holding\n"
        with pytest.raises(ArchiveBusy), archive.writing():
            raise AssertionError("two writers")
        holder.kill()
    with archive.writing():
        pass


def test_the_lock_is_released_after_an_error(archive: Archive) -> None:
    with pytest.raises(ArchiveError, match="not committed"), archive.writing():
        archive.commit(entry(0, 9, lines=11))
    with archive.writing():
        archive.commit(entry(0, 9))


def test_the_sweep_leaves_foreign_files_alone(archive: Archive) -> None:
    others = ["archive/writer.lock", "catalog/catalog.sqlite", "releases/x/lists.npy", "telemetry.db", "alerts.jsonl"]
    for name in others:
        durable.write_bytes(archive.var / name, b"x")
    half_written(archive.ledger / "x.json")
    assert [path.name for path in archive.sweep()] == [".x.json.4711.tmp"]
    assert files_below(archive.var) == set(others)


def test_an_entry_is_readable_by_others_as_json(archive: Archive) -> None:
    batch = archive.commit(entry(0, 9))
    fields = msgspec.json.decode((archive.ledger / f"{batch.name}.json").read_bytes())
    assert (fields["first"], fields["last"], fields["lines"], fields["counts"][0]["fate"]) == (0, 9, 10, "accepted")
