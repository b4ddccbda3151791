"""Converts batches of the stream to rows of the telemetry store, vectorised, with a small, bounded state between
batches.

Memory holds the sessions that may still grow (24 bytes each) and the numbers of the movies. Both are copies of rows of
the store, so that a new process has the same state. A line so late that its session is no longer held is joined with
the store's row: neither the order of lines nor the batch borders ever change a session. Exact duplicates (redelivery)
match an existing row and are ignored.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from hashlib import blake2b
from sqlite3 import Connection

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.metrics.watch_sessions import TimeSpans, merge_spans, session_key
from quality.settings import QualitySettings
from quality.telemetry.batch import TelemetryBatch
from quality.telemetry.store import Store, pack_lists, session_rows
from quality.telemetry.waiting import WaitingRecords
from stream.clock import CLOCK_AHEAD, PartitionClock, Quorum, TopicClock
from stream.event import LIST_LENGTH
from stream.zone import Zone

LATE = "late"
"""Reason of an answer that arrived after its day's report was final."""
LIVE = "live"
"""State of the store: the stream was in step with the machine's clock."""
LOST = "lost"
"""Reason of offsets that Kafka dropped before they were read."""

_SQL_SESSION = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)"
_SQL_DROP_SESSION = "DELETE FROM sessions WHERE start = ? AND user = ? AND movie = ? AND last = ?"
_SQL_ANSWER = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SQL_LEFT_OUT = "INSERT INTO left_out VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET lines = lines + excluded.lines"
_SQL_MARK = "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)"
_SQL_FIRST = "INSERT INTO state VALUES ('first', ?) ON CONFLICT DO UPDATE SET value = min(value, excluded.value)"


class Ingest:
    """Stores batches, each in one transaction.

    After an exception the state may be ahead of the store: create a new `Ingest`.
    """

    def __init__(
        self,
        store: Store,
        topic: str,
        zone: Zone,
        settings: QualitySettings,
        quorum: Quorum,
    ) -> None:
        self._store, self._topic, self._zone, self._settings = store, topic, zone, settings
        self._positions = store.positions(topic)
        was_live = store.state(LIVE) is not None
        self._clock = TopicClock(quorum, store.clocks(topic), was_live)
        self._waiting = WaitingRecords(store, topic, quorum, zone)
        self.idle: Collection[int] = ()
        """The partitions that need not be waited for."""
        self._horizon = self._session_horizon()
        self._open = store.sessions(-1, np.iinfo(np.int64).max, self._horizon)
        self.refresh()

    def refresh(self) -> None:
        """Reload the state that `Store.finish` changes."""
        self._movies = self._store.movies()
        self._next_movie = max(self._movies.values(), default=0) + 1
        self._final_through = max(self._store.days(final=True), default=-1)

    @property
    def watermark(self) -> int | None:
        """The time up to which the stream was read, ms UTC; None while a partition is unread that might have lines.

        It is the least over the partitions that are waited for, and never beyond what the topic has come to: of a
        partition with few lines, one may be wrong.
        """
        times = [self._clock.latest(number).reached for number in self._positions if number not in self.idle]
        known = [time_ms for time_ms in (*times, self._clock.reached) if time_ms is not None]
        return min(known) if known and len(known) == len(times) + 1 else None

    @property
    def with_lines(self) -> set[int]:
        """The partitions that had a line with a time."""
        return {number for number in self._positions if self._clock.latest(number).reached is not None}

    @property
    def waiting(self) -> int:
        """How many records wait because they are ahead of the stream's clock."""
        return len(self._waiting)

    @property
    def open_since(self) -> int:
        """Sessions without a minute since then, ms UTC, can grow only by late lines."""
        return self._horizon

    def take(self, batch: TelemetryBatch) -> None:
        """Commit a batch: its rows and its positions."""
        for partition, (times, users) in batch.times_and_users().items():
            self._clock.add(partition, times, users)
        with self._store.transaction() as db:
            admitted = self._waiting.admit(db, batch, self._clock.limit())
            batch = admitted.batch
            self._count_left_out(db, CLOCK_AHEAD, admitted.refuted)
            self._take_left_out(db, batch)
            self._take_answers(db, batch)
            self._take_minutes(db, batch.columns.events["watch"])
            self._take_positions(db, batch)

    def _take_positions(self, db: Connection, batch: TelemetryBatch) -> None:
        self._positions |= batch.positions
        clocks = {number: PartitionClock.of(self._clock.latest(number)) for number in self._positions}
        self._store.set_positions(db, self._topic, self._positions, clocks)
        if self._clock.is_live():
            db.execute("INSERT OR REPLACE INTO state VALUES (?, 1)", (LIVE,))
        else:
            db.execute("DELETE FROM state WHERE name = ?", (LIVE,))
        marks = [(self._topic, number, *msgspec.structs.astuple(mark)) for number, mark in batch.marks.items()]
        db.executemany(_SQL_MARK, marks)
        if len(batch.kafka_time):
            days = np.unique(self._zone.day_number(batch.kafka_time))
            db.executemany("INSERT OR IGNORE INTO days VALUES (?, 0)", [(day,) for day in days.tolist()])
            db.execute(_SQL_FIRST, (int(batch.kafka_time.min()),))

    def _take_left_out(self, db: Connection, batch: TelemetryBatch) -> None:
        days = self._zone.day_number(batch.kafka_time[batch.columns.refused])
        counts = Counter(zip(days.tolist(), batch.columns.reasons, strict=True))
        db.executemany(_SQL_LEFT_OUT, [(day, reason, lines) for (day, reason), lines in counts.items()])
        for partition, lines in batch.lost.items():
            # their times are unknown: count them for the day that the partition had reached
            self._count_left_out(db, LOST, lines, self._clock.latest(partition).reached)

    def _count_left_out(self, db: Connection, reason: str, lines: int, time_ms: int | None = None) -> None:
        """Count lines without a credible time for the day of `time_ms`, or the day that the topic has reached."""
        if lines:
            day = self._zone.day_number(time_ms or self._clock.reached or 0)
            db.execute(_SQL_LEFT_OUT, (day, reason, lines))

    def _take_answers(self, db: Connection, batch: TelemetryBatch) -> None:
        table, rows = batch.columns.events["recommend"], batch.columns.rows["recommend"]
        if not table.num_rows:
            return
        times = table["time"].cast(pa.int64()).to_numpy()
        days = self._zone.day_number(times)
        late = days <= self._final_through
        self._count_late(db, batch.kafka_time[rows[late]])
        fresh = np.flatnonzero(~late)
        new_days = np.unique(days[fresh]).tolist()
        db.executemany("INSERT OR IGNORE INTO days VALUES (?, 0)", [(day,) for day in new_days])
        table, rows = table.take(pa.array(fresh)), rows[fresh]
        blobs = pack_lists(self._lists(db, table["movies"].combine_chunks()))
        status = table["status"].to_pylist()
        columns = [
            times[fresh].tolist(), table["user"].to_pylist(), requests(table),
            status, table["latency_ms"].to_pylist(),
            [blob if code == 200 else None for blob, code in zip(blobs, status, strict=True)],
            batch.partition[rows].tolist(), batch.offset[rows].tolist(),
        ]  # fmt: skip
        db.executemany(_SQL_ANSWER, zip(*columns, strict=True))

    def _count_late(self, db: Connection, kafka_time: np.ndarray) -> None:
        counts = Counter(self._zone.day_number(kafka_time).tolist())
        db.executemany(_SQL_LEFT_OUT, [(day, LATE, lines) for day, lines in counts.items()])

    def _lists(self, db: Connection, movies: pa.ListArray) -> np.ndarray:
        """int32[answers, 20] of movie numbers, -1 for none."""
        lengths = pc.list_value_length(movies).to_numpy(zero_copy_only=False).astype(np.int64)
        words = movies.flatten().dictionary_encode()
        rows = np.repeat(np.arange(len(movies)), lengths)
        places = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        lists = np.full((len(movies), LIST_LENGTH), -1, np.int32)
        lists[rows, places] = self._numbers(db, words)
        return lists

    def _numbers(self, db: Connection, words: pa.DictionaryArray) -> np.ndarray:
        """Numbers of movies, int32; new movies get new ones."""
        names = words.dictionary.to_pylist()
        new = [name for name in names if name not in self._movies]
        numbered = list(zip(range(self._next_movie, self._next_movie + len(new)), new, strict=True))
        db.executemany("INSERT INTO movies VALUES (?, ?)", numbered)
        self._movies.update((name, number) for number, name in numbered)
        self._next_movie += len(new)
        return np.array([self._movies[name] for name in names], np.int32)[words.indices.to_numpy()]

    def _take_minutes(self, db: Connection, table: pa.Table) -> None:
        if not table.num_rows:
            return
        movies = self._numbers(db, table["movie"].unify_dictionaries().combine_chunks())
        times = table["time"].cast(pa.int64()).to_numpy()
        minutes, _ = merge_spans(
            TimeSpans(session_key(table["user"].to_numpy(), movies), times, times), self._settings.gap_ms
        )
        touched = _is_among(self._open.key, minutes.key)
        before = self._open[touched] + self._unheld(minutes)
        after, rows = merge_spans(before + minutes, self._settings.gap_ms)
        outgrown = before[after.start[rows[: len(before)]] != before.start]
        db.executemany(_SQL_DROP_SESSION, session_rows(outgrown))
        db.executemany(_SQL_SESSION, session_rows(after))
        self._horizon = max(self._horizon, self._session_horizon())
        held = self._open[~touched] + after
        self._open = held[held.last >= self._horizon]

    def _unheld(self, minutes: TimeSpans) -> TimeSpans:
        """Sessions of the store that are no longer held, but are within the gap of late lines."""
        gap_ms = self._settings.gap_ms
        late = minutes[minutes.start < self._horizon + gap_ms]
        if not len(late):
            return late
        sessions = self._store.sessions(-1, int(late.last.max()) + gap_ms, int(late.start.min()) - gap_ms)
        sessions = sessions[sessions.last < self._horizon]
        return sessions[_is_among(sessions.key, np.unique(late.key))]

    def _session_horizon(self) -> int:
        return max(0, (self.watermark or 0) - self._settings.gap_ms - self._settings.grace_ms)


def requests(table: pa.Table) -> list[int]:
    """A digest of an answer's other fields (host, status, list, error, latency): 64 bits, signed."""
    fields: Sequence[list[object]] = [
        table[name].to_pylist() for name in ("host", "status", "movies", "error", "latency_ms")
    ]
    digests = (blake2b(repr(row).encode(), digest_size=8).digest() for row in zip(*fields, strict=True))
    return [int.from_bytes(digest, "big", signed=True) for digest in digests]


def _is_among(keys: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """bool: which keys are among `ascending`, which is not empty."""
    places = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    is_among: np.ndarray = ascending[places] == keys
    return is_among
