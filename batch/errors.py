"""All errors of the batch room."""

from stream.errors import MarqueeError


class BatchError(MarqueeError):
    """Collecting, or a step of the night, fails."""


class CatalogError(BatchError):
    """The user or movie API does not answer, or its answers are invalid."""


class NotEnoughData(BatchError):
    """The archive does not have enough data for a release."""


class ModelError(BatchError):
    """A model of another package cannot be loaded, raises, or gives wrong results."""


class NightFilesDamaged(BatchError):
    """A file that one step of the night wrote for another is missing or damaged; the next night starts over."""


class EvaluationDamaged(BatchError):
    """`evaluation.json` is missing or invalid."""


class MixedSources(BatchError):
    """A folder has data from another source than the data to be added."""


class NightBusy(BatchError):
    """Another process holds the lock of nights."""


class NightHeld(BatchError):
    """The data since the last release are too bad to learn from; the current release stays."""

    exit_code = 4


class GateRefusal(BatchError):
    """The gate refuses a candidate; the current release stays."""

    exit_code = 3

    def __init__(self, message: str, broken: dict[str, str]) -> None:
        super().__init__(message)
        self.broken = broken
        """By broken rule: what is wrong."""


class ReleaseError(BatchError):
    """A release is missing, damaged or may not become current; nothing was moved."""


class ProvenanceError(BatchError):
    """No known release or manifest could have made the answer in question."""


class MovieLensError(BatchError):
    """An archive to import is damaged or of an unknown format; nothing was imported."""


class ExperimentError(BatchError):
    """The file of an experiment is invalid."""

    exit_code = 2
