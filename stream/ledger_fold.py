"""Folds: files that hold many old entries of the ledger, and their sums, so that a reader needs not read them all.

    marquee-ledger-fold 1 <crc32 of the next line>
    {"number": 7, "blocks": [...], "ranges": [...]}         `FoldHeader`
    <blocks: the entries of one partition each, as JSON, compressed with zstd>

Nothing is left out: the blocks have the entries as they were. A range sums up consecutive entries of a partition and of
one hour of the stream. Sums over ranges are sums over their entries, so whatever adds up entries can go by ranges.
"""

import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
from msgspec.structs import force_setattr

from stream import durable
from stream.decoding import decode_json
from stream.errors import ArchiveError
from stream.event import Kind
from stream.ledger_entry import Fate, FateCount, LedgerEntry, TimeRange
from stream.zone import HOUR_MS

_MAGIC = b"marquee-ledger-fold"
LAYOUT = 1


class FileSum(msgspec.Struct, frozen=True, gc=False):
    """The files of a range, of one room and day."""

    room: str
    day: str
    files: int
    rows: int


class FoldedRange(LedgerEntry, frozen=True, kw_only=True, omit_defaults=True):
    """Consecutive entries of a partition as one: their range, sums of their numbers, and what they say of times.

    It has neither files nor clock; `kafka_time` spans those of all entries.
    """

    fold: int
    """Number of the fold that has the entries."""
    begin: int
    """Place of the first of the entries in the block of their partition."""
    entries: int
    last_first: int
    """`first` of the last entry."""
    come_to: int | None = None
    """How far the partition had come with the last entry that has lines, ms UTC."""
    set_aside_from: int | None = None
    """The earliest `ahead_from` of the entries."""
    events_time: TimeRange | None = None
    """Spans the Kafka times of the entries with events."""
    file_sums: list[FileSum] = msgspec.field(default_factory=list)

    @property
    def reached(self) -> int | None:
        return self.come_to

    @property
    def ahead_from(self) -> int | None:
        return self.set_aside_from

    @property
    def entry_count(self) -> int:
        return self.entries

    @property
    def last_name(self) -> str:
        return f"{self.topic}-{self.partition}-{self.last_first:012}-{self.last:012}"

    @property
    def event_times(self) -> TimeRange | None:
        return self.events_time

    def rows_by_file_day(self) -> Iterator[tuple[str, str, int]]:
        return ((each.room, each.day, each.rows) for each in self.file_sums)


class FoldBlock(msgspec.Struct, frozen=True):
    """Where a fold has the entries of a partition."""

    topic: str
    partition: int
    offset: int
    """From the end of the header, bytes."""
    size: int
    """Compressed, bytes."""
    raw_size: int
    crc32: int
    """Of the compressed bytes."""


class FoldHeader(msgspec.Struct, frozen=True):
    """What a reader knows of a fold without its entries."""

    number: int
    blocks: list[FoldBlock]
    """By topic and partition, ascending."""
    ranges: list[FoldedRange]
    """In the order of `in_order`."""


def fold_file_name(number: int) -> str:
    """The name of a fold's file."""
    return f"{number:08}.fold"


def write_fold(folder: Path, number: int, entries: Sequence[LedgerEntry]) -> None:
    """Create or replace a fold, durably, with entries in the order of `in_order`."""
    blocks, parts, offset, ranges = list[FoldBlock](), list[bytes](), 0, list[FoldedRange]()
    for (topic, partition), group in groupby(entries, key=lambda entry: (entry.topic, entry.partition)):
        own = list(group)
        raw = msgspec.json.encode(own)
        parts.append(pa.compress(raw, codec="zstd", asbytes=True))
        blocks.append(FoldBlock(topic, partition, offset, len(parts[-1]), len(raw), zlib.crc32(parts[-1])))
        offset += len(parts[-1])
        ranges += _ranges(own, number)
    header = msgspec.json.encode(FoldHeader(number, blocks, ranges))
    first = b"%b %d %08x\n" % (_MAGIC, LAYOUT, zlib.crc32(header))
    durable.write_bytes(folder / fold_file_name(number), b"".join([first, header, b"\n", *parts]))


def read_header(path: Path) -> FoldHeader:
    """The header of a fold. Raises `FileNotFoundError`, and `ArchiveError` if it is damaged or of a newer version."""
    with path.open("rb") as file:
        return _header(path, file)


def read_block(path: Path, topic: str, partition: int) -> list[LedgerEntry]:
    """The entries of a partition. Raises as `read_header` does."""
    with path.open("rb") as file:  # the header as well: the file may have been replaced since it was read
        header = _header(path, file)
        block = next(each for each in header.blocks if (each.topic, each.partition) == (topic, partition))
        file.seek(block.offset, os.SEEK_CUR)
        data = file.read(block.size)
    if len(data) != block.size or zlib.crc32(data) != block.crc32:
        raise _damaged(path, f"the entries of {topic}-{partition} have another checksum")
    try:
        return decode_json(pa.decompress(data, block.raw_size, codec="zstd", asbytes=True), list[LedgerEntry])
    except (msgspec.DecodeError, pa.ArrowException) as error:
        raise _damaged(path, str(error)) from error


def _header(path: Path, file: BinaryIO) -> FoldHeader:
    first, header = file.readline(100).split(), file.readline()[:-1]
    if len(first) != 3 or first[0] != _MAGIC:
        raise _damaged(path, "it does not begin as a fold")
    if first[1] != b"%d" % LAYOUT:
        raise ArchiveError(
            f"ledger: {path} has layout {first[1].decode('ascii', 'replace')}, of a newer version of Marquee than this"
            f" one, which reads {LAYOUT}; use that version"
        )
    if first[2] != b"%08x" % zlib.crc32(header):
        raise _damaged(path, "its header has another checksum")
    try:
        return _with_shared_texts(decode_json(header, FoldHeader))
    except msgspec.DecodeError as error:
        raise _damaged(path, str(error)) from error


def _with_shared_texts(header: FoldHeader) -> FoldHeader:
    """The same header, with each text once in memory: a year's ranges name the same few thousand days and reasons."""
    for each in header.ranges:
        force_setattr(each, "topic", sys.intern(each.topic))
        for count in each.counts:
            force_setattr(count, "day", sys.intern(count.day))
            force_setattr(count, "reason", count.reason and sys.intern(count.reason))
        for file in each.file_sums:
            force_setattr(file, "room", sys.intern(file.room))
            force_setattr(file, "day", sys.intern(file.day))
    return header


def _damaged(path: Path, reason: str) -> ArchiveError:
    return ArchiveError(
        f"ledger: cannot read {path}: {reason}; restore it, or remove it, all later folds and"
        f" {path.parent.parent}/*.json: their lines are then read again, as far as Kafka has them"
    )


def _ranges(entries: Iterable[LedgerEntry], fold: int) -> Iterator[FoldedRange]:
    """The ranges of a partition's entries: one for each hour; what was lost, or made anew, is a range of its own."""
    groups, last, begin = list[list[LedgerEntry]](), None, 0
    for entry in entries:
        alone = entry.lost or entry.remade or entry.kafka_time is None or entry.reached is None
        key = None if alone or entry.reached is None else entry.reached // HOUR_MS
        if key is None or key != last:
            groups.append([])
        groups[-1].append(entry)
        last = key
    for group in groups:
        yield _sum(group, fold, begin)
        begin += len(group)


def _sum(entries: list[LedgerEntry], fold: int, begin: int) -> FoldedRange:
    counts = Counter[tuple[Fate, Kind | None, str, str | None]]()
    files, rows = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for entry in entries:
        for count in entry.counts:
            counts[count.fate, count.kind, count.day, count.reason] += count.lines
        for file in entry.files:
            files[file.room, file.day] += 1
            rows[file.room, file.day] += file.rows
    first, last = entries[0], entries[-1]
    ahead = [entry.ahead_from for entry in entries if entry.ahead_from is not None]
    return FoldedRange(
        fold=fold, begin=begin, entries=len(entries),
        topic=first.topic, partition=first.partition, first=first.first, last=last.last, last_first=last.first,
        lines=sum(entry.lines for entry in entries),
        counts=[FateCount(*key, lines=number) for key, number in sorted(counts.items(), key=str)],
        kafka_time=_span(entry.kafka_time for entry in entries),
        events_time=_span(entry.event_times for entry in entries),
        lost=sum(entry.lost for entry in entries),
        redelivered=sum(entry.redelivered for entry in entries),
        remade=first.remade,
        revision=max(entry.revision for entry in entries),
        come_to=last.reached,
        set_aside_from=min(ahead, default=None),
        file_sums=[FileSum(*key, files[key], rows[key]) for key in sorted(rows)],
    )  # fmt: skip


def _span(times: Iterable[TimeRange | None]) -> TimeRange | None:
    there = [each for each in times if each is not None]
    return TimeRange(min(each.first for each in there), max(each.last for each in there)) if there else None
