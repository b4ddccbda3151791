"""The tables of the telemetry store, and what is done with a file that is older or damaged.

    positions   by topic and partition: the offset to read next, the clock (`PartitionClock` as JSON, or null), and a
                checksum of both
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
                `judged_hour`: the last hour whose availability was judged, counted from 1970-01-01 in UTC;
                `remade:<topic>`: how many times the topic had been made anew when it was last read; `live`: is there
                while the stream is in step with the machine's clock

All times are ms UTC; days are numbers counted from 1970-01-01 in the service's zone.
"""

import sqlite3
import zlib
from pathlib import Path

from quality.errors import StoreDamaged, StoreError

LAYOUT = 3


_TABLES = """
CREATE TABLE positions (topic TEXT, partition INTEGER, next INTEGER, clock BLOB, checksum INTEGER,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE waiting (topic TEXT, partition INTEGER, "offset" INTEGER, kafka_time INTEGER, behind INTEGER, line BLOB,
    PRIMARY KEY (topic, partition, "offset")) WITHOUT ROWID;
CREATE TABLE marks (topic TEXT, partition INTEGER, "offset" INTEGER, kafka_time INTEGER, digest TEXT,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE movies (number INTEGER PRIMARY KEY, movie TEXT NOT NULL UNIQUE);
CREATE TABLE answers (time INTEGER, user INTEGER, request INTEGER, status INTEGER, latency_ms INTEGER,
    movies BLOB CHECK (movies IS NULL OR length(movies) = 80), PRIMARY KEY (time, user, request)) WITHOUT ROWID;
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
ALTER TABLE positions ADD COLUMN checksum INTEGER;
CREATE TABLE ratings (time INTEGER, user INTEGER, movie INTEGER, rating INTEGER,
    PRIMARY KEY (time, user, movie, rating)) WITHOUT ROWID;
CREATE TABLE gaps (topic TEXT, partition INTEGER, first INTEGER, lines INTEGER, after INTEGER, until INTEGER,
    PRIMARY KEY (topic, partition, first)) WITHOUT ROWID;
"""


def lay_out(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables, or bring those of an older version up to date. Raises `StoreError` for a newer one."""
    if _layout(db, path) == LAYOUT:
        return
    db.execute("BEGIN IMMEDIATE")  # of two processes one lays it out, and the other sees that it is done
    try:
        layout = _layout(db, path)
        steps = [_TABLES] if layout == 0 else [_FROM_LAYOUT_1, _FROM_LAYOUT_2][layout - 1 : LAYOUT - 1]
        for statement in "".join(steps).split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version={LAYOUT}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _layout(db: sqlite3.Connection, path: Path) -> int:
    (layout,) = db.execute("PRAGMA user_version").fetchone()
    if not 0 <= layout <= LAYOUT:
        raise StoreError(f"telemetry: {path} has layout {layout}, not {LAYOUT}; move it away to read the topic again")
    return int(layout)


def check(db: sqlite3.Connection) -> None:
    """Raise `StoreDamaged` if the file is not what SQLite wrote, or a row breaks its rules."""
    try:
        problems = [text for (text,) in db.execute("PRAGMA integrity_check(1)")]
    except sqlite3.DatabaseError as error:
        problems = [str(error)]
    if problems != ["ok"]:
        raise StoreDamaged(f"telemetry: the store is damaged: {' '.join(problems[0].split())}")


def checksum(topic: str, partition: int, position: int, clock: bytes | None) -> int:
    """The CRC-32 of a row of `positions`: a wrong position would skip lines, or count them again."""
    return zlib.crc32(f"{topic} {partition} {position} ".encode() + (clock or b""))
