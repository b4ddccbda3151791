"""What a user did, as Marquee keeps it: one class for a single event, one Arrow schema a kind for a million of them.

The columns of a kind are the event's own fields and, for every kind, its provenance; what does not belong to the kind
is not there. Times are UTC.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa

Kind = Literal["watch", "rate", "recommend", "account"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Event:
    """One well-formed line. Fields that the kind does not have are None; `movies` is empty unless status is 200."""

    kind: Kind
    time: int
    """When, by the sender's clock: milliseconds since 1970, UTC."""
    user: int
    movie: str | None = None
    minute: int | None = None
    rating: int | None = None
    host: str | None = None
    """Who was asked, `host:port` (recommend)."""
    status: int | None = None
    movies: tuple[str, ...] = ()
    latency_ms: int | None = None
    error: str | None = None
    """What the caller wrote instead of a list (recommend, status other than 200)."""


_WORD = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("ms", tz="UTC")
_COMMON = [("time", _TIME), ("user", pa.uint32())]
PROVENANCE = [("topic", _WORD), ("partition", pa.int32()), ("offset", pa.int64()), ("kafka_time", _TIME)]
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
EVENT_COLUMNS: dict[Kind, pa.Schema] = {kind: pa.schema(_COMMON + own) for kind, own in _OWN.items()}
ARCHIVE_COLUMNS: dict[Kind, pa.Schema] = {
    kind: pa.schema(_COMMON + own + PROVENANCE + _REPAIR) for kind, own in _OWN.items()
}
QUARANTINE_COLUMNS = pa.schema([("raw", pa.binary()), ("reason", _WORD), ("room", _WORD), *PROVENANCE])
