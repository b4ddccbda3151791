"""Settings of this room, the table `[quality]`: one typed class, a docstring per field, defaults under test.

`[quality.thresholds.<fate or reason>]` says how many faults are normal. If a reason's table does not set a key, the
value comes from the table `reason`, and then from the defaults below. `[quality.verdict]` says when a day is good.
"""

from typing import TYPE_CHECKING, Annotated, Literal, get_args

import msgspec

from stream.settings import PORT_PATTERN

Hours = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Minutes = Annotated[float, msgspec.Meta(gt=0, le=60_000_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3_600)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Lines = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
WebhookUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^(https?://([^\s/:@?#\[\]]+|\[[0-9A-Fa-f:.]+\])(:{PORT_PATTERN})?([/?#]\S*)?)?$",
        description="empty, or `http://…` or `https://…` without user and password, with a port from 1 to 65535",
    ),
]


class AlertLimits(msgspec.Struct, frozen=True, kw_only=True):
    """A complete threshold: every key has a value."""

    share: float
    count: int
    times: float
    hold: float | None
    """The share of the hour's lines above which the night is held; None: never held."""
    hold_count: int


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many lines with one fault are normal in an hour of the stream.

    A breach has at least `count` such lines, and their share of the hour's lines is above `share` or above `times` the
    share of the week before.
    """

    share: Share | None = None
    """Largest normal share of the hour's lines; 1: every share is normal."""
    count: Lines | None = None
    """Fewer such lines in the hour are never a breach: one bad line of ten is no evidence."""
    times: Annotated[float, msgspec.Meta(ge=1)] | None = None
    """Largest normal multiple of the share of the week before; `inf`: do not compare."""
    hold: bool | Share | None = None
    """Whether a breach holds the night, or the share of the hour's lines above which it does."""
    hold_count: Lines | None = None
    """If `hold` is a share: fewer such lines in the hour do not hold the night."""

    def over(self, limits: AlertLimits) -> AlertLimits:
        """`limits`, overridden by the keys that are set here."""
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
"""Defaults. A healthy stream has a stray character in 0.02-0.06 % of its lines and repeats 0.01 % of them."""

Fault = Literal[
    "quarantined", "repaired", "duplicate", "reason",
    "empty", "too_long", "not_utf8", "fields", "time", "user", "request", "movie", "minute", "rating", "status",
    "movies", "latency",
    "time_min", "time_max", "user_min", "user_max", "minute_min", "minute_max", "rating_min", "rating_max",
    "status_min", "status_max", "latency_ms_min",
    "clock_ahead", "time_ahead", "time_behind", "user_unknown", "movie_unknown", "minute_runtime", "status_list",
    "one_character", "kafka_time",
]  # fmt: skip
"""Everything that can have a threshold: the fates, `reason` (all reasons without their own threshold), the reasons of
the grammar, the schemas and the checks, and the rules of repair."""

if TYPE_CHECKING:

    class Thresholds(msgspec.Struct):
        """One optional `Threshold` per fault."""

else:
    # one field per fault, so that an error names the wrong table
    Thresholds = msgspec.defstruct(
        "Thresholds",
        [(fault, Threshold, Threshold()) for fault in get_args(Fault)],
        frozen=True,
        forbid_unknown_fields=True,
    )


def limits_of(thresholds: Thresholds, fate: str, reason: str | None = None) -> AlertLimits | None:
    """The limits of a fate, or of one of its reasons; None if the reason is not judged separately.

    Only reasons of quarantine, and rules of repair that have a threshold, are judged separately.
    """
    by_fault: dict[str, Threshold] = msgspec.structs.asdict(thresholds)
    if reason is None:
        return by_fault[fate].over(NORMAL[fate])
    own = by_fault.get(reason, Threshold())
    if own == Threshold() and fate != "quarantined":
        return None
    return own.over(by_fault["reason"].over(NORMAL["reason"]))


class VerdictLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a day must keep to for the verdict of its report to be green."""

    availability: Share = 0.99
    """Least share of the requests that are answered with status 200."""
    personalised: Share = 0.4
    """Least share of the answers that are personal lists."""
    coverage: Share = 0.02
    """Least share of the catalogue that is shown: popular lists alone show 20 movies for each segment."""
    left_out: Share = 0.01
    """Largest share of the day's lines that are in no figure."""
    late: Share = 0.001
    """Largest share of the day's lines that come after the report of their day is final."""
    least_answers: Annotated[int, msgspec.Meta(ge=1, le=10**9)] = 100
    """A figure of fewer requests or answers is not judged."""


class QualitySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How lines and answers of the live stream are judged."""

    window_hours: Hours = 24.0
    """An answer is a hit if a session of a listed movie starts within this time, in hours."""
    grace_minutes: Annotated[float, msgspec.Meta(ge=0, le=60_000_000)] = 10.0
    """How long after its last window a day's report still takes lines, by Kafka's time, and by how much lines may be in
    disorder, in minutes."""
    session_gap_hours: Hours = 6.0
    """Longest pause within one session of a user and a movie, in hours."""
    report_every_minutes: Minutes = 60.0
    """Shortest time between two versions of an open report, in minutes of stream time."""
    commit_seconds: Seconds = 2.0
    """Time between two commits of telemetry, in seconds of its own clock."""
    time_window_minutes: Minutes = 60.0
    """How far a line's time may be ahead of its Kafka time, and a repaired line's from it either way, in minutes."""
    late_hours: Hours = 24.0
    """How long after its own time a line may reach Kafka, in hours."""
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=3_600_000)] = 600
    """How long the service waits for an answer, in milliseconds: a later answer is lost, and p99 must be below it."""
    verdict: VerdictLimits = VerdictLimits()
    """What a day must keep to for its verdict to be green."""
    thresholds: Thresholds = Thresholds()
    """Normal numbers of faults; more raise an alert."""
    week_lines: Lines = 100_000
    """An hour is compared with the week before it only if that week has at least this many lines."""
    silent_seconds: Seconds = 60.0
    """A live stream without a line for so long raises an alert, in seconds of telemetry's own clock."""
    webhook: WebhookUrl = ""
    """URL to post alerts to as JSON, `http://…` or `https://…`; empty: alerts are only in `alerts.jsonl`."""
    webhook_timeout_s: Seconds = 5.0
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
