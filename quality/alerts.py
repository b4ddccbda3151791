"""Alerts: what somebody should be told of the data, judged from a batch's ledger entry and kept in `var/alerts.jsonl`.

An alert is a line of JSON, appended and flushed to disk before the collector goes on, and a warning in the log. It
tells what was seen, how much of it, where, and what the threshold is.
"""

import os
from collections import Counter
from pathlib import Path

import msgspec

from quality.settings import QualitySettings
from stream.archive import Entry, Fate, tally


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert."""

    alert: str
    batch: str
    lines: int
    share: float | None
    threshold: float | None
    reasons: dict[str, int]
    text: str


def judged(entry: Entry, settings: QualitySettings) -> list[Alert]:
    """The alerts that one commit of the archive gives rise to."""
    found = []
    if entry.lost:
        text = f"{entry.lost} records of {entry.topic}-{entry.partition} were gone from Kafka before they were read"
        found.append(_alert("retention_gap", entry, entry.lost, None, None, {}, text))
    if entry.lines < settings.alert_lines:
        return found
    fates = tally([entry])
    fate: Fate
    for fate in ("quarantined", "repaired", "duplicate"):
        share, threshold = fates[fate] / entry.lines, getattr(settings, f"alert_{fate}")
        if share > threshold:
            reasons: Counter[str] = Counter()
            for count in entry.counts:
                if count.fate == fate and count.reason:
                    reasons[count.reason] += count.lines
            text = f"{share:.2%} of {entry.lines} lines {fate}, at most {threshold:.2%} are normal"
            found.append(_alert(fate, entry, fates[fate], share, threshold, reasons, text))
    return found


def raise_alerts(var: Path, alerts: list[Alert]) -> None:
    """Append alerts to the file, durably."""
    if not alerts:
        return
    var.mkdir(parents=True, exist_ok=True)
    with (var / "alerts.jsonl").open("ab") as file:
        file.write(b"".join(msgspec.json.encode(alert) + b"\n" for alert in alerts))
        file.flush()
        os.fsync(file.fileno())


def _alert(
    name: str,
    entry: Entry,
    lines: int,
    share: float | None,
    threshold: float | None,
    reasons: dict[str, int],
    text: str,
) -> Alert:
    return Alert(
        alert=name, batch=entry.name, lines=lines, share=share, threshold=threshold, reasons=reasons, text=text
    )
