"""All errors of the loadtest room."""

from stream.errors import MarqueeError


class LoadtestError(MarqueeError):
    """The simulated world or a benchmark fails; the message says what, where and what to do."""


class DemoError(LoadtestError):
    """The demo cannot start, or one of its processes failed."""
