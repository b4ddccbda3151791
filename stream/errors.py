"""The root of all errors that a person can mend, each told in one line: what, where, what to do.

Every room raises one of these; front doors print the message and exit with `exit_code`. Whatever else escapes is a bug
and keeps its traceback.
"""


class MarqueeError(Exception):
    """Root of all errors that a person can mend."""

    exit_code = 1


class SettingsError(MarqueeError):
    """A key or a value in the settings that Marquee does not know."""

    exit_code = 2


class StreamError(MarqueeError):
    """Kafka or the archive cannot be read or written."""


class BrokerError(StreamError):
    """No broker answers, or the embedded one cannot be started."""


class ArchiveError(StreamError):
    """The archive or its ledger contradicts itself; nothing was changed."""


class ArchiveBusy(ArchiveError):
    """Another process writes the archive."""
