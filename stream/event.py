"""What a user did, as Marquee keeps it: one class for every kind of event. Times are UTC.

The Arrow schemas of events are in `tables.py`; this module imports nothing, so that a serving worker can use it.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["watch", "rate", "recommend", "account"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LIST_LENGTH = 20
"""The most movies that an answer has, and so the length of a list in a release."""


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
