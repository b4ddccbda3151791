"""Metrics: the file follows from ledger and alerts, also after a crash, and a scraper can read it."""

import logging
import shutil
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from quality.alerts.alert_file import Alert, AlertFile
from quality.alerts.prometheus import LedgerMetrics
from quality.alerts.webhook import Outbox
from quality.settings import QualitySettings
from stream.ledger_entry import FateCount, LedgerEntry, TimeRange
from tests.ledger_entries import clock_at, entry, gap

SETTINGS = QualitySettings(webhook="http://127.0.0.1:1/")
FIGURES = dict[tuple[str, ...], float]


def mixed_entry(first: int, lines: int = 100, bad: int = 0, time_ms: int = 1_770_732_000_123) -> LedgerEntry:
    """An entry with lines of every fate; `bad` are quarantined."""
    counts = [FateCount("quarantined", None, "2026-02-10", 'say "x"\n', bad)] if bad else []
    counts += [
        FateCount("duplicate", None, "2026-02-10", None, 1),
        FateCount("repaired", "rate", "2026-02-10", "one", 2),
    ]
    counts += [FateCount("accepted", kind, "2026-02-10", None, (lines - bad - 3) // 2) for kind in ("watch", "rate")]
    return entry(first, first + lines - 1, counts=counts, kafka_time=TimeRange(time_ms - 1000, time_ms))


def alert(name: str, reason: str | None = None) -> Alert:
    return Alert(id=f"{name}:{reason}", alert=name, reason=reason, text="x")


def written(var: Path) -> FIGURES:
    text = (var / "metrics" / "collect.prom").read_text("utf-8")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


ENTRIES = [
    mixed_entry(0, 101, 2),
    mixed_entry(101, 103, 10, 1_770_735_600_000),
    gap(204, 253),
    # late lines, which do not turn the clock back
    msgspec.structs.replace(mixed_entry(254, time_ms=5000), clock=clock_at(1_770_735_600_000)),
]


def test_the_figures_are_those_of_the_ledger_and_of_the_alerts(tmp_path: Path) -> None:
    metrics = LedgerMetrics(tmp_path, "collect", SETTINGS)
    AlertFile(tmp_path).append([alert("quarantined"), alert("quarantined", "time"), alert("night_held")])
    for committed in ENTRIES:
        metrics.committed(committed)
    metrics.write()
    assert written(tmp_path) == {
        ("marquee_lines_total", "accepted", ""): 96 + 90 + 96,
        ("marquee_lines_total", "duplicate", ""): 3,
        ("marquee_lines_total", "quarantined", ""): 0,
        ("marquee_lines_total", "quarantined", 'say "x"\n'): 12,
        ("marquee_lines_total", "repaired", ""): 0,
        ("marquee_lines_total", "repaired", "one"): 6,
        ("marquee_entries_total",): 4,
        ("marquee_lost_lines_total",): 50,
        ("marquee_stream_time_seconds",): 1_770_735_600,
        ("marquee_alerts_total", "night_held", ""): 1,
        ("marquee_alerts_total", "quarantined", ""): 1,
        ("marquee_alerts_total", "quarantined", "time"): 1,
        ("marquee_alerts_unposted",): 3,
    }


@pytest.mark.parametrize("died", range(len(ENTRIES) + 1))
def test_after_a_crash_they_are_the_same(tmp_path: Path, died: int) -> None:
    (tmp_path / "metrics").mkdir()
    torn = tmp_path / "metrics" / "collect.prom.123.456"
    torn.write_text("marquee_li")
    metrics = LedgerMetrics(tmp_path, "collect", SETTINGS)
    metrics.resume(ENTRIES[:died])
    metrics.resume(ENTRIES[:died])
    assert not torn.exists()
    for committed in ENTRIES[died:]:
        metrics.committed(committed)
    metrics.write()
    other = LedgerMetrics(tmp_path / "other", "collect", SETTINGS)
    other.resume(ENTRIES)
    other.write()
    assert written(tmp_path) == written(tmp_path / "other")
    assert [path.name for path in (tmp_path / "metrics").iterdir()] == ["collect.prom"]


def test_before_the_first_line_all_fates_stand_at_0(tmp_path: Path) -> None:
    metrics = LedgerMetrics(tmp_path, "collect", SETTINGS)
    metrics.resume([])
    metrics.write()
    assert set(written(tmp_path).values()) == {0}
    assert ("marquee_stream_time_seconds",) not in written(tmp_path)


def test_unposted_alerts_go_down_as_they_are_delivered_and_are_none_without_a_webhook(tmp_path: Path) -> None:
    AlertFile(tmp_path).append([alert("a"), alert("b")])

    def unposted(settings: QualitySettings) -> float:
        LedgerMetrics(tmp_path, "collect", settings).write()
        return written(tmp_path)["marquee_alerts_unposted",]

    assert (unposted(SETTINGS), unposted(QualitySettings())) == (2, 0)
    Outbox(tmp_path).delivered(Outbox(tmp_path).pending()[0])
    assert unposted(SETTINGS) == 1


def test_each_failure_to_write_the_file_is_logged_once_and_raises_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, folder = LedgerMetrics(tmp_path, "collect", SETTINGS), tmp_path / "metrics"
    for failures in (1, 2):
        folder.write_text("not a folder")
        metrics.write()
        metrics.write()
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * failures
        folder.unlink()
        metrics.write()  # the failure is over, so the next one is news
        assert written(tmp_path)["marquee_entries_total",] == 0
        shutil.rmtree(folder)
