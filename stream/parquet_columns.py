"""Reads Parquet files of Marquee: all columns that the reader needs, in their types, or an error."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_columns(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of a schema, in its types; other columns of the file are not read.

    Raises `OSError` if the file cannot be read, and `pa.ArrowException` if it is damaged, lacks a column, or has one of
    another type.
    """
    table = pq.ParquetFile(path).read(columns=schema.names)
    if missing := [name for name in schema.names if name not in table.column_names]:
        raise pa.ArrowInvalid(f"it has no column {', '.join(missing)}")
    # cast: an empty file returns its dictionary columns as plain text
    return table.select(schema.names).cast(schema)
