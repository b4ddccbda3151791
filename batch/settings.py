"""Settings of the batch room."""

from typing import Annotated, Literal

import msgspec

from quality.catalog import LARGEST_COST
from stream.settings import ServiceUrl

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Hours = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Weight = Annotated[float, msgspec.Meta(gt=0, le=1e15)]
Days = Annotated[int, msgspec.Meta(ge=3, le=36_500)]
ModelName = Literal["best", "popular", "segment", "als", "ease", "order", "blend", "reranker"]
"""The models of `batch.models.MODELS`, and `best`."""
AnyModel = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_]*)?$")]
"""A `ModelName`, or a model of another package: `package.module:Class`, or an entry point, see `docs/models.md`."""


class BatchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Collecting and the night."""

    api: ServiceUrl = "http://127.0.0.1:8080"
    """Root of the user and movie API."""
    api_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3_600)] = 5.0
    """How long one request to the API may take, seconds."""
    api_connections: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 4
    """Requests to the API at once."""
    api_retries: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 8
    """Retries if the API fails or is busy; Retry-After is obeyed."""
    proven_users: Count = 10
    """While the API does not answer, what so many users have watched is a movie. A wrong spelling of even the most
    watched movie is seen by one or two."""
    history_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] = 90
    """Days that a night learns from; older history is ignored. Of an imported archive all days count."""
    test_hours: Hours = 24.0
    """Length of the test slice, at the end of the history, and least length of the choice slice before it."""
    evaluation_users: Count = 20_000
    """Most users of a slice that are evaluated, drawn at random."""
    model: AnyModel = "best"
    """Model of the personal lists; `best`: the one that ranks best on the choice slice; `package.module:Class`, or an
    entry point of `marquee.models`: one of another package."""
    factors: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
    """Dimensions of the embeddings."""
    iterations: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 12
    """Rounds of alternating least squares."""
    regularization: Annotated[float, msgspec.Meta(ge=0, le=1e15)] = 5.0
    """Weight of the L2 penalty on the embeddings; tuning starts from it."""
    confidence: Weight = 10.0
    """Confidence that a finished session adds to the 1 of an unwatched movie (alpha of Hu, Koren & Volinsky 2008);
    tuning starts from it."""
    fit_users: Count = 200_000
    """Most users that models are fitted to, drawn from those with two or more sessions; all users are folded in."""
    dense_movies: Count = 8_192
    """Number of the most watched movies with all pairs in the linear models; other movies have their closest few."""
    ease_penalty: Weight = 300.0
    """L2 penalty of EASE, in users who watched a movie; tuning starts from it."""
    order_penalty: Weight = 300.0
    """L2 penalty of the order-aware ridge regression, in users who watched a movie."""
    half_life_days: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 14.0
    """Age at which a start has half its weight in the popular lists, in days."""
    minimum_segment: Count = 100
    """A segment with fewer users gets the popular list of everyone."""
    adult_share_minors: Share = 0.0
    """Largest share of adult movies in a list of a minor. Below 1 none is in a popular list that minors may get."""
    minor_below_age: Annotated[int, msgspec.Meta(ge=1, le=90)] = 18
    """Users younger than this, or of unknown age, are minors."""
    max_cost: Annotated[float, msgspec.Meta(ge=0, le=LARGEST_COST)] = LARGEST_COST
    """Largest cost per play of a movie in a list; by default, any cost."""
    new_movie_share: Share = 0.05
    """Largest share of a list's places that new movies may have; 0.05 is one of twenty, 0 is none."""
    new_movie_reach: Share = 0.3
    """Largest share of the users, those whom it suits most, in whose lists a night puts a new movie."""
    new_movie_starts: Count = 20
    """An announced movie is new until so many users have started it; then the models know it. Any other movie is new
    until one user has."""
    new_movie_trials: Count = 500
    """Lists with a new movie that are shown before it must have been started, and again for each user who started it:
    else it leaves the lists."""
    trees: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    """Trees of the Annoy index."""
    answers: Literal["auto", "compact", "rendered"] = "auto"
    """How a release stores its lists: compact, as indices only (40 bytes per user), or rendered, also as text (some 450
    bytes per user), which saves a worker a quarter of its work; auto: rendered if that takes less than 1 GiB."""
    explore_share: Share = 0.0
    """Share of users, drawn anew each night, whose lists are drawn by lot with known chances; 0: none."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 1
    """Random seed of all sampling in a night."""
    night_at: Annotated[str, msgspec.Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")] = "03:00"
    """When the scheduled night begins, by stream time in the service's zone."""
    young_archive_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 3
    """An archive is young on its first so many days, the one on which it begins included; 0: never."""
    young_archive_hours: Annotated[float, msgspec.Meta(ge=0.1, le=1_000_000)] = 4.0
    """A young archive is learnt from again so long after the night at `night_at`, and so on until the next day's, by
    stream time."""
    keep_releases: Count = 14
    """Releases that a night keeps; it removes older ones, but none that was in force in the last three days."""
    keep_archive_days: Days = 14
    """Days of events that the archive keeps once their sessions are made and their reports are final."""
    keep_quarantine_days: Days = 30
    """Days of refused lines that are kept."""
    keep_alert_days: Annotated[int, msgspec.Meta(ge=14, le=36_500)] = 90
    """Days of alerts that are kept, once the webhook has taken them."""
    keep_damaged_days: Days = 30
    """Days that damaged files stay that were set aside."""
    keep_revision_days: Days = 365
    """Days that a report stays that was revised."""
    keep_experiment_days: Days = 365
    """Days that an experiment stays after its last run."""
    least_free_mb: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 1_024
    """If less is free on the disk of `var`, MiB, an alert is raised, and the least valuable goes first; 0: never."""
