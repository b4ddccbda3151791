"""The errors of the batch room, whole."""

from stream.errors import MarqueeError


class BatchError(MarqueeError):
    """A step of gathering or of the night cannot be done."""


class CatalogError(BatchError):
    """The user or movie API does not answer, or not as it should."""


class NotEnoughData(BatchError):
    """The archive does not hold what a release could be made of."""


class Busy(BatchError):
    """Another process does this already."""


class Held(BatchError):
    """The data since the last release are too bad to learn from; what is current stays."""

    exit_code = 4


class Refusal(BatchError):
    """The gate does not let a candidate become the release; what is current stays."""

    exit_code = 3
