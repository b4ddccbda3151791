"""Settings: `settings.toml` has a table for each room, read into a typed class; a mistyped key or value is an error.

In order of precedence: `MARQUEE_<ROOM>_<KEY>` in the environment; the file that `MARQUEE_SETTINGS` names, or else
`settings.toml` in the working folder; the defaults in the classes, which a test checks. Each room's class is in its own
`settings.py`; this module loads them all and holds the settings that every room needs. Numbers have limits on both
sides, so that a slip of the finger is an error at the start and not a process that waits for ever. A `Secret` is read
from the environment only, since settings files are copied, mailed and committed.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import msgspec.inspect

from stream.errors import SettingsError
from stream.redaction import Secret

_PREFIX = "MARQUEE_"
ROOMS = ("stream", "quality", "batch", "server", "loadtest")
VARIABLES = ("SETTINGS", "PYTHON", "RUN", "BIND", "WORKERS", "PORT", "COMMIT")
"""Variables of the environment that are no setting of a room, without the prefix that all share."""
_FOREIGN = re.compile(r"TEST_\w+|SERVICE_(HOST|PORT\w*)|PORT_\d+_\w+")
"""Of the tests; and what Kubernetes sets in every pod beside a service that is named for Marquee."""

PORT_PATTERN = r"(6553[0-5]|655[0-2]\d|65[0-4]\d{2}|6[0-4]\d{3}|[1-5]\d{4}|[1-9]\d{0,3})"
"""A port, 1 to 65535, in the pattern of a setting."""
ServiceUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^https?://([^\s/?#@]*@)?([^\s/:@?#\[\]]+|\[[0-9A-Fa-f:.]+\])(:{PORT_PATTERN})?([/?#]\S*)?$",
        description="`http://host:port` or `https://host:port`, with a port from 1 to 65535",
    ),
]

Generation = Literal["2022", "2026"]
"""Generation of the movie service: 2022 rates 1..5 and looks up single ids; 2026 rates 1..10, has accounts and bulk."""
BEST_RATING: dict[Generation, int] = {"2022": 5, "2026": 10}


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where events come from, and where Marquee keeps its files."""

    bootstrap: Annotated[
        str,
        msgspec.Meta(
            pattern=rf"^[^:,\s]+:{PORT_PATTERN}(,[^:,\s]+:{PORT_PATTERN})*$",
            description="`host:port`, or several separated by commas, each with a port from 1 to 65535",
        ),
    ] = "127.0.0.1:9092"
    """Address of Kafka, `host:port`; commas separate several."""
    topic: str = "movielog1"
    """The topic that the service writes to."""
    generation: Generation = "2022"
    """Generation of the movie service."""
    timezone: str = "America/New_York"
    """IANA name of the service's time zone: lines have its wall-clock time, and days begin at its midnight."""
    var: Path = Path("var")
    """The folder of all of Marquee's data; docs/operations.md says what each file can be rebuilt from."""
    max_user: Annotated[int, msgspec.Meta(ge=1, le=4_294_967_295)] = 1_000_000
    """Largest user id that the service assigns. A line with a larger one is faulty unless the API knows the id."""
    batch_lines: Annotated[int, msgspec.Meta(ge=1, le=5_000_000)] = 100_000
    """The most lines in one batch of the archive."""
    batch_seconds: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 30.0
    """Longest time that a line waits to be archived, in seconds of the collector's clock."""
    fetch_timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 500
    """How long one poll of Kafka waits for lines, in milliseconds."""
    stall_seconds: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 120.0
    """Time without an answer from Kafka after which a consumer fails, in seconds; its supervisor restarts it.

    A partition that stands still so long though Kafka has records for it is fetched anew; if it still stands as long
    again after that, the consumer fails."""
    clock_lines: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    """So many lines confirm how far the stream has come; a user's lines of one minute count once."""
    clock_users: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    """So many users must be among these lines."""
    clock_ahead_minutes: Annotated[float, msgspec.Meta(gt=0, le=60_000_000)] = 60.0
    """How far a record's Kafka time may be ahead of the confirmed one, in minutes; others are set aside."""
    idle_minutes: Annotated[float, msgspec.Meta(gt=0, le=60_000_000)] = 5.0
    """A partition that is read to its end and silent so long, in minutes of this machine's clock, is not waited for."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to Kafka: `SSL` is TLS; the `SASL_` ones log in with user and password."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """How to log in; needed with SASL, and only then."""
    sasl_user: str = ""
    """User to log in as; needed with SASL, and only then."""
    sasl_password: Secret = Secret()
    """Password of the user, from the environment only; or else in `sasl_password_file`."""
    sasl_password_file: str = ""
    """File with the password of the user, one line."""
    ssl_ca_file: str = ""
    """PEM file with the certificates that sign those of the brokers; empty: those of the system."""
    ssl_certificate_file: str = ""
    """PEM file with Marquee's own certificate, for brokers that ask for one."""
    ssl_key_file: str = ""
    """PEM file with the private key of the certificate; may be the same file."""
    ssl_key_password: Secret = Secret()
    """Password of the private key, from the environment only; or else in `ssl_key_password_file`."""
    ssl_key_password_file: str = ""
    """File with the password of the private key, one line."""

    def __post_init__(self) -> None:
        if problem := _contradiction(self):
            raise ValueError(problem)


_OF_SASL = ("sasl_mechanism", "sasl_user", "sasl_password", "sasl_password_file")
_OF_TLS = ("ssl_ca_file", "ssl_certificate_file", "ssl_key_file", "ssl_key_password", "ssl_key_password_file")


def _contradiction(settings: StreamSettings) -> str | None:
    """What is wrong with the keys of the connection taken together.

    Passwords and files are missed, read and checked only by processes that connect: a worker needs none of them.
    """
    protocol = settings.security_protocol
    given = {key for key in (*_OF_SASL, *_OF_TLS) if getattr(settings, key)}
    for keys, part in ((_OF_SASL, "SASL"), (_OF_TLS, "SSL")):
        if part not in protocol and (idle := [key for key in keys if key in given]):
            return f"security_protocol = {protocol} does not use {idle[0]}; choose one with {part}, or remove {idle[0]}"
    needed = {"sasl_mechanism", "sasl_user"} if "SASL" in protocol else set()
    if missing := sorted(needed - given):
        return f"security_protocol = {protocol} needs {missing[0]}"
    pairs = [("ssl_certificate_file", "ssl_key_file"), ("ssl_key_file", "ssl_certificate_file")]
    pairs += [("ssl_key_password", "ssl_key_file"), ("ssl_key_password_file", "ssl_key_file")]
    for key, other in pairs:
        if key in given and other not in given:
            return f"{key} needs {other}"
    for key in ("sasl_password", "ssl_key_password"):
        if {key, f"{key}_file"} <= given:
            return f"{key}_file is set, and so is {key} in the environment; remove one"
    return None


Settings = TypeVar("Settings", bound=msgspec.Struct)


def load(room: str, kind: type[Settings], environ: Mapping[str, str] | None = None) -> Settings:
    """Read the table `room` of the settings into its class.

    Raises `SettingsError` for a file that cannot be read, for an unknown table, key or value, and for a variable of the
    environment that begins with MARQUEE_ and means nothing.
    """
    environ = os.environ if environ is None else environ
    _require_known_variables(environ)
    table = dict(_tables(environ).get(room, {}))
    _require_no_secrets(room, kind, table)
    prefix = f"{_PREFIX}{room.upper()}_"
    table |= {key[len(prefix) :].lower(): value for key, value in environ.items() if key.startswith(prefix)}
    try:
        # strict=False: values of the environment are text, and a whole number may stand for a float
        return msgspec.convert(table, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        problem = _out_of_range(str(error), table, msgspec.inspect.type_info(kind)) or str(error)
        raise SettingsError(f"settings: [{room}] {problem} (see settings.toml for the keys)") from error


def _require_no_secrets(room: str, kind: type[msgspec.Struct], table: Mapping[str, object]) -> None:
    """Raise `SettingsError` if the table of a file holds a password."""
    for key in [field.name for field in msgspec.structs.fields(kind) if field.type is Secret and field.name in table]:
        variable = f"{_PREFIX}{room.upper()}_{key.upper()}"
        raise SettingsError(f"settings: [{room}] {key} may not stand in this file; set {variable}, or {key}_file")


def _tables(environ: Mapping[str, str]) -> dict[str, dict[str, object]]:
    named = environ.get("MARQUEE_SETTINGS")
    path = Path(named or "settings.toml")
    if not named and not path.exists():
        return {}
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no TOML, no UTF-8, or a number of thousands of digits
        raise SettingsError(f"settings: cannot read {path}: {error}") from error
    for name, table in tables.items():
        if name not in ROOMS or not isinstance(table, dict):
            raise SettingsError(f"settings: {path}: unknown table or stray key '{name}'; tables are {', '.join(ROOMS)}")
    return tables


def _require_known_variables(environ: Mapping[str, str]) -> None:
    of_rooms = tuple(f"{room.upper()}_" for room in ROOMS)
    names = [name.removeprefix(_PREFIX) for name in sorted(environ) if name.startswith(_PREFIX)]
    for name in names:
        if not _is_utf8(environ[f"{_PREFIX}{name}"]):
            raise SettingsError(f"settings: the value of {_PREFIX}{name} is not text in UTF-8")
        if name in VARIABLES or name.startswith(of_rooms) or _FOREIGN.fullmatch(name):
            continue
        key = name.partition("_")[2]
        known = [*VARIABLES, *(f"{of_room}{key}" for of_room in of_rooms if key)]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        advice = f"did you mean {_PREFIX}{nearest[0]}?" if nearest else "docs/operations.md lists them"
        raise SettingsError(f"settings: unknown variable of the environment {_PREFIX}{name}; {advice}")


def _is_utf8(text: str) -> bool:
    """Whether a text of the environment was UTF-8; bytes that are not stand there as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _out_of_range(error: str, value: Any, kind: msgspec.inspect.Type) -> str | None:
    """What an error says of a value out of its range or form: the key, the value and what is allowed.

    None where the type is wrong rather than the value. Text is not shown: it may hold a password.
    """
    path = re.search(r" - at `\$\.([\w.]+)`$", error)
    for key in path[1].split(".") if path else ():
        fields = {field.name: field.type for field in getattr(kind, "fields", ())}
        if key not in fields or not isinstance(value, dict):
            return None
        kind, value = fields[key], value[key]
    if path and isinstance(kind, msgspec.inspect.Metadata) and "matching regex" in error:
        return f"{path[1]} must be {(kind.extra_json_schema or {})['description']}"
    number = next((each for each in getattr(kind, "types", (kind,)) if isinstance(each, _NUMBERS)), None)
    if path is None or number is None or not re.match(r"Expected `\w+` [<>]|\w+ (value )?out of range", error):
        return None
    return f"{path[1]} = {str(value)[:40]} is out of range; it must be {_range(number)}"


_NUMBERS = (msgspec.inspect.IntType, msgspec.inspect.FloatType)


def _range(number: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    bounds = {"above": number.gt, "at least": number.ge, "below": number.lt, "at most": number.le}
    return " and ".join(f"{word} {bound:_}" for word, bound in bounds.items() if bound is not None)


def _decode(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        if not value.strip():
            raise ValueError("Expected a folder, got an empty text")
        return Path(value)
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"Expected `str`, got {value!r}")
