"""The telemetry store, `var/telemetry.db`: the rows that open reports need, and how far the stream was read.

SQLite in WAL mode, one writer. Rows and positions are committed in one transaction, so a killed process neither loses
nor repeats a line: it resumes after the last commit. `synchronous=NORMAL`: a power failure may undo the last commits as
a whole, and their lines are read again. Tables are clustered by time, because rows are written, queried and pruned by
time.

    positions   by topic and partition: the offset to read next, and the clock (`PartitionClock` as JSON, or null)
    waiting     records ahead of the stream's clock: provenance, how many later lines came at the old pace, and the line
    marks       by topic and partition: the last record read, by which the topic is recognised
    movies      a number for each movie id that is mentioned below
    answers     one row for each different answer: time, user, list; `request` is a digest of all its fields
    ratings     one row for each different rating
    sessions    one row for each session of a user and movie: first and last minute
    left_out    by day of Kafka's time and reason: lines that are in no figure
    gaps        what Kafka had dropped: partition, first offset, lines, between which times (null: not known, yet)
    days        the days that have lines, and whether their report is final
    state       `first`: earliest Kafka time seen; `reported`: the watermark of the last provisional reports;
                `remade:<topic>`: how many times the topic had been made anew when it was last read; `live`: is there
                while the stream is in step with the machine's clock

All times are ms UTC; days are numbers counted from 1970-01-01 in the service's zone.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import msgspec
import numpy as np

from quality.errors import StoreBusy, StoreError
from quality.metrics.watch_sessions import TimeSpans, session_key, split_key
from quality.telemetry.day_rows import AnswerRows, DayRows, LineGap, RatingRows
from quality.telemetry.report_days import ReportDays
from stream.clock import LatestLines, PartitionClock, merged
from stream.decoding import decode_json
from stream.event import LIST_LENGTH
from stream.record_mark import RecordMark

LAYOUT = 3
_CHUNK = 50_000
_BEFORE = -1
"""Instead of a partition: the topic before it was made anew."""

_TABLES = """
CREATE TABLE positions (topic TEXT, partition INTEGER, next INTEGER, clock BLOB,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE waiting (topic TEXT, partition INTEGER, "offset" INTEGER, kafka_time INTEGER, behind INTEGER, line BLOB,
    PRIMARY KEY (topic, partition, "offset")) WITHOUT ROWID;
CREATE TABLE marks (topic TEXT, partition INTEGER, "offset" INTEGER, kafka_time INTEGER, digest TEXT,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE movies (number INTEGER PRIMARY KEY, movie TEXT NOT NULL UNIQUE);
CREATE TABLE answers (time INTEGER, user INTEGER, request INTEGER, status INTEGER, latency_ms INTEGER, movies BLOB,
    PRIMARY KEY (time, user, request)) WITHOUT ROWID;
CREATE TABLE ratings (time INTEGER, user INTEGER, movie INTEGER, rating INTEGER,
    PRIMARY KEY (time, user, movie, rating)) WITHOUT ROWID;
CREATE TABLE sessions (start INTEGER, user INTEGER, movie INTEGER, last INTEGER, PRIMARY KEY (start, user, movie))
    WITHOUT ROWID;
CREATE TABLE left_out (day INTEGER, reason TEXT, lines INTEGER, PRIMARY KEY (day, reason)) WITHOUT ROWID;
CREATE TABLE gaps (topic TEXT, partition INTEGER, first INTEGER, lines INTEGER, after INTEGER, until INTEGER,
    PRIMARY KEY (topic, partition, first)) WITHOUT ROWID;
CREATE TABLE days (day INTEGER PRIMARY KEY, final INTEGER NOT NULL DEFAULT 0);
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

_FROM_LAYOUT_1 = """
ALTER TABLE positions DROP COLUMN kafka_time;
ALTER TABLE positions ADD COLUMN clock BLOB;
CREATE TABLE waiting (topic TEXT, partition INTEGER, "offset" INTEGER, kafka_time INTEGER, behind INTEGER, line BLOB,
    PRIMARY KEY (topic, partition, "offset")) WITHOUT ROWID;
CREATE TABLE marks (topic TEXT, partition INTEGER, "offset" INTEGER, kafka_time INTEGER, digest TEXT,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
"""
"""The latest Kafka time, which layout 1 had, is dropped: a wrong record may have set it. New lines set the clock."""
_FROM_LAYOUT_2 = """
ALTER TABLE answers DROP COLUMN partition;
ALTER TABLE answers DROP COLUMN "offset";
CREATE TABLE ratings (time INTEGER, user INTEGER, movie INTEGER, rating INTEGER,
    PRIMARY KEY (time, user, movie, rating)) WITHOUT ROWID;
CREATE TABLE gaps (topic TEXT, partition INTEGER, first INTEGER, lines INTEGER, after INTEGER, until INTEGER,
    PRIMARY KEY (topic, partition, first)) WITHOUT ROWID;
"""


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
        try:
            # one thread at a time uses it, but not always the same one
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30.0)
            try:
                self._set_up(path)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise StoreError(f"telemetry: cannot open {path}: {error}") from error

    def _set_up(self, path: Path) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-65536")
        self._lay_out(path)

    def _lay_out(self, path: Path) -> None:
        (layout,) = self._db.execute("PRAGMA user_version").fetchone()
        if layout == 0:
            self._db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={LAYOUT};COMMIT;")
        elif layout in (1, 2):
            older = _FROM_LAYOUT_1 if layout == 1 else ""
            self._db.executescript(f"BEGIN;{older}{_FROM_LAYOUT_2}PRAGMA user_version={LAYOUT};COMMIT;")
        elif layout != LAYOUT:
            raise StoreError(
                f"telemetry: {path} has layout {layout}, not {LAYOUT}; move it away to read the topic again"
            )

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
                db.execute("INSERT INTO positions VALUES (?, ?, 0, ?)", (topic, _BEFORE, clock))
                db.execute("DELETE FROM waiting WHERE topic = ?", (topic,))
                db.execute("DELETE FROM marks WHERE topic = ?", (topic,))
                db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, remade))

    def marks(self, topic: str) -> dict[int, RecordMark]:
        """By partition: the last record that was read."""
        query = 'SELECT partition, "offset", kafka_time, digest FROM marks WHERE topic = ?'
        return {partition: RecordMark(*mark) for partition, *mark in self._db.execute(query, (topic,))}

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
        except sqlite3.Error as error:
            raise StoreError(f"telemetry: cannot write the store: {error}") from error

    def positions(self, topic: str) -> dict[int, int]:
        """By partition: the offset to read next."""
        return dict(
            self._db.execute("SELECT partition, next FROM positions WHERE topic = ? AND partition >= 0", (topic,))
        )

    def clocks(self, topic: str) -> dict[int, LatestLines]:
        """By partition with lines, and for the topic before it was made anew: the latest lines, which are its clock."""
        query = "SELECT partition, clock FROM positions WHERE topic = ? AND clock IS NOT NULL"
        rows = self._db.execute(query, (topic,)).fetchall()
        return {partition: decode_json(data, PartitionClock).read() for partition, data in rows}

    def reached(self, topic: str) -> int | None:
        """How far the topic has come by its clock, ms UTC; None before any line."""
        latest = merged(self.clocks(topic).values())
        return None if latest is None else latest.reached

    def set_positions(
        self, db: sqlite3.Connection, topic: str, positions: Mapping[int, int], clocks: Mapping[int, PartitionClock]
    ) -> None:
        """Note how far the partitions were read; the caller commits."""
        rows = [(topic, number, offset, msgspec.json.encode(clocks[number])) for number, offset in positions.items()]
        db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", rows)

    def waiting(self, topic: str) -> list[WaitingRecord]:
        """The records that are ahead of the clock, by partition and offset."""
        query = 'SELECT partition, "offset", kafka_time, behind, line FROM waiting WHERE topic = ? ORDER BY 1, 2'
        return [WaitingRecord(*row) for row in self._db.execute(query, (topic,))]

    def replace_waiting(self, db: sqlite3.Connection, topic: str, records: Iterable[WaitingRecord]) -> None:
        """Replace the records that are ahead of the clock; the caller commits."""
        db.execute("DELETE FROM waiting WHERE topic = ?", (topic,))
        rows = [(topic, *(getattr(record, name) for name in WaitingRecord.__slots__)) for record in records]
        db.executemany("INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?)", rows)

    def state(self, name: str) -> int | None:
        """A value of the table `state`."""
        row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return row and int(row[0])

    def movies(self) -> dict[str, int]:
        """Numbers of all movies that rows mention."""
        return dict(self._db.execute("SELECT movie, number FROM movies"))

    def answers(self, first: int, end: int, listed_until: int | None = None) -> AnswerRows:
        """Answers with first ≤ time < end; from `listed_until` on without their lists, which take most of the time."""
        query = (
            "SELECT time, user, status, latency_ms, CASE WHEN time < ? THEN movies END FROM answers "
            "WHERE time >= ? AND time < ? ORDER BY time, user, request"
        )
        chunks = [(np.zeros((0, 4), np.int64), np.zeros((0, LIST_LENGTH), np.int32))]
        rows = self._db.execute(query, (end if listed_until is None else listed_until, first, end))
        while chunk := rows.fetchmany(_CHUNK):
            numbers = np.array([row[:4] for row in chunk], np.int64)
            chunks.append((numbers, unpack_lists([row[4] for row in chunk])))
        numbers, lists = map(np.concatenate, zip(*chunks, strict=True))
        time, user, status, latency_ms = numbers.T
        return AnswerRows(time, user, status, latency_ms, lists)

    def sessions(self, after: int, until: int, least_last: int = 0) -> TimeSpans:
        """Sessions with after < start ≤ until and last ≥ `least_last`, ascending by start."""
        query = "SELECT user, movie, start, last FROM sessions WHERE start > ? AND start <= ? AND last >= ?"
        chunks = [np.zeros((0, 4), np.int64)]
        rows = self._db.execute(f"{query} ORDER BY start", (after, until, least_last))
        while chunk := rows.fetchmany(_CHUNK):
            chunks.append(np.array(chunk, np.int64))
        user, movie, start, last = np.concatenate(chunks).T
        return TimeSpans(session_key(user, movie), start, last)

    def day_rows(self, day: int, days: ReportDays) -> DayRows:
        """The rows of a day's report, of one state of the store even if another connection writes."""
        first, end = days.bounds(day)
        until = end + days.window_ms
        with self.reading():
            return DayRows(
                first=first,
                end=end,
                answers=self.answers(first, until, listed_until=end),
                sessions=self.sessions(first, until),
                ratings=self.ratings(first, until),
                movies=self.movies(),
                left_out=self.left_out(day),
                gaps=self.gaps(first, until),
                known_from=self.state("first"),
            )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let the block's queries see one state of the store."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def ratings(self, after: int, until: int) -> RatingRows:
        """Ratings with after < time ≤ until, ascending by time."""
        query = "SELECT time, user, movie, rating FROM ratings WHERE time > ? AND time <= ? ORDER BY 1, 2, 3, 4"
        return RatingRows(*np.array(self._db.execute(query, (after, until)).fetchall(), np.int64).reshape(-1, 4).T)

    def gaps(self, first: int, end: int) -> list[LineGap]:
        """Lost lines that may have been of the time from `first` to `end`."""
        query = (
            "SELECT lines, after, until FROM gaps WHERE ifnull(after, ?1) < ?2 AND ifnull(until, ?2) >= ?1 "
            "ORDER BY topic, partition, first"
        )
        return [LineGap(*row) for row in self._db.execute(query, (first, end))]

    def left_out(self, day: int) -> dict[str, int]:
        """By reason: lines of a day, by Kafka's time, that are not in any figure."""
        return dict(self._db.execute("SELECT reason, lines FROM left_out WHERE day = ? ORDER BY reason", (day,)))

    def days(self, *, final: bool) -> list[int]:
        """Days, ascending, whose report is final, or is not yet."""
        return [day for (day,) in self._db.execute("SELECT day FROM days WHERE final = ? ORDER BY day", (final,))]

    def set_reported(self, watermark: int) -> None:
        """Note that the provisional reports were written."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO state VALUES ('reported', ?)", (watermark,))

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
