"""All errors of the batch room."""

from stream.errors import MarqueeError


class BatchError(MarqueeError):
    """Collecting, or a step of the night, fails."""


class CatalogError(BatchError):
    """The user or movie API does not answer, or answers something else than agreed."""


class NotEnoughData(BatchError):
    """The archive does not hold enough to make a release of."""


class NightFilesDamaged(BatchError):
    """A file that one step of the night wrote for another is missing or damaged; the next night starts over."""


class EvaluationDamaged(BatchError):
    """`evaluation.json` is missing, or does not hold what an evaluation holds."""


class MixedSources(BatchError):
    """A folder holds data of another source than what is to be added."""


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
    """No release, or no manifest, is known that could have made the answer in question."""


class MovieLensError(BatchError):
    """An archive to import is damaged or of an unknown format; nothing was imported."""


class ExperimentError(BatchError):
    """The file of an experiment is invalid."""

    exit_code = 2
