"""Settings of the simulated outside world.

One frozen class, a docstring below each field. An unknown name is an error, so that a mistyped setting is not ignored
silently.
"""

from typing import Annotated

from msgspec import Meta, Struct

from stream.settings import Generation, ServiceUrl

Count = Annotated[int, Meta(ge=1, le=100_000_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
USUAL_CHART_SHARE = 0.2


class WorldSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a simulated world; equal settings give equal worlds."""

    users: Count = 10_000
    """Users of the service; their ids are 1..users."""

    movies: Count = 2_000
    """Movies of the catalogue."""

    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 1
    """Random seed for the catalogue, the users and their tastes; single visits have separate seeds."""

    generation: Generation = "2022"
    """The year of the simulated service: 2026 has ratings 1..10, bulk look-ups, HTTP 404, `cost`, self-descriptions."""

    chart_share: Annotated[float, Meta(gt=0, lt=1)] = USUAL_CHART_SHARE
    """Mean share of choices that users make by the chart of popular movies; their own tastes share the rest."""

    visits_per_day: Annotated[float, Meta(gt=0, le=100)] = 1.0
    """Mean visits of a user per day."""

    newcomers: Share = 0.0
    """Share of users who join after the service has opened, at a constant rate; each then visits it at once."""

    joining_days: Annotated[float, Meta(gt=0, le=36_500)] = 28.0
    """Days from the opening until the last of them has joined."""

    new_movies: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Movies that are released while the service runs, at a constant rate; users come to them from a list only."""

    releasing_days: Annotated[float, Meta(gt=0, le=36_500)] = 28.0
    """Days from the opening until the last of them is released."""

    api_host: str = "127.0.0.1"
    """Address that the record API listens on."""

    api_port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """Port that the record API listens on; 0 takes a free one, which is logged."""

    api_rate_limit_per_s: Annotated[float, Meta(gt=0, le=1e9)] = 200.0
    """Requests per second that the API answers; further ones get 429 with `retry-after`."""

    catalog_csv: str = ""
    """CSV file of real movie records to serve instead of simulated ones; empty for none."""

    users_csv: str = ""
    """CSV file of real user records to serve instead of simulated ones; empty for none."""

    server: ServiceUrl = "http://127.0.0.1:8082"
    """URL of the recommender that the service asks."""

    deadline_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 600
    """Milliseconds that the service waits for an answer before it counts the request as failed."""

    ask_share: Share = 0.9
    """Share of visits that begin with recommendations; in the others users choose without them."""

    corrupted: Share = 0.0004
    """Share of lines with one random character inserted at a random place."""

    repeated: Share = 0.0001
    """Share of lines that are delivered twice."""

    pace: Annotated[float, Meta(gt=0, le=1e9)] = 60.0
    """Most seconds of event time per second of the clock."""
