"""The contestants: pydantic, pandera and Cerberus do the work that Marquee does in columns, each the way its own
documentation recommends.

The work: a line in; a typed record and the verdict good or bad out. Form, types and the ranges of
`quality.lines.schemas` are checked, and all contestants take their limits from there; catalogue, Kafka's time,
duplicates and repair are left out. The lines are split by one regular expression a kind, and times are aware, in the
service's zone. Where in doubt a contestant does less: none keeps its times in UTC as Marquee does, and pandera gets
text instead of bytes.

Guarantee: all give the same verdicts, which is measured with their speed. Without `pydantic` and `pandera`, which
`make bench` installs, this module can be imported, but `contestants` raises `LoadtestError`.
"""

import datetime as dt
import functools
import importlib.util
import operator
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Protocol
from zoneinfo import ZoneInfo

import cerberus
import numpy as np
import pandas as pd
import pyarrow as pa

from loadtest.bench.lines.judged_lines import SCHEMAS
from loadtest.bench.lines.line_sources import CLOCK
from loadtest.errors import LoadtestError
from quality.lines.rule_functions import Schema
from quality.lines.schemas import MOVIE_RECORD, breaches
from stream.event import KINDS, LIST_LENGTH, Kind
from stream.grammar import MAX_LINE_BYTES, MAX_MOVIE_CHARACTERS, MOVIE
from stream.line_columns import read
from stream.zone import FIRST_YEAR, HOUR_MS, LAST_YEAR

_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.(?:[0-9]{3}|[0-9]{6}|[0-9]{9}))?)?"
_HEAD = rf"(?P<time>{_TIME}),(?P<user>[1-9][0-9]{{0,9}}),"
FORMS: dict[Kind, str] = {
    "watch": _HEAD + r"GET /data/m/(?P<movie>.*)/(?P<minute>0|[1-9][0-9]{0,4})\.mpg",
    "rate": _HEAD + r"GET /rate/(?P<movie>[^=]*)=(?P<rating>0|[1-9][0-9]?)",
    "recommend": _HEAD
    + r"recommendation request (?P<host>[A-Za-z0-9_.\-\[\]:]+), status (?P<status>0|[1-9][0-9]{2}),"
    + r" result: (?P<result>.*), (?P<latency_ms>0|[1-9][0-9]{0,8}) ms",
    "account": _HEAD + "GET /create_account",
}
"""The form of a line. Whether a part is a time, a movie or within its range is for the contestant to check."""

NUMBERS: dict[Kind, tuple[str, ...]] = {
    "watch": ("user", "minute"),
    "rate": ("user", "rating"),
    "recommend": ("user", "status", "latency_ms"),
    "account": ("user",),
}
_MOVIE = MOVIE.pattern.replace(r"\d", "[0-9]")
_FIRST, _BEHIND = dt.datetime(FIRST_YEAR, 1, 1), dt.datetime(LAST_YEAR + 1, 1, 1)  # noqa: DTZ001 – as in the line
_LAST = _BEHIND - dt.timedelta(microseconds=1)
_ZONE = ZoneInfo(CLOCK.name)
_READERS = {kind: re.compile(form, re.DOTALL) for kind, form in FORMS.items()}


Document = dict[str, str | list[str]]
"""The parts of a line by name, as text; `movies` is a list."""


class Contestant(Protocol):
    """A library at work. Lines and output have the form that the library wants."""

    def prepared(self, lines: list[bytes]) -> Any:
        """The lines in the contestant's form; not part of the work."""
        ...

    def work(self, prepared: Any) -> Any:
        """Typed records and verdicts, in the contestant's form."""
        ...

    def verdicts(self, output: Any, count: int) -> np.ndarray:
        """Which of the `count` lines are good: bool [count], read from the output; not part of the work."""
        ...


def contestants() -> dict[str, Contestant]:
    """All contestants, Marquee first. Raises `LoadtestError` if a library is not installed."""
    missing = [name for name in ("pydantic", "pandera") if importlib.util.find_spec(name) is None]
    if missing:
        raise LoadtestError(f"bench: cannot compare without {' and '.join(missing)}: make bench installs them")
    return {
        "schema_only": Marquee(),
        "pydantic": Pydantic(),
        "pandera": Pandera(),
        "cerberus": Cerberus(),
        "cerberus_kept": Cerberus(kept=True),
    }


def split(line: bytes) -> tuple[Kind, Document] | None:
    """Kind and parts of a line; None if it has the form of no kind."""
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return None
    for kind, reader in _READERS.items():
        if match := reader.fullmatch(text):
            return kind, _answer(match.groupdict()) if kind == "recommend" else match.groupdict()
    return None


def _answer(parts: dict[str, str]) -> Document:
    """The parts of a recommendation, with the result as a list of movies or as an error."""
    result = parts.pop("result")
    return {**parts, "movies": result.split(", ")} if parts["status"] == "200" else {**parts, "error": result}


def _aware(time: dt.datetime) -> dt.datetime:
    return time.replace(tzinfo=_ZONE)


def _aware_time(text: str) -> dt.datetime:
    return _aware(dt.datetime.fromisoformat(text))


class Marquee:
    """Marquee's columnar reader and schemas."""

    def prepared(self, lines: list[bytes]) -> pa.Array:
        return pa.array(lines, pa.binary())

    def work(self, prepared: pa.Array) -> Any:
        columns = read(prepared, CLOCK)
        return columns, {kind: breaches(columns.events[kind], SCHEMAS[kind]) for kind in KINDS}

    def verdicts(self, output: Any, count: int) -> np.ndarray:
        columns, breaches_by_kind = output
        good = np.ones(count, bool)
        good[columns.refused] = False
        for kind, rows_by_rule in breaches_by_kind.items():
            for _, rows in rows_by_rule:
                good[columns.rows[kind][rows]] = False
        return good


class _ByLine:
    """A library that takes one line at a time and gives a record, or None, for each."""

    def prepared(self, lines: list[bytes]) -> list[bytes]:
        return lines

    def verdicts(self, output: list[object], count: int) -> np.ndarray:
        return np.array([record is not None for record in output], bool)


class Pydantic(_ByLine):
    """One model a kind, in a union that `kind` discriminates."""

    def __init__(self) -> None:
        import pydantic

        kinds = functools.reduce(operator.or_, (_model(kind) for kind in KINDS))
        self._validate = pydantic.TypeAdapter(Annotated[kinds, pydantic.Field(discriminator="kind")]).validate_python
        self._error = pydantic.ValidationError

    def work(self, prepared: list[bytes]) -> list[object]:
        return [self._record(line) for line in prepared]

    def _record(self, line: bytes) -> object:
        parts = split(line)
        if parts is None:
            return None
        kind, document = parts
        document["kind"] = kind
        try:
            return self._validate(document)
        except self._error:
            return None


def _model(kind: Kind) -> Any:
    """The pydantic model of a kind."""
    from pydantic import AfterValidator, Field, StringConstraints, create_model

    movie = Annotated[str, StringConstraints(pattern=f"^(?:{_MOVIE})$", max_length=MAX_MOVIE_CHARACTERS)]
    tags: dict[Kind, Any] = {
        "watch": Literal["watch"],
        "rate": Literal["rate"],
        "recommend": Literal["recommend"],
        "account": Literal["account"],
    }
    own: dict[Kind, dict[str, tuple[object, object]]] = {
        "watch": {"movie": (movie, ...)},
        "rate": {"movie": (movie, ...)},
        "recommend": {
            "host": (str, ...),
            "movies": (Annotated[list[movie], Field(max_length=LIST_LENGTH)], []),
            "error": (str | None, None),
        },
        "account": {},
    }
    limits = {name: _limits(kind, name) for name in NUMBERS[kind]}
    numbers = {name: (Annotated[int, Field(ge=low, le=high)], ...) for name, (low, high) in limits.items()}
    time = Annotated[dt.datetime, Field(ge=_FIRST, lt=_BEHIND), AfterValidator(_aware)]
    return create_model(kind.title(), kind=(tags[kind], ...), time=(time, ...), **numbers, **own[kind])


def _limits(kind: Kind, field: str) -> tuple[int | None, int | None]:
    rules = SCHEMAS[kind].get(field, {})
    return rules.get("min"), rules.get("max")


class Cerberus(_ByLine):
    """A new validator for each line, or with `kept` one for each kind."""

    def __init__(self, kept: bool = False) -> None:
        self._schemas = {kind: _schema(kind) for kind in KINDS}
        self._kept = {kind: cerberus.Validator(schema) for kind, schema in self._schemas.items()} if kept else None

    def work(self, prepared: list[bytes]) -> list[object]:
        return [self._record(line) for line in prepared]

    def _record(self, line: bytes) -> object:
        parts = split(line)
        if parts is None:
            return None
        kind, document = parts
        validator = self._kept[kind] if self._kept else cerberus.Validator(self._schemas[kind])
        return validator.document if validator.validate(document) else None


def _schema(kind: Kind) -> Schema:
    """The Cerberus schema of a kind."""
    movie = {**MOVIE_RECORD["id"], "regex": _MOVIE, "maxlength": MAX_MOVIE_CHARACTERS}
    own: dict[Kind, Schema] = {
        "watch": {"movie": movie},
        "rate": {"movie": movie},
        "recommend": {
            "host": {"type": "string"},
            "movies": {"type": "list", "maxlength": LIST_LENGTH, "schema": {**movie, "required": False}},
            "error": {"type": "string"},
        },
        "account": {},
    }
    first, last = _aware(_FIRST), _aware(_LAST)
    time = {"type": "datetime", "min": first, "max": last, "coerce": _aware_time, "required": True}
    limits = {name: {**SCHEMAS[kind].get(name, {}), "type": "integer"} for name in NUMBERS[kind]}
    numbers = {name: {**rules, "coerce": int, "required": True} for name, rules in limits.items()}
    return {"time": time, **numbers, **own[kind]}


class Pandera:
    """`str.extract` into one frame a kind, and a schema that validates it lazily and drops the bad rows."""

    def __init__(self) -> None:
        self._schemas = {kind: _frame_schema(kind) for kind in KINDS}

    def prepared(self, lines: list[bytes]) -> pd.Series:
        """Text; a line that is not UTF-8, or is too long, becomes an empty one, which is bad as well."""
        return pd.Series([_text(line) for line in lines])

    def work(self, prepared: pd.Series) -> dict[Kind, pd.DataFrame]:
        return dict(self._frames(prepared))

    def _frames(self, rest: pd.Series) -> Iterator[tuple[Kind, pd.DataFrame]]:
        for kind, form in FORMS.items():
            parts = rest.str.extract(rf"\A{form}\Z", flags=re.DOTALL)
            matched = parts["user"].notna()
            rest = rest[~matched]
            frame = parts[matched].copy()
            times = pd.to_datetime(frame["time"], format="ISO8601", errors="coerce")
            # as in `Zone`: an hour that happens twice means the first, one that never happens is read as if it did
            frame["time"] = times.dt.tz_localize(
                _ZONE, ambiguous=np.ones(len(frame), bool), nonexistent=pd.Timedelta(HOUR_MS, "ms")
            )
            if kind == "recommend":
                answered = frame["status"] == "200"
                frame["movies"] = frame["result"].where(answered).str.split(", ").astype(object)
                frame["error"] = frame.pop("result").mask(answered)
            yield kind, self._schemas[kind].validate(frame, lazy=True)

    def verdicts(self, output: dict[Kind, pd.DataFrame], count: int) -> np.ndarray:
        good = np.zeros(count, bool)
        for frame in output.values():
            good[frame.index.to_numpy()] = True
        return good


def _frame_schema(kind: Kind) -> Any:
    """The pandera schema of a kind."""
    from pandera.pandas import Check, Column, DataFrameSchema

    length = Check.str_length(max_value=MAX_MOVIE_CHARACTERS)
    movie = Column(str, [Check.str_matches(rf"(?:{_MOVIE})\Z"), length])
    own: dict[Kind, dict[str, object]] = {
        "watch": {"movie": movie},
        "rate": {"movie": movie},
        "recommend": {
            "host": Column(str),
            "movies": Column(object, Check(_are_movies, element_wise=True), nullable=True),
            "error": Column(str, nullable=True),
        },
        "account": {},
    }
    limits = {name: _limits(kind, name) for name in NUMBERS[kind]}
    numbers = {name: Column("int64", _within(low, high), coerce=True) for name, (low, high) in limits.items()}
    time = Column(pd.DatetimeTZDtype("us", _ZONE), Check.in_range(_aware(_FIRST), _aware(_LAST)), coerce=True)
    return DataFrameSchema({"time": time, **numbers, **own[kind]}, drop_invalid_rows=True)


def _within(low: int | None, high: int | None) -> list[Any]:
    from pandera.pandas import Check

    bounds = (Check.ge(low) if low is not None else None, Check.le(high) if high is not None else None)
    return [check for check in bounds if check is not None]


_IS_MOVIE = re.compile(_MOVIE)


def _are_movies(movies: list[str]) -> bool:
    return len(movies) <= LIST_LENGTH and all(len(m) <= MAX_MOVIE_CHARACTERS and _IS_MOVIE.fullmatch(m) for m in movies)


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8") if len(line) <= MAX_LINE_BYTES else ""
    except UnicodeDecodeError:
        return ""
