"""The ledger: one file for each recent entry, and folds of the old ones, so that its cost does not grow with its age.

    archive/ledger/<topic>-<partition>-<first>-<last>.json    a recent entry
    archive/ledger/folded/<number>.fold                       the entries before them, see `ledger_fold.py`
    archive/ledger/folded-by-a-newer-version.json             stops versions of Marquee that do not know folds

A commit writes one entry, as ever. Once there are enough of them, the process that holds the archive's lock folds all
but the latest of each partition:

| killed | on disk | what readers find |
|---|---|---|
| while it writes the fold | a temporary file | the entries |
| after the rename | the fold, and all or some of the entries that it has | the fold: what it covers counts once |
| after the last removal | the fold | the same |

So the folds of a partition are always the beginning of it, and an entry that a fold covers is a leftover. A revision of
an entry that is folded replaces the fold, atomically.

What depends on single entries reads the latest ones: the clock and whether it is live (`ledger_clock.py`), marks, and
open cases (`set_aside.py`). Entries that any of these needs are therefore not folded.
"""

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from stream import durable
from stream.decoding import decode_json
from stream.errors import ArchiveError
from stream.ledger_entry import LedgerEntry, in_order
from stream.ledger_fold import FoldedRange, FoldHeader, fold_file_name, read_block, read_header, write_fold
from stream.ledger_tail import foldable

FOLD_ENTRIES = 1024
"""Entries that can be folded are folded once there are so many; a fold has four times as many at most."""
_BARRIER = "folded-by-a-newer-version.json"
_BARRIER_TEXT = b"This ledger has folds. Older versions of Marquee would take its files for leftovers.\n"
"""Not JSON: a version that does not know folds refuses the ledger with an error that names this file."""
_TRIES = 10
MEND = "restore it, or remove it and all later entries of its partition: their lines are then read again"
_FileState = tuple[str, int, int]
"""Name, inode and modification time of a file."""


class Ledger:
    """The ledger below one folder. It keeps what it has read, and reads only what is new."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folded = folder / "folded"
        self._read: dict[_FileState, LedgerEntry] = {}
        """Entries that have a file of their own, also leftovers of folding."""
        self._folds: dict[_FileState, FoldHeader] = {}
        self._condensed: list[LedgerEntry] = []
        self._sorted_folds: Sequence[FoldHeader] = []
        self._folded: dict[tuple[str, int], list[FoldedRange]] = {}
        """By topic and partition: what is folded, as `_sorted_folds` has it."""
        self._unfoldable = 0
        """Entries that the last try left, since something needs them."""

    def condensed(self) -> list[LedgerEntry]:
        """The whole ledger, with a `FoldedRange` for the folded entries of each partition and hour; by name, partition
        and offset.

        Raises `ArchiveError` if an entry or a fold cannot be read, two overlap, or one is missing between two.
        """
        self._refresh()
        return list(self._condensed)

    def entries(self, wanted: Callable[[LedgerEntry], bool] = lambda entry: True) -> Iterator[LedgerEntry]:
        """All entries one by one, in the same order; those of a range only if the range is `wanted`."""
        return self.expand(entry for entry in self.condensed() if wanted(entry))

    def expand(self, condensed: Iterable[LedgerEntry]) -> Iterator[LedgerEntry]:
        """The entries behind some of `condensed`, in its order. Raises `ArchiveError` if they cannot be read."""
        number, name, block = -1, ("", -1), list[LedgerEntry]()
        for entry in condensed:
            if not isinstance(entry, FoldedRange):
                yield entry
                continue
            if (number, name) != (entry.fold, (entry.topic, entry.partition)):
                number, name = entry.fold, (entry.topic, entry.partition)
                block = self._block(*name, number)
            yield from block[entry.begin : entry.begin + entry.entries]

    def commit(self, entry: LedgerEntry) -> None:
        """Write an entry, or its next revision, durably. The caller holds the archive's lock."""
        if entry.revision and (header := self._fold_with(entry)):
            entries = [
                entry if old.name == entry.name else old
                for block in header.blocks
                for old in self._block(block.topic, block.partition, header.number)
            ]
            write_fold(self.folded, header.number, entries)
        else:
            path = self.folder / f"{entry.name}.json"
            durable.write_bytes(path, msgspec.json.format(msgspec.json.encode(entry)))

    def fold(self, least: int = FOLD_ENTRIES) -> int:
        """Fold what can be folded, if that are at least so many entries; returns how many. The caller holds the
        archive's lock.
        """
        if len(_list(self.folder, ".json")) < least + self._unfoldable:
            return 0
        self._refresh()
        recent = [entry for entry in self._condensed if not isinstance(entry, FoldedRange)]
        chosen = foldable(recent)
        if len(chosen) < least:
            self._unfoldable = len(recent) - len(chosen)
            return 0
        self._unfoldable = len(recent) - len(chosen)
        if not (self.folder / _BARRIER).exists():
            durable.write_bytes(self.folder / _BARRIER, _BARRIER_TEXT)
        number = max((header.number for header in self._folds.values()), default=0)
        for begin in range(0, len(chosen), 4 * FOLD_ENTRIES):
            number, part = number + 1, chosen[begin : begin + 4 * FOLD_ENTRIES]
            write_fold(self.folded, number, part)
            for entry in part:
                (self.folder / f"{entry.name}.json").unlink(missing_ok=True)
        durable.sync(self.folder)
        return len(chosen)

    def leftovers(self) -> list[Path]:
        """Files that a crash has left: temporary ones, and entries that a fold covers."""
        self._refresh()
        folded = self._folded_ends()
        covered = [self.folder / name for (name, *_), entry in self._read.items() if _is_covered(entry, folded)]
        temporary = [path for folder in (self.folder, self.folded) for path in folder.glob(".*")]
        return covered + [path for path in temporary if durable.is_leftover(path)]

    def _refresh(self) -> None:
        """Read what is new. A fold is written before its entries are removed, so entries are listed before folds."""
        for left in reversed(range(_TRIES)):
            recent, folds = _list(self.folder, ".json"), _list(self.folded, ".fold")
            recent = [state for state in recent if state[0] != _BARRIER]
            if self._read.keys() == set(recent) and self._folds.keys() == set(folds):
                return
            try:
                headers = {state: self._folds.get(state) or read_header(self.folded / state[0]) for state in folds}
                entries = {state: self._read.get(state) or self._read_entry(state[0]) for state in recent}
            except FileNotFoundError as error:  # folded, or replaced, since it was listed: list again
                if not left:
                    raise ArchiveError(f"ledger: cannot read {error.filename}: {error}; {MEND}") from error
                continue
            condensed = self._checked([headers[state] for state in sorted(headers)], entries.values())
            self._folds, self._read, self._condensed = headers, entries, condensed
            return

    def _checked(self, headers: Sequence[FoldHeader], recent: Iterable[LedgerEntry]) -> list[LedgerEntry]:
        """The whole ledger in order. What is folded is sorted and checked only when folds have changed."""
        if list(map(id, self._sorted_folds)) != list(map(id, headers)):
            folded = sorted(itertools.chain.from_iterable(header.ranges for header in headers), key=in_order)
            self._require_contiguous(folded)
            by_partition = itertools.groupby(folded, key=lambda entry: (entry.topic, entry.partition))
            self._sorted_folds, self._folded = headers, {name: list(ranges) for name, ranges in by_partition}
        ends = {name: ranges[-1].last for name, ranges in self._folded.items()}
        partitions: dict[tuple[str, int], list[LedgerEntry]] = {name: [] for name in self._folded}
        for entry in sorted((entry for entry in recent if not _is_covered(entry, ends)), key=in_order):
            partitions.setdefault((entry.topic, entry.partition), []).append(entry)
        condensed = list[LedgerEntry]()
        for name, own in sorted(partitions.items()):
            folded = self._folded.get(name, [])
            self._require_contiguous([*folded[-1:], *own])
            condensed += folded
            condensed += own
        return condensed

    def _require_contiguous(self, entries: Iterable[LedgerEntry]) -> None:
        for left, right in itertools.pairwise(entries):
            if right.first == left.last + 1 or (left.topic, left.partition) != (right.topic, right.partition):
                continue
            names = f"{left.name} and {right.name} in {self.folder}"
            if right.first <= left.last:
                raise ArchiveError(f"ledger: ranges overlap: {names}; remove the wrong entry")
            raise ArchiveError(f"ledger: an entry is missing between {names}; {MEND}")

    def _folded_ends(self) -> dict[tuple[str, int], int]:
        return _ends(entry for header in self._folds.values() for entry in header.ranges)

    def _fold_with(self, entry: LedgerEntry) -> FoldHeader | None:
        """The fold that has an entry."""
        self._refresh()
        for header in self._folds.values():
            for each in header.ranges:
                if (each.topic, each.partition) == (entry.topic, entry.partition) and (
                    each.first <= entry.first <= entry.last <= each.last
                ):
                    return header
        return None

    def _block(self, topic: str, partition: int, number: int) -> list[LedgerEntry]:
        path = self.folded / fold_file_name(number)
        try:
            return read_block(path, topic, partition)
        except FileNotFoundError as error:
            raise ArchiveError(f"ledger: {path} is gone; restore it") from error

    def _read_entry(self, name: str) -> LedgerEntry:
        path = self.folder / name
        try:
            return decode_json(path.read_bytes(), LedgerEntry)
        except FileNotFoundError:
            raise
        except (OSError, msgspec.DecodeError) as error:
            raise ArchiveError(f"ledger: cannot read {path}: {error}; {MEND}") from error


def _list(folder: Path, ending: str) -> list[_FileState]:
    """The files of a folder. Avoids `Path` objects: there may be many."""
    if not folder.is_dir():
        return []
    states = []
    with os.scandir(folder) as listing:
        for file in listing:
            if file.name.endswith(ending) and not file.name.startswith("."):
                try:
                    stat = file.stat()
                except FileNotFoundError:  # removed since it was listed
                    continue
                states.append((file.name, stat.st_ino, stat.st_mtime_ns))
    return states


def _ends(folded: Iterable[LedgerEntry]) -> dict[tuple[str, int], int]:
    """By topic and partition: the last offset that is folded."""
    ends: dict[tuple[str, int], int] = defaultdict(lambda: -2)
    for entry in folded:
        ends[entry.topic, entry.partition] = max(ends[entry.topic, entry.partition], entry.last)
    return ends


def _is_covered(entry: LedgerEntry, folded: dict[tuple[str, int], int]) -> bool:
    return entry.last <= folded.get((entry.topic, entry.partition), -2)
