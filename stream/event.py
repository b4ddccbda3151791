"""What a user did, as Marquee keeps it: one class for every kind of event. Times are UTC.

A kind is taught once a room, in a table typed `ByKind`, so mypy names each table that lacks it: `grammar.LINE_FORMS`
(fields, parser, writer), `quality.lines.context_checks` (checks) and `batch.history.day_sessions` (what the night
learns from). A field is taught once as well: its column type in `tables.py`, its rules in `quality.lines.schemas`.
This module imports nothing heavy, so that a serving worker can use it.
"""

from dataclasses import dataclass
from typing import Generic, Literal, TypedDict, TypeVar, get_args

Kind = Literal["watch", "rate", "recommend", "account"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LIST_LENGTH = 20
"""The most movies that an answer has, and so the length of a list in a release."""

Entry = TypeVar("Entry")


class ByKind(TypedDict, Generic[Entry]):
    """A table with one entry for each kind of event. A table that lacks a kind does not type-check."""

    watch: Entry
    rate: Entry
    recommend: Entry
    account: Entry


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
    """The recommender that was asked, `host:port` (recommend)."""
    status: int | None = None
    movies: tuple[str, ...] = ()
    latency_ms: int | None = None
    error: str | None = None
    """What the caller wrote instead of a list (recommend, status other than 200)."""
