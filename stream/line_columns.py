"""The grammar for a million lines at once: the same verdicts as `grammar.py`, in columns.

Lines of the frequent forms (watch, rate, a recommendation with its list) are split by one regular expression per form
over the whole array. A batch has few different times and movies; the one-line parser's functions parse each of them
once. Every line that does not match goes to the one-line parser, and only that parser refuses lines. So both parsers
agree as long as the patterns match nothing that the grammar refuses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream.event import KINDS, LIST_LENGTH, Event, Kind
from stream.grammar import LINE_FORMS, MAX_LINE_BYTES, MAX_USER, LineRefused, Reason, is_movie, parse, parse_time
from stream.tables import EVENT_SCHEMAS
from stream.zone import Zone

Piece = tuple[np.ndarray, pa.Table]
"""Events of one kind: the index of each row's line (int64, ascending), and the table."""
_HEAD = r"^(?P<time>[0-9T:.\-]+),(?P<user>[1-9][0-9]{0,9}),"
_PATTERNS: dict[Kind, str] = {
    kind: f"{_HEAD}{LINE_FORMS[kind].prefix}{LINE_FORMS[kind].columns}$" for kind in KINDS if LINE_FORMS[kind].columns
}
"""By frequent kind: the pattern of a whole line."""


@dataclass(frozen=True)
class LineColumns:
    """Lines as columns."""

    events: dict[Kind, pa.Table]
    """By kind: a table with the columns of `EVENT_SCHEMAS`."""
    rows: dict[Kind, np.ndarray]
    """By kind: for each row of the table the index of its line among those read: int64, ascending."""
    refused: np.ndarray
    """Indices of the lines that are not well-formed: int64, ascending."""
    reasons: list[Reason]
    """Why each of `refused` is not well-formed, in the same order."""

    def rows_and_users(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each well-formed line: its index (int64) and its user (uint32), by kind."""
        users = [self.events[kind].column("user").to_numpy() for kind in KINDS]
        return np.concatenate([self.rows[kind] for kind in KINDS]), np.concatenate(users)


def read(values: pa.Array, zone: Zone) -> LineColumns:
    """Parse lines, a binary array without nulls. Every line is either in `events` or in `refused`, exactly once."""
    rest = np.arange(len(values), dtype=np.int64)
    pieces: dict[Kind, list[Piece]] = {kind: [] for kind in KINDS}
    for kind, pattern in _PATTERNS.items():
        matched, table = _read_by_pattern(values.take(pa.array(rest)), kind, pattern, zone)
        pieces[kind].append((rest[matched], table))
        rest = rest[~matched]
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
    for kind, numbered in events.items():
        rows = np.array([row for row, _ in numbered], np.int64)
        pieces[kind].append((rows, table_of(kind, [event for _, event in numbered])))
    merged = {kind: _merge(of_kind) for kind, of_kind in pieces.items()}
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
    """The rows of a table of one kind as events: the inverse of `table_of`."""
    plain = table.set_column(0, "time", table.column("time").cast(pa.int64()))
    if "movies" in LINE_FORMS[kind].fields:
        return [Event(kind, **{**row, "movies": tuple(row["movies"])}) for row in plain.to_pylist()]
    return [Event(kind, **row) for row in plain.to_pylist()]


def times_of(table: pa.Table) -> np.ndarray:
    """The events' times: int64 ms UTC."""
    times: np.ndarray = table.column("time").to_numpy().view(np.int64)
    return times


def _read_by_pattern(values: pa.Array, kind: Kind, pattern: str, zone: Zone) -> tuple[np.ndarray, pa.Table]:
    """Which lines match the pattern and are well-formed (bool), and a table of those lines."""
    lengths = pc.binary_length(values).to_numpy()
    fields = pc.extract_regex(values, pattern)
    matched = fields.is_valid().to_numpy(zero_copy_only=False) & (lengths <= MAX_LINE_BYTES)
    if not matched.any():
        return matched, EVENT_SCHEMAS[kind].empty_table()
    fields = fields.filter(pa.array(matched))
    # only ASCII matches the pattern, so the cast to text need not validate it
    texts = {name: fields.field(name).cast(pa.string()) for name in fields.type.names}
    time_words, times, good = _each(texts.pop("time"), lambda text: _time(text, zone))
    users = texts.pop("user").cast(pa.int64()).to_numpy()
    good &= users <= MAX_USER
    schema = EVENT_SCHEMAS[kind]
    columns = [
        pa.array(times[time_words.indices.to_numpy()]).cast(schema.field("time").type),
        pa.array(np.minimum(users, MAX_USER), pa.uint32()),
    ]
    for field in list(schema)[2:]:
        column, column_good = _column(field, texts.get(field.name), len(users))
        columns.append(column.cast(field.type))
        good &= column_good
    table = pa.Table.from_arrays(columns, schema=schema)
    matched[np.flatnonzero(matched)[~good]] = False
    return matched, table if good.all() else table.filter(pa.array(good))


def _column(field: pa.Field, texts: pa.Array | None, rows: int) -> tuple[pa.Array, np.ndarray | bool]:
    """A field's column, and which rows are well-formed (bool), since matching the pattern alone may not prove it."""
    if texts is None:
        return pa.nulls(rows), True
    if field.name == "movie":
        words, _, good = _each(texts, _movie)
        return words, good
    if field.name == "movies":
        return _lists(pc.split_pattern(texts, ", "))
    return texts.dictionary_encode() if pa.types.is_dictionary(field.type) else texts, True


def _lists(lists: pa.Array) -> tuple[pa.Array, np.ndarray]:
    _, _, well_formed = _each(lists.flatten(), _movie)
    good = pc.list_value_length(lists).to_numpy() <= LIST_LENGTH
    good[lists.value_parent_indices().to_numpy()[~well_formed]] = False
    return lists, good


def _each(texts: pa.Array, read_word: Callable[[str], int | None]) -> tuple[pa.DictionaryArray, np.ndarray, np.ndarray]:
    """Parse each different text once: the texts as a dictionary array, the result of `read_word` for each word (int64,
    0 for None), and for each text whether that is not None."""
    encoded = texts.dictionary_encode()
    values = [read_word(word) for word in encoded.dictionary.to_pylist()]
    is_good = np.array([value is not None for value in values], bool)
    return encoded, np.array([value or 0 for value in values], np.int64), is_good[encoded.indices.to_numpy()]


@lru_cache(maxsize=1 << 16)
def _movie(text: str) -> int | None:
    return 0 if is_movie(text) else None


def _time(text: str, zone: Zone) -> int | None:
    try:
        return parse_time(text, zone)
    except LineRefused:
        return None


def _merge(pieces: list[Piece]) -> Piece:
    pieces = [piece for piece in pieces if len(piece[0])] or pieces[:1]
    if len(pieces) == 1:
        return pieces[0]
    rows = np.concatenate([rows for rows, _ in pieces])
    order = np.argsort(rows)
    table = pa.concat_tables([table for _, table in pieces]).unify_dictionaries()
    return rows[order], table.take(pa.array(order))
