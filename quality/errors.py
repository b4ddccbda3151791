"""All errors of the quality room. Errors of `stream.errors` pass through it unchanged."""

from stream.errors import MarqueeError


class QualityError(MarqueeError):
    """Root of all errors in judging data and answers."""


class MetricError(QualityError):
    """A metric cannot be computed from these arrays: their shapes do not match, or a list repeats an item."""


class StoreError(QualityError):
    """The telemetry store is missing, cannot be read or written, or has a different layout."""


class StoreDamaged(StoreError):
    """The telemetry store is not what was written: it must be set aside and made again."""


class StoreBusy(StoreError):
    """Another telemetry writes the store."""


class ReleaseHistoryError(QualityError):
    """The history of releases, `releases/history.jsonl`, cannot be read."""


class ReportError(QualityError):
    """A report cannot be computed or read, or does not follow its schema."""


class RecordsError(QualityError):
    """The catalogue's file cannot be read or written."""


class QuarantineError(QualityError):
    """The line is not in quarantine."""
