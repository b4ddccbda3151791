"""Writes the lines of a batch into the archive: events by kind and day, and the quarantined lines.

The files count once the caller has committed the ledger entry that names them.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from quality.lines.verdicts import Verdicts
from stream.archive import Archive
from stream.ledger_entry import ArchiveFile, LedgerEntry
from stream.line_columns import times_of
from stream.tables import ARCHIVE_SCHEMAS, PROVENANCE_FIELDS, QUARANTINE_SCHEMA
from stream.zone import Zone, day_name


def provenance_columns(topic: str, partition: int, offsets: np.ndarray, kafka_times: np.ndarray) -> pa.Table:
    """The columns of `PROVENANCE_FIELDS` for the lines of a batch; offsets and Kafka times (ms UTC) are int64."""
    count = len(offsets)
    topics = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([topic]))
    times = pa.array(kafka_times).cast(pa.timestamp("ms", tz="UTC"))
    columns = [topics, pa.array(np.full(count, partition, np.int32)), pa.array(offsets), times]
    return pa.Table.from_arrays(columns, schema=pa.schema(PROVENANCE_FIELDS))


def write_batch(
    archive: Archive, entry: LedgerEntry, verdicts: Verdicts, values: pa.Array, origin: pa.Table, zone: Zone
) -> list[ArchiveFile]:
    """Write the files of an entry and return them.

    `values` (binary) are its lines; `origin` has the `provenance_columns` of each.
    """
    arguments = archive, entry, verdicts, values, origin, zone
    return [*_events(*arguments), *_quarantined(*arguments)]


def _events(
    archive: Archive, entry: LedgerEntry, verdicts: Verdicts, values: pa.Array, origin: pa.Table, zone: Zone
) -> Iterator[ArchiveFile]:
    for kind, kept in verdicts.kept.items():
        table = kept.table
        for name, column in zip(origin.column_names, origin.take(pa.array(kept.rows)).columns, strict=True):
            table = table.append_column(origin.field(name), column)
        rules, accepted = np.full(len(kept.rows), None, object), np.ones(len(kept.rows), bool)
        for row, rule in kept.rules.items():
            rules[row], accepted[row] = rule, False
        schema = ARCHIVE_SCHEMAS[kind]
        table = table.append_column(schema.field("repair"), pa.array(rules, pa.string()).dictionary_encode())
        table = table.append_column(schema.field("raw"), values.take(pa.array(kept.rows, mask=accepted))).cast(schema)
        days = zone.day_number(times_of(kept.table))
        for day in np.unique(days).tolist():
            rows_of_day = table if (days == day).all() else table.filter(pa.array(days == day))
            yield archive.write_events(entry, kind, day_name(day), rows_of_day)


def _quarantined(
    archive: Archive, entry: LedgerEntry, verdicts: Verdicts, values: pa.Array, origin: pa.Table, zone: Zone
) -> Iterator[ArchiveFile]:
    rows = pa.array(verdicts.quarantined)
    reasons = pa.array(verdicts.reasons, pa.string()).dictionary_encode()
    rooms = pa.array(["quality"] * len(rows), pa.string()).dictionary_encode()
    origin = origin.take(rows)
    columns = [values.take(rows), reasons, rooms, *origin.columns]
    table = pa.Table.from_arrays(columns, names=QUARANTINE_SCHEMA.names).cast(QUARANTINE_SCHEMA)
    days = zone.day_number(origin.column("kafka_time").cast(pa.int64()).to_numpy())
    for day in np.unique(days).tolist():
        yield archive.write_quarantine(entry, day_name(day), table.filter(pa.array(days == day)))
