"""Does Kafka answer? Notices an outage and its end, and logs each once: the client retries in silence."""

import logging
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)

SILENT_S = 10.0
"""Seconds of polling without an answer for a partition that are an outage. Kafka answers twice a second, also when it
has no records."""


class KafkaContact:
    """Follows the answers for the partitions of one topic. Only time in polls counts: a busy reader is no outage."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._answers: dict[int, int | None] = {}
        """By partition: the time stamp of its last answer, as the client gives it; None before the first."""
        self._waited_s: dict[int, float] = {}
        """By partition: seconds of polling since then."""
        self._since: float | None = None
        """When the last answer came before some partition fell silent, seconds of the monotonic clock; None while all
        answer."""
        self._unchecked_since: float | None = None
        """When the topic was checked without an answer for the first time since one was answered."""

    @property
    def lost(self) -> bool:
        """Whether there is an outage: no partition answers."""
        return self.silent_s >= SILENT_S

    @property
    def incomplete(self) -> bool:
        """Whether some partition does not answer; it may only be without a leader."""
        return self._since is not None

    @property
    def unchecked_s(self) -> float:
        """Seconds since a check of the topic that was not answered, as none was after it."""
        return 0.0 if self._unchecked_since is None else time.monotonic() - self._unchecked_since

    def checked(self, answered: bool, seconds: float) -> None:
        """Note whether Kafka answered a check of the topic, which took so many seconds."""
        if answered:
            self._unchecked_since = None
        elif self._unchecked_since is None:
            self._unchecked_since = time.monotonic() - seconds

    @property
    def silent_s(self) -> float:
        """Seconds of polling since the last answer for any partition."""
        return min(self._waited_s.values(), default=0.0)

    def polled(self, answers: Mapping[int, int | None], seconds: float) -> None:
        """Note a poll that took so many seconds, and the time stamp of each polled partition's last answer after it."""
        waited_s = {}
        for partition, stamp in answers.items():
            same = partition in self._answers and self._answers[partition] == stamp
            waited_s[partition] = self._waited_s[partition] + seconds if same else 0.0
        self._answers, self._waited_s = dict(answers), waited_s
        silent = sorted(partition for partition, waited_s in self._waited_s.items() if waited_s >= SILENT_S)
        if silent and self._since is None:
            longest_s = max(self._waited_s.values())
            self._since = time.monotonic() - longest_s
            log.warning("no answer from %s for %.0f s, partitions %s; waiting", self._what, longest_s, silent)
        elif not silent and self._since is not None:
            log.info("%s answers again after %.0f s", self._what, time.monotonic() - self._since)
            self._since = None
