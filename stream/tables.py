"""The Arrow schemas of events, one for each kind, and of quarantined lines.

The columns of a kind are its own fields of `Event`, followed in the archive by the provenance of the line. All times
are milliseconds since 1970, UTC.
"""

import pyarrow as pa

from stream.event import Kind

_WORD = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("ms", tz="UTC")
_COMMON = [("time", _TIME), ("user", pa.uint32())]
PROVENANCE_FIELDS = [("topic", _WORD), ("partition", pa.int32()), ("offset", pa.int64()), ("kafka_time", _TIME)]
_REPAIR = [("repair", _WORD), ("raw", pa.binary())]
"""Of a repaired line: the rule's name and the bytes as they came; null for all others."""

_OWN: dict[Kind, list[tuple[str, pa.DataType]]] = {
    "watch": [("movie", _WORD), ("minute", pa.int32())],
    "rate": [("movie", _WORD), ("rating", pa.int8())],
    "recommend": [
        ("host", _WORD),
        ("status", pa.int16()),
        ("movies", pa.list_(pa.string())),
        ("latency_ms", pa.int32()),
        ("error", pa.string()),
    ],
    "account": [],
}
EVENT_SCHEMAS: dict[Kind, pa.Schema] = {kind: pa.schema(_COMMON + own) for kind, own in _OWN.items()}
ARCHIVE_SCHEMAS: dict[Kind, pa.Schema] = {
    kind: pa.schema(_COMMON + own + PROVENANCE_FIELDS + _REPAIR) for kind, own in _OWN.items()
}
QUARANTINE_SCHEMA = pa.schema([("raw", pa.binary()), ("reason", _WORD), ("room", _WORD), *PROVENANCE_FIELDS])
