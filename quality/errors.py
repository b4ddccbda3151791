"""All errors of the quality room; those of `stream.errors` pass through as they are."""

from stream.errors import MarqueeError


class QualityError(MarqueeError):
    """Root of what can go wrong in judging data and answers."""


class MetricError(QualityError):
    """Arrays that a metric cannot be computed from: shapes that do not fit, or a list that repeats an item."""


class StoreError(QualityError):
    """The telemetry store is missing, cannot be read or written, or has another layout."""


class ReleaseHistoryError(QualityError):
    """The history of releases, `releases/history.jsonl`, cannot be read."""


class ReportError(QualityError):
    """A report cannot be made or read, or does not follow its schema."""


class RecordsError(QualityError):
    """The catalogue's file cannot be read or written."""


class QuarantineError(QualityError):
    """A line that is not in quarantine."""
