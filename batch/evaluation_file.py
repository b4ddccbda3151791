"""`evaluation.json`: how good each model is on held-out hours, and which was chosen. Types, reader and writer.

A night writes the file into its folder, and the release carries it. The gate judges it; commands show it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from batch.errors import EvaluationDamaged
from quality.metrics.intervals import Interval, interval_text
from quality.metrics.ranking import HIT_RATE, MRR, NDCG, RECALL
from stream import durable
from stream.decoding import decode_json

EVALUATION_FILE = "evaluation.json"
CHOICE_METRIC = NDCG.name
"""The metric that chooses a model, and in which two models or releases are compared."""
LEAST_USERS = 30
"""With fewer measured users an interval says little."""
_MANY_USERS = 200
"""With a spread of 0.25 between users, so many show a gain of 0.05 in NDCG@20 beyond noise in four of five nights."""
Split = Literal["time", "last"]
"""How slices are held out: `splits.by_time` or `splits.by_order`."""
HISTORY_LENGTHS: Mapping[str, tuple[int, float]] = {
    "0": (0, 0), "1": (1, 1), "2": (2, 2), "3-5": (3, 5), "6-10": (6, 10), "11-50": (11, 50), "51+": (51, float("inf")),
}  # fmt: skip
"""Groups of users by the length of their history: least and most events that were known before a slice."""


def enough_users(users: int) -> int:
    """How many users a choice between models should be measured on, in a history of so many users: a tenth of them."""
    return min(max(LEAST_USERS, users // 10), _MANY_USERS)


class SegmentFigures(Struct, frozen=True):
    """How good a model is for the users of one segment."""

    users: int
    """Users that were measured."""
    ndcg: Interval = field(name=NDCG.name)


class LargestGap(Struct, frozen=True):
    """The segments that a model serves best and worst, among those with enough users."""

    high: str
    """Name of the segment served best."""
    low: str
    """Name of the segment served worst."""
    ndcg: float = field(name=NDCG.name)
    """Difference of their means."""
    beyond_noise: bool
    """Whether the gap is larger than 95 % of the gaps that chance alone would produce."""


class ModelFigures(Struct, frozen=True, kw_only=True):
    """How good one model is on one slice: means over users, each with its 95 % interval."""

    users: int
    """Users that were measured."""
    hit_rate: Interval = field(name=HIT_RATE.name)
    recall: Interval = field(name=RECALL.name)
    ndcg: Interval = field(name=NDCG.name)
    mrr: Interval = field(name=MRR.name)
    coverage: float
    """Share of the catalogue that is in any of the lists."""
    novelty_bits: float | None
    """Mean self-information of the listed movies; None if the lists are empty."""
    personal: float | None = None
    """Share of the users whose list is not the popular list; None in releases that are too old to say."""
    segments: dict[str, SegmentFigures] = {}
    """By name of the segment."""
    largest_gap: LargestGap | None = None
    """None if fewer than two segments have enough users."""

    @property
    def intervals(self) -> dict[str, Interval]:
        """The ranking metrics by name, in the order of `METRICS`."""
        return {NDCG.name: self.ndcg, RECALL.name: self.recall, HIT_RATE.name: self.hit_rate, MRR.name: self.mrr}


class LengthFigures(Struct, frozen=True):
    """How good a model is for users with histories of a certain length."""

    ndcg: Interval = field(name=NDCG.name)
    against_popular: Interval
    """The model minus the popular list, paired by user."""


class HistoryLength(Struct, frozen=True):
    """All models for users with histories of a certain length."""

    users: int
    """Users that were measured."""
    models: dict[str, LengthFigures]
    """By name of the model."""


class CountedStarts(Struct, frozen=True):
    """The starts that a slice measures by: new movies of known users."""

    users: int
    """Users with such a start."""
    starts: int
    exposed_share: float
    """Share of all new starts of known users before which a list was shown to them (`batch/history/exposure.py`)."""
    window_hours: float
    """How long before."""
    exposed_count: bool
    """Whether these count as well, since too few users have others; else they are left out."""

    def __str__(self) -> str:
        counted = "count all the same" if self.exposed_count else "do not count"
        exposed = f"; {self.exposed_share:.0%} of all began within {self.window_hours:g} h after a list, and {counted}"
        return f"{self.starts:,} new starts of {self.users:,} known users{exposed if self.exposed_share else ''}"


class SliceFigures(Struct, frozen=True, omit_defaults=True):
    """All models on one slice."""

    from_ms: int
    until_ms: int
    """The slice is [from, until), ms UTC."""
    models: dict[str, ModelFigures]
    """By name of the model, the popular list first; over users of whom something was known before the slice."""
    history_lengths: dict[str, HistoryLength] = {}
    """By the keys of `HISTORY_LENGTHS`, those that any measured user has; "0" are users of whom nothing was known, who
    are in no other figure. {} in releases that are too old to say."""
    counted: CountedStarts | None = None
    """None in releases that are too old to say."""


class MeasuredSlices(Struct, frozen=True, omit_defaults=True):
    """The slices that were measured; None for both if the history was too short to hold anything out."""

    choice: SliceFigures | None = None
    """Models were tuned on one half of its users and compared on the other, which these figures are of. Every user has
    the model's own list, also where `Evaluation.popular_below` replaces it."""
    test: SliceFigures | None = None
    """Refitted models with their tuned parameters, as a release would show their lists; not used for the choice."""


class ScoreDifference(Struct, frozen=True):
    """Mean difference of two models' scores of the same users, with its interval; None if nothing was measured."""

    metric: str
    mean: float | None
    low: float | None
    high: float | None


class AgainstCurrent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The chosen model compared with the current release, on the same users; or why they were not compared."""

    release: str | None = None
    """The current release; None if there was none."""
    users: int | None = None
    """Compared users: those who were shown no list in the slice."""
    metric: str | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    """As in `ScoreDifference`."""
    reason: str | None = field(default=None, name="none")
    """Why they were not compared; None if they were."""

    @property
    def difference(self) -> ScoreDifference | None:
        """The chosen model minus the current release; None if they were not compared."""
        return None if self.metric is None else ScoreDifference(self.metric, self.mean, self.low, self.high)


class FirstListLength(Struct, frozen=True):
    """Lists by self-description and by segment, for users with histories of a certain length, which neither sees."""

    users: int
    segment: Interval
    """NDCG@20 of the segment's popular list."""
    described: Interval
    """NDCG@20 of the list by self-description."""
    against_segment: Interval
    """The difference, paired by user."""


class FirstListFigures(Struct, frozen=True):
    """Lists by self-description and by segment on one slice: users whose texts have a known word, strangers first."""

    all: FirstListLength
    segment_hit_rate: Interval
    described_hit_rate: Interval
    lengths: dict[str, FirstListLength] = {}
    """By the keys of `HISTORY_LENGTHS`; "0" are strangers."""


class FirstLists(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether users who have watched nothing get a list by their self-description, and the figures that decide."""

    shipped: bool
    reason: str
    """Why they do or do not, in words."""
    choice: FirstListFigures | None = None
    test: FirstListFigures | None = None
    """None if no text with a known word was measured on the slice."""


class Evaluation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The evaluation of a night's models."""

    chosen: str
    """Name of the model that makes the lists."""
    chosen_by: str
    """Why it was chosen, in words."""
    parameters: dict[str, dict[str, float]]
    """By model: the tuned parameters. {} if nothing was measured."""
    learned: bytes = b""
    """What the chosen model has learned in tuning beyond its parameters; base64 in the file."""
    slices: MeasuredSlices
    split: Split = "time"
    """How the slices were held out. By order ("last"), both are of all hours."""
    popular_below: dict[str, int] = {}
    """By model: users with fewer events get the popular list instead of the model's, see `history_lengths`. A model
    that is not named here makes the lists of all users."""
    against_popular: ScoreDifference
    """The chosen model minus the popular list, on the test slice."""
    against_current: AgainstCurrent = AgainstCurrent()
    first_lists: FirstLists | None = None
    """None if no user with a text was measured, and in releases that are too old to say."""

    @property
    def ships_first_lists(self) -> bool:
        """Whether users without a history get a list by their self-description."""
        return self.first_lists is not None and self.first_lists.shipped

    @property
    def is_measured(self) -> bool:
        """Whether anything was held out and measured."""
        return self.slices != MeasuredSlices()

    def measured_users(self, model: str) -> dict[str, int]:
        """By slice: how many users a model was measured on, 0 where it was not."""
        parts = {"choice": self.slices.choice, "test": self.slices.test}
        figures = {name: part.models.get(model) if part else None for name, part in parts.items()}
        return {name: measured.users if measured else 0 for name, measured in figures.items()}

    @property
    def test_models(self) -> dict[str, ModelFigures]:
        """The figures of all models on the test slice, by name; {} where nothing was measured."""
        return self.slices.test.models if self.slices.test else {}


def what_speaks_against(choice: FirstListFigures, test: FirstListFigures | None) -> str | None:
    """Why first lists with these figures may not be shipped, in words; None if they may."""
    ahead = choice.all.against_segment
    if choice.all.users < LEAST_USERS:
        return f"they were measured on {choice.all.users} users of the choice slice, {LEAST_USERS} are needed"
    if ahead.low is None or not ahead.low > 0:
        beyond = f"({interval_text(ahead, '+.4f')})"
        return f"they are not better than the segment's list beyond noise on the choice slice {beyond}"
    for name, figures in (("choice", choice), ("test", test)):
        groups = {"users": figures.all, "strangers": figures.lengths.get("0")} if figures else {}
        for who, group in groups.items():
            if group and group.users >= LEAST_USERS and (group.against_segment.high or 0) < 0:
                behind = interval_text(group.against_segment, "+.4f")
                return f"they are below the segment's list for the {who} of the {name} slice ({behind})"
    return None


def read_evaluation(folder: Path) -> Evaluation:
    """Read the evaluation in the folder of a night or of a release. Raises `EvaluationDamaged`."""
    path = folder / EVALUATION_FILE
    try:
        return decode_json(path.read_bytes(), Evaluation)
    except (OSError, msgspec.DecodeError) as error:
        raise EvaluationDamaged(f"evaluation: {path} cannot be read: {error}") from error


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write the evaluation into the folder of a night."""
    durable.write_json(folder / EVALUATION_FILE, msgspec.to_builtins(evaluation))
