"""An event, something a user did: one class for all kinds. Times are UTC.

Each room has one entry per kind, in a table typed `ByKind`, so mypy names each table that lacks a kind:
`grammar.LINE_FORMS` (fields, parser, writer), `quality.lines.context_checks` (checks) and `batch.history.day_sessions`
(data for the night). A field is also defined once: its column type in `tables.py`, its rules in
`quality.lines.schemas`. This module imports nothing heavy, so that a serving worker can use it.
"""

from dataclasses import dataclass
from typing import Generic, Literal, TypedDict, TypeVar, get_args

Kind = Literal["watch", "rate", "recommend", "account"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LIST_LENGTH = 20
"""Most movies in an answer, and so the length of a list in a release."""

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
    """Time by the sender's clock: milliseconds since 1970, UTC."""
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
    """The text that the caller logged instead of a list (recommend, status other than 200)."""
