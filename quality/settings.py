"""Settings of this room, the table `[quality]`: one typed class, a docstring per field, defaults under test."""

from typing import Annotated

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


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
    """How far a repaired line's time may lie from Kafka's time of it, in minutes."""
    alert_quarantined: Share = 0.005
    """Somebody is told when more than this share of a batch's lines is quarantined."""
    alert_repaired: Share = 0.005
    """Somebody is told when more than this share of a batch's lines was repaired."""
    alert_duplicate: Share = 0.01
    """Somebody is told when more than this share of a batch's lines came twice."""
    alert_lines: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Batches with fewer lines raise no alert: one bad line of ten means nothing."""

    @property
    def window_ms(self) -> int:
        """`window_hours` in milliseconds."""
        return round(self.window_hours * 3_600_000)

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
