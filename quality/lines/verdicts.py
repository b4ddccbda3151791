"""Verdicts on every line of a batch. Pure: the collector reads Kafka and writes the archive around it.

Each line has exactly one fate, in this order of precedence: *duplicate* (the batch holds the same bytes with an earlier
Kafka time, or with the same time at an earlier offset), *accepted* (well-formed and without a fault), *repaired* (with
the rule's name), *quarantined* (with the reason of its first fault). Nothing is dropped.

A line that would be accepted or repaired, but for a record that is ahead of the stream's clock, is quarantined as
`clock_ahead`, and judged again if the clock comes to it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.lines.context_checks import JudgingContext, arrival_delay_ms, context_faults, resolve_repeated_hour
from quality.lines.repair import Repairs, repair_lines
from stream.clock import CLOCK_AHEAD, ClockLimit
from stream.event import KINDS, Kind
from stream.ledger_entry import Fate, FateCount, TimeRange
from stream.line_columns import LineColumns, read, table_of, times_of
from stream.zone import Zone, day_name

_FEWEST = 20
"""Fewer lines do not prove that the clocks disagree."""


@dataclass(frozen=True)
class ParsedLines:
    """A batch of lines, parsed but not judged."""

    values: pa.Array
    """The lines: binary, without nulls."""
    kafka_times: np.ndarray
    """Kafka's time of each: int64, ms UTC."""
    rows: np.ndarray
    """Indices of the lines that are not duplicates: int64, ascending."""
    columns: LineColumns
    """These lines, parsed; `columns.rows` are indices into `rows`."""
    same: np.ndarray
    """Of each of `values`, the place in `rows` of the line with the same bytes: int64."""

    @classmethod
    def read(cls, values: pa.Array, kafka_times: np.ndarray, zone: Zone) -> "ParsedLines":
        """Parse lines, each different one once."""
        codes = values.dictionary_encode().indices.to_numpy()
        rows = np.sort(np.unique(codes, return_index=True)[1])
        if len(rows) < len(values):  # of copies the earliest counts, so that their order does not matter
            by_time = np.argsort(kafka_times, kind="stable")
            rows = np.sort(by_time[np.unique(codes[by_time], return_index=True)[1]])
        fresh = values if len(rows) == len(values) else values.take(pa.array(rows))
        places = np.empty(len(rows), np.int64)
        places[codes[rows]] = np.arange(len(rows))
        return cls(values, kafka_times, rows, read(fresh, zone), places[codes])

    def movies(self) -> set[str]:
        """The movies that well-formed lines name."""
        tables = [(table, frozenset(table.column_names)) for table in self.columns.events.values()]
        columns = [table.column("movie") for table, names in tables if "movie" in names]
        columns += [
            pc.list_flatten(table.column("movies")).dictionary_encode() for table, names in tables if "movies" in names
        ]
        # a dictionary may hold words that no line names any more
        used = (chunk.dictionary.take(pc.unique(chunk.indices)) for column in columns for chunk in column.chunks)
        return {word for words in used for word in words.to_pylist()}

    def users_above(self, most: int) -> set[int]:
        """User ids above `most` in well-formed lines."""
        _, users = self.columns.rows_and_users()
        return set(users[users > most].tolist())

    def times_and_users(self) -> tuple[np.ndarray, np.ndarray]:
        """Kafka's time (int64 ms UTC) and the user (int64) of each well-formed line, duplicates among them.

        For the stream's clock: duplicates in other batches are lines as well, and the clock depends on no batch.
        """
        rows, users = self.columns.rows_and_users()
        users_of_rows = np.full(len(self.rows), -1, np.int64)
        users_of_rows[rows] = users
        users = users_of_rows[self.same]
        return self.kafka_times[users >= 0], users[users >= 0]

    def clocks_apart_ms(self, context: JudgingContext) -> int | None:
        """The lines' median distance from Kafka's time, ms, if it exceeds the limit of a repair; else None.

        The cause is then a wrong zone, or a producer that sets no timestamps, not a single line; such a batch must be
        judged with `ahead_ms` None. A batch of few lines gives None.
        """
        rows = np.concatenate([self.columns.rows[kind] for kind in KINDS])
        times = np.concatenate([times_of(self.columns.events[kind]) for kind in KINDS])
        delays = arrival_delay_ms(times, self.kafka_times[self.rows[rows]], context.zone)
        apart_ms = int(np.median(delays)) if len(delays) >= _FEWEST else 0
        return apart_ms if abs(apart_ms) > (context.ahead_ms or 0) else None


@dataclass(frozen=True)
class KeptEvents:
    """Events of one kind: row i of `table` is line `rows[i]` of the batch (int64, ascending)."""

    table: pa.Table
    rows: np.ndarray
    rules: Mapping[int, str]
    """By row of the table: the rule that repaired it; the other rows were accepted."""


@dataclass(frozen=True)
class Verdicts:
    """The fates of all lines of a batch."""

    kept: dict[Kind, KeptEvents]
    """The accepted and repaired lines."""
    quarantined: np.ndarray
    """Indices of the quarantined lines: int64, ascending."""
    reasons: list[str]
    """The reason of each of `quarantined`, in the same order."""
    duplicates: np.ndarray
    """Indices of the duplicates: int64, ascending."""

    def span(self, kafka_times: np.ndarray) -> TimeRange:
        """The earliest and latest Kafka time of the kept lines, or of all lines if none was kept.

        Otherwise a single record whose time is years ahead would move the stream's time there.
        """
        rows = np.concatenate([kept.rows for kept in self.kept.values()])
        times = kafka_times[rows] if len(rows) else kafka_times
        return TimeRange(int(times.min()), int(times.max()))

    def ahead_from(self, kafka_times: np.ndarray) -> int | None:
        """The earliest Kafka time of the records that are ahead of the stream's clock; None without any."""
        ahead = kafka_times[self.quarantined[np.array(self.reasons, object) == CLOCK_AHEAD]]
        return int(ahead.min()) if len(ahead) else None

    def counts(self, kafka_times: np.ndarray, zone: Zone) -> list[FateCount]:
        """Lines by fate, kind, day and reason, in a fixed order."""
        days = zone.day_number(kafka_times)
        counted: Counter[tuple[Fate, Kind | None, int, str | None]] = Counter()
        for kind, kept in self.kept.items():
            event_days = zone.day_number(times_of(kept.table))
            accepted = np.delete(event_days, list(kept.rules))
            for day, lines in zip(*(x.tolist() for x in np.unique(accepted, return_counts=True)), strict=True):
                counted["accepted", kind, day, None] += lines
            counted.update(("repaired", kind, int(event_days[row]), rule) for row, rule in kept.rules.items())
        reasons = zip(days[self.quarantined].tolist(), self.reasons, strict=True)
        counted.update(("quarantined", None, day, reason) for day, reason in reasons)
        counted.update(("duplicate", None, day, None) for day in days[self.duplicates].tolist())
        return [
            FateCount(fate, kind, day_name(day), reason, lines)
            for (fate, kind, day, reason), lines in sorted(counted.items(), key=str)
        ]


def judge(lines: ParsedLines, context: JudgingContext) -> Verdicts:
    """Judge all lines of a batch."""
    columns, rows = lines.columns, lines.rows
    faulty = dict(zip(rows[columns.refused].tolist(), map(str, columns.reasons), strict=True))
    accepted: dict[Kind, tuple[pa.Table, np.ndarray]] = {}
    for kind in KINDS:
        line_rows = rows[columns.rows[kind]]
        kafka_times = lines.kafka_times[line_rows]
        table = resolve_repeated_hour(columns.events[kind], kafka_times, context)
        fine = np.ones(len(line_rows), bool)
        for reason, broken in context_faults(kind, table, kafka_times, context):
            faulty.update((row, reason) for row in line_rows[broken & fine].tolist())
            fine &= ~broken
        accepted[kind] = (table, line_rows) if fine.all() else (table.filter(pa.array(fine)), line_rows[fine])
    repairs = repair_lines(lines.values, lines.kafka_times, faulty, context)
    for row in _ahead(repairs, lines.kafka_times, context.clock):
        del repairs[row]  # not yet: it is judged again when the clock has come to it
        faulty[row] = CLOCK_AHEAD
    quarantined = [row for row in sorted(faulty) if row not in repairs]
    return Verdicts(
        {kind: _with_repairs(kind, *accepted[kind], repairs) for kind in KINDS},
        np.array(quarantined, np.int64),
        [faulty[row] for row in quarantined],
        np.setdiff1d(np.arange(len(lines.values)), rows, assume_unique=True),
    )


def _ahead(rows: Iterable[int], kafka_times: np.ndarray, clock: ClockLimit | None) -> list[int]:
    """Those of some lines (`rows`: indices) whose records are ahead of the stream's clock."""
    indices = np.fromiter(rows, np.int64)
    return [] if clock is None else indices[clock.is_ahead(kafka_times[indices])].tolist()


def _with_repairs(kind: Kind, table: pa.Table, rows: np.ndarray, repairs: Repairs) -> KeptEvents:
    """Accepted events of a kind (`rows`: their lines) with the repaired ones, sorted by line."""
    repaired = {row: (rule, event) for row, (rule, event) in repairs.items() if event.kind == kind}
    if not repaired:
        return KeptEvents(table, rows, {})
    table = pa.concat_tables([table, table_of(kind, [event for _, event in repaired.values()])]).unify_dictionaries()
    rows = np.concatenate([rows, np.array(list(repaired), np.int64)])
    order = np.argsort(rows)
    rows = rows[order]
    table_rows = np.searchsorted(rows, np.array(list(repaired), np.int64)).tolist()
    rules = dict(zip(table_rows, (rule for rule, _ in repaired.values()), strict=True))
    return KeptEvents(table.take(pa.array(order)), rows, rules)
