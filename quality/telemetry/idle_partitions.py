"""Which partitions need not be waited for: those that are read to their end, and silent or still without a line.

Kafka must have confirmed that nothing of a partition is unread: otherwise the first partition to be read could close
days for which another one still has lines.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping

log = logging.getLogger(__name__)


class IdlePartitions:
    """The idle partitions of a topic, by this machine's clock; says once when one becomes idle and when it goes on."""

    def __init__(self, idle_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._idle_s, self._monotonic_s = idle_s, monotonic_s
        self._since: dict[int, float] = {}
        """By partition: when its last record came, or when it was seen first."""
        self.idle: frozenset[int] = frozenset()
        self.silent: frozenset[int] = frozenset()
        """The partitions with lines of which none has come for long, while another partition goes on."""

    def update(self, arrived: Collection[int], unread: Mapping[int, int | None], with_lines: Collection[int]) -> None:
        """Take a poll into account.

        `arrived` are the partitions of its records, `unread` are the numbers of records that are left (None: not
        known), `with_lines` the partitions that ever had a line.
        """
        now = self._monotonic_s()
        for partition in unread:
            self._since.setdefault(partition, now)
        self._since.update(dict.fromkeys(arrived, now))
        done = {partition for partition, left in unread.items() if left == 0}
        quiet = {partition for partition in with_lines if now - self._since.get(partition, now) >= self._idle_s}
        self.silent = frozenset(quiet if len(quiet) < len(with_lines) else ())
        silent = done & quiet
        idle = frozenset(silent | (done - set(with_lines)))
        for partition in sorted(silent - self.idle):
            log.info("partition %d is read to its end and silent: it is not waited for", partition)
        for partition in sorted(self.idle & set(arrived)):
            log.info("partition %d goes on: it is waited for again", partition)
        self.idle = idle
