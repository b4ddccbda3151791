"""The grammar of a line of the topic: an exact reader of one line, which says why it refuses, and the writer.

`<time>,<user>,<request>`, as the movie service writes it: no quoting, so a line is split at its first two commas only.
The reader takes what the service writes and nothing near it, because a fault of this stream is one stray character.
It knows form, not truth: whether a user or a movie exists, and the scale of ratings, is for `quality` to say.
`line_columns.py` reads a million lines by the same rules; a property test holds the two equal.
"""

import datetime as dt
import re
from functools import lru_cache
from typing import Literal

from stream.event import LIST_LENGTH, Event
from stream.zone import DAY_MS, FIRST_YEAR, LAST_YEAR, Zone, day_name

Reason = Literal[
    "empty", "too_long", "not_utf8", "fields", "time", "user", "request", "movie", "minute", "rating", "status",
    "movies", "latency",
]  # fmt: skip
"""Why a line is not well-formed: the first part, from the left, that is not as it must be."""

MAX_LINE_BYTES = 65_536
MAX_MOVIE_CHARACTERS = 300
MAX_USER = 2**32 - 1

TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{3}|\d{6}|\d{9}))?)?", re.ASCII)
USER = re.compile(r"[1-9]\d{0,9}", re.ASCII)
MOVIE = re.compile(r"[a-z0-9+\-._*]*\+(?:\d{4})?", re.ASCII)
_MINUTE = re.compile(r"0|[1-9]\d{0,4}", re.ASCII)
_RATING = re.compile(r"0|[1-9]\d?", re.ASCII)
_HOST = re.compile(r"[\w.\-\[\]:]+", re.ASCII)
_STATUS = re.compile(r"0|[1-9]\d{2}", re.ASCII)
_LATENCY = re.compile(r"(?:0|[1-9]\d{0,8}) ms", re.ASCII)
_WATCH, _RATE, _ACCOUNT, _RECOMMEND = "GET /data/m/", "GET /rate/", "GET /create_account", "recommendation request "


class LineRefused(Exception):  # a verdict on a line, not a fault of the program
    """A line is not well-formed: `reason` names the part, the text says what was found there."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def parse(value: bytes, zone: Zone) -> Event:
    """Read one line. Raises `LineRefused` with the first part that is wrong."""
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
    """Java's `LocalDateTime.toString()` in the service's zone to ms since 1970, UTC; finer digits are cut off."""
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
    """A user id, 1..2^32 - 1, without leading zeros."""
    if not USER.fullmatch(text) or int(text) > MAX_USER:
        raise LineRefused("user", _shown(text))
    return int(text)


def is_movie(text: str) -> bool:
    """Whether a text has the form of a movie id."""
    return len(text) <= MAX_MOVIE_CHARACTERS and MOVIE.fullmatch(text) is not None


def parse_request(text: str, time: int, user: int) -> Event:
    """What a user did at a time, as the line's last part says it."""
    if text.startswith(_WATCH):
        return _watch(text[len(_WATCH) :], time, user)
    if text.startswith(_RATE):
        return _rate(text[len(_RATE) :], time, user)
    if text.startswith(_RECOMMEND):
        return _recommend(text[len(_RECOMMEND) :], time, user)
    if text == _ACCOUNT:
        return Event("account", time, user)
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
    status, found, rest = rest.partition(", result: ")
    if not found or not _STATUS.fullmatch(status):
        raise LineRefused("status", _shown(status))
    # the result may hold anything, ", " and "ms" too: the latency is what follows the last comma
    result, found, latency = rest.rpartition(", ")
    if not found or not _LATENCY.fullmatch(latency):
        raise LineRefused("latency", _shown(latency))
    common = {"host": host, "status": int(status), "latency_ms": int(latency[:-3])}
    if status != "200":
        return Event("recommend", time, user, error=result, **common)  # type: ignore[arg-type]
    movies = tuple(result.split(", "))
    if len(movies) > LIST_LENGTH or not all(map(is_movie, movies)):
        raise LineRefused("movies", _shown(result))
    return Event("recommend", time, user, movies=movies, **common)  # type: ignore[arg-type]


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def render_time(utc_ms: int, zone: Zone, finer: str = "") -> str:
    """A time as Java writes it: seconds only where seconds or fraction are not 0, and no more digits than it needs.

    `finer` is three or six digits below the millisecond.
    """
    day, in_day_ms = divmod(zone.to_local(utc_ms), DAY_MS)
    minutes, in_minute_ms = divmod(in_day_ms, 60_000)
    text = f"{_day_text(day)}T{minutes // 60:02}:{minutes % 60:02}"
    seconds, fraction_ms = divmod(in_minute_ms, 1000)
    if fraction_ms or finer.strip("0"):
        return f"{text}:{seconds:02}.{fraction_ms:03}{finer}"
    return f"{text}:{seconds:02}" if seconds else text


_day_text = lru_cache(maxsize=64)(day_name)
"""A service writes the same few days over and over."""


def render(event: Event, zone: Zone, finer: str = "") -> bytes:
    """Write an event as the service does; `parse` of it is the event again (but in the hour that happens twice)."""
    return f"{render_time(event.time, zone, finer)},{event.user},{_rendered_request(event)}".encode()


def _rendered_request(event: Event) -> str:
    match event.kind:
        case "watch":
            return f"{_WATCH}{event.movie}/{event.minute}.mpg"
        case "rate":
            return f"{_RATE}{event.movie}={event.rating}"
        case "account":
            return _ACCOUNT
        case "recommend":
            result = ", ".join(event.movies) if event.status == 200 else event.error
            return f"{_RECOMMEND}{event.host}, status {event.status}, result: {result}, {event.latency_ms} ms"
