"""Fates: the verdict on every line of a batch. Pure; the collector reads Kafka and writes the archive around it.

Each line has exactly one fate, judged in this order: *duplicate* (the same bytes stood earlier in the batch),
*accepted* (well-formed and within its schema), *repaired*, *quarantined* with the reason of its first reader. Nothing
is dropped.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from quality.repair import ONE_CHARACTER, Context, repaired
from quality.schemas import breaches
from stream.archive import Count, Fate
from stream.columns import read, table_of
from stream.event import KINDS, Event, Kind
from stream.zone import Zone, day_name


@dataclass(frozen=True)
class Good:
    """Events of one kind: `rows[i]` is the line (place in the batch, int64 ascending) of row i of `table`."""

    table: pa.Table
    rows: np.ndarray
    repaired: np.ndarray
    """Which rows were repaired: bool."""


@dataclass(frozen=True)
class Fates:
    """What became of a batch."""

    good: dict[Kind, Good]
    quarantined: np.ndarray
    """Places of the lines set aside: int64, ascending."""
    reasons: list[str]
    """Why, in the order of `quarantined`."""
    duplicates: np.ndarray
    """Places of the lines that stood before: int64, ascending."""

    def counts(self, kafka_times: np.ndarray, zone: Zone) -> list[Count]:
        """Lines by fate, kind, day and reason, in a fixed order."""
        days = zone.day_number(kafka_times)
        tally: Counter[tuple[Fate, Kind | None, int, str | None]] = Counter()
        for kind, good in self.good.items():
            event_days = zone.day_number(times_of(good.table))
            tally.update(("accepted", kind, day, None) for day in event_days[~good.repaired].tolist())
            tally.update(("repaired", kind, day, ONE_CHARACTER) for day in event_days[good.repaired].tolist())
        reasons = zip(days[self.quarantined].tolist(), self.reasons, strict=True)
        tally.update(("quarantined", None, day, reason) for day, reason in reasons)
        tally.update(("duplicate", None, day, None) for day in days[self.duplicates].tolist())
        return [
            Count(fate, kind, day_name(day), reason, lines)
            for (fate, kind, day, reason), lines in sorted(tally.items(), key=str)
        ]


def judge(values: pa.Array, kafka_times: np.ndarray, context: Context) -> Fates:
    """Judge lines (binary array without nulls; Kafka times int64 ms): every one has exactly one fate."""
    first = _firsts(values)
    rows = np.flatnonzero(first)
    columns = read(values.take(pa.array(rows)), context.zone)
    bad = dict(zip(rows[columns.refused].tolist(), map(str, columns.reasons), strict=True))
    good: dict[Kind, tuple[pa.Table, np.ndarray]] = {}
    for kind in KINDS:
        table, kept = columns.events[kind], rows[columns.rows[kind]]
        fine = np.ones(len(kept), bool)
        for reason, broken in breaches(table, context.schemas[kind]):
            bad.update((row, reason) for row in kept[broken & fine].tolist())
            fine &= ~broken
        good[kind] = (table, kept) if fine.all() else (table.filter(pa.array(fine)), kept[fine])
    mended = _mend(values, kafka_times, sorted(bad), context)
    left = [row for row in sorted(bad) if row not in mended]
    return Fates(
        {kind: _with_mended(kind, *good[kind], mended) for kind in KINDS},
        np.array(left, np.int64),
        [bad[row] for row in left],
        np.flatnonzero(~first),
    )


def times_of(table: pa.Table) -> np.ndarray:
    """The events' times: int64 ms UTC."""
    times: Any = table.column("time").cast(pa.int64()).to_numpy()
    return np.asarray(times)


def _firsts(values: pa.Array) -> np.ndarray:
    """Which lines stand for the first time: bool."""
    codes = values.dictionary_encode().indices.to_numpy()
    first = np.zeros(len(codes), bool)
    first[np.unique(codes, return_index=True)[1]] = True
    return first


def _mend(values: pa.Array, kafka_times: np.ndarray, rows: list[int], context: Context) -> dict[int, Event]:
    events = {row: repaired(values[row].as_py(), int(kafka_times[row]), context) for row in rows}
    return {row: event for row, event in events.items() if event is not None}


def _with_mended(kind: Kind, table: pa.Table, rows: np.ndarray, mended: dict[int, Event]) -> Good:
    extra = {row: event for row, event in mended.items() if event.kind == kind}
    if not extra:
        return Good(table, rows, np.zeros(len(rows), bool))
    table = pa.concat_tables([table, table_of(kind, list(extra.values()))]).unify_dictionaries()
    rows = np.concatenate([rows, np.array(list(extra), np.int64)])
    order = np.argsort(rows)
    return Good(table.take(pa.array(order)), rows[order], np.isin(rows[order], list(extra)))
