"""Writes weeks of simulated history straight into the archive, faster than through a broker.

Each day is one batch of the topic `history`, with files and a ledger entry as the collector writes them. Sessions that
still run when the history ends are cut off there.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from loadtest.errors import LoadtestError
from loadtest.simulation.visits import Audience, Happenings
from stream.archive import Archive
from stream.clock import LatestLines, PartitionClock, Quorum
from stream.event import Kind
from stream.ledger_entry import ArchiveFile, FateCount, LedgerEntry, TimeRange
from stream.tables import ARCHIVE_SCHEMAS
from stream.zone import HOUR_MS, Zone, day_name, day_number

TOPIC = "history"


def write(
    archive: Archive, audience: Audience, zone: Zone, first_day: str, until_ms: int, advance: Callable[[int], object]
) -> int:
    """Play from the beginning of a day until `until_ms` (a full or half hour) and archive it; returns the lines.

    Raises `LoadtestError` if the archive has a history already.
    """
    if archive.entries(TOPIC):
        raise LoadtestError(f"history: {archive.var} has a history already; remove the folder to make another one")
    offset, running, day = 0, _nothing(), first_day
    while zone.bounds(day)[0] < until_ms:
        since, until = zone.bounds(day)
        until = min(until, until_ms)
        happened = _joined([running, *_play(audience, since, until)])
        today = happened.times < until
        offset += _archive_day(archive, audience, _rows(happened, today), day, offset)
        running = _rows(happened, ~today)
        day = day_name(day_number(day) + 1)
        advance(1)
    return offset


def replay_archive(archive: Archive, audience: Audience) -> None:
    """Mark what an audience has seen according to the archive.

    Raises `ArchiveError` if a file is missing or damaged.
    """
    watched = [
        file for entry in archive.entries() for file in entry.files if file.room == "watch" and archive.is_kept(file)
    ]
    for file in sorted(watched, key=lambda file: file.day):
        table = archive.read(file).unify_dictionaries()
        pairs = table.group_by(["user", "movie"]).aggregate([])
        names = pairs.column("movie").cast(pa.string()).to_pylist()
        users = pairs.column("user").to_numpy().astype(np.int64) - 1
        rows = np.array([audience.world.catalogue.index.get(name, -1) for name in names], np.int64)
        known = (rows >= 0) & (users < len(audience.world.people))
        audience.seen.add(users[known], rows[known])


def _play(audience: Audience, since: int, until: int) -> list[Happenings]:
    """What happens in [since, until), an item an hour."""
    by_hour = []
    for hour in range(since, until, HOUR_MS):
        visits = audience.visits(hour, min(HOUR_MS, until - hour))
        movies = audience.world.choose(visits.users, audience.seen, audience.rng)
        by_hour.append(audience.watch(visits.users, movies, visits.times))
    return by_hour


def _archive_day(archive: Archive, audience: Audience, happened: Happenings, day: str, offset: int) -> int:
    """Archive a day as one batch; returns its lines."""
    order = np.argsort(happened.times, kind="stable")
    happened = _rows(happened, order)
    lines = len(order)
    if not lines:
        return 0
    offsets = offset + np.arange(lines)
    is_minute = happened.minutes >= 0
    kinds: list[tuple[Kind, np.ndarray]] = [("watch", is_minute), ("rate", ~is_minute)]
    counts = [FateCount("accepted", kind, day, None, int(rows.sum())) for kind, rows in kinds if rows.any()]
    entry = LedgerEntry(
        topic=TOPIC,
        partition=0,
        first=offset,
        last=offset + lines - 1,
        lines=lines,
        counts=counts,
        kafka_time=TimeRange(int(happened.times[0]), int(happened.times[-1])),
        clock=PartitionClock.of(LatestLines.of(Quorum(), happened.times, happened.users + 1)),
    )
    files: list[ArchiveFile] = []
    for kind, rows in kinds:
        if rows.any():
            table = _table(kind, audience, _rows(happened, rows), offsets[rows])
            files.append(archive.write_events(entry, kind, day, table))
    archive.commit(entry.with_files(files))
    return lines


def _table(kind: Kind, audience: Audience, happened: Happenings, offsets: np.ndarray) -> pa.Table:
    count, schema = len(offsets), ARCHIVE_SCHEMAS[kind]
    zeros = pa.array(np.zeros(count, np.int32))
    times = pa.array(happened.times).cast(pa.timestamp("ms", tz="UTC"))
    columns = {
        "time": times,
        "user": pa.array(happened.users + 1, pa.uint32()),
        "movie": pa.DictionaryArray.from_arrays(pa.array(happened.movies, pa.int32()), audience.world.catalogue.ids),
        "minute": pa.array(happened.minutes),
        "rating": pa.array(happened.ratings),
        "topic": pa.DictionaryArray.from_arrays(zeros, [TOPIC]),
        "partition": zeros,
        "offset": pa.array(offsets),
        "kafka_time": times,
        "repair": pa.array([None] * count, pa.string()).dictionary_encode(),
        "raw": pa.nulls(count, pa.binary()),
    }
    return pa.Table.from_arrays([columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema)


_FIELDS = ("users", "movies", "times", "minutes", "ratings")


def _rows(happened: Happenings, rows: np.ndarray) -> Happenings:
    return Happenings(*(getattr(happened, name)[rows] for name in _FIELDS))


def _joined(pieces: list[Happenings]) -> Happenings:
    return Happenings(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in _FIELDS))


def _nothing() -> Happenings:
    empty = np.zeros(0, np.int64)
    return Happenings(empty, empty, empty, empty.astype(np.int32), empty.astype(np.int8))
