"""All errors of the server room."""

from stream.errors import MarqueeError


class ServerError(MarqueeError):
    """The worker cannot serve."""


class BadRelease(ServerError):
    """A release is not whole, or not of a layout that this version reads; it is not taken."""


class RestartFailed(ServerError):
    """The workers could not be restarted one after the other."""


class HiddenUnreadable(ServerError):
    """`hidden.txt` is there and cannot be read: what it hides is unknown."""
