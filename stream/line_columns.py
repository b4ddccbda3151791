"""The grammar for a million lines: the same verdicts as `grammar.py`, in columns.

Lines of the stream's three frequent forms (watch, rate, a recommendation with its list) are taken apart by one regular
expression a form over the whole array. Their times and movies, few of which differ within a batch, are read once each
by the one-line reader's own functions. Every line that does not pass this way goes to the one-line reader, so nothing
is refused here: equality is by construction, and the fast way may only be narrower than the grammar, never wider.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.event import KINDS, LIST_LENGTH, Event, Kind
from stream.grammar import MAX_LINE_BYTES, MAX_USER, LineRefused, Reason, is_movie, parse, parse_time
from stream.tables import EVENT_SCHEMAS
from stream.zone import Zone

_HEAD = r"^(?P<time>[0-9T:.\-]+),(?P<user>[1-9][0-9]{0,9}),"
_FAST: dict[Kind, str] = {
    "watch": _HEAD + r"GET /data/m/(?P<movie>[a-z0-9+\-._*]+)/(?P<minute>0|[1-9][0-9]{0,4})\.mpg$",
    "rate": _HEAD + r"GET /rate/(?P<movie>[a-z0-9+\-._*]+)=(?P<rating>0|[1-9][0-9]?)$",
    "recommend": _HEAD
    + r"recommendation request (?P<host>[\w.\-\[\]:]+), status (?P<status>200), "
    + r"result: (?P<movies>[a-z0-9+\-._*, ]+), (?P<latency_ms>0|[1-9][0-9]{0,8}) ms$",
}


@dataclass(frozen=True)
class LineColumns:
    """Lines as columns."""

    events: dict[Kind, pa.Table]
    """By kind: a table with the columns of `EVENT_SCHEMAS`."""
    rows: dict[Kind, np.ndarray]
    """By kind: for each row of the table the line's place among those read, int64, ascending."""
    refused: np.ndarray
    """Places of the lines that are not well-formed: int64, ascending."""
    reasons: list[Reason]
    """Why, in the order of `refused`."""


def read(values: pa.Array, zone: Zone) -> LineColumns:
    """Read lines: a binary array without nulls. Every line is either in `events` or in `refused`, exactly once."""
    rest = np.arange(len(values), dtype=np.int64)
    parts: dict[Kind, list[tuple[np.ndarray, pa.Table]]] = {kind: [] for kind in KINDS}
    for kind, pattern in _FAST.items():
        taken, table = _fast(values.take(pa.array(rest)), kind, pattern, zone)
        parts[kind].append((rest[taken], table))
        rest = rest[~taken]
    refused, reasons = [], []
    events: dict[Kind, list[tuple[int, Event]]] = {kind: [] for kind in KINDS}
    for row in rest.tolist():
        try:
            event = parse(values[row].as_py(), zone)
        except LineRefused as refusal:
            refused.append(row)
            reasons.append(refusal.reason)
        else:
            events[event.kind].append((row, event))
    for kind, found in events.items():
        parts[kind].append(
            (np.array([row for row, _ in found], np.int64), table_of(kind, [event for _, event in found]))
        )
    merged = {kind: _merged(pieces) for kind, pieces in parts.items()}
    return LineColumns(
        {kind: table for kind, (_, table) in merged.items()},
        {kind: rows for kind, (rows, _) in merged.items()},
        np.array(refused, np.int64),
        reasons,
    )


def table_of(kind: Kind, events: list[Event]) -> pa.Table:
    """Events of one kind as a table."""
    schema = EVENT_SCHEMAS[kind]
    columns = [pa.array([getattr(event, field.name) for event in events], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def events_of(kind: Kind, table: pa.Table) -> list[Event]:
    """The rows of a table of one kind as events: what `table_of` made."""
    plain = table.set_column(0, "time", table.column("time").cast(pa.int64()))
    if kind == "recommend":
        return [Event(kind, **{**row, "movies": tuple(row["movies"])}) for row in plain.to_pylist()]
    return [Event(kind, **row) for row in plain.to_pylist()]


def times_of(table: pa.Table) -> np.ndarray:
    """The events' times: int64 ms UTC."""
    times: Any = table.column("time").cast(pa.int64()).to_numpy()
    return np.asarray(times)


def _fast(values: pa.Array, kind: Kind, pattern: str, zone: Zone) -> tuple[np.ndarray, pa.Table]:
    """Which of the lines the pattern takes (bool), and these as a table."""
    lengths = pc.binary_length(values).to_numpy()
    fields = pc.extract_regex(values, pattern)
    matched = fields.is_valid().to_numpy(zero_copy_only=False) & (lengths <= MAX_LINE_BYTES)
    fields = fields.filter(pa.array(matched))
    # the pattern lets ASCII only pass, so that the cast to text need not look at it again
    texts = {name: fields.field(name).cast(pa.string()) for name in fields.type.names}
    times, moments, good = _each(texts.pop("time"), lambda text: _time(text, zone))
    users = texts.pop("user").cast(pa.int64()).to_numpy()
    good &= users <= MAX_USER
    schema = EVENT_SCHEMAS[kind]
    columns = [
        pa.array(moments[times.indices.to_numpy()]).cast(schema.field("time").type),
        pa.array(np.minimum(users, MAX_USER), pa.uint32()),
    ]
    for field in list(schema)[2:]:
        column, column_good = _column(field.name, texts.get(field.name), len(users))
        columns.append(column.cast(field.type))
        good &= column_good
    table = pa.Table.from_arrays(columns, schema=schema)
    matched[np.flatnonzero(matched)[~good]] = False
    return matched, table if good.all() else table.filter(pa.array(good))


def _column(name: str, texts: pa.Array | None, rows: int) -> tuple[pa.Array, np.ndarray | bool]:
    """A field's column, made of its texts, and by row whether it is well-formed, where the pattern does not say so."""
    if texts is None:
        return pa.nulls(rows), True
    if name == "movie":
        words, _, good = _each(texts, _movie)
        return words, good
    if name == "movies":
        return _lists(pc.split_pattern(texts, ", "))
    return texts.dictionary_encode() if name == "host" else texts, True


def _lists(lists: pa.Array) -> tuple[pa.Array, np.ndarray]:
    _, _, known = _each(lists.flatten(), _movie)
    good = pc.list_value_length(lists).to_numpy() <= LIST_LENGTH
    good[lists.value_parent_indices().to_numpy()[~known]] = False
    return lists, good


def _each(texts: pa.Array, judge: Callable[[str], int | None]) -> tuple[pa.DictionaryArray, np.ndarray, np.ndarray]:
    """The texts as a dictionary; by word what `judge` says (int64, 0 for None); by text whether it says something."""
    encoded = texts.dictionary_encode()
    verdicts = [judge(word) for word in encoded.dictionary.to_pylist()]
    known = np.array([verdict is not None for verdict in verdicts], bool)
    return encoded, np.array([verdict or 0 for verdict in verdicts], np.int64), known[encoded.indices.to_numpy()]


@lru_cache(maxsize=1 << 16)
def _movie(text: str) -> int | None:
    return 0 if is_movie(text) else None


def _time(text: str, zone: Zone) -> int | None:
    try:
        return parse_time(text, zone)
    except LineRefused:
        return None


def _merged(pieces: list[tuple[np.ndarray, pa.Table]]) -> tuple[np.ndarray, pa.Table]:
    pieces = [piece for piece in pieces if len(piece[0])] or pieces[:1]
    if len(pieces) == 1:
        return pieces[0]
    rows = np.concatenate([rows for rows, _ in pieces])
    order = np.argsort(rows)
    table = pa.concat_tables([table for _, table in pieces]).unify_dictionaries()
    return rows[order], table.take(pa.array(order))
