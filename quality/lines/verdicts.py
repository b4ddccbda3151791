"""Verdicts on every line of a batch. Pure: the collector reads Kafka and writes the archive around it.

Each line has exactly one fate, judged in this order: *duplicate* (the same bytes stood earlier in the batch),
*accepted* (well-formed and without a fault), *repaired* (with the rule's name), *quarantined* with the reason of its
first fault. Nothing is dropped.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.lines.context_checks import JudgingContext, arrival_delay_ms, context_faults, resolve_repeated_hour
from quality.lines.repair import Repairs, repair_lines
from stream.archive import Fate, FateCount, TimeRange
from stream.event import KINDS, Kind
from stream.line_columns import LineColumns, read, table_of, times_of
from stream.zone import Zone, day_name

_FEW = 20
"""Fewer lines do not say that the clocks are apart."""


@dataclass(frozen=True)
class ParsedLines:
    """A batch of lines, read but not judged."""

    values: pa.Array
    """The lines: binary, without nulls."""
    kafka_times: np.ndarray
    """When Kafka got each: int64, ms UTC."""
    rows: np.ndarray
    """Places of the lines that stand there for the first time: int64, ascending."""
    columns: LineColumns
    """These, read; their `rows` count places in `rows`."""

    @classmethod
    def read(cls, values: pa.Array, kafka_times: np.ndarray, zone: Zone) -> "ParsedLines":
        codes = values.dictionary_encode().indices.to_numpy()
        rows = np.sort(np.unique(codes, return_index=True)[1])
        fresh = values if len(rows) == len(values) else values.take(pa.array(rows))
        return cls(values, kafka_times, rows, read(fresh, zone))

    def movies(self) -> set[str]:
        """The movies that well-formed lines name."""
        events = self.columns.events
        lists = pc.list_flatten(events["recommend"].column("movies")).dictionary_encode()
        chunks = [
            chunk for column in (events["watch"]["movie"], events["rate"]["movie"], lists) for chunk in column.chunks
        ]
        # the dictionary may hold words that no line names any more
        named = (chunk.dictionary.take(pc.unique(chunk.indices)) for chunk in chunks)
        return {word for words in named for word in words.to_pylist()}

    def users_above(self, most: int) -> set[int]:
        """The users with ids above `most` that well-formed lines name."""
        users = np.concatenate([table.column("user").to_numpy() for table in self.columns.events.values()])
        return set(users[users > most].tolist())

    def clocks_apart_ms(self, context: JudgingContext) -> int | None:
        """Where at least half of the lines lie further from Kafka's time than a repair may: their median distance, ms.

        No line is to blame for that, but a wrong zone, or records that were written without their time. Such a batch
        must be judged with `ahead_ms` None. A few lines prove nothing.
        """
        rows = np.concatenate([self.columns.rows[kind] for kind in KINDS])
        times = np.concatenate([times_of(self.columns.events[kind]) for kind in KINDS])
        late = arrival_delay_ms(times, self.kafka_times[self.rows[rows]], context.zone)
        apart_ms = int(np.median(late)) if len(late) >= _FEW else 0
        return apart_ms if abs(apart_ms) > (context.ahead_ms or 0) else None


@dataclass(frozen=True)
class KeptEvents:
    """Events of one kind: `rows[i]` is the line (place in the batch, int64 ascending) of row i of `table`."""

    table: pa.Table
    rows: np.ndarray
    rules: Mapping[int, str]
    """By row of the table: the rule that repaired it; the others were accepted."""


@dataclass(frozen=True)
class Verdicts:
    """What became of a batch."""

    good: dict[Kind, KeptEvents]
    quarantined: np.ndarray
    """Places of the lines set aside: int64, ascending."""
    reasons: list[str]
    """Why, in the order of `quarantined`."""
    duplicates: np.ndarray
    """Places of the lines that stood before: int64, ascending."""

    def span(self, kafka_times: np.ndarray) -> TimeRange:
        """Kafka's time of the first and the last line that was kept; of all lines where none was.

        A single record whose time is years ahead would else be how far the stream has come.
        """
        kept = np.concatenate([good.rows for good in self.good.values()])
        times = kafka_times[kept] if len(kept) else kafka_times
        return TimeRange(int(times.min()), int(times.max()))

    def counts(self, kafka_times: np.ndarray, zone: Zone) -> list[FateCount]:
        """Lines by fate, kind, day and reason, in a fixed order."""
        days = zone.day_number(kafka_times)
        tally: Counter[tuple[Fate, Kind | None, int, str | None]] = Counter()
        for kind, good in self.good.items():
            event_days = zone.day_number(times_of(good.table))
            accepted = np.delete(event_days, list(good.rules))
            for day, lines in zip(*(x.tolist() for x in np.unique(accepted, return_counts=True)), strict=True):
                tally["accepted", kind, day, None] += lines
            tally.update(("repaired", kind, int(event_days[row]), rule) for row, rule in good.rules.items())
        reasons = zip(days[self.quarantined].tolist(), self.reasons, strict=True)
        tally.update(("quarantined", None, day, reason) for day, reason in reasons)
        tally.update(("duplicate", None, day, None) for day in days[self.duplicates].tolist())
        return [
            FateCount(fate, kind, day_name(day), reason, lines)
            for (fate, kind, day, reason), lines in sorted(tally.items(), key=str)
        ]


def judge(lines: ParsedLines, context: JudgingContext) -> Verdicts:
    """Judge lines: every one has exactly one fate."""
    columns, rows = lines.columns, lines.rows
    bad = dict(zip(rows[columns.refused].tolist(), map(str, columns.reasons), strict=True))
    good: dict[Kind, tuple[pa.Table, np.ndarray]] = {}
    for kind in KINDS:
        places = rows[columns.rows[kind]]
        kafka_times = lines.kafka_times[places]
        table = resolve_repeated_hour(columns.events[kind], kafka_times, context)
        fine = np.ones(len(places), bool)
        for reason, broken in context_faults(kind, table, kafka_times, context):
            bad.update((place, reason) for place in places[broken & fine].tolist())
            fine &= ~broken
        good[kind] = (table, places) if fine.all() else (table.filter(pa.array(fine)), places[fine])
    mended = repair_lines(lines.values, lines.kafka_times, bad, context)
    left = [place for place in sorted(bad) if place not in mended]
    return Verdicts(
        {kind: _with_mended(kind, *good[kind], mended) for kind in KINDS},
        np.array(left, np.int64),
        [bad[place] for place in left],
        np.setdiff1d(np.arange(len(lines.values)), rows, assume_unique=True),
    )


def _with_mended(kind: Kind, table: pa.Table, rows: np.ndarray, mended: Repairs) -> KeptEvents:
    extra = {row: (rule, event) for row, (rule, event) in mended.items() if event.kind == kind}
    if not extra:
        return KeptEvents(table, rows, {})
    events = [event for _, event in extra.values()]
    table = pa.concat_tables([table, table_of(kind, events)]).unify_dictionaries()
    rows = np.concatenate([rows, np.array(list(extra), np.int64)])
    order = np.argsort(rows)
    rows = rows[order]
    places = np.searchsorted(rows, np.array(list(extra), np.int64)).tolist()
    rules = dict(zip(places, (rule for rule, _ in extra.values()), strict=True))
    return KeptEvents(table.take(pa.array(order)), rows, rules)
