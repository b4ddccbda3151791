"""The collector's metrics, `var/metrics/<process>.prom`, for node_exporter's textfile collector.

All figures are computed from the ledger and `alerts.jsonl`, never from a process's memory: they are exact after a
crash, and a counter decreases only if the ledger itself lost entries. A file is replaced atomically.

| metric | meaning |
|---|---|
| `marquee_lines_total{fate,reason}` | lines by fate and reason (or rule of repair); they add up to all lines |
| `marquee_entries_total` | entries of the ledger |
| `marquee_lost_lines_total` | lines that Kafka dropped before they were read |
| `marquee_stream_time_seconds` | how far the stream has come, by its own clock |
| `marquee_alerts_total{alert,reason}` | alerts raised |
| `marquee_alerts_unposted` | alerts not yet accepted by the webhook; 0 without one |
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from quality.alerts.alert_file import AlertFile
from quality.alerts.webhook import Outbox
from quality.metrics_file import MetricsFile
from quality.settings import QualitySettings
from stream.clock import LatestLines
from stream.ledger_clock import furthest, latest_lines
from stream.ledger_entry import FATES, LedgerEntry


class LedgerMetrics(Collector):
    """The figures of one process's file. The time of `committed` grows with the entry's counts, that of `write` with
    the series."""

    def __init__(self, var: Path, process: str, settings: QualitySettings) -> None:
        self._alerts = AlertFile(var)
        self._outbox = Outbox(var) if settings.webhook else None
        self._file = MetricsFile(var, process, self)
        self._reset()

    def resume(self, entries: Iterable[LedgerEntry]) -> None:
        """Recount the whole ledger, and remove temporary files left by a crash."""
        self._reset()
        entries = list(entries)
        for entry in entries:
            self._count(entry)
        self._latest.update(latest_lines(entries))
        for path in self._file.path.parent.glob(f"{self._file.path.name}.*"):
            path.unlink(missing_ok=True)

    def committed(self, entry: LedgerEntry) -> None:
        """Add a committed entry."""
        self._count(entry)
        self._latest.update(latest_lines([entry]))

    def _count(self, entry: LedgerEntry) -> None:
        self._entries += entry.entry_count
        self._lost += entry.lost
        for count in entry.counts:
            self._lines[count.fate, count.reason or ""] += count.lines

    def write(self) -> None:
        """Replace the file."""
        self._file.write()

    def collect(self) -> Iterator[Metric]:
        """The current figures; called by the registry."""
        self._alerts.refresh()
        lines = CounterMetricFamily("marquee_lines", "Lines by fate and reason.", labels=["fate", "reason"])
        for (fate, reason), number in sorted(self._lines.items()):
            lines.add_metric([fate, reason], number)
        yield lines
        yield CounterMetricFamily("marquee_entries", "Entries of the ledger.", value=self._entries)
        yield CounterMetricFamily("marquee_lost_lines", "Lines gone from Kafka before they were read.", self._lost)
        if (reached := furthest(self._latest)) is not None:
            text = "How far the stream has come, by its own clock."
            yield GaugeMetricFamily("marquee_stream_time_seconds", text, reached / 1000)
        alerts = CounterMetricFamily("marquee_alerts", "Alerts that were raised.", labels=["alert", "reason"])
        for (alert, reason), number in sorted(self._alerts.raised.items()):
            alerts.add_metric([alert, reason], number)
        yield alerts
        unposted = len(self._outbox.pending()) if self._outbox else 0
        yield GaugeMetricFamily("marquee_alerts_unposted", "Alerts that the webhook has not taken yet.", unposted)

    def _reset(self) -> None:
        self._entries, self._lost = 0, 0
        self._latest: dict[tuple[str, int], LatestLines] = {}
        """By topic and partition: the latest lines, which are its clock."""
        # export every fate from the start: a series that appears only with its first line has no rate
        self._lines: Counter[tuple[str, str]] = Counter({(fate, ""): 0 for fate in FATES})
