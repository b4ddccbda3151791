"""The result of comparing two releases, as `compare --json` prints it. What is said of each release is a pair."""

from typing import Any

from msgspec import Struct, field

from quality.metrics.intervals import Interval
from quality.metrics.ranking import HIT_RATE, MRR, NDCG, RECALL


class ReadDays(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The days that a release was made of."""

    count: int
    first: str | None = None
    last: str | None = None
    """YYYY-MM-DD."""


class MadeOf(Struct, frozen=True, kw_only=True):
    """What a release was made of. What its manifest does not say is None or empty."""

    model: str | None
    """Name of the model that made the lists."""
    parameters: dict[str, float]
    """Of the model, as they were tuned."""
    chosen_by: str | None
    """Why the model was chosen."""
    stream_time_ms: int
    """How far the night had read the stream, ms UTC."""
    days: ReadDays
    offsets: dict[str, list[int]]
    """By topic and partition: the first offset that was read and the last."""
    counts: dict[str, int]
    """Sessions, ratings, users and movies."""
    personal_lists: int
    """Users with a list of their own."""


class ComparedFigures(Struct, frozen=True, kw_only=True):
    """The figures of the chosen model on the test slice, as in `ModelFigures`; None if it was not measured."""

    users: int | None = None
    ndcg: Interval | None = field(default=None, name=NDCG.name)
    recall: Interval | None = field(default=None, name=RECALL.name)
    hit_rate: Interval | None = field(default=None, name=HIT_RATE.name)
    mrr: Interval | None = field(default=None, name=MRR.name)
    coverage: float | None = None
    novelty_bits: float | None = None
    personal: float | None = None

    @property
    def intervals(self) -> dict[str, Interval | None]:
        """The ranking metrics by name, in the order of `METRICS`."""
        return {NDCG.name: self.ndcg, RECALL.name: self.recall, HIT_RATE.name: self.hit_rate, MRR.name: self.mrr}


class ListOverlap(Struct, frozen=True, kw_only=True):
    """How alike the lists are that users of both releases are shown."""

    users: int
    """Users that both releases know."""
    overlap: float | None = field(name="overlap@20")
    """Mean share of the longer list that is in both lists; None without users."""
    unchanged: float | None
    """Share of the lists that are the same in the same order; None without users."""
    gained: dict[str, int]
    """Movies that are in more lists of the second release than of the first, with by how many; the ten largest."""
    lost: dict[str, int]
    """Movies that are in fewer, the change being negative."""


class StartedLater(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much better the second release ranks what users started after both were made; or why that is not known."""

    since_ms: int
    """When both had been made, ms UTC of the stream."""
    users: int | None = None
    means: tuple[float, float] | None = None
    """Of the metric, by release."""
    metric: str | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    """Of the second release less the first, paired by user, with the 95 % interval."""
    reason: str | None = field(default=None, name="none")
    """Why they were not compared; None if they were."""


class ReleaseComparison(Struct, frozen=True, kw_only=True):
    """Two releases side by side."""

    releases: tuple[str, str]
    """Their ids."""
    made: tuple[MadeOf, MadeOf]
    settings: dict[str, tuple[Any, Any]]
    versions: dict[str, tuple[Any, Any]]
    """Settings, and versions of code and libraries, that differ; the values may be of any type."""
    figures: tuple[ComparedFigures, ComparedFigures]
    same_hours: bool
    """Whether the figures are of the same hours; if not, they cannot be compared."""
    lists: ListOverlap
    later: StartedLater
