"""Sessions by day, so that a night reads only the days that have changed.

    var/sessions/day=YYYY-MM-DD/sessions.parquet    what was watched, within this day
                                ratings.parquet     what was rated
                                requests.parquet    the lists that were shown, by user
                                accounts.parquet    the accounts that were opened
                                shown.parquet       how often each movie was shown
                                made.json           the source; written last: a day without it is ignored

A day is the archive's day of the event. A session across midnight is stored in pieces, one per day, which `assemble.py`
joins. Rows are sorted and depend on the lines alone: the same lines give the same bytes, whatever the catalogue says
about their movies. Imported days name their source instead of files.
"""

import functools
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batch.errors import NightFilesDamaged
from stream import durable
from stream.decoding import decode_json
from stream.parquet_columns import read_columns

DayPart = Literal["sessions", "ratings", "requests", "accounts", "shown"]

_WORD = pa.dictionary(pa.int32(), pa.string())
_WHO_AND_WHEN = pa.schema([("user", pa.uint32()), ("time", pa.int64())])
DAY_SCHEMAS: dict[DayPart, pa.Schema] = {
    "sessions": pa.schema(
        [("user", pa.uint32()), ("movie", _WORD), ("start", pa.int64()), ("last", pa.int64()), ("minutes", pa.int32())]
    ),
    "ratings": pa.schema([("user", pa.uint32()), ("movie", _WORD), ("time", pa.int64()), ("rating", pa.int8())]),
    "requests": _WHO_AND_WHEN,
    "accounts": _WHO_AND_WHEN,
    "shown": pa.schema([("movie", _WORD), ("lists", pa.int64())]),
}
"""Times are ms UTC; `minutes` counts the different minutes of the movie that were watched, `lists` the answers with
status 200 that named it."""
PARTS_WITH_USERS: tuple[DayPart, ...] = ("sessions", "ratings", "requests", "accounts")
_LATER_PARTS: tuple[DayPart, ...] = ("shown",)
"""Parts that days of older versions lack: nothing is known of them there."""
LAYOUT = 1


class DaySource(msgspec.Struct, frozen=True, kw_only=True):
    """The source of a day."""

    layout: int = LAYOUT
    inputs: str = ""
    """Digest of the names of the archive's files, and of the settings that sessions depend on."""
    imported: str | None = None
    """The archive that the day was imported from; None for a day of Marquee's own archive."""
    counts: dict[str, int] = {}


class DayStore:
    """The days below one `var` folder. Only the holder of the night's lock may write."""

    def __init__(self, var: Path) -> None:
        self.folder = var / "sessions"

    def days(self) -> dict[str, DaySource]:
        """The source of each whole day, ascending by day."""
        sources = {path.name.removeprefix("day="): _read_source(path) for path in self.folder.glob("day=*")}
        return {day: source for day, source in sorted(sources.items()) if source and source.layout == LAYOUT}

    def archived_days(self) -> list[str]:
        """The days that were made from the archive, rather than imported, ascending."""
        return [day for day, source in self.days().items() if source.imported is None]

    def write(self, day: str, source: DaySource, tables: Mapping[DayPart, pa.Table]) -> None:
        """Create or replace a day; parts that are not given are empty."""
        folder = self.folder / f"day={day}"
        (folder / "made.json").unlink(missing_ok=True)  # from here on the day is ignored
        for part, schema in DAY_SCHEMAS.items():
            _write(folder / f"{part}.parquet", tables.get(part, schema.empty_table()).cast(schema))
        durable.write_bytes(folder / "made.json", _source_json(source))

    def fill(self, days: Iterable[tuple[str, DaySource, Mapping[DayPart, pa.Table]]]) -> None:
        """Create all days of an empty store, the same files as by `write`, and flush them to disk together.

        The tables are of `day_table`; parts that are not given are empty.

        Flushing each of four files a day takes most of the time of an import. Until this returns the days may be lost
        in a power failure, or half-written: call it for a folder that is moved into place afterwards.
        """
        for day, source, tables in days:
            folder = self.folder / f"day={day}"
            folder.mkdir(parents=True)
            for part in DAY_SCHEMAS:
                path = folder / f"{part}.parquet"
                if part in tables:
                    _write_table(path, tables[part])
                else:
                    path.write_bytes(_empty_file(part))
            (folder / "made.json").write_bytes(_source_json(source))
        durable.sync_tree(self.folder)

    def remove(self, day: str) -> None:
        """Remove a day."""
        (self.folder / f"day={day}" / "made.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder / f"day={day}", ignore_errors=True)

    def read(self, part: DayPart, days: Iterable[str], end: int | None = None) -> pa.Table:
        """The rows of some days, one day after the other, with one dictionary for all; none after `end`, ms UTC, which
        is not for parts without times.

        Raises `NightFilesDamaged` if a file is missing or damaged.
        """
        paths = [self.folder / f"day={day}" / f"{part}.parquet" for day in days]
        if part in _LATER_PARTS:
            paths = [path for path in paths if path.exists()]
        tables = [_until(_read(path, DAY_SCHEMAS[part]), end) for path in paths]
        return pa.concat_tables([DAY_SCHEMAS[part].empty_table(), *tables]).unify_dictionaries().combine_chunks()


def _write(path: Path, table: pa.Table) -> None:
    durable.write(path, lambda temporary: _write_table(temporary, table))


def _write_table(target: Path | pa.NativeFile, table: pa.Table) -> None:
    pq.write_table(table, target, compression="zstd", compression_level=1)


@functools.cache
def _empty_file(part: DayPart) -> bytes:
    """The file of a part without rows."""
    sink = pa.BufferOutputStream()
    _write_table(sink, DAY_SCHEMAS[part].empty_table())
    return sink.getvalue().to_pybytes()


def _source_json(source: DaySource) -> bytes:
    return msgspec.json.encode(source) + b"\n"


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        return read_columns(path, schema)
    except (OSError, pa.ArrowException) as error:
        raise NightFilesDamaged(
            f"night: {path} is missing or damaged: {error}; remove the folder {path.parent}, and the next night makes"
            " it again from the archive (import an imported one again): python -m batch nightly"
        ) from error


def _until(table: pa.Table, end: int | None) -> pa.Table:
    """The rows that began, or happened, no later than `end`, ms UTC; all for None."""
    if end is None:
        return table
    kept = table.column("start" if "start" in table.column_names else "time").to_numpy() <= end
    if kept.all():
        return table
    table = table.filter(pa.array(kept))
    if "movie" not in table.column_names:
        return table
    words = table.column("movie").cast(pa.string()).dictionary_encode()  # without those of the dropped rows
    return table.set_column(table.column_names.index("movie"), "movie", words)


def _read_source(folder: Path) -> DaySource | None:
    try:
        return decode_json((folder / "made.json").read_bytes(), DaySource)
    except (OSError, msgspec.DecodeError):
        return None


def day_table(part: DayPart, columns: Mapping[str, Any]) -> pa.Table:
    """Columns (arrays by name) as the table of a part."""
    schema = DAY_SCHEMAS[part]
    return pa.table([pa.array(columns[name]) for name in schema.names], names=schema.names).cast(schema)
