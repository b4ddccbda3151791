"""The figures of `ranking` on one data set; every model is measured on the same users of the test slice."""

from msgspec import UNSET, Struct, UnsetType, field

from loadtest.bench.benchmark import SplitName
from quality.metrics.intervals import Interval
from quality.metrics.ranking import HIT_RATE, HIT_RATE_10, NDCG, NDCG_10, RECALL


class MetricIntervals(Struct, frozen=True, kw_only=True):
    """Mean over users, with its 95 % interval."""

    ndcg: Interval = field(name=NDCG.name)
    recall: Interval = field(name=RECALL.name)
    hit_rate: Interval = field(name=HIT_RATE.name)
    ndcg_10: Interval | UnsetType = field(default=UNSET, name=NDCG_10.name)
    hit_rate_10: Interval | UnsetType = field(default=UNSET, name=HIT_RATE_10.name)
    """Of the chosen model and the rivals where each user's last event is held out, as published results have them."""


class RankedSet(Struct, frozen=True, kw_only=True):
    """One data set, and all models on it."""

    split: SplitName
    users: int
    movies: int
    sessions: int
    measured_users: int
    """Users of the test slice."""
    chosen: str
    """The model that the night chose."""
    chosen_by: str
    """Why."""
    parameters: dict[str, float]
    """Of the chosen model, as tuned."""
    textbook_ease_penalty: float
    models: dict[str, MetricIntervals]
    """By model, the rivals last."""


class SetComparison(Struct, frozen=True, kw_only=True):
    """The chosen model compared with the rivals on one set."""

    chosen_less: dict[str, MetricIntervals]
    """By rival: the chosen model's figures minus the rival's, paired by user."""
    ndcg_less_best_rival_high: float = field(name=f"{NDCG.name}_less_best_rival_high")
    """The lowest high end of these: below 0, a rival is better beyond noise; the next two alike."""
    recall_less_best_rival_high: float = field(name=f"{RECALL.name}_less_best_rival_high")
    hit_rate_less_best_rival_high: float = field(name=f"{HIT_RATE.name}_less_best_rival_high")
    chosen_less_popular_low: float
    """NDCG@20 of the chosen model minus that of the popular list: the low end."""
    above_popular: bool | UnsetType = UNSET
    """Whether that is above 0; for sets split in their own way, but not for `charts`."""
    chosen_less_popular_high: float | UnsetType = UNSET
    """For the others, the high end: below 0, the popular list is better beyond noise."""
    chosen_less_ease_high: float | UnsetType = UNSET
    """`shuffled` only: below 0, looking for order has done harm where there is none (NDCG@20)."""
    ease_ratio: float | UnsetType = UNSET
    """NDCG@20 of the chosen model by that of textbook EASE; not for `shuffled`."""
    ease_ratio_1m: float | UnsetType = field(default=UNSET, name="1m_ease_ratio")
    """The same, where the archive is MovieLens-1M and each user's last tenth is held out."""
