"""The store of sessions by day, so that a night reads only days that have changed.

    var/sessions/day=YYYY-MM-DD/sessions.parquet    what was watched, within this day
                                ratings.parquet     what was rated
                                requests.parquet    who was shown a list
                                accounts.parquet    who opened an account
                                made.json           of which files; written last: without it the day is not there

A day is the archive's day of the event. A session that goes over midnight lies here in pieces, one a day; whoever
reads several days joins them. Rows are sorted, and nothing but the lines goes into them: the same lines give the same
bytes, whatever the catalogue says of their movies. Days that were imported name their source instead of files.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batch.errors import NightFilesDamaged
from stream import durable

DayPart = Literal["sessions", "ratings", "requests", "accounts"]

_WORD = pa.dictionary(pa.int32(), pa.string())
_WHO_AND_WHEN = pa.schema([("user", pa.uint32()), ("time", pa.int64())])
DAY_SCHEMAS: dict[DayPart, pa.Schema] = {
    "sessions": pa.schema(
        [("user", pa.uint32()), ("movie", _WORD), ("start", pa.int64()), ("last", pa.int64()), ("minutes", pa.int32())]
    ),
    "ratings": pa.schema([("user", pa.uint32()), ("movie", _WORD), ("time", pa.int64()), ("rating", pa.int8())]),
    "requests": _WHO_AND_WHEN,
    "accounts": _WHO_AND_WHEN,
}
"""Times are ms UTC; `minutes` counts the different minutes of the movie that were watched."""
LAYOUT = 1


class DaySource(msgspec.Struct, frozen=True, kw_only=True):
    """What a day was made of."""

    layout: int = LAYOUT
    inputs: str = ""
    """Digest of the names of the archive's files, and of the settings that sessions depend on."""
    imported: str | None = None
    """Where the day came from, if not from the archive."""
    counts: dict[str, int] = {}


class DayStore:
    """The days below one `var` folder. One process at a time may write: the night's lock sees to it."""

    def __init__(self, var: Path) -> None:
        self.folder = var / "sessions"

    def days(self) -> dict[str, DaySource]:
        """By day, ascending: the whole ones, and what they were made of."""
        found = {path.name.removeprefix("day="): _made(path) for path in self.folder.glob("day=*")}
        return {day: made for day, made in sorted(found.items()) if made is not None and made.layout == LAYOUT}

    def write(self, day: str, made: DaySource, tables: Mapping[DayPart, pa.Table]) -> None:
        """Keep a day, in place of what was kept of it; a part that is not given is empty."""
        folder = self.folder / f"day={day}"
        (folder / "made.json").unlink(missing_ok=True)  # from here on the day is not there
        for part, schema in DAY_SCHEMAS.items():
            _write(folder / f"{part}.parquet", tables.get(part, schema.empty_table()).cast(schema))
        durable.write_bytes(folder / "made.json", msgspec.json.encode(made) + b"\n")

    def remove(self, day: str) -> None:
        """Forget a day."""
        (self.folder / f"day={day}" / "made.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder / f"day={day}", ignore_errors=True)

    def read(self, part: DayPart, days: Iterable[str]) -> pa.Table:
        """The rows of some days, one day after the other, with one dictionary for all.

        Raises `NightFilesDamaged` where a file is gone or damaged.
        """
        tables = [_read(self.folder / f"day={day}" / f"{part}.parquet", DAY_SCHEMAS[part]) for day in days]
        return pa.concat_tables([DAY_SCHEMAS[part].empty_table(), *tables]).unify_dictionaries().combine_chunks()


def _write(path: Path, table: pa.Table) -> None:
    durable.write(path, lambda temporary: pq.write_table(table, temporary, compression="zstd", compression_level=1))


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        # cast: an empty file gives its dictionary column back as plain text
        return pq.ParquetFile(path).read().cast(schema)
    except (OSError, pa.ArrowException) as error:
        raise NightFilesDamaged(
            f"night: {path} is gone or damaged: {error}; remove the folder {path.parent}, it is made anew from the"
            " archive (what was imported: import it again): python -m batch nightly"
        ) from error


def _made(folder: Path) -> DaySource | None:
    try:
        return msgspec.json.decode((folder / "made.json").read_bytes(), type=DaySource)
    except (OSError, msgspec.DecodeError):
        return None


def day_table(part: DayPart, columns: Mapping[str, Any]) -> pa.Table:
    """Columns (arrays by name) as the table of a part."""
    schema = DAY_SCHEMAS[part]
    return pa.table([pa.array(columns[name]) for name in schema.names], names=schema.names).cast(schema)
