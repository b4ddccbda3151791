"""The Arrow schemas of events, one for each kind, and of quarantined lines.

The columns of a kind are time, user and the fields that `grammar.LINE_FORMS` gives it; in the archive, followed by the
line's provenance. All times are milliseconds since 1970, UTC.
"""

import pyarrow as pa

from stream.event import KINDS, Kind
from stream.grammar import LINE_FORMS

_WORD = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("ms", tz="UTC")
COLUMN_TYPES: dict[str, pa.DataType] = {
    "time": _TIME,
    "user": pa.uint32(),
    "movie": _WORD,
    "minute": pa.int32(),
    "rating": pa.int8(),
    "host": _WORD,
    "status": pa.int16(),
    "movies": pa.list_(pa.string()),
    "latency_ms": pa.int32(),
    "error": pa.string(),
}
"""By field of `Event`."""
PROVENANCE_FIELDS = [("topic", _WORD), ("partition", pa.int32()), ("offset", pa.int64()), ("kafka_time", _TIME)]
_REPAIR = [("repair", _WORD), ("raw", pa.binary())]
"""Of a repaired line: the rule's name and the original bytes; null for all others."""


def _columns(kind: Kind) -> list[tuple[str, pa.DataType]]:
    return [(name, COLUMN_TYPES[name]) for name in ("time", "user", *LINE_FORMS[kind].fields)]


EVENT_SCHEMAS: dict[Kind, pa.Schema] = {kind: pa.schema(_columns(kind)) for kind in KINDS}
ARCHIVE_SCHEMAS: dict[Kind, pa.Schema] = {
    kind: pa.schema(_columns(kind) + PROVENANCE_FIELDS + _REPAIR) for kind in KINDS
}
QUARANTINE_SCHEMA = pa.schema([("raw", pa.binary()), ("reason", _WORD), ("room", _WORD), *PROVENANCE_FIELDS])
