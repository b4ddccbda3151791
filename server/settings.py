"""Settings of the server room."""

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker. Under supervisord the listening socket is its own (`MARQUEE_BIND`), and `host` and `port` are not
    used."""

    host: str = "127.0.0.1"
    """Address to listen on, where no socket is handed over."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8082
    """Port to listen on, where no socket is handed over."""
    operator_host: str = "127.0.0.1"
    """Address of the operator's port, which tells what is inside: for whoever runs Marquee, not for the public."""
    operator_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 9082
    """The operator's port: readiness of every worker, metrics, the release in use."""
    lane: bool = True
    """Whether plain requests take the fast lane; without it Sanic answers all of them, the same."""
    swap_poll_s: Seconds = 0.5
    """How often a worker looks whether `releases/current` or `hidden.txt` has changed, seconds."""
    hung_s: Seconds = 30.0
    """How long reading a release or `hidden.txt` may make no progress before it is given up, and tried again later;
    seconds."""
    drain_s: Seconds = 5.0
    """How long a worker that was told to end may take to answer what it has accepted, seconds; less than supervisord's
    `stopwaitsecs`, after which it is killed."""
    stall_s: Annotated[float, msgspec.Meta(ge=1)] = 10.0
    """A worker whose loop stands still for so long writes where, and dies, so that it is started anew; seconds."""
    max_connections: Count = 10_000
    """Connections of one worker; beyond them those that were idle longest are closed, else the new one is refused."""
    request_s: Seconds = 10.0
    """How long a client may take to send one request, seconds."""
    idle_s: Seconds = 75.0
    """How long a connection may stay open without a request, seconds."""
    write_s: Seconds = 10.0
    """How long a client may take to read what was answered, seconds."""
    shed_s: Annotated[float, msgspec.Meta(ge=0.01)] = 0.2
    """A request beside the lane that has waited for so long within the worker is refused with 503; seconds."""
    max_header_bytes: Annotated[int, msgspec.Meta(ge=1024, le=16_384)] = 8192
    """Longest request line with headers, bytes."""
    max_body_bytes: Count = 65_536
    """Longest body, bytes; no route reads one."""
    access_log: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of the requests that are logged, each as one line of JSON."""
