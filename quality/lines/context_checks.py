"""Checks beyond the schema: what a line says, held against Kafka's clock and against what the APIs know.

`context_faults` names for each rule, in a fixed order, the rows of a table that break it: first the schema's rules,
then those of this module. A line that only *might* be wrong passes; a candidate for a repair must be beyond doubt
(`strict`).

| reason | what is wrong |
|---|---|
| `<field>_<rule>` | a rule of the schema |
| `user_unknown` | an id above the largest that is given out, and the API has not said that it knows it |
| `time_ahead`, `time_behind` | the sender's clock is further from Kafka's time of the record than it may be |
| `movie_unknown` | a movie, or one of the list, of which the API says that there is none |
| `minute_runtime` | a minute past the movie's end |
| `status_list` | a status that says there was no answer, with a list of known movies as the answer |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa

from quality.catalog import KnownIds
from quality.lines.schemas import LONGEST_MINUTE, Schema, breaches, event_schemas
from quality.settings import QualitySettings
from stream.event import Kind
from stream.line_columns import times_of
from stream.settings import StreamSettings
from stream.zone import Zone, zone_named

Faults = list[tuple[str, np.ndarray]]
"""Reason, and for each row whether it has that fault: bool."""


@dataclass(frozen=True)
class JudgingContext:
    """What lines are held against."""

    zone: Zone
    schemas: Mapping[Kind, Schema]
    max_user: int
    """Largest user id that is given out."""
    ahead_ms: int | None
    """How far a line's time may lie ahead of Kafka's, and a repaired line's from it; None: the two clocks disagree."""
    behind_ms: int
    """How late a line may come to Kafka, ms."""
    known: KnownIds = field(default_factory=KnownIds)


def make_context(streaming: StreamSettings, quality: QualitySettings, known: KnownIds) -> JudgingContext:
    """The context that the settings say."""
    clock, schemas = zone_named(streaming.timezone), _schemas(streaming)
    return JudgingContext(clock, schemas, streaming.max_user, quality.ahead_ms, quality.late_ms, known)


_schemas = lru_cache(maxsize=8)(event_schemas)
"""A schema is compiled once an object, so every batch is held against the same ones."""


def resolve_repeated_hour(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext) -> pa.Table:
    """The table with the times of an hour that the wall clock shows twice set to the reading nearer to Kafka's time."""
    times = times_of(table)
    if context.ahead_ms is None or not context.zone.repeats_after(times).any():
        return table
    column = pa.array(kafka_times - arrival_delay_ms(times, kafka_times, context.zone)).cast(
        table.schema.field("time").type
    )
    return table.set_column(0, table.schema.field("time"), column)


def arrival_delay_ms(times: np.ndarray, kafka_times: np.ndarray, clock: Zone) -> np.ndarray:
    """How much later than its own time each line came to Kafka (int64 ms), by the nearer reading of a time shown twice.

    `times` are those of the first reading.
    """
    late = kafka_times - times
    late_by_second = late - clock.repeats_after(times)
    return np.where(np.abs(late_by_second) < np.abs(late), late_by_second, late)


def context_faults(
    kind: Kind, table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool = False
) -> Faults:
    """The faults of a table of one kind (Kafka times: int64 ms, one a row), each with its rows; none without any."""
    found = breaches(table, context.schemas[kind])
    for check in _CHECKS[kind]:
        found += [(reason, rows) for reason, rows in check(table, kafka_times, context, strict) if rows.any()]
    return found


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


def _rated(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    words, at = _words(table.column("movie"))
    return [("movie_unknown", _unknown(words, context.known, strict)[at])]


def _watched(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    words, at = _words(table.column("movie"))
    ends = np.array([context.known.last_minutes.get(word, LONGEST_MINUTE) for word in words], np.int64)
    past = table.column("minute").to_numpy() > ends[at]
    return [("movie_unknown", _unknown(words, context.known, strict)[at]), ("minute_runtime", past)]


def _lists(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    listed = table.column("movies").combine_chunks()
    words, at = _words(pa.chunked_array([listed.flatten().dictionary_encode()]))
    unknown = np.zeros(len(listed), bool)
    unknown[listed.value_parent_indices().to_numpy()[_unknown(words, context.known, strict)[at]]] = True
    return [("movie_unknown", unknown)]


def _statuses(table: pa.Table, kafka_times: np.ndarray, context: JudgingContext, strict: bool) -> Faults:
    told = [_is_list(error, context.known) for error in table.column("error").to_pylist()]
    return [("status_list", np.array(told, bool))]


def _is_list(error: str | None, known: KnownIds) -> bool:
    return error is not None and all(movie in known.runtimes for movie in error.split(", "))


def _words(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """A dictionary column's words, and for each row the place of its word."""
    array = column.unify_dictionaries().combine_chunks()
    return array.dictionary.to_pylist(), array.indices.to_numpy()


def _unknown(words: list[str], known: KnownIds, strict: bool) -> np.ndarray:
    if strict and known.runtimes:
        return np.array([word not in known.runtimes for word in words], bool)
    return np.array([word in known.missing for word in words], bool)


_Check = Callable[[pa.Table, np.ndarray, JudgingContext, bool], Faults]
_CHECKS: dict[Kind, tuple[_Check, ...]] = {
    "watch": (_times, _users, _watched),
    "rate": (_times, _users, _rated),
    "recommend": (_times, _users, _lists, _statuses),
    "account": (_times, _users),
}
