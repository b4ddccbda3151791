"""Telemetry's metrics, `var/metrics/telemetry.prom`: how far it has read, what it waits for, and how answers do."""

import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from quality.metrics_file import MetricsFile
from quality.telemetry.day_rows import late_reason
from quality.telemetry.stream_state import StreamState
from quality.telemetry.stream_watch import AnswerFigures
from stream.event import KINDS

EVERY_S = 15.0
"""How often the file is written."""


class StreamMetrics(Collector):
    """Writes the file now and then."""

    def __init__(self, var: Path) -> None:
        self._file = MetricsFile(var, "telemetry", self)
        self._state, self._figures = StreamState(), AnswerFigures()
        self._written_s = -EVERY_S

    def refresh(self, state: StreamState, figures: AnswerFigures, *, now: bool = False) -> None:
        """Replace the file if it is due, or `now`."""
        if now or time.monotonic() - self._written_s >= EVERY_S:
            self._state, self._figures, self._written_s = state, figures, time.monotonic()
            self._file.write()

    def collect(self) -> Iterator[Metric]:
        """The figures; called by the registry."""
        yield from self._of_reading()
        yield from self._of_partitions()
        yield from self._of_answers()

    def _of_reading(self) -> Iterator[Metric]:
        state = self._state
        yield CounterMetricFamily("marquee_telemetry_lines", "Lines that were read and stored.", value=state.lines)
        text = "Records that wait because they are ahead of the stream's clock."
        yield GaugeMetricFamily("marquee_telemetry_waiting_records", text, state.waiting)
        watermark_s = None if state.watermark is None else state.watermark / 1000
        yield from _known("watermark_seconds", "Up to when every partition that is not idle was read.", watermark_s)
        yield from _known("last_line_timestamp_seconds", "When the last line came.", state.last_line_s)
        yield from _known("last_commit_timestamp_seconds", "When lines were last stored.", state.last_commit_s)

    def _of_partitions(self) -> Iterator[Metric]:
        state, labels = self._state, ["partition"]
        unread = GaugeMetricFamily("marquee_telemetry_unread_records", "Records not yet read.", labels=labels)
        idle = GaugeMetricFamily("marquee_telemetry_idle", "Whether a partition is not waited for.", labels=labels)
        lag = GaugeMetricFamily("marquee_telemetry_lag_seconds", "How far reading is behind the stream.", labels=labels)
        for partition, left in sorted(state.unread.items()):
            if left is not None:
                unread.add_metric([str(partition)], left)
            idle.add_metric([str(partition)], float(partition in state.idle))
        for partition, lag_ms in sorted(state.lag_ms.items()):
            lag.add_metric([str(partition)], lag_ms / 1000)
        yield from (unread, idle, lag)

    def _of_answers(self) -> Iterator[Metric]:
        figures = self._figures
        text = "Days whose report is not final."
        yield GaugeMetricFamily("marquee_telemetry_open_days", text, figures.open_days)
        late = GaugeMetricFamily("marquee_telemetry_late_lines", "Lines too late for their report.", labels=["reason"])
        for reason in map(late_reason, KINDS):
            late.add_metric([reason], figures.late_lines.get(reason, 0))
        yield late
        yield from _known("open_answers", "Answers whose window is open.", figures.open_answers)
        yield from _known("availability", "Share of an hour's requests with status 200.", figures.availability)
        yield from _known("hit_rate", "Hits by closed answers.", figures.hit_rate)


def _known(name: str, text: str, value: float | None) -> Iterator[Metric]:
    """A figure; none if it is not known yet."""
    if value is not None:
        yield GaugeMetricFamily(f"marquee_telemetry_{name}", text, value)
