"""The metrics of all workers, summed, in Prometheus' text format."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import time

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from server.answers import SOURCES
from server.shared_counts import BUCKETS, SharedCounts, WorkerCounts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """Renders the counts that the workers write into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._shared_counts = SharedCounts(folder)

    def text(self) -> bytes:
        """The metrics of all workers. Raises `OSError` and `filelock.Timeout`."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """The metrics; called by prometheus_client."""
        total, fresh = self._shared_counts.read()
        yield _labelled("marquee_answers", "Answers with a list, by where it came from.", "source",
                        dict(zip(SOURCES, total.answered, strict=True)))  # fmt: skip
        yield _labelled("marquee_requests", "Requests by status.", "status", total.statuses)
        yield _labelled("marquee_refused", "Limits that were met, by which.", "limit", total.refused)
        yield _labelled("marquee_swaps", "Releases taken and refused.", "result", total.swaps)
        yield _handling(total)
        yield GaugeMetricFamily("marquee_workers", "Workers that serve.", len(fresh))
        yield GaugeMetricFamily("marquee_connections", "Open connections.", sum(counts.connections for counts in fresh))
        in_use = GaugeMetricFamily("marquee_release_workers", "Workers by the release in use.", labels=["release"])
        for release, count in Counter(counts.release or "none" for counts in fresh).items():
            in_use.add_metric([release], count)
        yield in_use
        yield from _release_health(total, fresh)
        if published := [counts.published for counts in fresh if counts.published is not None]:
            age = time() - max(published)
            yield GaugeMetricFamily(
                "marquee_release_age_seconds", "Since the newest release in use was published.", age
            )


def _release_health(total: WorkerCounts, fresh: list[WorkerCounts]) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "marquee_damaged_answers", "Answers that a damaged release could not give.", total.damaged_answers
    )
    workers = {
        "last_good": ("Workers that answer from the last good release, not from current.", "on_last_good"),
        "damaged": ("Workers whose release is damaged: they answer the popular list only.", "damaged"),
        "hidden_fault": ("Workers that cannot read hidden.txt.", "hidden_fault"),
    }
    for name, (text, field) in workers.items():
        yield GaugeMetricFamily(f"marquee_{name}_workers", text, sum(getattr(counts, field) for counts in fresh))
    worst = {
        "hidden_movies": ("Movies of the release that are hidden.", "hidden"),
        "hidden_unmatched": ("Lines of hidden.txt that name no movie of the release.", "hidden_unmatched"),
        "look_age_seconds": ("Since current and hidden.txt were looked at, in the worst worker.", "look_age_s"),
    }
    for name, (text, field) in worst.items():
        yield GaugeMetricFamily(f"marquee_{name}", text, max((getattr(counts, field) for counts in fresh), default=0))


def _labelled(name: str, text: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _handling(total: WorkerCounts) -> Metric:
    buckets, below = [], 0
    for power, count in enumerate(total.buckets):
        below += count
        buckets.append(("+Inf" if power == BUCKETS else str(2**power / 1e6), below))
    family = HistogramMetricFamily("marquee_handling_seconds", "From a request's bytes to those of its answer.")
    family.add_metric([], buckets, total.seconds)
    return family
