"""Replay that dies at any step, on a full disk or a damaged file: each entry is the old one or the new one."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from quality.lines.quarantine import replay_quarantine
from stream.archive import Archive
from stream.errors import ArchiveError
from stream.ledger_entry import LedgerEntry
from tests.quality.lines.collected_batches import (
    LINES,
    MENDED,
    collected,
    digests,
    is_whole,
    rows_of,
)


class Crash(BaseException):
    """Stands for the death of the process: nothing is written after it."""


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


def test_a_crash_at_any_step_leaves_each_entry_old_or_new(tmp_path: Path) -> None:
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
        entries_now = plain(archive.entries())
        for entry, before, after in zip(entries_now, plain(begun.entries()), plain(ended.entries()), strict=True):
            assert entry in (before, after)
        revisions.append(sum(entry.revision for entry in entries_now))
        assert all(row in (rows[0][offset], rows[1][offset]) for offset, row in rows_of(archive).items())
        archive.sweep()
        assert is_whole(archive)
        assert plain(archive.entries()) == entries_now
        replay_quarantine(archive, mended)
        assert plain(archive.entries()) == plain(ended.entries())
        assert rows_of(archive) == rows[1]
        assert is_whole(archive)
    assert revisions == sorted(revisions)
    assert set(revisions) == {0, 1, 2}


@pytest.mark.parametrize("step", [0, 9, 20, 30])
def test_a_replay_after_a_crash_completes_the_work_even_before_a_sweep(tmp_path: Path, step: int) -> None:
    archive = Archive(tmp_path)
    collected(archive, LINES)
    with pytest.raises(Crash), dying_at(step):
        replay_quarantine(archive, MENDED["all of it"])
    replay_quarantine(archive, MENDED["all of it"])
    archive.sweep()
    assert is_whole(archive)
    assert archive.entries()[0].revision == 1


def test_a_full_disk_leaves_the_archive_unchanged(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_missing_quarantine_file_is_an_error_and_changes_nothing(archive: Archive) -> None:
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
