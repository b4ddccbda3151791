"""A file of metrics for node_exporter's textfile collector, `var/metrics/<process>.prom`."""

import logging
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


class MetricsFile:
    """Replaces a process's file atomically. Metrics must not stop the process: a failure is logged, once."""

    def __init__(
        self, var: Path, process: str, figures: Collector, failures: tuple[type[Exception], ...] = (OSError,)
    ) -> None:
        """`failures` are the errors that are logged, of the disk and of what `figures` read; others are raised."""
        self.path = var / "metrics" / f"{process}.prom"
        self._registry = CollectorRegistry()
        self._registry.register(figures)
        self._failures = failures
        self._failing = False

    def write(self) -> bool:
        """Write the current figures; returns whether it went well."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(self.path), self._registry)
        except self._failures as error:
            if not self._failing:
                log.error("metrics: cannot write %s: %s", self.path, error)
            self._failing = True
        else:
            self._failing = False
        return not self._failing
