"""Folding changes nothing: not the entries, nor what anyone computes from them, wherever it is killed."""

import itertools
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from batch.gate.ledger_gaps import first_gap
from batch.nights.night_inputs import describe_entries
from quality.alerts.thresholds import HourlyCounts
from quality.lines.ledger_summary import summarize
from quality.settings import QualitySettings
from stream import ledger, ledger_tail
from stream.archive import Archive
from stream.clock import LatestLines, PartitionClock, Quorum
from stream.clock_summary import summarize_clocks
from stream.errors import ArchiveError
from stream.ledger import Ledger
from stream.ledger_clock import latest_lines, stream_time, was_live
from stream.ledger_entry import ArchiveFile, FateCount, LedgerEntry, TimeRange, in_order
from stream.ledger_fold import FoldedRange, read_header, write_fold
from stream.record_mark import RecordMark
from stream.set_aside import OpenCases
from stream.zone import HOUR_MS, zone_named
from tests.dying_disk import dying_at
from tests.polling import until

BEGIN = 1_770_000_000_000
UTC = zone_named("UTC")


@pytest.fixture(autouse=True)
def short_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few entries can be folded as well."""
    monkeypatch.setattr(ledger_tail, "_KEPT", 1)


def views(archive: Archive, entries: list[LedgerEntry]) -> dict[str, Any]:
    """All that is computed from the ledger."""
    hours = HourlyCounts(QualitySettings(week_lines=10))
    for entry in entries:
        hours.add(entry)
    read = describe_entries(archive, entries)
    return {
        "clock": {name: (lines.time.tolist(), lines.user.tolist()) for name, lines in latest_lines(entries).items()},
        "time": stream_time(entries),
        "live": was_live(entries),
        "cases": {(case.name, case.ahead_from) for case in OpenCases(entries).entries()},
        "marks": {(entry.topic, entry.partition): entry.mark for entry in entries if entry.mark},
        "ends": {(entry.topic, entry.partition): entry.last for entry in entries},
        "sums": [summarize(entries, day) for day in (None, "2026-02-02", "2026-02-03")],
        "hours": {number: (hours.alerts(number), hours._hours[number]) for number in hours.since(0)},
        "aside": summarize_clocks(entries, UTC),
        "entries": sum(entry.entry_count for entry in entries),
        "read": read,
        "gap": first_gap(entries, read.offsets),
        "event_times": min((times.first for entry in entries if (times := entry.event_times)), default=None),
        "files": archive.files("watch", archive.expand(entries)),
    }


@dataclass
class GrowingLedger:
    """A ledger that is folded, and what its entries should be."""

    archive: Archive
    entries: dict[str, LedgerEntry] = field(default_factory=dict)
    now: int = BEGIN
    topic: str = "movielog1"
    remade: int = 0

    def commit(self, entry: LedgerEntry) -> None:
        Ledger(self.archive.ledger).commit(entry)  # as another process would
        self.entries[entry.name] = entry

    def expected(self) -> list[LedgerEntry]:
        return sorted(self.entries.values(), key=in_order)

    def batch(self, partition: int, minutes: int, kind: str) -> None:
        """The next entry of a partition, `minutes` after the last entry of any."""
        own = [entry for entry in self.expected() if (entry.topic, entry.partition) == (self.topic, partition)]
        first = own[-1].last + 1 if own else 0
        self.now += minutes * 60_000
        number = len(self.entries) + 1
        common: dict[str, Any] = {"topic": self.topic, "partition": partition, "first": first, "last": first + 9}
        if kind == "gap":
            self.commit(LedgerEntry(**common, lines=0, lost=10))
            return
        day = "2026-02-02" if self.now < BEGIN + 6 * HOUR_MS else "2026-02-03"
        counts = [FateCount("quarantined", None, day, "clock_ahead" if kind == "ahead" else "user_max", 2)]
        counts += [FateCount("accepted", "watch", day, None, 8)] if kind != "refused" else []
        lines = sum(count.lines for count in counts)
        path = f"day={day}/{self.topic}-{partition}-{first}.parquet"
        files = [ArchiveFile(f"quarantine/{path}", 2)]
        files += [ArchiveFile(f"archive/watch/{path}", 8)] if kind != "refused" else []
        latest = LatestLines.of(Quorum(1, 1, HOUR_MS), np.array([self.now]), np.array([number]))
        behind = {case.name: 1 for case in OpenCases(own).entries()} if kind == "behind" else {}
        clock = PartitionClock.of(latest, self.now + 9 * HOUR_MS if kind == "ahead" else None, behind)
        written = msgspec.json.decode(msgspec.json.encode(np.datetime64(self.now, "ms").item()), type=str) + "+00:00"
        self.commit(
            LedgerEntry(
                **common, lines=lines, counts=counts, files=files, kafka_time=TimeRange(self.now - 60_000, self.now),
                clock=None if kind == "old" else clock, written=written, redelivered=number % 3,
                mark=None if kind == "unmarked" else RecordMark.of(first + 9, self.now, b"%d" % number),
            )
        )  # fmt: skip

    def remake(self) -> None:
        self.remade += 1
        self.topic = f"movielog1~{self.remade}"
        self.commit(LedgerEntry(topic=self.topic, partition=0, first=0, last=-1, lines=0, remade="evidence"))

    def revise(self, place: int) -> None:
        entries = [entry for entry in self.expected() if any(count.fate == "quarantined" for count in entry.counts)]
        if entries:
            entry = entries[place % len(entries)]
            counts = [
                msgspec.structs.replace(each, fate="accepted", kind="watch", reason=None) for each in entry.counts
            ]
            files = [ArchiveFile(f"{file.path}-r", file.rows) for file in entry.files]
            files = [ArchiveFile(file.path.replace("quarantine/", "archive/watch/"), file.rows) for file in files]
            clock = entry.clock and msgspec.structs.replace(entry.clock, ahead_from=None)
            change = {"counts": counts, "files": files, "clock": clock, "revision": entry.revision + 1}
            self.commit(msgspec.structs.replace(entry, **change))

    def check(self) -> None:
        expected = self.expected()
        for archive in (self.archive, Archive(self.archive.var)):
            assert archive.entries() == expected
            condensed = archive.condensed()
            assert views(archive, condensed) == views(archive, expected)
            for topic in ("movielog1", "other"):
                single = [entry for entry in expected if topic == "movielog1"]
                assert archive.entries(topic) == single
            assert archive.times_remade("movielog1") == self.remade


KINDS = ("plain", "plain", "plain", "ahead", "behind", "gap", "refused", "old", "unmarked")
batches = st.tuples(st.just("batch"), st.integers(0, 2), st.sampled_from([0, 1, 7, 45, 200]), st.sampled_from(KINDS))
steps = st.one_of(
    batches, batches, batches,
    st.tuples(st.just("fold"), st.integers(1, 4)),
    st.tuples(st.just("crash"), st.integers(0, 12)),
    st.tuples(st.just("remake")),
    st.tuples(st.just("revise"), st.integers(0, 50)),
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(steps, max_size=40))
def test_whatever_is_computed_is_the_same_after_any_commits_folds_and_crashes(todo: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(ledger_tail, "_KEPT", 1)
        growing = GrowingLedger(Archive(Path(folder)))
        growing.archive.ledger.mkdir(parents=True)
        for what, *arguments in [*todo, ("fold", 1)]:
            if what == "fold":
                growing.archive.fold(*arguments)
            elif what == "crash":
                with dying_at(arguments[0], monkeypatch):
                    growing.archive.fold(1)
            else:
                getattr(growing, what)(*arguments)
        growing.check()
        growing.archive.sweep()
        growing.check()


def some_batches(var: Path) -> GrowingLedger:
    """Fourteen batches of two partitions; eleven of them can be folded."""
    growing = GrowingLedger(Archive(var))
    for number in range(14):
        growing.batch(number % 2, 13, "plain")
    return growing


def folded(archive: Archive) -> int:
    """How many entries a process that starts now finds in folds."""
    condensed = Archive(archive.var).condensed()
    return sum(entry.entry_count for entry in condensed if isinstance(entry, FoldedRange))


def test_a_fold_killed_at_any_write_leaves_the_old_ledger_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for number in itertools.count():
        growing = some_batches(tmp_path / str(number))
        with dying_at(number, monkeypatch) as disk:
            growing.archive.fold(1)
        growing.check()
        seen.append(folded(growing.archive))
        growing.archive.sweep()  # as the next collector does
        growing.batch(0, 13, "plain")
        growing.archive.fold(1)
        growing.check()
        assert folded(growing.archive) == 12
        assert len(list(growing.archive.ledger.glob("movielog1*.json"))) == 3
        if not disk.died:
            break
    assert len(seen) > 15
    assert seen == sorted(seen)
    assert set(seen) == {0, 11}


def test_a_revision_of_a_folded_entry_killed_at_any_write_is_there_or_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for number in itertools.count():
        growing = some_batches(tmp_path / str(number))
        growing.archive.fold(1)
        before = dict(growing.entries)
        with dying_at(number, monkeypatch) as disk:
            growing.revise(3)
        after = [entry.revision for entry in Archive(growing.archive.var).entries()]
        seen.append(sum(after))
        if not seen[-1]:
            growing.entries = before
        else:
            name = next(entry.name for entry in Archive(growing.archive.var).entries() if entry.revision)
            growing.entries[name] = next(each for each in Archive(growing.archive.var).entries() if each.name == name)
        growing.check()
        if not disk.died:
            break
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert set(seen) == {0, 1}


def test_a_reader_that_looks_while_the_ledger_is_folded_finds_every_entry_once(tmp_path: Path) -> None:
    growing = some_batches(tmp_path)
    expected, stop, seen = growing.expected(), threading.Event(), []

    def read() -> None:
        archive = Archive(tmp_path)
        while not stop.is_set():
            seen.append(archive.entries() == expected == Archive(tmp_path).entries())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        until(lambda: seen)
        assert growing.archive.fold(1) == 11
        folds = [entry for entry in growing.archive.condensed() if isinstance(entry, FoldedRange)]
        for _ in range(9):  # the same revision again: the file of the fold is replaced, with the same content
            write_fold(growing.archive.ledger / "folded", 1, list(growing.archive.expand(folds)))
        number = len(seen)
        until(lambda: len(seen) > number)
    finally:
        stop.set()
        reader.join()
    assert all(seen)


def test_a_few_entries_are_not_folded_and_the_rest_only_in_lots(tmp_path: Path) -> None:
    growing = some_batches(tmp_path)
    assert [growing.archive.fold(least) for least in (1024, 12, 11, 1)] == [0, 0, 11, 0]
    assert not list(growing.archive.ledger.glob(".*"))


def test_what_the_clock_marks_and_open_cases_need_stays_an_entry(tmp_path: Path) -> None:
    growing = GrowingLedger(Archive(tmp_path))
    for kind in ("plain", "plain", "ahead", "plain", "plain"):
        growing.batch(0, 60, kind)
    assert growing.archive.fold(1) == 2  # up to the open case
    growing.batch(0, 60, "behind")  # which is closed by this
    assert growing.archive.fold(1) == 2
    growing.check()


@pytest.mark.parametrize("place", [0, 25, 60, -1])
def test_a_damaged_fold_is_named_and_never_read(tmp_path: Path, place: int) -> None:
    growing = some_batches(tmp_path)
    growing.archive.fold(1)
    [path] = (tmp_path / "archive" / "ledger" / "folded").iterdir()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=path.name):
        Archive(tmp_path).entries()


def test_a_truncated_or_a_missing_fold_is_named(tmp_path: Path) -> None:
    growing = some_batches(tmp_path)
    growing.archive.fold(1)
    for _ in range(3):
        growing.batch(0, 130, "plain")
        growing.archive.fold(1)
    first, *_ = sorted(growing.archive.ledger.glob("folded/*"))
    first.write_bytes(first.read_bytes()[:-10])
    with pytest.raises(ArchiveError, match=f"{first.name}.*another checksum.*read again"):
        Archive(tmp_path).entries()
    sorted(growing.archive.ledger.glob("folded/*"))[1].unlink()
    with pytest.raises(ArchiveError, match="an entry is missing between"):
        Archive(tmp_path).condensed()


def test_a_fold_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    growing = some_batches(tmp_path)
    growing.archive.fold(1)
    [path] = growing.archive.ledger.glob("folded/*")
    path.write_bytes(path.read_bytes().replace(b"fold 1 ", b"fold 2 ", 1))
    with pytest.raises(ArchiveError, match="has layout 2, of a newer version"):
        read_header(path)


def test_a_version_without_folds_cannot_read_the_ledger_and_so_takes_no_file_for_a_leftover(tmp_path: Path) -> None:
    growing = some_batches(tmp_path)
    growing.archive.fold(1)
    unreadable = []
    for path in growing.archive.ledger.glob("*.json"):  # as that version lists its entries
        try:
            msgspec.json.decode(path.read_bytes(), type=LedgerEntry)
        except msgspec.DecodeError:
            unreadable.append(path.name)
    assert unreadable == ["folded-by-a-newer-version.json"]


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growing = some_batches(tmp_path)
    growing.archive.fold(1)
    reader = Archive(tmp_path)
    before, read = reader.condensed(), list[str]()

    def seen(name: str) -> None:
        real = getattr(ledger, name)
        monkeypatch.setattr(ledger, name, lambda *arguments: read.append(name) or real(*arguments))  # type: ignore[func-returns-value]

    seen("decode_json")
    seen("read_header")
    growing.batch(0, 13, "plain")
    read.clear()
    assert len(reader.condensed()) == len(before) + 1
    assert read == ["decode_json"]
    assert len(reader.condensed()) == len(before) + 1
    assert read == ["decode_json"]


def test_an_archive_that_has_not_begun_has_nothing_to_fold(tmp_path: Path) -> None:
    assert Archive(tmp_path / "var").fold(1) == 0
