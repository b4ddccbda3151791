"""The counts of one worker, in plain lists, at some hundred nanoseconds per request.

They are written once a second (`shared_counts.py`); the operator's port sums them over all workers (`exposition.py`).
"""

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import filelock

from server.answers import SOURCES
from server.guard import Guard
from server.release_watcher import ReleaseWatcher
from server.shared_counts import BUCKETS, SharedCounts, WorkerCounts
from server.threads import run_in_daemon_thread

log = logging.getLogger(__name__)

_EVERY_S = 1.0


class RequestMeter:
    """Counts the answers of one worker since it began."""

    def __init__(self) -> None:
        self.answered = [0] * len(SOURCES)
        """Answers by source."""
        self.buckets = [0] * 64
        """Answers by power of two of the handling time, see `BUCKETS`; nothing takes 2^63 µs."""
        self.seconds = 0.0
        """Sum of the handling times."""
        self.statuses: dict[str, int] = {}
        """Answers without a list, by status."""

    def took(self, source: int, seconds: float) -> None:
        """Count an answer with a list; `seconds` is the time from receiving the request to sending the answer."""
        self.answered[source] += 1
        self.buckets[int(seconds * 1e6).bit_length()] += 1
        self.seconds += seconds

    def refused(self, status: int) -> None:
        """Count an answer without a list."""
        self.statuses[str(status)] = self.statuses.get(str(status), 0) + 1


class WorkerMetrics:
    """Writes the counts of this worker into `folder`."""

    def __init__(
        self, folder: Path, meter: RequestMeter, current: ReleaseWatcher, guard: Guard, connections: set[Any]
    ) -> None:
        self.folder = folder
        self._shared_counts, self._meter, self._current, self._guard = SharedCounts(folder), meter, current, guard
        self._connections = connections

    async def follow(self) -> None:
        """Write the counts once a second, for ever."""
        while True:
            await run_in_daemon_thread(self.write)
            await asyncio.sleep(_EVERY_S)

    def write(self) -> None:
        """Write the counts of this worker; a failure is logged, and the next attempt follows in a second."""
        try:
            self._shared_counts.write(self._counts())
        except (OSError, filelock.Timeout) as error:
            log.warning("metrics cannot be written: %s", error)

    def _counts(self) -> WorkerCounts:
        """The counts of this worker; the loop may go on counting meanwhile."""
        meter, status, refused = self._meter, self._current.status(), dict(self._guard.refused)
        answers = self._current.answers
        statuses = Counter(dict(meter.statuses))
        statuses["200"] += sum(meter.answered)
        statuses["503"] += refused["overload"] + refused["connections"]  # refused before Sanic had a request
        return WorkerCounts(
            answered=list(meter.answered),
            buckets=[*meter.buckets[:BUCKETS], sum(meter.buckets[BUCKETS:])],
            seconds=meter.seconds,
            statuses=dict(statuses),
            refused=refused,
            swaps=dict(self._current.swaps),
            connections=len(self._connections),
            release=status.release,
            published=answers.release.published if answers else None,
            damaged_answers=status.damaged_answers,
            on_last_good=status.fallback,
            damaged=status.damaged is not None,
            hidden_fault=status.hidden_fault is not None,
            hidden=status.hidden_count,
            hidden_unmatched=status.hidden_unmatched_count,
            look_age_s=status.last_look_age_s,
        )
