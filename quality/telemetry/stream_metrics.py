"""Telemetry's metrics of the stream, `var/metrics/telemetry.prom`: how far it has read, and what it waits for."""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from quality.metrics_file import MetricsFile

EVERY_S = 15.0
"""How often the file is written."""


@dataclass(frozen=True)
class StreamState:
    """The state of telemetry's reading."""

    watermark: int | None = None
    """ms UTC; None while it is not known."""
    waiting: int = 0
    """Records that are ahead of the stream's clock."""
    unread: Mapping[int, int | None] = field(default_factory=dict)
    """By partition: records that are left; None if not known."""
    idle: Collection[int] = ()
    """The partitions that are not waited for."""


class StreamMetrics(Collector):
    """Writes the file now and then."""

    def __init__(self, var: Path) -> None:
        self._file = MetricsFile(var, "telemetry", self)
        self._state = StreamState()
        self._written_s = -EVERY_S

    def refresh(self, state: StreamState, *, now: bool = False) -> None:
        """Replace the file if it is due, or `now`."""
        if now or time.monotonic() - self._written_s >= EVERY_S:
            self._state, self._written_s = state, time.monotonic()
            self._file.write()

    def collect(self) -> Iterator[Metric]:
        """The figures; called by the registry."""
        state = self._state
        if state.watermark is not None:
            text = "Up to when telemetry has read every partition that is not idle."
            yield GaugeMetricFamily("marquee_telemetry_watermark_seconds", text, state.watermark / 1000)
        text = "Records that wait because they are ahead of the stream's clock."
        yield GaugeMetricFamily("marquee_telemetry_waiting_records", text, state.waiting)
        unread = GaugeMetricFamily("marquee_telemetry_unread_records", "Records not yet read.", labels=["partition"])
        idle = GaugeMetricFamily(
            "marquee_telemetry_idle", "Whether a partition is not waited for.", labels=["partition"]
        )
        for partition, left in sorted(state.unread.items()):
            if left is not None:
                unread.add_metric([str(partition)], left)
            idle.add_metric([str(partition)], float(partition in state.idle))
        yield unread
        yield idle
