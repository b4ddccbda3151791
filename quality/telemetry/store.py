"""The telemetry store, `var/telemetry.db`: the rows that open reports need, and how far the stream was read.

SQLite in WAL mode, one writer. Rows and positions are committed in one transaction, so a killed process neither loses
nor repeats a line: it resumes after the last commit. `synchronous=NORMAL`: a power failure may undo the last commits as
a whole, and their lines are read again. Tables are clustered by time, because rows are written, queried and pruned by
time. `store_layout` has the tables.

All times are ms UTC; days are numbers counted from 1970-01-01 in the service's zone.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import filelock
import msgspec
import numpy as np

from quality.errors import StoreBusy, StoreDamaged, StoreError
from quality.metrics.watch_sessions import TimeSpans, session_key, split_key
from quality.telemetry.day_rows import AnswerRows, DayRows, LineGap, RatingRows
from quality.telemetry.report_days import ReportDays
from quality.telemetry.store_layout import check, checksum, lay_out
from stream.clock import LatestLines, PartitionClock, merged
from stream.decoding import decode_json
from stream.event import LIST_LENGTH
from stream.record_mark import RecordMark
from stream.zone import HOUR_MS

_CHUNK = 50_000
_BEFORE = -1
"""Instead of a partition: the topic before it was made anew."""


@dataclass(frozen=True, slots=True)
class WaitingRecord:
    """A record that is ahead of the stream's clock."""

    partition: int
    offset: int
    kafka_time: int
    """ms UTC."""
    behind: int
    """How many lines came after it in its partition at the old pace."""
    line: bytes


@contextmanager
def writing(var: Path) -> Iterator[None]:
    """Hold telemetry's lock of one `var`, so that only one process reads the stream into its store and writes reports.

    The system releases it when the process ends, in whatever way. Raises `StoreBusy` if it is taken.
    """
    var.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(var / "telemetry.lock", blocking=False):
            yield
    except filelock.Timeout as error:
        raise StoreBusy(f"telemetry: another process writes {var / 'telemetry.db'}; stop it first") from error


class Store:
    """One open store. Raises `StoreError` if the file cannot be opened or has a different layout."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        if not create and not path.exists():
            raise StoreError(f"telemetry: no store {path}; run `python -m quality telemetry` first")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            # one thread at a time uses it, but not always the same one
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30.0)
            try:
                self._set_up(path)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.OperationalError as error:
            raise StoreError(f"telemetry: cannot open {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(f"telemetry: cannot open {path}: {error}") from error

    def _set_up(self, path: Path) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-65536")
        lay_out(self._db, path)

    def check(self) -> None:
        """Raise `StoreDamaged` if the file is damaged. Reads all of it."""
        check(self._db)
        for (topic,) in self._rows("SELECT DISTINCT topic FROM positions"):
            self.clocks(topic)

    def begin_at(
        self,
        topic: str,
        positions: Mapping[int, int],
        clocks: Mapping[int, PartitionClock],
        marks: Mapping[int, RecordMark],
        remade: int,
    ) -> None:
        """Begin a new store where a topic was read to by somebody else."""
        with self.transaction() as db:
            self.set_positions(db, topic, positions, clocks)
            self.set_marks(db, topic, marks)
            db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (f"remade:{topic}", remade))

    def _chunks(self, query: str, *values: object) -> Iterator[list[Any]]:
        """The rows of a query, some at a time."""
        try:
            rows = self._db.execute(query, values)
            while chunk := rows.fetchmany(_CHUNK):
                yield chunk
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(f"telemetry: cannot read the store: {error}") from error

    def _rows(self, query: str, *values: object) -> list[Any]:
        return [row for chunk in self._chunks(query, *values) for row in chunk]

    def _numbers(self, columns: int, query: str, *values: object) -> np.ndarray:
        """The rows of a query as int64[rows, columns]."""
        try:
            rows = chain.from_iterable(self._chunks(query, *values))
            return np.fromiter(chain.from_iterable(rows), np.int64).reshape(-1, columns)
        except (TypeError, ValueError, OverflowError) as error:
            raise StoreDamaged(f"telemetry: the store has no numbers where some should be: {error}") from error

    def follow_topic(self, topic: str, remade: int) -> None:
        """Forget how far a topic was read that was made anew since then; its clock and all other rows stay.

        `remade` says how many times it was.
        """
        name = f"remade:{topic}"
        if remade != (self.state(name) or 0):
            latest = merged(self.clocks(topic).values())
            clock = None if latest is None else msgspec.json.encode(PartitionClock.of(latest))
            with self.transaction() as db:
                db.execute("DELETE FROM positions WHERE topic = ?", (topic,))
                row = topic, _BEFORE, 0, clock, checksum(topic, _BEFORE, 0, clock)
                db.execute("INSERT INTO positions VALUES (?, ?, ?, ?, ?)", row)
                db.execute("DELETE FROM waiting WHERE topic = ?", (topic,))
                db.execute("DELETE FROM marks WHERE topic = ?", (topic,))
                db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, remade))

    def marks(self, topic: str) -> dict[int, RecordMark]:
        """By partition: the last record that was read."""
        query = 'SELECT partition, "offset", kafka_time, digest FROM marks WHERE topic = ?'
        return {partition: RecordMark(*mark) for partition, *mark in self._rows(query, topic)}

    def close(self) -> None:
        """Close the file; commits stay."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit the block's writes, or none of them. Raises `StoreError` if the store cannot be written."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StoreError(f"telemetry: cannot write the store: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(f"telemetry: cannot write the store: {error}") from error

    def positions(self, topic: str) -> dict[int, int]:
        """By partition: the offset to read next. Raises `StoreDamaged` if one is not what was written."""
        return {partition: position for partition, position, _ in self._positions(topic) if partition != _BEFORE}

    def clocks(self, topic: str) -> dict[int, LatestLines]:
        """By partition with lines, and for the topic before it was made anew: the latest lines, which are its clock."""
        rows = self._positions(topic)
        try:
            return {partition: decode_json(clock, PartitionClock).read() for partition, _, clock in rows if clock}
        except msgspec.DecodeError as error:
            raise StoreDamaged(f"telemetry: the store has a clock that is none: {error}") from error

    def _positions(self, topic: str) -> list[tuple[int, int, bytes | None]]:
        rows = self._rows("SELECT partition, next, clock, checksum FROM positions WHERE topic = ?", topic)
        for partition, position, clock, expected in rows:
            if expected not in (None, checksum(topic, partition, position, clock)):  # older versions wrote none
                raise StoreDamaged(f"telemetry: the position of partition {partition} is not what was written")
        return [(partition, position, clock) for partition, position, clock, _ in rows]

    def reached(self, topic: str) -> int | None:
        """How far the topic has come by its clock, ms UTC; None before any line."""
        latest = merged(self.clocks(topic).values())
        return None if latest is None else latest.reached

    def set_positions(
        self, db: sqlite3.Connection, topic: str, positions: Mapping[int, int], clocks: Mapping[int, PartitionClock]
    ) -> None:
        """Note how far the partitions were read; the caller commits."""
        rows = [
            (topic, partition, position, clock := msgspec.json.encode(clocks[partition]),
             checksum(topic, partition, position, clock))
            for partition, position in positions.items()
        ]  # fmt: skip
        db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)", rows)

    def set_marks(self, db: sqlite3.Connection, topic: str, marks: Mapping[int, RecordMark]) -> None:
        """Note the last records that were read; the caller commits."""
        rows = [(topic, partition, *msgspec.structs.astuple(mark)) for partition, mark in marks.items()]
        db.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)", rows)

    def waiting(self, topic: str) -> list[WaitingRecord]:
        """The records that are ahead of the clock, by partition and offset."""
        query = 'SELECT partition, "offset", kafka_time, behind, line FROM waiting WHERE topic = ? ORDER BY 1, 2'
        return [WaitingRecord(*row) for row in self._rows(query, topic)]

    def replace_waiting(self, db: sqlite3.Connection, topic: str, records: Iterable[WaitingRecord]) -> None:
        """Replace the records that are ahead of the clock; the caller commits."""
        db.execute("DELETE FROM waiting WHERE topic = ?", (topic,))
        rows = [(topic, *(getattr(record, name) for name in WaitingRecord.__slots__)) for record in records]
        db.executemany("INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?)", rows)

    def state(self, name: str) -> int | None:
        """A value of the table `state`."""
        rows = self._rows("SELECT value FROM state WHERE name = ?", name)
        return int(rows[0][0]) if rows else None

    def movies(self) -> dict[str, int]:
        """Numbers of all movies that rows mention."""
        return dict(self._rows("SELECT movie, number FROM movies"))

    def answers(self, first: int, end: int, listed_until: int | None = None) -> AnswerRows:
        """Answers with first ≤ time < end; from `listed_until` on without their lists, which take most of the time."""
        query = (
            "SELECT time, user, status, latency_ms, CASE WHEN time < ? THEN movies END FROM answers "
            "WHERE time >= ? AND time < ? ORDER BY time, user, request"
        )
        numbers, lists = [np.zeros((0, 4), np.int64)], [np.zeros((0, LIST_LENGTH), np.int32)]
        listed = end if listed_until is None else listed_until
        for chunk in self._chunks(query, listed, first, end):
            numbers.append(np.array([row[:4] for row in chunk], np.int64))
            lists.append(unpack_lists([row[4] for row in chunk]))
        time, user, status, latency_ms = np.concatenate(numbers).T
        return AnswerRows(time, user, status, latency_ms, np.concatenate(lists))

    def sessions(self, after: int, until: int, least_last: int = 0) -> TimeSpans:
        """Sessions with after < start ≤ until and last ≥ `least_last`, ascending by start."""
        query = "SELECT user, movie, start, last FROM sessions WHERE start > ? AND start <= ? AND last >= ?"
        user, movie, start, last = self._numbers(4, f"{query} ORDER BY start", after, until, least_last).T
        return TimeSpans(session_key(user, movie), start, last)

    def day_rows(self, day: int, days: ReportDays) -> DayRows:
        """The rows of a day's report."""
        first, end = days.bounds(day)
        return self.rows_with_sessions(day, days, self.sessions(first, end + days.window_ms))

    def rows_with_sessions(self, day: int, days: ReportDays, sessions: TimeSpans) -> DayRows:
        """The rows of a day's report; `sessions`, ascending by start, have those of the day and its windows."""
        first, end = days.bounds(day)
        until = end + days.window_ms
        return DayRows(
            first=first,
            end=end,
            answers=self.answers(first, until, listed_until=end),
            sessions=sessions[slice(*np.searchsorted(sessions.start, [first, until], side="right"))],
            ratings=self.ratings(first, until),
            movies=self.movies(),
            left_out=self.left_out(day),
            gaps=self.gaps(first, until),
            known_from=self.state("first"),
        )

    @contextmanager
    def snapshot(self) -> Iterator["Store"]:
        """The store as it is now, by a connection of its own: another thread may go on writing."""
        with closing(Store(self._path, create=False)) as snapshot:
            snapshot._db.execute("BEGIN")
            snapshot.state("first")  # SQLite takes the snapshot at the first read
            yield snapshot

    def ratings(self, after: int, until: int) -> RatingRows:
        """Ratings with after < time ≤ until, ascending by time."""
        query = "SELECT time, user, movie, rating FROM ratings WHERE time > ? AND time <= ? ORDER BY 1, 2, 3, 4"
        return RatingRows(*self._numbers(4, query, after, until).T)

    def gaps(self, first: int, end: int) -> list[LineGap]:
        """Lost lines that may have been of the time from `first` to `end`."""
        query = (
            "SELECT lines, after, until FROM gaps WHERE ifnull(after, ?1) < ?2 AND ifnull(until, ?2) >= ?1 "
            "ORDER BY topic, partition, first"
        )
        return [LineGap(*row) for row in self._rows(query, first, end)]

    def left_out(self, day: int) -> dict[str, int]:
        """By reason: lines of a day, by Kafka's time, that are not in any figure."""
        return dict(self._rows("SELECT reason, lines FROM left_out WHERE day = ? ORDER BY reason", day))

    def days(self, *, final: bool) -> list[int]:
        """Days, ascending, whose report is final, or is not yet."""
        return [day for (day,) in self._rows("SELECT day FROM days WHERE final = ? ORDER BY day", final)]

    def late_lines(self) -> dict[str, int]:
        """By reason: lines of all days that came after the report of their own day had closed."""
        query = "SELECT reason, sum(lines) FROM left_out WHERE reason GLOB 'late_*' GROUP BY reason"
        return dict(self._rows(query))

    def requests_by_hour(self, first: int, end: int) -> dict[int, dict[int, int]]:
        """Answers with first ≤ time < end, by hour counted from 1970-01-01 in UTC, ascending, and by status."""
        query = (
            f"SELECT time / {HOUR_MS}, status, count(*) FROM answers WHERE time >= ? AND time < ? "  # noqa: S608
            "GROUP BY 1, 2 ORDER BY 1, 2"
        )
        by_hour: dict[int, dict[int, int]] = {}
        for hour, status, count in self._rows(query, first, end):
            by_hour.setdefault(hour, {})[status] = count
        return by_hour

    def set_state(self, name: str, value: int) -> None:
        """Set a value of the table `state`."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    def set_reported(self, watermark: int) -> None:
        """Note that the provisional reports were written."""
        self.set_state("reported", watermark)

    def finish(self, days: Iterable[int], keep_from: int, keep_day: int, open_since: int) -> None:
        """Mark days as final and prune rows that no open report needs.

        Keeps answers from the time `keep_from` on, sessions that started since then or had a minute since
        `open_since`, and lines left out from the day `keep_day` on.
        """
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO days VALUES (?, 1)", [(day,) for day in days])
            db.execute("DELETE FROM answers WHERE time < ?", (keep_from,))
            db.execute("DELETE FROM ratings WHERE time < ?", (keep_from,))
            db.execute("DELETE FROM gaps WHERE until < ?", (keep_from,))
            db.execute("DELETE FROM sessions WHERE start < ? AND last < ?", (keep_from, open_since))
            db.execute("DELETE FROM left_out WHERE day < ?", (keep_day,))
            self._forget_movies(db)

    def _forget_movies(self, db: sqlite3.Connection) -> None:
        """Remove movie ids that no row mentions any more: stray characters create new ones every day."""
        numbers = [number for (number,) in db.execute("SELECT number FROM movies")]
        used = np.zeros(max(numbers, default=0) + 2, bool)  # the last place is for the -1 of empty places
        query = "SELECT DISTINCT movie FROM sessions UNION SELECT DISTINCT movie FROM ratings"
        used[[number for (number,) in db.execute(query)]] = True
        rows = db.execute("SELECT movies FROM answers WHERE movies IS NOT NULL")
        while chunk := rows.fetchmany(_CHUNK):
            used[unpack_lists([blob for (blob,) in chunk])] = True
        db.executemany("DELETE FROM movies WHERE number = ?", [(number,) for number in numbers if not used[number]])


def pack_lists(lists: np.ndarray) -> list[bytes]:
    """Rows of int32[n, 20] in their stored form."""
    return [row.tobytes() for row in np.ascontiguousarray(lists, "<i4")]


def unpack_lists(blobs: Sequence[bytes | None]) -> np.ndarray:
    """The inverse of `pack_lists`; None is an empty list."""
    empty = np.full(LIST_LENGTH, -1, "<i4").tobytes()
    return np.frombuffer(b"".join(blob or empty for blob in blobs), "<i4").reshape(-1, LIST_LENGTH).astype(np.int32)


def session_rows(spans: TimeSpans) -> Iterator[tuple[int, int, int, int]]:
    """Spans as rows of the table: start, user, movie, last."""
    user, movie = split_key(spans.key)
    return zip(spans.start.tolist(), user.tolist(), movie.tolist(), spans.last.tolist(), strict=True)
