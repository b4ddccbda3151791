"""Settings of the server room."""

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Workers and the operator's port. Under supervisord, which opens the socket itself (`MARQUEE_BIND`), `host` and
    `port` are not used."""

    host: str = "127.0.0.1"
    """Address that a worker listens on if it inherits no socket."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8082
    """Port that a worker listens on if it inherits no socket."""
    operator_host: str = "127.0.0.1"
    """Address of the operator's port, which shows internals and must not be public."""
    operator_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 9082
    """The operator's port: readiness of every worker, metrics and the release in use."""
    lane: bool = True
    """Whether plain requests take the fast lane; without it Sanic gives the same answers."""
    swap_poll_s: Seconds = 0.5
    """How often a worker checks `releases/current` and `hidden.txt` for changes, seconds."""
    hung_s: Seconds = 30.0
    """How long reading a release or `hidden.txt` may make no progress before it is abandoned and retried later,
    seconds."""
    drain_s: Seconds = 5.0
    """How long a stopping worker may take to answer accepted requests, seconds; less than supervisord's `stopwaitsecs`,
    supervisord, after which it is killed."""
    stall_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 10.0
    """How long a worker's loop may hang before the worker logs its stack and is killed and restarted, seconds."""
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 10_000
    """Connections per worker; beyond that the longest idle ones are closed or, if none is idle, new ones refused."""
    request_s: Seconds = 10.0
    """How long a client may take to send one request, seconds."""
    idle_s: Seconds = 75.0
    """How long a connection may stay open without a request, seconds."""
    write_s: Seconds = 10.0
    """How long a client may take to read an answer, seconds."""
    shed_s: Annotated[float, msgspec.Meta(ge=0.01, le=86_400)] = 0.2
    """Under overload, a request outside the fast lane that has waited longer than this is refused with 503; seconds."""
    max_header_bytes: Annotated[int, msgspec.Meta(ge=1024, le=16_384)] = 8192
    """Longest request line and headers together, bytes."""
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**30)] = 65_536
    """Longest body, bytes; no route reads one."""
    access_log: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of the requests that are logged, 0 to 1, as lines of JSON."""
