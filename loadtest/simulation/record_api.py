"""The simulated service's record API: `GET /user/<id>` and `GET /movie/<id>`, in the dialect of either generation.

| | 2022 | 2026 |
|---|---|---|
| one unknown id | 200 and `{"message": "… not found"}` | 404 and the same |
| several ids, comma-separated | read as one unknown id | 200 and a list in the order asked, messages for the unknown |
| more than 200 ids | the same | 400 and a message |

Records come from a simulated world or from CSV files of real ones. Missing values are marked unknown as the service
does (`"null"`, `{}`, `[]`, `"0"`); none are invented. Beyond the rate limit every request gets 429 with `retry-after`,
except for `/healthz`.
"""

import csv
import logging
import math
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from sanic import HTTPResponse, Request, Sanic

from loadtest.errors import LoadtestError
from loadtest.settings import WorldSettings
from loadtest.simulation.catalogue import GENRE_IDS, ApiRecord
from loadtest.simulation.world import World
from stream.settings import Generation

MAX_IDS = 200
"""Most ids of a bulk request."""

MAX_HEAD_BYTES = 16 * 1024
"""Longest request line and headers, the most that Sanic allows; longer ones get 413. 200 ids of 21 letters, the mean,
fit even when percent-encoded; a client that asks for very long ids has to ask for fewer."""

Lookup = Callable[[str], ApiRecord | None]
Application = Sanic[Any, Any]

_USER_HEADER = "user_id,age,occupation,gender,source"
_MOVIE_HEADER = (
    "id,title,year,genres,original_language,vote_average,vote_count,popularity,runtime,release_date,tmdb_id,imdb_id,"
    "length_binned"
)
_WHOLE_NUMBERS = {"user_id", "age", "tmdb_id", "runtime"}
_NEVER_EMPTY = {"id", "user_id", "age"}
_GENRES_BY_KEY = {name.lower().replace(" ", ""): name for name in (*GENRE_IDS, "Foreign")}
_FOREIGN_ID = 10769
_APP_NUMBERS = count(1)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Records:
    """The API's look-ups, which give None for an unknown id."""

    generation: Generation
    user: Lookup
    movie: Lookup


def records_of(settings: WorldSettings) -> Records:
    """The configured records: from the CSV files if there are any, else from the simulated world."""
    user = user_lookup(Path(settings.users_csv), settings.generation) if settings.users_csv else None
    movie = movie_lookup(Path(settings.catalog_csv), settings.generation) if settings.catalog_csv else None
    if user and movie:
        return Records(settings.generation, user, movie)
    simulated = world_records(World(settings))
    return Records(settings.generation, user or simulated.user, movie or simulated.movie)


def world_records(world: World) -> Records:
    """The users and movies of a world; a record is made when it is looked up."""

    def user(user_id: str) -> ApiRecord | None:
        known = user_id.isascii() and user_id.isdigit() and user_id[0] != "0" and int(user_id) <= len(world.people)
        return world.people.record(int(user_id) - 1) if known else None

    def movie(movie_id: str) -> ApiRecord | None:
        row = world.catalogue.index.get(movie_id)
        return None if row is None else world.catalogue.record(row)

    return Records(world.settings.generation, user, movie)


def user_lookup(path: Path, generation: Generation) -> Lookup:
    """The users of a CSV file with the columns `user_id,age,occupation,gender,source`."""
    return {row["user_id"]: _user_record(row, generation) for row in _checked_rows(path, _USER_HEADER)}.get


def movie_lookup(path: Path, generation: Generation) -> Lookup:
    """The movies of a CSV file with the columns `id,title,year,genres ('A|B'),…`; an empty cell means unknown."""
    rows = {row["id"]: row for row in _checked_rows(path, _MOVIE_HEADER)}

    def movie(movie_id: str) -> ApiRecord | None:
        row = rows.get(movie_id)
        return None if row is None else _movie_record(row, generation)

    return movie


def _user_record(row: dict[str, str], generation: Generation) -> ApiRecord:
    record: ApiRecord = {
        "user_id": int(row["user_id"]),
        "age": int(row["age"]),
        "occupation": row["occupation"],
        "gender": row["gender"],
    }
    if generation == "2026":
        record |= {"self_description_likes": None, "self_description_dislikes": None}
    return record


def _movie_record(row: dict[str, str], generation: Generation) -> ApiRecord:
    return {
        "id": row["id"],
        "tmdb_id": int(row["tmdb_id"] or 0),
        "imdb_id": row["imdb_id"] or "null",
        "title": row["title"] or "null",
        "original_title": "null",
        "adult": "False",
        "belongs_to_collection": {},
        "budget": "0",
        "genres": _genres(row["genres"]),
        "homepage": "null",
        "original_language": row["original_language"] or "null",
        "overview": "null",
        "popularity": row["popularity"] or "0",
        "poster_path": "null",
        "production_companies": [],
        "production_countries": [],
        "release_date": row["release_date"] or "null",
        "revenue": "0",
        "runtime": int(row["runtime"]) if row["runtime"] else None,
        "spoken_languages": [],
        "status": "null",
        "vote_average": row["vote_average"] or "0",
        "vote_count": row["vote_count"] or "0",
        **({"cost": "null"} if generation == "2026" else {}),
    }


def _genres(cell: str) -> list[ApiRecord]:
    """`Drama|Science Fiction` in the API's form; spellings such as `sciencefiction` or `'Drama'` are corrected."""
    keys = (name.strip(" '\"").lower().replace(" ", "") for name in cell.split("|"))
    names = (_GENRES_BY_KEY[key] for key in keys if key in _GENRES_BY_KEY)
    return [{"id": GENRE_IDS.get(name, _FOREIGN_ID), "name": name} for name in names]


def _checked_rows(path: Path, header: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, each checked for its cells and numbers. Raises `LoadtestError` with path and line."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, restkey="", strict=True)
            missing = [column for column in header.split(",") if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"it has no column {', '.join(missing)}")
            for row in reader:
                _check_row(row, reader.line_num)
                yield row
    except OSError as exc:
        raise LoadtestError(
            f"cannot read {path}: {exc.strerror}; set catalog_csv and users_csv to files of records, or empty them"
        ) from exc
    except (csv.Error, ValueError) as exc:
        raise LoadtestError(
            f"{path} is no CSV file of records: {exc}; mend it: UTF-8 text, the first line {header}"
        ) from exc


def _check_row(row: dict[str, str], line: int) -> None:
    if "" in row or None in row.values():
        raise ValueError(f"line {line} has more or fewer cells than the first line")
    for column, cell in row.items():
        if not cell and column in _NEVER_EMPTY:
            raise ValueError(f"line {line} has an empty {column}")
        if cell and column in _WHOLE_NUMBERS and not (cell.isascii() and cell.isdigit()):
            raise ValueError(f"line {line}, {column}: {cell!r} is no whole number")


class TokenBucket:
    """A rate limit: so many requests a second, and as many at once after a second without any, but at least one."""

    def __init__(self, rate_per_s: float) -> None:
        """A full bucket."""
        self._rate_per_s = rate_per_s
        self._capacity = max(rate_per_s, 1.0)
        self._tokens = self._capacity
        self._filled_at_s = -math.inf

    def take(self, now_s: float) -> float:
        """Seconds to wait until a request may pass; 0.0 lets this one pass. `now_s` is a monotonic clock's."""
        self._tokens = min(self._capacity, self._tokens + (now_s - self._filled_at_s) * self._rate_per_s)
        self._filled_at_s = now_s
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self._rate_per_s
        self._tokens -= 1.0
        return 0.0


def make_app(records: Records, rate_limit_per_s: float) -> Application:
    """The API as a Sanic application, of which a process may hold several."""
    app: Application = Sanic(f"marquee-simulated-api-{next(_APP_NUMBERS)}", configure_logging=False)
    app.config.FALLBACK_ERROR_FORMAT = "json"
    app.config.REQUEST_MAX_HEADER_SIZE = MAX_HEAD_BYTES
    bucket = TokenBucket(rate_limit_per_s)

    async def limit(request: Request[Any, Any]) -> HTTPResponse | None:
        wait_s = 0.0 if request.path == "/healthz" else bucket.take(time.monotonic())
        return (
            _answer({"message": "too many requests"}, 429, {"retry-after": str(math.ceil(wait_s))}) if wait_s else None
        )

    async def user(_: Request[Any, Any], ids: str) -> HTTPResponse:
        return _look_up(records.user, ids, "user not found", records.generation)

    async def movie(_: Request[Any, Any], ids: str) -> HTTPResponse:
        return _look_up(records.movie, ids, "movie not found", records.generation)

    async def healthz(_: Request[Any, Any]) -> HTTPResponse:
        return _answer({"status": "ok"})

    app.register_middleware(limit, "request")
    app.add_route(user, "/user/<ids:str>", unquote=True)
    app.add_route(movie, "/movie/<ids:str>", unquote=True)
    app.add_route(healthz, "/healthz")
    return app


def _look_up(lookup: Lookup, ids: str, unknown: str, generation: Generation) -> HTTPResponse:
    if generation == "2022" or "," not in ids:
        record = lookup(ids)
        missing_status = 200 if generation == "2022" else 404
        return _answer({"message": unknown}, missing_status) if record is None else _answer(record)
    wanted = ids.split(",")
    if len(wanted) > MAX_IDS:
        return _answer({"message": f"at most {MAX_IDS} ids a request, these are {len(wanted)}"}, 400)
    return _answer([lookup(record_id) or {"message": unknown} for record_id in wanted])


def _answer(
    body: ApiRecord | list[ApiRecord], status: int = 200, headers: dict[str, str] | None = None
) -> HTTPResponse:
    return HTTPResponse(orjson.dumps(body), status, headers, content_type="application/json")


def serve(settings: WorldSettings) -> None:
    """Answer on `api_host:api_port` until SIGTERM or SIGINT; open requests are answered first."""
    records = records_of(settings)
    with _listen(settings.api_host, settings.api_port) as listener:
        app = make_app(records, settings.api_rate_limit_per_s)
        _LOG.info("record API of generation %s on http://%s:%d", settings.generation, *listener.getsockname()[:2])
        app.run(sock=listener, single_process=True, motd=False, access_log=False)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as exc:
        raise LoadtestError(
            f"cannot listen on {host}:{port}: {exc.strerror}; stop what listens there, or set api_host and api_port"
        ) from exc
