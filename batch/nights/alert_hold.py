"""Holds the night while blocking alerts are open: the data since the last release are too bad to learn from.

What is too bad, `[quality.thresholds.*] hold` says. A held night raises an alert of its own, once a day of the stream,
and ends before any work is done; `python -m batch nightly --despite-alerts` goes on all the same.
"""

import logging
from collections.abc import Iterable

import msgspec

from batch.errors import NightHeld
from batch.releases import publish
from quality.alerts.alert_file import Alert, raise_alert
from quality.alerts.thresholds import blocking_alerts
from quality.settings import QualitySettings
from stream.archive import LedgerEntry, stream_time
from stream.settings import StreamSettings
from stream.zone import zone_named

log = logging.getLogger(__name__)


def require_no_blocking_alerts(
    entries: Iterable[LedgerEntry], streaming: StreamSettings, quality: QualitySettings, despite_alerts: bool = False
) -> None:
    """Raise `NightHeld`, and an alert, where alerts hold the night back; with `despite_alerts`, only log them.

    What came since the last release read the archive counts, and the hour of that: it was not over. Without a release
    nothing is held: poor answers are better than none.
    """
    entries = list(entries)
    found = alerts_since(entries, streaming, quality)
    if not found:
        return
    if despite_alerts:
        log.warning("the night goes on in spite of %s", _told(found))
        return
    raise_alert(streaming.var, _alert(found, zone_named(streaming.timezone).day(stream_time(entries) or 0)))
    raise NightHeld(
        f"night: held back by {_told(found)}; see the quarantine, then: python -m batch nightly --despite-alerts"
    )


def alerts_since(entries: list[LedgerEntry], streaming: StreamSettings, quality: QualitySettings) -> list[Alert]:
    """The alerts that hold the night back, of what came since the last release read the archive; the worst first."""
    history = publish.read_publications(streaming.var)
    if not history or publish.current_release(streaming.var) is None:
        return []
    changed, reached = history[-1].stream_time, publish.data_until(streaming.var)
    since = changed if reached is None else min(changed, reached)
    return blocking_alerts(streaming.var, entries, quality, since)


def _alert(found: list[Alert], day: str) -> Alert:
    text = f"the night of {day} is held back, the last release stays: {_told(found)}"
    return msgspec.structs.replace(found[0], id=f"night_held:{day}", alert="night_held", text=text, hold=False)


def _told(found: list[Alert]) -> str:
    """The worst, and how many more there are."""
    return f"{found[0].id} ({found[0].text})" + (f" and {len(found) - 1} more" if len(found) > 1 else "")
