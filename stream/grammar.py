"""The grammar of a line of the topic: a strict parser of one line, with reasons for refusals, and the writer.

A line is `<time>,<user>,<request>`, as the movie service writes it: without quoting, so it is split at its first two
commas only. The parser accepts exactly what the service writes, because the typical fault is one stray character. It
checks form, not truth: `quality` knows which users and movies exist, and the scale of ratings. `line_columns.py` parses
a million lines by the same rules; a property test compares the two.

`LINE_FORMS` has one entry for each kind of event. This module needs no Arrow, so that a serving worker can import it.
"""

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from stream.event import KINDS, LIST_LENGTH, ByKind, Event
from stream.zone import DAY_MS, FIRST_YEAR, LAST_YEAR, Zone, day_name

Reason = Literal[
    "empty", "too_long", "not_utf8", "fields", "time", "user", "request", "movie", "minute", "rating", "status",
    "movies", "latency",
]  # fmt: skip
"""Why a line is not well-formed: its first part, from the left, that breaks the grammar."""

MAX_LINE_BYTES = 65_536
MAX_MOVIE_CHARACTERS = 300
MAX_USER = 2**32 - 1

TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{3}|\d{6}|\d{9}))?)?", re.ASCII)
USER = re.compile(r"[1-9]\d{0,9}", re.ASCII)
MOVIE = re.compile(r"[a-z0-9+\-._*]*\+(?:[0-9]{4})?", re.ASCII)
"""A movie id: title words joined by `+`, then `+` and the year; few ids end in `+` without one. See `is_movie`."""
_MINUTE = re.compile(r"0|[1-9]\d{0,4}", re.ASCII)
_RATING = re.compile(r"0|[1-9]\d?", re.ASCII)
_HOST = re.compile(r"[\w.\-\[\]:]+", re.ASCII)
_STATUS = re.compile(r"0|[1-9]\d{2}", re.ASCII)
_LATENCY = re.compile(r"(?:0|[1-9]\d{0,8}) ms", re.ASCII)


class LineRefused(Exception):  # a verdict on a line, not a fault of the program
    """A line is not well-formed: `reason` names the part, the message shows its text."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def parse(value: bytes, zone: Zone) -> Event:
    """Parse one line. Raises `LineRefused` with the first part that is wrong."""
    time, user, request = _split(value)
    return parse_request(request, parse_time(time, zone), parse_user(user))


def _split(value: bytes) -> tuple[str, str, str]:
    if not value:
        raise LineRefused("empty", "no bytes")
    if len(value) > MAX_LINE_BYTES:
        raise LineRefused("too_long", f"{len(value)} bytes, at most {MAX_LINE_BYTES}")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LineRefused("not_utf8", f"byte {error.start}") from error
    parts = text.split(",", 2)
    if len(parts) < 3:
        raise LineRefused("fields", f"{len(parts)} of 3")
    return parts[0], parts[1], parts[2]


def parse_time(text: str, zone: Zone) -> int:
    """Java's `LocalDateTime.toString()` in the service's zone to ms since 1970, UTC; finer digits are cut off.

    Raises `LineRefused`.
    """
    match = TIME.fullmatch(text)
    if not match:
        raise LineRefused("time", _shown(text))
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise LineRefused("time", f"{_shown(text)}, year {year}")
    try:
        moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError as error:
        raise LineRefused("time", f"{_shown(text)}, {error}") from error
    return zone.to_utc(int(moment.timestamp()) * 1000 + int((match[7] or "0")[:3]))


def parse_user(text: str) -> int:
    """A user id, 1..2^32 - 1, without leading zeros. Raises `LineRefused`."""
    if not USER.fullmatch(text) or int(text) > MAX_USER:
        raise LineRefused("user", _shown(text))
    return int(text)


def is_movie(text: str) -> bool:
    """Whether a text has the form of a movie id."""
    return len(text) <= MAX_MOVIE_CHARACTERS and MOVIE.fullmatch(text) is not None


def parse_request(text: str, time: int, user: int) -> Event:
    """Parse the third part of a line. Raises `LineRefused` with the first part of it that is wrong."""
    for prefix, parse_rest in _BY_PREFIX:
        if text.startswith(prefix):
            return parse_rest(text[len(prefix) :], time, user)
    raise LineRefused("request", _shown(text))


def _watch(text: str, time: int, user: int) -> Event:
    movie, _, file = text.rpartition("/")
    if not is_movie(movie):
        raise LineRefused("movie", _shown(movie))
    if not file.endswith(".mpg") or not _MINUTE.fullmatch(file[:-4]):
        raise LineRefused("minute", _shown(file))
    return Event("watch", time, user, movie, minute=int(file[:-4]))


def _rate(text: str, time: int, user: int) -> Event:
    movie, _, rating = text.partition("=")
    if not is_movie(movie):
        raise LineRefused("movie", _shown(movie))
    if not _RATING.fullmatch(rating):
        raise LineRefused("rating", _shown(rating))
    return Event("rate", time, user, movie, rating=int(rating))


def _recommend(text: str, time: int, user: int) -> Event:
    host, _, rest = text.partition(", status ")
    if not _HOST.fullmatch(host):
        raise LineRefused("request", f"host {_shown(host)}")
    status, separator, rest = rest.partition(", result: ")
    if not separator or not _STATUS.fullmatch(status):
        raise LineRefused("status", _shown(status))
    # the result may hold anything, ", " and "ms" too: the latency is what follows the last comma
    result, separator, latency = rest.rpartition(", ")
    if not separator or not _LATENCY.fullmatch(latency):
        raise LineRefused("latency", _shown(latency))
    common = {"host": host, "status": int(status), "latency_ms": int(latency[:-3])}
    if status != "200":
        return Event("recommend", time, user, error=result, **common)  # type: ignore[arg-type]
    movies = tuple(result.split(", "))
    if len(movies) > LIST_LENGTH or not all(map(is_movie, movies)):
        raise LineRefused("movies", _shown(result))
    return Event("recommend", time, user, movies=movies, **common)  # type: ignore[arg-type]


def _account(text: str, time: int, user: int) -> Event:
    if text:
        raise LineRefused("request", _shown(LINE_FORMS["account"].prefix + text))
    return Event("account", time, user)


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def _render_recommend(event: Event) -> str:
    result = ", ".join(event.movies) if event.status == 200 else event.error
    return f"{event.host}, status {event.status}, result: {result}, {event.latency_ms} ms"


@dataclass(frozen=True)
class LineForm:
    """The form of lines of one kind of event."""

    fields: tuple[str, ...]
    """The kind's own fields of `Event`, besides time and user: the archive has a column for each, in this order."""
    prefix: str
    """How the request begins: literal text without regex syntax. No prefix is the beginning of another."""
    parse: Callable[[str, int, int], Event]
    """Parses the text after the prefix, given the line's time (ms UTC) and user. Raises `LineRefused`."""
    render: Callable[[Event], str]
    """Writes the text after the prefix."""
    columns: str | None
    """A frequent kind also has a pattern of the text after the prefix (RE2, ASCII only, a group per field), with which
    `line_columns.py` parses many lines at once. It may match less than `parse` accepts, never more. None: a rare kind.
    """


LINE_FORMS: ByKind[LineForm] = {
    "watch": LineForm(
        fields=("movie", "minute"),
        prefix="GET /data/m/",
        parse=_watch,
        render=lambda event: f"{event.movie}/{event.minute}.mpg",
        columns=r"(?P<movie>[a-z0-9+\-._*]+)/(?P<minute>0|[1-9][0-9]{0,4})\.mpg",
    ),
    "rate": LineForm(
        fields=("movie", "rating"),
        prefix="GET /rate/",
        parse=_rate,
        render=lambda event: f"{event.movie}={event.rating}",
        columns=r"(?P<movie>[a-z0-9+\-._*]+)=(?P<rating>0|[1-9][0-9]?)",
    ),
    "recommend": LineForm(
        fields=("host", "status", "movies", "latency_ms", "error"),
        prefix="recommendation request ",
        parse=_recommend,
        render=_render_recommend,
        columns=r"(?P<host>[\w.\-\[\]:]+), status (?P<status>200), "
        r"result: (?P<movies>[a-z0-9+\-._*, ]+), (?P<latency_ms>0|[1-9][0-9]{0,8}) ms",
    ),
    "account": LineForm(
        fields=(),
        prefix="GET /create_account",
        parse=_account,
        render=lambda event: "",
        columns=None,
    ),
}
"""By kind of event, the most frequent first."""
_BY_PREFIX = [(LINE_FORMS[kind].prefix, LINE_FORMS[kind].parse) for kind in KINDS]


def render_time(utc_ms: int, zone: Zone, finer: str = "") -> str:
    """A time as Java writes it: no seconds where seconds and fraction are 0, and as few digits as possible.

    `finer` holds three or six digits below the millisecond.
    """
    day, in_day_ms = divmod(zone.to_local(utc_ms), DAY_MS)
    minutes, in_minute_ms = divmod(in_day_ms, 60_000)
    text = f"{_day_text(day)}T{minutes // 60:02}:{minutes % 60:02}"
    seconds, fraction_ms = divmod(in_minute_ms, 1000)
    if fraction_ms or finer.strip("0"):
        return f"{text}:{seconds:02}.{fraction_ms:03}{finer}"
    return f"{text}:{seconds:02}" if seconds else text


_day_text = lru_cache(maxsize=64)(day_name)
"""Cached: consecutive lines have the same few days."""


def render(event: Event, zone: Zone, finer: str = "") -> bytes:
    """Write an event as the service does. `parse` returns the same event, except in the hour that the clock repeats."""
    form = LINE_FORMS[event.kind]
    return f"{render_time(event.time, zone, finer)},{event.user},{form.prefix}{form.render(event)}".encode()
