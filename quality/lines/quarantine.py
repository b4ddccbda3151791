"""Reads quarantined lines, and re-checks them with the current rules (`replay`).

A replay judges what an entry of the ledger set aside by the rules, settings and catalogue of today. What passes now
becomes events in files of the entry's next revision; the entry itself is replaced last, whole, so that the sum of
fates holds at every moment and a crash changes nothing. It needs the archive's lock: the collector must be stopped.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pyarrow as pa

from quality.errors import QuarantineError
from quality.lines import archive_writer
from quality.lines.context_checks import JudgingContext
from quality.lines.repair import repair_candidates
from quality.lines.verdicts import ParsedLines, judge
from stream.archive import FATES, Archive, Fate, FateCount, LedgerEntry, count_by_fate
from stream.event import Kind
from stream.grammar import LineRefused, parse, render
from stream.tables import PROVENANCE_FIELDS, QUARANTINE_SCHEMA

ROOM = "quarantine"


@dataclass(frozen=True)
class QuarantinedLine:
    """One line that was set aside."""

    id: str
    """`<topic>-<partition>:<offset>`"""
    kafka_time: int
    """ms UTC."""
    reason: str
    raw: bytes


def quarantined_lines(archive: Archive, day: str | None = None, reason: str | None = None) -> Iterator[QuarantinedLine]:
    """The lines in quarantine, by entry and offset; only of one day (of Kafka's time) or one reason if given."""
    for entry in archive.entries():
        table = _table(archive, entry, day)
        moments = table.column("kafka_time").cast(pa.int64()).to_pylist()
        for row, kafka_time in zip(table.to_pylist(), moments, strict=True):
            if reason in (None, row["reason"]):
                yield QuarantinedLine(
                    f"{row['topic']}-{row['partition']}:{row['offset']}", kafka_time, row["reason"], row["raw"]
                )


def explain(archive: Archive, name: str, context: JudgingContext) -> dict[str, Any]:
    """All that can be said of one line. Raises `QuarantineError` where none has that id."""
    found = next((aside for aside in quarantined_lines(archive) if aside.id == name), None)
    if found is None:
        raise QuarantineError(f"quarantine: no line '{name}' in {archive.var / ROOM}; `list` shows the ids")
    could_mean = repair_candidates(found.raw, found.kafka_time, found.reason, context)
    return {
        "id": found.id,
        "reason": found.reason,
        "detail": _detail(found.raw, context),
        "raw": found.raw.decode("utf-8", "backslashreplace"),
        "kafka_time_ms": found.kafka_time,
        "could_mean": sorted(render(event, context.zone).decode() for event in could_mean),
    }


def _detail(raw: bytes, context: JudgingContext) -> str:
    try:
        return f"well-formed: {parse(raw, context.zone)}"
    except LineRefused as refusal:
        return str(refusal)


def replay_quarantine(
    archive: Archive, context: JudgingContext, day: str | None = None, write: bool = True
) -> Counter[Fate]:
    """Judge the lines in quarantine anew; how many of them got which fate. Without `write`, nothing is changed.

    The caller holds the archive's lock if it writes.
    """
    total: Counter[Fate] = Counter(dict.fromkeys(FATES, 0))
    for entry in archive.entries():
        if any(file.room == ROOM and day in (None, file.day) for file in entry.files):
            total.update(_replayed(archive, entry, context, day, write))
    return total


def _replayed(
    archive: Archive, entry: LedgerEntry, context: JudgingContext, day: str | None, write: bool
) -> Counter[Fate]:
    table = _table(archive, entry, day)
    values = table.column("raw").combine_chunks()
    kafka_times = table.column("kafka_time").cast(pa.int64()).to_numpy()
    lines = ParsedLines.read(values, kafka_times, context.zone)
    verdicts = judge(lines, _beyond_doubt(context, lines, entry))
    new = _revised(entry, verdicts.counts(kafka_times, context.zone), day)
    as_before = verdicts.reasons == table.column("reason").to_pylist()  # all of them, each for what it was
    if write and not as_before:
        origin = table.select([name for name, _ in PROVENANCE_FIELDS])
        files = archive_writer.write_batch(archive, new, verdicts, values, origin, context.zone)
        old = [file for file in entry.files if file.room == ROOM and day in (None, file.day)]
        archive.commit(new.with_files([file for file in entry.files if file not in old] + files))
        for file in old:
            (archive.var / file.path).unlink()
    return count_by_fate([msgspec.structs.replace(new, counts=verdicts.counts(kafka_times, context.zone))])


def _beyond_doubt(context: JudgingContext, lines: ParsedLines, entry: LedgerEntry) -> JudgingContext:
    """The context for lines that were set aside: nobody asks the API now, so a movie must be known to be one."""
    known = context.known
    strangers = lines.movies() - known.runtimes.keys() if known.runtimes else set()
    ahead_ms = context.ahead_ms if entry.clocks_apart_ms is None else None
    return replace(context, ahead_ms=ahead_ms, known=replace(known, missing=known.missing | strangers))


def _revised(entry: LedgerEntry, counts: list[FateCount], day: str | None) -> LedgerEntry:
    """The entry with what became now of its quarantined lines of a day."""
    lines: Counter[tuple[Fate, Kind | None, str, str | None]] = Counter()
    kept = [count for count in entry.counts if count.fate != "quarantined" or day not in (None, count.day)]
    for count in kept + counts:
        lines[count.fate, count.kind, count.day, count.reason] += count.lines
    counts = [FateCount(*key, lines=number) for key, number in sorted(lines.items(), key=str)]
    return msgspec.structs.replace(entry, counts=counts, revision=entry.revision + 1)


def _table(archive: Archive, entry: LedgerEntry, day: str | None = None) -> pa.Table:
    files = [file for file in entry.files if file.room == ROOM and day in (None, file.day)]
    tables = [archive.read(file) for file in files]
    return pa.concat_tables([QUARANTINE_SCHEMA.empty_table(), *tables]).unify_dictionaries().sort_by("offset")
