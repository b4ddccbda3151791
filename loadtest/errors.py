"""All errors of the loadtest room."""

from stream.errors import MarqueeError


class LoadtestError(MarqueeError):
    """The simulated world cannot do what was asked; the text says what, where and what to do about it."""


class DemoError(LoadtestError):
    """The demo cannot begin, or one of its processes failed."""
