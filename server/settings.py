"""Settings of the server room."""

from typing import Annotated

import msgspec


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker. Under supervisord the listening socket is its own (`MARQUEE_BIND`), and `host` and `port` are not
    used."""

    host: str = "127.0.0.1"
    """Address to listen on, where no socket is handed over."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8082
    """Port to listen on, where no socket is handed over."""
    swap_poll_s: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    """How often a worker looks whether `releases/current` points elsewhere, seconds."""
    drain_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    """How long a worker that was told to end may take to answer what it has accepted, seconds."""
