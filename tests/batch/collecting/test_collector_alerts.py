"""The collector's alerts: raised once, posted at once, and made good after a crash."""

from pathlib import Path

import msgspec
import pytest

from quality.alerts import webhook
from quality.alerts.alert_file import Alert, raise_alert
from quality.alerts.webhook import posting
from tests.batch.collecting.collected_lines import LINES, STRICT, alerts, collector_of, fetched, run
from tests.polling import until
from tests.quality.alerts.webhook_receiver import Receiver


def test_a_batch_full_of_faults_raises_an_alert_once(tmp_path: Path) -> None:
    collector = collector_of(tmp_path, STRICT)
    run(collector, [fetched([*LINES, LINES[0]])])
    raised = alerts(tmp_path)
    assert "quarantined" in [alert["alert"] for alert in raised]
    collector_of(tmp_path, STRICT).resume()
    assert alerts(tmp_path) == raised


def test_an_alert_lost_in_a_crash_is_raised_at_the_next_start(tmp_path: Path) -> None:
    run(collector_of(tmp_path, STRICT), [fetched(LINES)])
    raised = alerts(tmp_path)
    (tmp_path / "alerts.jsonl").unlink()  # as if it had died right after the commit
    collector_of(tmp_path, STRICT).resume()
    assert [alert["id"] for alert in alerts(tmp_path)] == [alert["id"] for alert in raised] != []


def test_a_raised_alert_wakes_the_poster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "IDLE_S", 3600)  # nothing but the collector wakes the poster
    raise_alert(tmp_path, Alert(id="earlier", alert="test", text="raised before the collector started"))
    with Receiver([]).up() as receiver:
        quality = msgspec.structs.replace(STRICT, webhook=receiver.url, webhook_timeout_s=600.0)
        with posting(tmp_path, quality) as poster:
            collector = collector_of(tmp_path, quality, poster)
            until(lambda: receiver.taken == ["earlier"])  # what comes now is no part of the poster's first look
            run(collector, [fetched([*LINES, LINES[0]])])
            raised = [alert["id"] for alert in alerts(tmp_path)]
            assert len(raised) > 1
            until(lambda: receiver.taken == raised)
