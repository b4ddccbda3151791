"""Settings: `settings.toml` has a table for each room, read into a typed class; a mistyped key or value is an error.

In order of precedence: `MARQUEE_<ROOM>_<KEY>` in the environment; the file that `MARQUEE_SETTINGS` names, or else
`settings.toml` in the working folder; the defaults in the classes, which a test checks. Each room's class is in its own
`settings.py`; this module loads them all and holds the settings that every room needs.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from stream.errors import SettingsError

ROOMS = ("stream", "quality", "batch", "server", "loadtest")

Generation = Literal["2022", "2026"]
"""Generation of the movie service: 2022 rates 1..5 and looks up single ids; 2026 rates 1..10, has accounts and bulk."""
BEST_RATING: dict[Generation, int] = {"2022": 5, "2026": 10}


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where events come from, and where Marquee keeps its files."""

    bootstrap: Annotated[str, msgspec.Meta(pattern=r"^[^:,\s]+:\d+(,[^:,\s]+:\d+)*$")] = "127.0.0.1:9092"
    """Address of Kafka, `host:port`; commas separate several."""
    topic: str = "movielog1"
    """The topic that the service writes to."""
    generation: Generation = "2022"
    """Generation of the movie service."""
    timezone: str = "America/New_York"
    """IANA name of the service's time zone: lines carry its wall clock without a zone, and days begin by it."""
    var: Path = Path("var")
    """The folder of everything that Marquee keeps; docs/architecture.md says what can be rebuilt, and from what."""
    max_user: Annotated[int, msgspec.Meta(ge=1, le=4_294_967_295)] = 1_000_000
    """Largest user id that the service gives out. A larger one in a line counts as a fault unless the API knows it."""
    batch_lines: Annotated[int, msgspec.Meta(ge=1, le=5_000_000)] = 100_000
    """The most lines in one batch of the archive."""
    batch_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Longest time that a line waits to be archived, in seconds of the collector's clock."""
    fetch_timeout_ms: Annotated[int, msgspec.Meta(ge=1)] = 500
    """How long one poll of Kafka waits for lines, in milliseconds."""
    stall_seconds: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """After so long without an answer from Kafka, a consumer ends with an error, and its supervisor restarts it."""


Settings = TypeVar("Settings", bound=msgspec.Struct)


def load(room: str, kind: type[Settings], environ: Mapping[str, str] | None = None) -> Settings:
    """Read the table `room` of the settings into its class.

    Raises `SettingsError` for a file that cannot be read, and for an unknown table, key or value.
    """
    environ = os.environ if environ is None else environ
    table = dict(_tables(environ).get(room, {}))
    prefix = f"MARQUEE_{room.upper()}_"
    table |= {key[len(prefix) :].lower(): value for key, value in environ.items() if key.startswith(prefix)}
    try:
        # strict=False: values of the environment are text, and a whole number may stand for a float
        return msgspec.convert(table, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings: [{room}] {error} (see settings.toml for the keys)") from error


def _tables(environ: Mapping[str, str]) -> dict[str, dict[str, object]]:
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
