"""Holds the night while blocking alerts are open: the data since the last release are too bad to learn from.

`[quality.thresholds.*] hold` sets which alerts block. A held night raises an alert, once per day of the stream, and
ends before any work is done; `python -m batch nightly --despite-alerts` runs anyway.
"""

import logging
from collections.abc import Iterable

import msgspec

from batch.errors import NightHeld
from batch.releases import publish
from quality.alerts.alert_file import Alert, raise_alert
from quality.alerts.thresholds import blocking_alerts
from quality.settings import QualitySettings
from stream.ledger_clock import stream_time
from stream.ledger_entry import LedgerEntry
from stream.settings import StreamSettings
from stream.zone import zone_named

log = logging.getLogger(__name__)


def require_no_blocking_alerts(
    entries: Iterable[LedgerEntry], streaming: StreamSettings, quality: QualitySettings, despite_alerts: bool = False
) -> None:
    """Raise `NightHeld`, and an alert, if there are blocking alerts; with `despite_alerts`, only log them.

    Alerts count from the hour in which the last release read the archive, since that hour was not over. Without a
    release no night is held: poor answers are better than none.
    """
    entries = list(entries)
    alerts = alerts_since(entries, streaming, quality)
    if not alerts:
        return
    if despite_alerts:
        log.warning("the night continues despite %s", _describe(alerts))
        return
    raise_alert(streaming.var, _alert(alerts, zone_named(streaming.timezone).day(stream_time(entries) or 0)))
    raise NightHeld(
        f"night: held back by {_describe(alerts)}; look at the quarantine (python -m quality quarantine list), then run"
        " it anyway: python -m batch nightly --despite-alerts"
    )


def alerts_since(entries: list[LedgerEntry], streaming: StreamSettings, quality: QualitySettings) -> list[Alert]:
    """The blocking alerts since the last release read the archive, the worst first."""
    history = publish.read_publications(streaming.var)
    if not history or publish.current_release(streaming.var) is None:
        return []
    changed, reached = history[-1].stream_time, publish.data_until(streaming.var)
    since = changed if reached is None else min(changed, reached)
    return blocking_alerts(streaming.var, entries, quality, since)


def _alert(alerts: list[Alert], day: str) -> Alert:
    text = f"the night of {day} is held back, the last release stays: {_describe(alerts)}"
    return msgspec.structs.replace(alerts[0], id=f"night_held:{day}", alert="night_held", text=text, hold=False)


def _describe(alerts: list[Alert]) -> str:
    """The first alert, and how many more there are."""
    return f"{alerts[0].id} ({alerts[0].text})" + (f" and {len(alerts) - 1} more" if len(alerts) > 1 else "")
