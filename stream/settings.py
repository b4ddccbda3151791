"""Settings: `settings.toml`, one table a room, read into one typed class a room; a mistyped key or value is an error.

What counts, strongest first: `MARQUEE_<ROOM>_<KEY>` in the environment, the file named by `MARQUEE_SETTINGS` (or
`settings.toml` in the working folder, where there is one), the defaults written in the classes. The defaults are under
test. A room's class stands in its own `settings.py`; this one loads them all and holds what every room needs.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from stream.errors import SettingsError

ROOMS = ("stream", "quality", "batch", "server", "loadtest")

Generation = Literal["2022", "2026"]
"""Generation of the movie service: 2022 rates 1..5 and looks up single ids; 2026 rates 1..10, has accounts and bulk."""
BEST_RATING: dict[Generation, int] = {"2022": 5, "2026": 10}


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the events come from and where everything that Marquee keeps lies."""

    bootstrap: Annotated[str, msgspec.Meta(pattern=r"^[^:,\s]+:\d+(,[^:,\s]+:\d+)*$")] = "127.0.0.1:9092"
    """Kafka's address, `host:port`; several are separated by commas."""
    topic: str = "movielog1"
    """The topic that the service writes."""
    generation: Generation = "2022"
    """Generation of the movie service."""
    timezone: str = "America/New_York"
    """IANA name of the zone of the service's wall clock: the lines carry no zone, and days are days there."""
    var: Path = Path("var")
    """The folder of all that Marquee keeps; it can be rebuilt from Kafka and the APIs."""
    max_user: Annotated[int, msgspec.Meta(ge=1, le=4_294_967_295)] = 1_000_000
    """Largest user id that the service gives out; a larger one in a line is a fault of the line."""
    batch_lines: Annotated[int, msgspec.Meta(ge=1, le=5_000_000)] = 100_000
    """Most lines in one batch of the archive."""
    batch_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Longest time that a line waits to be archived, in seconds of the collector's clock."""
    fetch_timeout_ms: Annotated[int, msgspec.Meta(ge=1)] = 500
    """How long one poll of Kafka waits for lines, in milliseconds."""
    stall_seconds: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """Without an answer of Kafka for so long, a consumer ends with an error, and its supervisor starts it anew."""


Settings = TypeVar("Settings", bound=msgspec.Struct)


def load(room: str, kind: type[Settings], environ: Mapping[str, str] | None = None) -> Settings:
    """Read the table `room` of the settings into its class.

    Raises `SettingsError` for a file that cannot be read, and for an unknown table, key or value, with its name.
    """
    environ = os.environ if environ is None else environ
    table = dict(_tables(environ).get(room, {}))
    prefix = f"MARQUEE_{room.upper()}_"
    table |= {key[len(prefix) :].lower(): value for key, value in environ.items() if key.startswith(prefix)}
    try:
        # strict=False: values from the environment are text, and a whole number may stand for a float
        return msgspec.convert(table, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings: [{room}] {error} (see settings.toml for the keys)") from error


def _tables(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get("MARQUEE_SETTINGS")
    path = Path(named or "settings.toml")
    if not named and not path.exists():
        return {}
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"settings: cannot read {path}: {error}") from error
    for name, table in tables.items():
        if name not in ROOMS or not isinstance(table, dict):
            raise SettingsError(f"settings: {path}: unknown table or stray key '{name}'; tables are {', '.join(ROOMS)}")
    return tables


def _decode(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"Expected `str`, got {value!r}")
