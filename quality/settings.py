"""Settings of this room, the table `[quality]`: one typed class, a docstring per field, defaults under test.

`[quality.thresholds.<fate or reason>]` says what of a stream's faults is normal. What a table does not set comes from
the wider one: of a reason from `reason`, of everything from the defaults that are written here.
"""

from typing import TYPE_CHECKING, Annotated, Literal, get_args

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Lines = Annotated[int, msgspec.Meta(ge=1)]
Url = Annotated[str, msgspec.Meta(pattern=r"^(https?://([^\s/:@?#\[\]]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?([/?#]\S*)?)?$")]


class AlertLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is normal, whole: a threshold with nothing left to be said elsewhere."""

    share: float
    count: int
    times: float
    hold: float | None
    """The night is held above this share; None: never."""
    hold_count: int


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of one fault is normal in an hour of the stream.

    It is a breach where there are at least `count` such lines, and their share of the hour's lines is above `share` or
    above `times` that of the week before.
    """

    share: Share | None = None
    """Share of the hour's lines up to which all is well; 1: whatever the share."""
    count: Lines | None = None
    """Fewer such lines in the hour are no breach, whatever their share: one bad line of ten means nothing."""
    times: Annotated[float, msgspec.Meta(ge=1)] | None = None
    """How many times the share of the week before is still normal; `inf`: do not compare."""
    hold: bool | Share | None = None
    """Whether a breach holds the night back, or the share of the hour's lines above which it does."""
    hold_count: Lines | None = None
    """Where `hold` is a share: fewer such lines in the hour hold nothing back."""

    def over(self, limits: AlertLimits) -> AlertLimits:
        """The limits, with what is set here instead."""
        given = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        if isinstance(self.hold, bool):
            given |= {"hold": 0.0, "hold_count": self.hold_count or 1} if self.hold else {"hold": None}
        return msgspec.structs.replace(limits, **given)


NORMAL: dict[str, AlertLimits] = {
    "quarantined": AlertLimits(share=0.003, count=100, times=5, hold=0.2, hold_count=1000),
    "repaired": AlertLimits(share=0.003, count=100, times=5, hold=None, hold_count=1000),
    "duplicate": AlertLimits(share=0.005, count=1000, times=20, hold=None, hold_count=1000),
    "reason": AlertLimits(share=0.002, count=50, times=5, hold=None, hold_count=1000),
}
"""A healthy stream has one stray character in 0.02-0.06 % of its lines and repeats 0.01 % of them."""

Fault = Literal[
    "quarantined", "repaired", "duplicate", "reason",
    "empty", "too_long", "not_utf8", "fields", "time", "user", "request", "movie", "minute", "rating", "status",
    "movies", "latency",
    "time_min", "time_max", "user_min", "user_max", "minute_min", "minute_max", "rating_min", "rating_max",
    "status_min", "status_max", "latency_ms_min",
    "time_ahead", "time_behind", "user_unknown", "movie_unknown", "minute_runtime", "status_list",
    "one_character", "kafka_time",
]  # fmt: skip
"""What a threshold can be set for: the fates, `reason` (each reason without a threshold of its own), the reasons of
the grammar, of the schemas and of the checks, the rules of repair."""

if TYPE_CHECKING:

    class Thresholds(msgspec.Struct):
        """One optional `Threshold` a fault."""

else:
    # a class with a field a fault, so that an error names the one that is wrong
    Thresholds = msgspec.defstruct(
        "Thresholds",
        [(fault, Threshold, Threshold()) for fault in get_args(Fault)],
        frozen=True,
        forbid_unknown_fields=True,
    )


def limits_of(thresholds: Thresholds, fate: str, reason: str | None = None) -> AlertLimits | None:
    """What is normal of a fate, or of one of its reasons; None where that is not judged apart.

    Repaired lines have few rules, so their fate tells all, unless a rule has a threshold of its own.
    """
    named: dict[str, Threshold] = msgspec.structs.asdict(thresholds)
    if reason is None:
        return named[fate].over(NORMAL[fate])
    own = named.get(reason, Threshold())
    if own == Threshold() and fate != "quarantined":
        return None
    return own.over(named["reason"].over(NORMAL["reason"]))


class QualitySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How answers are judged on the live stream."""

    window_hours: Positive = 24.0
    """How long after an answer a session of a listed movie may start and still make it a hit, in hours."""
    grace_minutes: NotNegative = 10.0
    """How late a line may reach Kafka, in minutes: a day's report waits so long after its last window has closed."""
    session_gap_hours: Positive = 6.0
    """Longest pause within one session of a user and a movie, in hours."""
    report_every_minutes: Positive = 60.0
    """An open report is rewritten at most once in so many minutes of the stream's time."""
    bootstrap_samples: Annotated[int, msgspec.Meta(ge=100, le=100_000)] = 1000
    """Resamples of the users behind every interval."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Fixes the resampling: equal data make equal intervals."""
    commit_seconds: Positive = 2.0
    """How long telemetry gathers lines before it commits them, in seconds of its own clock."""
    time_window_minutes: Positive = 60.0
    """How far a line's time may lie ahead of Kafka's time of it, and a repaired line's from it, in minutes."""
    late_hours: Positive = 24.0
    """How late a line may come to Kafka, by its own time, in hours."""
    thresholds: Thresholds = Thresholds()
    """What of the stream's faults is normal; somebody is told of more."""
    week_lines: Lines = 100_000
    """An hour is compared with the week before it only where that has so many lines."""
    webhook: Url = ""
    """Where alerts are posted to as JSON, `http://…` or `https://…`; empty: nowhere, they stand in `alerts.jsonl`."""
    webhook_timeout_s: Positive = 5.0
    """How long the webhook may take to answer, in seconds."""

    @property
    def window_ms(self) -> int:
        """`window_hours` in milliseconds."""
        return round(self.window_hours * 3_600_000)

    @property
    def ahead_ms(self) -> int:
        """`time_window_minutes` in milliseconds."""
        return round(self.time_window_minutes * 60_000)

    @property
    def late_ms(self) -> int:
        """`late_hours` in milliseconds."""
        return round(self.late_hours * 3_600_000)

    @property
    def grace_ms(self) -> int:
        """`grace_minutes` in milliseconds."""
        return round(self.grace_minutes * 60_000)

    @property
    def gap_ms(self) -> int:
        """`session_gap_hours` in milliseconds."""
        return round(self.session_gap_hours * 3_600_000)

    @property
    def report_every_ms(self) -> int:
        """`report_every_minutes` in milliseconds."""
        return round(self.report_every_minutes * 60_000)
