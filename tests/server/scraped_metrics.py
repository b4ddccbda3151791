"""The metrics of workers, as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

from tests.server.worker_processes import WorkerProcess

Samples = dict[tuple[str, str], float]
"""By name, and by the value of the only label, or an empty string."""


def read_samples(text: str) -> Samples:
    """The samples of an exposition. Fails where a metric has no help text or comes twice."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            key = sample.name, ",".join(sample.labels.values())
            assert key not in samples
            samples[key] = sample.value
    return samples


def scraped(worker: WorkerProcess) -> Samples:
    """The metrics of all workers on the same `var`."""
    return read_samples(worker.metrics())
