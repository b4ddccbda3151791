"""The root of all errors that a user can fix, each reported in one line: what, where, what to do.

Every room has subclasses of these; command lines print the message and exit with `exit_code`. Any other exception is a
bug and keeps its traceback.
"""


class MarqueeError(Exception):
    """Root of all errors that a user can fix."""

    exit_code = 1


class SettingsError(MarqueeError):
    """The settings cannot be read, or contain an unknown key or a wrong value."""

    exit_code = 2


class StreamError(MarqueeError):
    """Kafka or the archive cannot be read or written."""


class TopicRemade(StreamError):
    """The topic is not the one that was read: it was deleted and made anew. Nothing of it is stored from now on.

    A topic that lost its last records, and has others in their place, looks the same.
    """

    def __init__(self, topic: str, evidence: str) -> None:
        super().__init__(
            f"kafka: {topic} was deleted and made anew: {evidence}. Nothing of the new topic is read; to read it from"
            " its beginning, and keep what was read of the old one: python -m stream new-topic. If it is the old topic,"
            " and lost its last records in an unclean leader election, that would archive what is left a second time"
        )
        self.topic, self.evidence = topic, evidence


class KafkaSilent(StreamError):
    """Kafka has not answered for too long. What was read before is whole."""


class BrokerError(StreamError):
    """No broker answers, or the embedded one cannot start."""


class ArchiveError(StreamError):
    """The archive or its ledger is damaged or inconsistent; nothing was changed."""


class ArchiveBusy(ArchiveError):
    """Another process is writing the archive."""
