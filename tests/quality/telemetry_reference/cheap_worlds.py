"""Leaves out what takes most of a world's time and is not compared: so there can be ten times as many worlds.

What is left out has tests of its own: durable writes, the encoding of the archive's files, pages, look-ups of movies.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import pyarrow as pa

from batch.collecting.unknown_ids import UnknownIdLookup
from quality.telemetry import report
from quality.telemetry.day_report import DayReport
from quality.telemetry.day_rows import DayRows
from quality.telemetry.report import Reports
from stream import durable
from stream.archive import Archive
from stream.ledger_entry import ArchiveFile


@contextmanager
def cheap_worlds() -> Iterator[None]:
    """What is written within needs not survive a power failure, and can be read only within."""
    with (
        patch.object(durable, "sync"),
        patch.object(report, "render_html", return_value=""),
        patch.object(UnknownIdLookup, "_request_new"),  # no API answers
        patch.object(asyncio, "to_thread", _in_this_thread),  # no event loop has to stay responsive
        _archive_in_memory(),
        _equal_reports_once(),
    ):
        yield


async def _in_this_thread(function: Callable[..., object], *arguments: object, **named: object) -> object:
    return function(*arguments, **named)


@contextmanager
def _archive_in_memory() -> Iterator[None]:
    """The files of the archive are empty, and their tables in memory."""
    tables: dict[Path, pa.Table] = {}

    def write(archive: Archive, path: Path, table: pa.Table) -> ArchiveFile:
        durable.write_bytes(path, b"")
        tables[path] = table
        return ArchiveFile(path.relative_to(archive.var).as_posix(), table.num_rows)

    def read(archive: Archive, file: ArchiveFile, columns: Sequence[str] | None = None) -> pa.Table:
        table = tables[archive.var / file.path]
        return table if columns is None else table.select(list(columns))

    with patch.object(Archive, "_write", write), patch.object(Archive, "read", read):
        yield


@contextmanager
def _equal_reports_once() -> Iterator[None]:
    """A report is a function of its rows: of rows that are equal in every byte it is computed once."""
    build, built = Reports.build, dict[bytes, DayReport]()

    def build_once(
        reports: Reports, day: int, rows: DayRows, watermark: int, *notes: str, final: bool = False
    ) -> DayReport:
        facts = msgspec.json.encode((reports.settings, day, None if final else watermark, notes, final))
        key = facts + _digest(rows)
        if key not in built:
            built[key] = build(reports, day, rows, watermark, *notes, final=final)
        return built[key]

    with patch.object(Reports, "build", build_once):
        yield


def _digest(rows: DayRows) -> bytes:
    def bytes_of(value: object) -> object:
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        names = getattr(value, "__slots__", None) or getattr(value, "__dict__", None)
        return value if names is None else [bytes_of(getattr(value, name)) for name in names]

    return blake2b(msgspec.msgpack.encode(bytes_of(rows))).digest()
