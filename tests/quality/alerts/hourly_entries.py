"""Ledger entries by hour and fault, for the tests of thresholds."""

from pathlib import Path
from typing import Any

import msgspec

from quality.alerts.alert_file import AlertFile
from quality.settings import QualitySettings
from stream.ledger_entry import LedgerEntry, TimeRange
from stream.zone import HOUR_MS
from tests.ledger_entries import entry

BEGIN = 1_770_732_000_000 // HOUR_MS  # 2026-02-10T14Z
NEVER = float("inf")
"""A `times` that nothing reaches."""


def setting(week_lines: Any = 100_000, **thresholds: Any) -> QualitySettings:
    return msgspec.convert({"week_lines": week_lines, "thresholds": thresholds}, QualitySettings)


def hour_entry(
    hour: int = 0, lines: int = 1000, faults: dict[str, int] | None = None, first: int = 0, partition: int = 0
) -> LedgerEntry:
    """An entry of the hour `hour` after `BEGIN`; see `entry` for `faults`."""
    time = TimeRange((BEGIN + hour) * HOUR_MS - 5, (BEGIN + hour) * HOUR_MS + HOUR_MS // 2)
    return entry(first, first + lines - 1, faults, kafka_time=time, topic="log", partition=partition)


def raised_ids(var: Path) -> list[str]:
    """The ids in the alert file."""
    return [line.alert.id for line in AlertFile(var).read()]
