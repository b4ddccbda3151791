"""Checks beyond the schema: compares lines with Kafka's clock and with the catalogue of the APIs.

`context_faults` lists, in a fixed order, each broken rule with the rows of a table that break it: first the rules of
the schema, then `CHECKS`. A line that only *might* be wrong passes; a candidate for a repair must certainly be valid
(`strict`).

| reason | fault |
|---|---|
| `<field>_<rule>` | the field breaks a rule of the schema |
| `clock_ahead` | Kafka's time of the record is further ahead of the stream's clock than allowed |
| `user_unknown` | the id is above the largest assigned one, and the API has not confirmed it |
| `time_ahead`, `time_behind` | the sender's clock is further from Kafka's time of the record than allowed |
| `movie_unknown` | the API says that the movie, or one of the list, does not exist |
| `minute_runtime` | the minute is past the movie's end |
| `status_list` | the status says that there was no usable answer, but the line has a list of known movies |

Status 0 with a list is no fault: the service writes the body of a late answer in the place of the error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa

from quality.catalog import KnownIds
from quality.lines.schemas import LONGEST_MINUTE, Schema, breaches, event_schemas
from quality.settings import QualitySettings
from stream.clock import CLOCK_AHEAD, ClockLimit
from stream.event import ByKind, Kind
from stream.line_columns import times_of
from stream.settings import StreamSettings
from stream.zone import Zone, zone_named

LATE = 0
"""The status of a request without a usable answer in time. A late answer stands in `error`, as it was sent: ids joined
by `,` or `, `."""
Faults = list[tuple[str, np.ndarray]]
"""Reason, and which rows have that fault: bool."""


@dataclass(frozen=True)
class JudgingContext:
    """The data that lines are compared with."""

    zone: Zone
    schemas: Mapping[Kind, Schema]
    max_user: int
    """Largest user id that the service assigns."""
    ahead_ms: int | None
    """How far a line's time may be ahead of Kafka's time, and a repaired line's time from it in either direction. None:
    the batch's clocks disagree, so times are not compared."""
    behind_ms: int
    """How long after its own time a line may reach Kafka, ms."""
    known: KnownIds = field(default_factory=KnownIds)
    clock: ClockLimit | None = None
    """The limit of the stream's clock; None: no record is ahead of it."""


def make_context(streaming: StreamSettings, quality: QualitySettings, known: KnownIds) -> JudgingContext:
    """The context for the given settings and known ids."""
    zone, schemas = zone_named(streaming.timezone), _cached_schemas(streaming)
    return JudgingContext(zone, schemas, streaming.max_user, quality.ahead_ms, quality.late_ms, known)


_cached_schemas = lru_cache(maxsize=8)(event_schemas)
"""A schema is compiled once per object, so all batches must share the same objects."""


def resolve_repeated_hour(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext) -> pa.Table:
    """The table with times in an hour that the wall clock shows twice set to the reading nearer to Kafka's time.

    `kafka_times`: int64 ms UTC, one a row.
    """
    times = times_of(table)
    if context.ahead_ms is None or not context.zone.repeats_after(times).any():
        return table
    column = pa.array(kafka_times - arrival_delay_ms(times, kafka_times, context.zone)).cast(
        table.schema.field("time").type
    )
    return table.set_column(0, table.schema.field("time"), column)


def arrival_delay_ms(times: np.ndarray, kafka_times: np.ndarray, zone: Zone) -> np.ndarray:
    """How long after its own time each line reached Kafka (int64 ms).

    `times` are first readings; of a time that the clock shows twice, the reading nearer to Kafka's time counts.
    """
    after_first = kafka_times - times
    after_second = after_first - zone.repeats_after(times)
    return np.where(np.abs(after_second) < np.abs(after_first), after_second, after_first)


def context_faults(
    kind: Kind, table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool = False
) -> Faults:
    """The faults in a table of one kind, each with its rows. `kafka_times`: int64 ms UTC, one a row."""
    if not len(table):
        return []
    faults = breaches(table, context.schemas[kind])
    for check in CHECKS[kind]:
        faults += [(reason, rows) for reason, rows in check(table, kafka_times, context, strict) if rows.any()]
    return faults


def _clock(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    return [] if context.clock is None else [(CLOCK_AHEAD, context.clock.is_ahead(kafka_times))]


def _users(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    users = table.column("user").to_numpy()
    above = users > context.max_user
    return [("user_unknown", above & ~np.isin(users, list(context.known.users)) if above.any() else above)]


def _times(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    if context.ahead_ms is None:
        return []
    late = kafka_times - times_of(table)
    behind_ms = context.ahead_ms if strict else context.behind_ms
    return [("time_ahead", late < -context.ahead_ms), ("time_behind", late > behind_ms)]


def _movies(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    words, word_of_row = _words(table.column("movie"))
    return [("movie_unknown", _unknown(words, context.known, strict)[word_of_row])]


def _movies_and_minutes(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    words, word_of_row = _words(table.column("movie"))
    last_minutes = np.array([context.known.last_minutes.get(word, LONGEST_MINUTE) for word in words], np.int64)
    past_end = table.column("minute").to_numpy() > last_minutes[word_of_row]
    return [("movie_unknown", _unknown(words, context.known, strict)[word_of_row]), ("minute_runtime", past_end)]


def _listed_movies(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    lists = table.column("movies").combine_chunks()
    words, word_of_item = _words(pa.chunked_array([lists.flatten().dictionary_encode()]))
    unknown = np.zeros(len(lists), bool)
    unknown[lists.value_parent_indices().to_numpy()[_unknown(words, context.known, strict)[word_of_item]]] = True
    return [("movie_unknown", unknown)]


def _statuses(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    in_time = table.column("status").to_numpy() != LATE
    is_list = [_is_list(error, context.known) for error in table.column("error").to_pylist()]
    return [("status_list", in_time & np.array(is_list, bool))]


def _is_list(error: str | None, known: KnownIds) -> bool:
    """Whether the error text of a failed request is a list of known movies."""
    return error is not None and all(movie in known.runtimes for movie in error.split(", "))


def _words(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """A dictionary column's words, and for each row the index of its word."""
    array = column.unify_dictionaries().combine_chunks()
    return array.dictionary.to_pylist(), array.indices.to_numpy()


def _unknown(words: list[str], known: KnownIds, strict: bool) -> np.ndarray:
    """Which movies count as unknown: those that the API denies; with `strict`, all missing in the catalogue."""
    if strict and known.runtimes:
        return np.array([word not in known.runtimes for word in words], bool)
    return np.array([word in known.missing for word in words], bool)


Check = Callable[[pa.Table, np.ndarray, JudgingContext, bool], Faults]
"""From a table of one kind, Kafka's time of each row, context and whether to be strict, to the rows with each fault."""
CHECKS: ByKind[tuple[Check, ...]] = {
    "watch": (_clock, _times, _users, _movies_and_minutes),
    "rate": (_clock, _times, _users, _movies),
    "recommend": (_clock, _times, _users, _listed_movies, _statuses),
    "account": (_clock, _times, _users),
}
"""By kind of event: its checks, in the order that decides which fault is the reason of a quarantined line."""
