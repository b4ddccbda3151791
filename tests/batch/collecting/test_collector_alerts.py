"""The collector's alerts: raised once, posted at once, and made good after a crash."""

from pathlib import Path

from tests.batch.collecting.collected_lines import LINES, STRICT, alerts, collector_of, fetched, run


def test_a_batch_full_of_faults_raises_an_alert_once(tmp_path: Path) -> None:
    collector = collector_of(tmp_path, STRICT)
    run(collector, [fetched([*LINES, LINES[0]])])
    raised = alerts(tmp_path)
    assert "quarantined" in [alert["alert"] for alert in raised]
    collector_of(tmp_path, STRICT).resume()
    assert alerts(tmp_path) == raised


def test_an_alert_that_a_crash_kept_from_being_raised_is_raised_by_the_next_start(tmp_path: Path) -> None:
    run(collector_of(tmp_path, STRICT), [fetched(LINES)])
    raised = alerts(tmp_path)
    (tmp_path / "alerts.jsonl").unlink()  # as if it had died right after the commit
    collector_of(tmp_path, STRICT).resume()
    assert [alert["id"] for alert in alerts(tmp_path)] == [alert["id"] for alert in raised] != []
