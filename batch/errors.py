"""All errors of the batch room."""

from stream.errors import MarqueeError


class BatchError(MarqueeError):
    """A step of gathering or of the night cannot be done."""


class CatalogError(BatchError):
    """The user or movie API does not answer, or not as it should."""


class NotEnoughData(BatchError):
    """The archive does not hold what a release could be made of."""


class NightFilesDamaged(BatchError):
    """What one step of the night left for another is gone or damaged; the night is over, the next one begins anew."""


class EvaluationDamaged(BatchError):
    """`evaluation.json` is missing, or does not hold what an evaluation holds."""


class MixedSources(BatchError):
    """A folder holds data of two sources that do not belong together."""


class NightBusy(BatchError):
    """Another process does this already."""


class NightHeld(BatchError):
    """The data since the last release are too bad to learn from; what is current stays."""

    exit_code = 4


class GateRefusal(BatchError):
    """The gate does not let a candidate become the release; what is current stays."""

    exit_code = 3

    def __init__(self, message: str, broken: dict[str, str]) -> None:
        super().__init__(message)
        self.broken = broken
        """By rule that was broken: what is wrong."""


class ReleaseError(BatchError):
    """A release is not there, not whole or not allowed to be current; nothing was moved."""


class ProvenanceError(BatchError):
    """Nothing is known that could have made the answer that is asked for."""


class MovieLensError(BatchError):
    """What was to be imported is not of a form that is known, or damaged; nothing was imported."""


class ExperimentError(BatchError):
    """The file of an experiment says something that is not known."""

    exit_code = 2
