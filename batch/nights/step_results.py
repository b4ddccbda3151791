"""What each step of the night returns: printed as JSON, kept in the journal, and part of the night's summary."""

from typing import Literal

import msgspec

from quality.catalog import Status
from quality.metrics.ranking import NDCG

StepName = Literal["sessions", "catalog", "history", "evaluate", "train", "publish"]


class StepResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a step returns. In a summary the first three fields say how it ran; elsewhere they are left out."""

    seconds: float | None = None
    peak_memory_mb: int | None = None
    """The most memory that was resident while the step ran, MiB."""
    by: str | None = None
    """Who ran it, if not this night: `the night that was interrupted`."""


class SessionsResult(StepResult, frozen=True, kw_only=True):
    """Which days were read again, and what was in them; the counts are None if there was no such day."""

    days: int
    """Days that were read."""
    minutes: int | None = None
    """Lines of `watch`."""
    duplicates: int | None = None
    """Lines of `watch` that repeat another one."""
    sessions: int | None = None
    ratings: int | None = None
    requests: int | None = None
    """Lists that were shown (status 200)."""
    accounts: int | None = None
    all_days: int
    """Days of sessions that there are now."""


class CatalogResult(StepResult, frozen=True, kw_only=True):
    """By subject: how many records were asked for, by what the API said of them."""

    movies: dict[Status, int] | None = None
    users: dict[Status, int] | None = None
    failed: str | None = None
    """Why the API was not asked for the rest."""
    proven_movies: int | None = None
    """Movies that only the stream proves; None if the API has answered on all."""


class HistoryResult(StepResult, frozen=True, kw_only=True):
    """The size of the history, as in `InputCounts`."""

    sessions: int
    users: int
    movies: int
    unwatched: int = 0
    ratings: int
    unknown_movie: int


class EvaluateResult(StepResult, frozen=True, kw_only=True):
    """The model that was chosen."""

    chosen: str
    chosen_by: str
    ndcg_at_20: dict[str, dict[str, float | None]] = msgspec.field(name=NDCG.name)
    """By model: mean, low and high on the test slice."""


class TrainResult(StepResult, frozen=True, kw_only=True):
    """The candidate's size."""

    model: str
    dimensions: int
    """Of the item embeddings."""
    users: int
    movies: int


class PublishResult(StepResult, frozen=True, kw_only=True):
    """The release, and whether it is current."""

    release: str
    current: bool
    """False if another one is pinned."""
    gate: dict[str, str]
    """By rule: `passed`, with a remark where there is one."""
    removed: list[str]
    """Old releases that were removed."""


RESULT_TYPES: dict[StepName, type[StepResult]] = {
    "sessions": SessionsResult,
    "catalog": CatalogResult,
    "history": HistoryResult,
    "evaluate": EvaluateResult,
    "train": TrainResult,
    "publish": PublishResult,
}
"""By step, in the order in which a night runs them."""


class NightSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`night/summary.json`, and what `python -m batch nightly` prints."""

    release: str
    """The id of the release that was made."""
    model: str | None = None
    """The model that made its lists; None in summaries that are too old to say, as in the next field."""
    chosen_by: str | None = None
    """Why it was chosen, in one sentence."""
    seconds: float
    """Of this run; steps that an interrupted night did are not part of it."""
    peak_memory_mb: int
    """MiB, of the step that took most."""
    steps: dict[StepName, StepResult]
