"""The grammar for a million lines: the same verdicts as `grammar.py`, in columns.

Watch and rate lines, 99 % of the stream, are taken apart by one regular expression a kind over the whole array. Their
times and movies, few of which differ within a batch, are read once each by the one-line reader's own functions. Every
line that does not pass this way goes to the one-line reader, so nothing is refused here: equality is by construction,
and the fast way may only be narrower than the grammar, never wider.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.event import EVENT_COLUMNS, KINDS, Event, Kind
from stream.grammar import MAX_USER, Reason, Refused, is_movie, parse, parse_time
from stream.zone import Zone

_FAST: list[tuple[Kind, str, str]] = [
    (
        "watch",
        "minute",
        r"^(?P<time>[0-9T:.\-]+),(?P<user>[1-9][0-9]{0,9}),"
        r"GET /data/m/(?P<movie>[a-z0-9+\-._*]+)/(?P<number>0|[1-9][0-9]{0,4})\.mpg$",
    ),
    (
        "rate",
        "rating",
        r"^(?P<time>[0-9T:.\-]+),(?P<user>[1-9][0-9]{0,9}),"
        r"GET /rate/(?P<movie>[a-z0-9+\-._*]+)=(?P<number>0|[1-9][0-9]?)$",
    ),
]


@dataclass(frozen=True)
class Columns:
    """Lines as columns."""

    events: dict[Kind, pa.Table]
    """By kind: a table with the columns of `EVENT_COLUMNS`."""
    rows: dict[Kind, np.ndarray]
    """By kind: for each row of the table the line's place among those read, int64, ascending."""
    refused: np.ndarray
    """Places of the lines that are not well-formed: int64, ascending."""
    reasons: list[Reason]
    """Why, in the order of `refused`."""


def read(values: pa.Array, zone: Zone) -> Columns:
    """Read lines: a binary array without nulls. Every line is either in `events` or in `refused`, exactly once."""
    rest = np.arange(len(values), dtype=np.int64)
    parts: dict[Kind, list[tuple[np.ndarray, pa.Table]]] = {kind: [] for kind in KINDS}
    for kind, number, pattern in _FAST:
        taken, table = _fast(values.take(pa.array(rest)), kind, number, pattern, zone)
        parts[kind].append((rest[taken], table))
        rest = rest[~taken]
    refused, reasons = [], []
    events: dict[Kind, list[tuple[int, Event]]] = {kind: [] for kind in KINDS}
    for row in rest.tolist():
        try:
            event = parse(values[row].as_py(), zone)
        except Refused as refusal:
            refused.append(row)
            reasons.append(refusal.reason)
        else:
            events[event.kind].append((row, event))
    for kind, found in events.items():
        parts[kind].append(
            (np.array([row for row, _ in found], np.int64), table_of(kind, [event for _, event in found]))
        )
    merged = {kind: _merged(pieces) for kind, pieces in parts.items()}
    return Columns(
        {kind: table for kind, (_, table) in merged.items()},
        {kind: rows for kind, (rows, _) in merged.items()},
        np.array(refused, np.int64),
        reasons,
    )


def table_of(kind: Kind, events: list[Event]) -> pa.Table:
    """Events of one kind as a table."""
    schema = EVENT_COLUMNS[kind]
    columns = [pa.array([getattr(event, field.name) for event in events], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _fast(values: pa.Array, kind: Kind, number: str, pattern: str, zone: Zone) -> tuple[np.ndarray, pa.Table]:
    """Which of the lines the pattern takes (bool), and these as a table."""
    fields = pc.extract_regex(values, pattern)
    matched = fields.is_valid().to_numpy(zero_copy_only=False)
    fields = fields.filter(pa.array(matched))
    # the pattern lets ASCII only pass, so that the cast to text need not look at it again
    time, user, movie, digits = (fields.field(index).cast(pa.string()) for index in range(4))
    times, moments, time_ok = _each(time, lambda text: _time(text, zone))
    words, _, movie_ok = _each(movie, lambda text: 0 if is_movie(text) else None)
    users = user.cast(pa.int64()).to_numpy()
    good = time_ok & movie_ok & (users <= MAX_USER)
    schema = EVENT_COLUMNS[kind]
    table = pa.Table.from_arrays(
        [
            pa.array(moments[times.indices.to_numpy()]).cast(schema.field("time").type),
            pa.array(np.minimum(users, MAX_USER), pa.uint32()),
            words,
            digits.cast(schema.field(number).type),
        ],
        schema=schema,
    )
    matched[np.flatnonzero(matched)[~good]] = False
    return matched, table if good.all() else table.filter(pa.array(good))


def _each(texts: pa.Array, judge: object) -> tuple[pa.DictionaryArray, np.ndarray, np.ndarray]:
    """The texts as a dictionary; by word what `judge` says (int64, 0 for None); by text whether it says something."""
    encoded = texts.dictionary_encode()
    verdicts = [judge(word) for word in encoded.dictionary.to_pylist()]  # type: ignore[operator]
    known = np.array([verdict is not None for verdict in verdicts], bool)
    return encoded, np.array([verdict or 0 for verdict in verdicts], np.int64), known[encoded.indices.to_numpy()]


def _time(text: str, zone: Zone) -> int | None:
    try:
        return parse_time(text, zone)
    except Refused:
        return None


def _merged(pieces: list[tuple[np.ndarray, pa.Table]]) -> tuple[np.ndarray, pa.Table]:
    pieces = [piece for piece in pieces if len(piece[0])] or pieces[:1]
    if len(pieces) == 1:
        return pieces[0]
    rows = np.concatenate([rows for rows, _ in pieces])
    order = np.argsort(rows)
    table = pa.concat_tables([table for _, table in pieces]).unify_dictionaries()
    return rows[order], table.take(pa.array(order))
