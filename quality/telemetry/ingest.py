"""Converts batches of the stream to rows of the telemetry store, vectorised, with a small, bounded state between
batches.

Memory holds the sessions that may still grow (24 bytes each) and the numbers of the movies. Both are copies of rows of
the store, so that a new process has the same state. A line so late that its session is no longer held is joined with
the store's row: neither the order of lines nor the batch borders ever change a session. Exact duplicates (redelivery)
match an existing row and are ignored.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from sqlite3 import Connection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.metrics.watch_sessions import TimeSpans, merge_spans, session_key
from quality.settings import QualitySettings
from quality.telemetry.batch import PartitionLines, TelemetryBatch
from quality.telemetry.day_rows import answer_digests, late_reason, milliseconds
from quality.telemetry.judging import JudgedLines, LineJudge
from quality.telemetry.open_sessions import EarliestMinute
from quality.telemetry.report_days import ReportDays
from quality.telemetry.store import Store, WaitingRecord, pack_lists, session_rows
from quality.telemetry.waiting import WaitingRecords
from stream.clock import CLOCK_AHEAD, PartitionClock, Quorum, TopicClock
from stream.event import LIST_LENGTH, Kind
from stream.kafka import RetentionGap
from stream.settings import StreamSettings
from stream.zone import zone_named

LIVE = "live"
"""State of the store: the stream was in step with the machine's clock."""

_SQL_SESSION = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)"
_SQL_DROP_SESSION = "DELETE FROM sessions WHERE start = ? AND user = ? AND movie = ? AND last = ?"
_SQL_ANSWER = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)"
_SQL_RATING = "INSERT OR IGNORE INTO ratings VALUES (?, ?, ?, ?)"
_SQL_GAP = "INSERT OR IGNORE INTO gaps VALUES (?, ?, ?, ?, ?, NULL)"
_SQL_GAP_ENDS = "UPDATE gaps SET until = ? WHERE topic = ? AND partition = ? AND until IS NULL"
_SQL_LEFT_OUT = "INSERT INTO left_out VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET lines = lines + excluded.lines"
_SQL_FIRST = "INSERT INTO state VALUES ('first', ?) ON CONFLICT DO UPDATE SET value = min(value, excluded.value)"


class Ingest:
    """Stores batches, each in one transaction.

    After an exception the state may be ahead of the store: create a new `Ingest`.
    """

    def __init__(self, store: Store, streaming: StreamSettings, settings: QualitySettings) -> None:
        self._store, self._topic, self._settings = store, streaming.topic, settings
        self._zone, self._days = zone_named(streaming.timezone), ReportDays.of(streaming, settings)
        self._judge, quorum = LineJudge(streaming, settings), Quorum.of(streaming)
        self._positions = store.positions(self._topic)
        self.was_live = store.state(LIVE) is not None
        """Whether the stream was live as of the last batch of the process before."""
        self._clock = TopicClock(quorum, store.clocks(self._topic), self.was_live)
        self._waiting = WaitingRecords(store, self._topic, quorum)
        self.changes = EarliestMinute()
        """Of the sessions that were changed."""
        self.idle: Collection[int] = ()
        """The partitions that need not be waited for."""
        self._horizon = self._session_horizon()
        self._open = store.sessions(-1, np.iinfo(np.int64).max, self._horizon)
        self.refresh()

    def refresh(self) -> None:
        """Reload the state that `Store.finish` changes."""
        self._movies = self._store.movies()
        self._next_movie = max(self._movies.values(), default=0) + 1

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
    def partition_times(self) -> dict[int, int]:
        """By partition that had a line with a time: how far it has come, ms UTC."""
        times = {number: self._clock.latest(number).reached for number in self._positions}
        return {number: reached for number, reached in times.items() if reached is not None}

    @property
    def stream_time(self) -> int | None:
        """How far the topic has come, ms UTC; None without lines."""
        return self._clock.reached

    @property
    def is_live(self) -> bool:
        """Whether the stream keeps in step with this machine's clock."""
        return self._clock.is_live()

    @property
    def waiting(self) -> int:
        """How many records wait because they are ahead of the stream's clock."""
        return len(self._waiting)

    @property
    def open_since(self) -> int:
        """Sessions without a minute since then, ms UTC, can grow only by late lines."""
        return self._horizon

    def take(self, batch: TelemetryBatch) -> None:
        """Judge a batch and commit it: its rows and its positions. Records that were taken before are skipped."""
        pieces = [piece.since(self._positions.get(piece.partition, 0), self._zone) for piece in batch.pieces]
        pieces = [piece for piece in pieces if len(piece.offsets)]
        for piece in pieces:
            self._clock.add(piece.partition, *piece.lines.times_and_users())
        limit = self._clock.limit()
        judged = self._judge.judge(pieces, limit)
        with self._store.transaction() as db:
            self._take_judged(db, judged)
            decided = self._waiting.decide(db, pieces, judged.ahead, limit)
            for record in decided.confirmed:
                self._take_judged(db, self._judge.judge([self._piece_of(record)], limit))
            refuted = Counter((self._zone.day_number(record.kafka_time), CLOCK_AHEAD) for record in decided.refuted)
            self._count_left_out(db, refuted)
            self._take_gaps(db, judged.first_times, batch.gaps)
            self._take_positions(db, batch)

    def _piece_of(self, record: WaitingRecord) -> PartitionLines:
        offsets, times = np.array([record.offset]), np.array([record.kafka_time])
        return PartitionLines.read(record.partition, offsets, times, [record.line], self._zone)

    def take_judged(self, judged: JudgedLines) -> None:
        """Commit lines that the archive has; the positions stay."""
        with self._store.transaction() as db:
            self._take_judged(db, judged)

    def _take_judged(self, db: Connection, judged: JudgedLines) -> None:
        self._count_left_out(db, judged.left_out)
        in_time = {kind: self._in_time(db, kind, table) for kind, table in judged.events.items()}
        self._take_answers(db, in_time["recommend"])
        self._take_ratings(db, in_time["rate"])
        self._take_minutes(db, in_time["watch"])
        kafka_times, times = (
            np.concatenate([milliseconds(table, name) for table in judged.events.values()])
            for name in ("kafka_time", "time")
        )
        if len(kafka_times):
            days = np.unique(self._zone.day_number(np.concatenate([kafka_times, times])))
            db.executemany("INSERT OR IGNORE INTO days VALUES (?, 0)", [(day,) for day in days.tolist()])
            db.execute(_SQL_FIRST, (int(kafka_times.min()),))

    def _in_time(self, db: Connection, kind: Kind, table: pa.Table) -> pa.Table:
        """The lines that came before the report of their day closes; counts the others."""
        kafka_times = milliseconds(table, "kafka_time")
        late = kafka_times >= self._days.closes(self._zone.day_number(milliseconds(table, "time")))
        if not late.any():
            return table
        days = self._zone.day_number(kafka_times[late])
        self._count_left_out(db, Counter((day, late_reason(kind)) for day in days.tolist()))
        return table.filter(pa.array(~late))

    def _take_positions(self, db: Connection, batch: TelemetryBatch) -> None:
        for partition, position in batch.positions.items():
            self._positions[partition] = max(position, self._positions.get(partition, 0))
        clocks = {number: PartitionClock.of(self._clock.latest(number)) for number in self._positions}
        self._store.set_positions(db, self._topic, self._positions, clocks)
        if self._clock.is_live():
            db.execute("INSERT OR REPLACE INTO state VALUES (?, 1)", (LIVE,))
        else:
            db.execute("DELETE FROM state WHERE name = ?", (LIVE,))
        self._store.set_marks(db, self._topic, batch.marks)

    def _take_gaps(self, db: Connection, first_times: Mapping[int, int], gaps: Sequence[RetentionGap]) -> None:
        """Note what Kafka dropped, and after which time; the partition's next event says before which."""
        ends = [(first_time, self._topic, partition) for partition, first_time in first_times.items()]
        db.executemany(_SQL_GAP_ENDS, ends)
        for gap in gaps:
            after = self._clock.latest(gap.partition).reached
            db.execute(_SQL_GAP, (self._topic, gap.partition, gap.first, gap.last - gap.first + 1, after))

    def _count_left_out(self, db: Connection, counts: Counter[tuple[int, str]]) -> None:
        db.executemany(_SQL_LEFT_OUT, [(day, reason, lines) for (day, reason), lines in counts.items()])

    def _take_answers(self, db: Connection, table: pa.Table) -> None:
        if not table.num_rows:
            return
        blobs = pack_lists(self._lists(db, table["movies"].combine_chunks()))
        status = table["status"].to_pylist()
        columns = [
            milliseconds(table, "time").tolist(), table["user"].to_pylist(), answer_digests(table),
            status, table["latency_ms"].to_pylist(),
            [blob if code == 200 else None for blob, code in zip(blobs, status, strict=True)],
        ]  # fmt: skip
        db.executemany(_SQL_ANSWER, zip(*columns, strict=True))

    def _take_ratings(self, db: Connection, table: pa.Table) -> None:
        if table.num_rows:
            movies = self._numbers(db, table["movie"].combine_chunks())
            columns = [milliseconds(table, "time").tolist(), table["user"].to_pylist(), movies.tolist()]
            db.executemany(_SQL_RATING, zip(*columns, table["rating"].to_pylist(), strict=True))

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
        movies = self._numbers(db, table["movie"].combine_chunks())
        times = milliseconds(table, "time")
        self.changes.note(int(times.min()))
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


def _is_among(keys: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """bool: which keys are among `ascending`, which is not empty."""
    places = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    is_among: np.ndarray = ascending[places] == keys
    return is_among
