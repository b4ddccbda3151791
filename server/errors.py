"""All errors of the server room."""

from stream.errors import MarqueeError


class ServerError(MarqueeError):
    """The worker cannot serve."""


class BadRelease(ServerError):
    """A release is incomplete, damaged, or of a layout that this version does not read; it is not used."""


class RestartFailed(ServerError):
    """The workers could not be restarted one after the other."""


class HiddenUnreadable(ServerError):
    """`hidden.txt` exists and cannot be read, so the hidden movies are unknown."""
