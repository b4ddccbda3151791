"""The busiest day of a service in the archive's format: 95 million minutes, as the collector would have written them.

Lines are in the order of Kafka's times, in batches of 100,000: for each the files of watch, rate and recommend events
and, last, the ledger entry. Every line is accepted. The minutes of a session follow each other at 60.4 s with a
standard deviation of 10 s, never less than 20 s; a rating comes a minute after the last of them; 3 to 40 s before the
first, most users looked at recommendations, 3 % of which timed out.

The day is generated in slots of half an hour, so memory holds the lines of the running sessions, not of a whole day.
Lines after midnight are not written: the history ends there.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from loadtest.bench.night.synthetic_crowd import Crowd, CrowdVisits
from stream.archive import Archive
from stream.clock import LatestLines, PartitionClock, Quorum
from stream.event import Kind
from stream.ledger_entry import FateCount, LedgerEntry, TimeRange
from stream.tables import ARCHIVE_SCHEMAS
from stream.zone import DAY_MS

STEP_S, _JITTER_S, _MOST_JITTER_S = 60.4, 7.07, 20.0
RATING_AFTER_S = 60
RATING, REQUEST = -1, -2
"""Instead of a minute's number: the line is a rating, or a recommendation."""
_SLOT_S, _DAY_S = 1800, DAY_MS // 1000
_ASKED_S = (3, 40)
_LAG_MS = 1_200
"""By how much Kafka's time of a line is later than the line's."""
_LATE_SHARE = 0.03
_HOST = "team17.example.edu:8082"
_ERROR = f"java.util.concurrent.TimeoutException: Request timeout to {_HOST} after 800 ms"
_WAITING = 4
"""Batches that may wait to be written, so that memory stays flat where the disk is slow."""


class DayLines(NamedTuple):
    """Lines of some sessions, one a row; n rows."""

    time: np.ndarray
    """int32 [n]: seconds since the day began; may be negative or after its end."""
    session: np.ndarray
    """int32 [n]: row of the session."""
    code: np.ndarray
    """int16 [n]: the minute's number, `RATING` or `REQUEST`."""

    def rows(self, rows: np.ndarray) -> "DayLines":
        """Some of the rows (bool or int64)."""
        return DayLines(*(column[rows] for column in self))

    def __or__(self, other: "DayLines") -> "DayLines":
        return DayLines(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def lines_of(visits: CrowdVisits, first: int, begins_ms: int, rng: np.random.Generator) -> DayLines:
    """All lines of these sessions, whose rows are `first`, `first + 1` …; not sorted by time."""
    starts = ((visits.starts - begins_ms) // 1000).astype(np.int32)
    lengths = visits.minutes
    session = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    minute = np.arange(len(session), dtype=np.int32) - np.repeat(np.cumsum(lengths) - lengths, lengths).astype(np.int32)
    jitter = np.clip(rng.standard_normal(len(session), np.float32) * _JITTER_S, -_MOST_JITTER_S, _MOST_JITTER_S)
    jitter[minute == 0] = 0
    time = starts[session] + np.rint(STEP_S * minute + jitter).astype(np.int32)
    lasts = time[np.cumsum(lengths) - 1] if len(lengths) else time
    rated, asked = np.flatnonzero(visits.ratings).astype(np.int32), np.flatnonzero(visits.asked).astype(np.int32)
    before = rng.integers(*_ASKED_S, len(asked), dtype=np.int32)
    return DayLines(
        np.concatenate([time, lasts[rated] + RATING_AFTER_S, starts[asked] - before]),
        np.concatenate([session, rated, asked]) + np.int32(first),
        np.concatenate([minute, np.full(len(rated), RATING), np.full(len(asked), REQUEST)]).astype(np.int16),
    )


def in_order(visits: CrowdVisits, running: DayLines, begins_ms: int, rng: np.random.Generator) -> Iterator[DayLines]:
    """The lines of a day, ascending by time, slot by slot.

    `visits` begins with those of the day before, which `running` holds the lines of; then come those of the day, by
    start.
    """
    pending, done = running, int(np.searchsorted(visits.starts, begins_ms))
    for ends in range(_SLOT_S, _DAY_S + 1, _SLOT_S):
        # a session that starts just after the slot may have a request within it
        upto = int(np.searchsorted(visits.starts, begins_ms + (ends + _ASKED_S[1]) * 1000))
        pending |= lines_of(visits.rows(np.arange(done, upto)), done, begins_ms, rng)
        done = upto
        in_slot = pending.time < ends
        slot, pending = pending.rows(in_slot), pending.rows(~in_slot & (pending.time < _DAY_S))
        # a request before midnight would belong to another day
        slot = slot._replace(time=np.maximum(slot.time, 0))
        slot_s = (slot.time - (ends - _SLOT_S)).astype(np.uint16)  # 16 bits are sorted by radix
        yield slot.rows(np.argsort(slot_s, kind="stable"))


class BusyDay:
    """Writes a day in batches, two at a time, since Parquet releases Python's lock."""

    def __init__(
        self, archive: Archive, crowd: Crowd, visits: CrowdVisits, begins_ms: int, day: str, topic: str
    ) -> None:
        self._archive, self._crowd, self._visits = archive, crowd, visits
        self._begins, self._day, self._topic = begins_ms, day, topic
        self._ids = np.array(crowd.catalogue.ids)

    def write(self, running: DayLines, batch_lines: int, rng: np.random.Generator) -> dict[Kind, int]:
        """Write the whole day; returns the lines by kind."""
        waiting: list[Future[dict[Kind, int]]] = []
        total: dict[Kind, int] = {"watch": 0, "rate": 0, "recommend": 0}
        with ThreadPoolExecutor(2) as pool:
            for number, (first, batch) in enumerate(self._batches(running, batch_lines, rng)):
                waiting.append(pool.submit(self._batch, first, batch, number))
                while len(waiting) > _WAITING:
                    _add(total, waiting.pop(0).result())
            for batch_counts in waiting:
                _add(total, batch_counts.result())
        return total

    def _batches(self, running: DayLines, batch_lines: int, rng: np.random.Generator) -> Iterator[tuple[int, DayLines]]:
        """First offset and lines of each batch."""
        offset, rest = 0, running.rows(np.zeros(0, np.int64))
        for slot in in_order(self._visits, running, self._begins, rng):
            rest |= slot
            for start in range(0, len(rest.time) - batch_lines + 1, batch_lines):
                yield offset, rest.rows(np.arange(start, start + batch_lines))
                offset += batch_lines
            rest = rest.rows(np.arange(len(rest.time) // batch_lines * batch_lines, len(rest.time)))
        if len(rest.time):
            yield offset, rest

    def _batch(self, first: int, lines: DayLines, number: int) -> dict[Kind, int]:
        """Write and commit one batch."""
        rng = np.random.default_rng([number, 37])
        count = len(lines.time)
        times = self._begins + lines.time.astype(np.int64) * 1000
        kafka_times = times + _LAG_MS
        rows: dict[Kind, np.ndarray] = {
            "watch": np.flatnonzero(lines.code >= 0),
            "rate": np.flatnonzero(lines.code == RATING),
            "recommend": np.flatnonzero(lines.code == REQUEST),
        }
        counts = {kind: len(own) for kind, own in rows.items() if len(own)}
        entry = LedgerEntry(
            topic=self._topic,
            partition=0,
            first=first,
            last=first + count - 1,
            lines=count,
            counts=[FateCount("accepted", kind, self._day, None, number) for kind, number in counts.items()],
            kafka_time=TimeRange(int(kafka_times[0]), int(kafka_times[-1])),
            clock=PartitionClock.of(LatestLines.of(Quorum(), kafka_times, self._visits.users[lines.session] + 1)),
        )
        files = []
        for kind in counts:
            own = rows[kind]
            columns = self._columns(kind, lines.rows(own), times[own], rng)
            table = self._table(kind, columns, first + own, kafka_times[own])
            files.append(self._archive.write_events(entry, kind, self._day, table))
        self._archive.commit(entry.with_files(files))
        return counts

    def _columns(self, kind: Kind, lines: DayLines, times: np.ndarray, rng: np.random.Generator) -> dict[str, pa.Array]:
        """The columns of an event of one kind, without its provenance."""
        visits, session = self._visits, lines.session
        users = visits.users[session]
        common = {"time": pa.array(times), "user": pa.array(users + 1)}
        match kind:
            case "watch":
                return common | {"movie": self._movie_ids(visits.movies[session]), "minute": pa.array(lines.code)}
            case "rate":
                return common | {
                    "movie": self._movie_ids(visits.movies[session]),
                    "rating": pa.array(visits.ratings[session]),
                }
        late = rng.random(len(users)) < _LATE_SHARE
        shown = self._crowd.shown(users[~late], 20, rng)
        ends = np.cumsum(np.where(late, 0, shown.shape[1]))
        return common | {
            "time": pa.array(times + rng.integers(0, 1000, len(times))),
            "host": _repeated(_HOST, len(users)),
            "status": pa.array(np.where(late, 0, 200)),
            "movies": pa.ListArray.from_arrays(
                pa.array(np.append(0, ends), pa.int32()), pa.array(self._ids[shown.ravel()].tolist(), pa.string())
            ),
            "latency_ms": pa.array(np.where(late, 800, rng.integers(3, 600, len(users)))),
            "error": pa.array([_ERROR if failed else None for failed in late.tolist()], pa.string()),
        }

    def _table(
        self, kind: Kind, columns: dict[str, pa.Array], offsets: np.ndarray, kafka_times: np.ndarray
    ) -> pa.Table:
        """The archive's table of a kind: its columns with their provenance."""
        count, schema = len(offsets), ARCHIVE_SCHEMAS[kind]
        columns = columns | {
            "topic": _repeated(self._topic, count),
            "partition": pa.array(np.zeros(count, np.int32)),
            "offset": pa.array(offsets),
            "kafka_time": pa.array(kafka_times),
            "repair": pa.DictionaryArray.from_arrays(pa.nulls(count, pa.int32()), pa.array([], pa.string())),
            "raw": pa.nulls(count, pa.binary()),
        }
        return pa.Table.from_arrays(
            [columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema
        )

    def _movie_ids(self, movies: np.ndarray) -> pa.DictionaryArray:
        """Movie ids by row of the catalogue; the dictionary holds only the ids that occur."""
        present = np.zeros(len(self._ids), bool)
        present[movies] = True
        codes = (np.cumsum(present) - 1).astype(np.int32)
        return pa.DictionaryArray.from_arrays(codes[movies], pa.array(self._ids[present].tolist(), pa.string()))


def _repeated(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text], pa.string()))


def _add(total: dict[Kind, int], counts: dict[Kind, int]) -> None:
    for kind, count in counts.items():
        total[kind] += count
