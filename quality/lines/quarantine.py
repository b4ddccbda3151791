"""Reads quarantined lines, and re-checks them with the current rules (`replay`).

A replay judges the quarantined lines of a ledger entry by the current rules, settings and catalogue. Lines that pass
become events, in files of the entry's next revision. The entry itself is replaced last and atomically, so the sum of
fates holds at any moment and a crash changes nothing. A replay needs the archive's lock: stop the collector first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import pyarrow as pa

from quality.errors import QuarantineError
from quality.lines import archive_writer
from quality.lines.context_checks import JudgingContext
from quality.lines.repair import repair_candidates
from quality.lines.verdicts import ParsedLines, judge
from stream.archive import Archive
from stream.clock import CLOCK_AHEAD, ClockLimit, LatestLines
from stream.event import Kind
from stream.grammar import LineRefused, parse, render
from stream.ledger_clock import latest_lines, topic_clocks
from stream.ledger_entry import FATES, Fate, FateCount, LedgerEntry, count_by_fate, topic_of
from stream.tables import PROVENANCE_FIELDS, QUARANTINE_SCHEMA
from stream.zone import Zone

ROOM = "quarantine"


@dataclass(frozen=True)
class QuarantinedLine:
    """One quarantined line."""

    id: str
    """`<topic>-<partition>:<offset>`"""
    kafka_time: int
    """ms UTC."""
    reason: str
    raw: bytes


class LineExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """The output of `python -m quality quarantine show`."""

    id: str
    """`<topic>-<partition>:<offset>`"""
    reason: str
    """Why the line was quarantined."""
    detail: str
    """The grammar's verdict, or the parsed event."""
    raw: str
    """The line; bytes that are not UTF-8 are written as `\\x..`."""
    kafka_time_ms: int
    could_mean: list[str]
    """The valid lines that result from one deletion; a line with exactly one is repaired."""


def quarantined_lines(archive: Archive, day: str | None = None, reason: str | None = None) -> Iterator[QuarantinedLine]:
    """The quarantined lines, by entry and offset; only of one day (of Kafka's time) or one reason if given."""
    for entry in archive.expand(_with_quarantine(archive.condensed(), day)):
        table = _table(archive, entry, day)
        kafka_times = table.column("kafka_time").cast(pa.int64()).to_pylist()
        for row, kafka_time in zip(table.to_pylist(), kafka_times, strict=True):
            if reason in (None, row["reason"]):
                yield QuarantinedLine(
                    f"{row['topic']}-{row['partition']}:{row['offset']}", kafka_time, row["reason"], row["raw"]
                )


def explain(archive: Archive, name: str, context: JudgingContext) -> LineExplanation:
    """Explain the quarantined line of an id. Raises `QuarantineError` if no line has it."""
    line = next((line for line in quarantined_lines(archive) if line.id == name), None)
    if line is None:
        raise QuarantineError(f"quarantine: no line '{name}' in {archive.var / ROOM}; `list` shows the ids")
    candidates = repair_candidates(line.raw, line.kafka_time, line.reason, context)
    return LineExplanation(
        id=line.id,
        reason=line.reason,
        detail=_detail(line.raw, context),
        raw=line.raw.decode("utf-8", "backslashreplace"),
        kafka_time_ms=line.kafka_time,
        could_mean=sorted(render(event, context.zone).decode() for event in candidates),
    )


def _detail(raw: bytes, context: JudgingContext) -> str:
    try:
        return f"well-formed: {parse(raw, context.zone)}"
    except LineRefused as refusal:
        return str(refusal)


def replay_quarantine(
    archive: Archive, context: JudgingContext, day: str | None = None, write: bool = True
) -> Counter[Fate]:
    """Re-check quarantined lines; returns how many got which fate. Without `write`, nothing is changed.

    Entries of whose lines retention has dropped some are left as they are. With `write`, the caller holds the archive's
    lock.
    """
    total: Counter[Fate] = Counter(dict.fromkeys(FATES, 0))
    entries = archive.condensed()
    clocks = topic_clocks(latest_lines(entries))
    for entry in archive.expand(_with_quarantine(entries, day)):
        files = [file for file in entry.files if file.room == ROOM and day in (None, file.day)]
        if files and all(map(archive.is_kept, files)):
            # entries of older versions were made without a clock
            limit = None if entry.clock is None else _limit_of(clocks[topic_of(entry.topic)])
            strict = partial(_strict_context, context, entry, limit)
            total.update(replay_entry(archive, entry, context.zone, strict, day, write).fates)
    return total


@dataclass(frozen=True)
class Replayed:
    """An entry, judged again."""

    entry: LedgerEntry
    """Its next revision, or the same entry if no verdict has changed."""
    fates: Counter[Fate]
    """The fates of the lines that were in its quarantine."""


def replay_entry(
    archive: Archive,
    entry: LedgerEntry,
    zone: Zone,
    context_for: Callable[[ParsedLines], JudgingContext],
    day: str | None = None,
    write: bool = True,
) -> Replayed:
    """Judge the quarantined lines of an entry again. With `write`, the caller holds the archive's lock."""
    table = _table(archive, entry, day)
    values = table.column("raw").combine_chunks()
    kafka_times = table.column("kafka_time").cast(pa.int64()).to_numpy()
    lines = ParsedLines.read(values, kafka_times, zone)
    verdicts = judge(lines, context_for(lines))
    counts = verdicts.counts(kafka_times, zone)
    fates = count_by_fate([msgspec.structs.replace(entry, counts=counts)])
    unchanged = verdicts.reasons == table.column("reason").to_pylist()  # every line, each with its old reason
    if unchanged or not write:
        return Replayed(entry, fates)
    revised = _next_revision(entry, counts, day)
    if revised.clock is not None:
        ahead = [verdicts.ahead_from(kafka_times), _ahead_from(archive, entry, day)]
        ahead_from = min((time_ms for time_ms in ahead if time_ms is not None), default=None)
        revised = msgspec.structs.replace(revised, clock=msgspec.structs.replace(revised.clock, ahead_from=ahead_from))
    origin = table.select([name for name, _ in PROVENANCE_FIELDS])
    files = archive_writer.write_batch(archive, revised, verdicts, values, origin, zone)
    old_files = [file for file in entry.files if file.room == ROOM and day in (None, file.day)]
    revised = archive.commit(revised.with_files([file for file in entry.files if file not in old_files] + files))
    for file in old_files:
        (archive.var / file.path).unlink()
    return Replayed(revised, fates)


def _with_quarantine(entries: Iterable[LedgerEntry], day: str | None) -> list[LedgerEntry]:
    """Those with lines in the quarantine of a day, or of any."""
    return [
        entry
        for entry in entries
        if any(room == ROOM and day in (None, other) for room, other, _ in entry.rows_by_file_day())
    ]


def _limit_of(latest: LatestLines) -> ClockLimit | None:
    return None if latest.limit is None else ClockLimit(latest.limit, latest.quorum)


def _strict_context(
    context: JudgingContext, entry: LedgerEntry, limit: ClockLimit | None, lines: ParsedLines
) -> JudgingContext:
    """The context for quarantined lines: a replay does not ask the API, so it accepts only movies of the catalogue."""
    known = context.known
    not_in_catalog = lines.movies() - known.runtimes.keys() if known.runtimes else set()
    ahead_ms = context.ahead_ms if entry.clocks_apart_ms is None else None
    known = replace(known, missing=known.missing | not_in_catalog)
    return replace(context, ahead_ms=ahead_ms, known=known, clock=limit)


def _next_revision(entry: LedgerEntry, counts: list[FateCount], day: str | None) -> LedgerEntry:
    """The entry with the new fates of its quarantined lines of a day."""
    lines: Counter[tuple[Fate, Kind | None, str, str | None]] = Counter()
    unaffected = [count for count in entry.counts if count.fate != "quarantined" or day not in (None, count.day)]
    for count in unaffected + counts:
        lines[count.fate, count.kind, count.day, count.reason] += count.lines
    counts = [FateCount(*key, lines=number) for key, number in sorted(lines.items(), key=str)]
    return msgspec.structs.replace(entry, counts=counts, revision=entry.revision + 1)


def _ahead_from(archive: Archive, entry: LedgerEntry, day: str | None) -> int | None:
    """The earliest Kafka time of the records that are ahead of the clock and in the quarantine of other days."""
    days = {file.day for file in entry.files if file.room == ROOM and day not in (None, file.day)}
    tables = [_table(archive, entry, other) for other in days]
    times = [
        int(row["kafka_time"].timestamp() * 1000)
        for table in tables
        for row in table.select(["reason", "kafka_time"]).to_pylist()
        if row["reason"] == CLOCK_AHEAD
    ]
    return min(times, default=None)


def _table(archive: Archive, entry: LedgerEntry, day: str | None = None) -> pa.Table:
    files = [file for file in entry.files if file.room == ROOM and day in (None, file.day)]
    tables = [archive.read(file) for file in files if archive.is_kept(file)]
    return pa.concat_tables([QUARANTINE_SCHEMA.empty_table(), *tables]).unify_dictionaries().sort_by("offset")
