"""Metrics of all workers together, for Prometheus.

A worker counts in plain lists, at some hundred nanoseconds a request. Whichever worker is asked for `/metrics` adds up
what all have counted, see `tallies.py`.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from server.answers import SOURCES
from server.beside import beside
from server.current import Current
from server.errors import ServerError
from server.guard import Guard
from server.tallies import BUCKETS, Tallies, Tally

log = logging.getLogger("server")

_EVERY_S = 1.0


class Meter:
    """What one worker has counted since it began."""

    def __init__(self) -> None:
        self.answered = [0] * len(SOURCES)
        """Answers by source."""
        self.buckets = [0] * 64
        """Answers by power of two of the handling time, as `BUCKETS` says; nothing takes 2^64 µs."""
        self.seconds = 0.0
        """Sum of the handling times."""
        self.statuses: dict[str, int] = {}
        """Answers without a list, by status."""

    def took(self, source: int, seconds: float) -> None:
        """Count an answer: where it came from, and how long it took from the request's bytes to its own."""
        self.answered[source] += 1
        self.buckets[int(seconds * 1e6).bit_length()] += 1
        self.seconds += seconds

    def refused(self, status: int) -> None:
        """Count an answer without a list."""
        self.statuses[str(status)] = self.statuses.get(str(status), 0) + 1


class Metrics:
    """The counts of this worker among those of the others, in `folder`."""

    def __init__(self, folder: Path, meter: Meter, current: Current, guard: Guard, connections: set[Any]) -> None:
        self._tallies, self._meter, self._current, self._guard = Tallies(folder), meter, current, guard
        self._connections, self._turn = connections, asyncio.Lock()

    async def follow(self) -> None:
        """Write the counts again and again."""
        while True:
            await beside(self.write)
            await asyncio.sleep(_EVERY_S)

    async def scraped(self) -> bytes:
        """What `text` says; one at a time. Raises `ServerError` where it cannot be told just now."""
        async with self._turn:
            try:
                return await beside(self.text)
            except (OSError, filelock.Timeout) as error:
                raise ServerError(f"metrics cannot be told: {error}") from error

    def write(self) -> None:
        """Write the counts of this worker; where that fails, it is said, and they are written the next time."""
        try:
            self._tallies.write(self._tally())
        except (OSError, filelock.Timeout) as error:
            log.warning("metrics cannot be written: %s", error)

    def text(self) -> bytes:
        """All workers' metrics, in Prometheus' format. Raises `OSError` and `filelock.Timeout`."""
        self.write()
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus' client asks a collector for."""
        total, fresh = self._tallies.read()
        yield _labelled("marquee_answers", "Answers with a list, by where it came from.", "source",
                        dict(zip(SOURCES, total.answered, strict=True)))  # fmt: skip
        yield _labelled("marquee_requests", "Requests by status.", "status", total.statuses)
        yield _labelled("marquee_refused", "Limits that were met, by which.", "limit", total.refused)
        yield _labelled("marquee_swaps", "Releases taken and refused.", "result", total.swaps)
        yield _handling(total)
        yield GaugeMetricFamily("marquee_workers", "Workers that serve.", len(fresh))
        yield GaugeMetricFamily("marquee_connections", "Open connections.", sum(one.connections for one in fresh))
        in_use = GaugeMetricFamily("marquee_release_workers", "Workers by the release in use.", labels=["release"])
        for release, count in Counter(one.release or "none" for one in fresh).items():
            in_use.add_metric([release], count)
        yield in_use
        if self._current.answers is not None:
            age = time.time() - self._current.answers.release.published
            yield GaugeMetricFamily("marquee_release_age_seconds", "Since the release in use was published.", age)

    def _tally(self) -> Tally:
        """All that this worker has counted; the loop may go on counting meanwhile."""
        meter, answers, refused = self._meter, self._current.answers, dict(self._guard.refused)
        statuses = Counter(dict(meter.statuses))
        statuses["200"] += sum(meter.answered)
        statuses["503"] += refused["overload"] + refused["connections"]  # refused before Sanic had a request
        return Tally(
            answered=list(meter.answered),
            buckets=[*meter.buckets[:BUCKETS], sum(meter.buckets[BUCKETS:])],
            seconds=meter.seconds,
            statuses=dict(statuses),
            refused=refused,
            swaps=dict(self._current.swaps),
            connections=len(self._connections),
            release=answers.release.id if answers else None,
        )


def _labelled(name: str, text: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _handling(total: Tally) -> Metric:
    buckets, below = [], 0
    for power, count in enumerate(total.buckets):
        below += count
        buckets.append(("+Inf" if power == BUCKETS else str(2**power / 1e6), below))
    family = HistogramMetricFamily("marquee_handling_seconds", "From a request's bytes to those of its answer.")
    family.add_metric([], buckets, total.seconds)
    return family
