"""Held nights as processes: exit code, alert, webhook with and without a receiver, and the schedule that goes on."""

import time
from functools import partial
from pathlib import Path

import pytest

from batch.releases import publish
from quality.alerts.alert_file import Alert, raise_alert
from quality.alerts.webhook import Outbox, posting
from quality.settings import QualitySettings
from stream.archive import Archive
from stream.zone import DAY_MS, HOUR_MS
from tests.integration.marquee_processes import Command, Start
from tests.ledger_entries import entry_at
from tests.polling import until
from tests.quality.alerts.webhook_receiver import HANG, HANG_S, Receiver

NOON = 1_770_742_800_000  # 2026-02-10T12:00 in New York


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """A folder with a release of noon, and one hour after it of which a third was quarantined."""
    var = tmp_path / "var"
    (var / "releases" / "r1").mkdir(parents=True)
    publish.make_current(var, "r1", NOON)
    Archive(var).commit(entry_at(NOON + HOUR_MS, 3333, topic="log"))
    return var


def settings(var: Path, url: str = "") -> dict[str, str]:
    return {"MARQUEE_STREAM_VAR": str(var), "MARQUEE_STREAM_TOPIC": "log", "MARQUEE_QUALITY_WEBHOOK": url}


def left(var: Path) -> list[str]:
    return [alert.id for _, _, alert in Outbox(var).pending()]


def test_a_held_night_ends_with_its_own_code_and_tells_the_webhook(var: Path, start: Start) -> None:
    raise_alert(var, Alert(id="earlier", alert="test", text="x"))  # from a process that could not post it
    with Receiver([500]).up() as receiver:
        night = start(settings(var, receiver.url), "batch", "nightly")
        assert night.ends() == 4, night.text()
    [told] = [line for line in night.text().splitlines() if line.startswith("error: ")]
    assert "quarantined:2026-02-10T18Z:hold (2026-02-10T18Z: 33.33% of 10000 lines" in told
    assert told.endswith("python -m batch nightly --despite-alerts")
    assert "Traceback" not in night.text()
    assert publish.current_release(var) == (var / "releases" / "r1").resolve()
    assert not list((var / "night").glob("*.parquet"))
    assert receiver.taken == ["earlier", "night_held:2026-02-10"]


def test_despite_alerts_the_night_goes_on(var: Path, start: Start) -> None:
    night = start(settings(var), "batch", "nightly", "--despite-alerts")
    assert night.ends() == 1  # this archive has nothing to learn from, and the night got as far as that
    assert "error: history: 0 days of sessions" in night.text()
    assert "continues despite quarantined:2026-02-10T18Z:hold" in night.text()


@pytest.mark.parametrize("hangs", [True, False])
def test_a_webhook_that_does_not_answer_delays_no_end_and_loses_nothing(var: Path, start: Start, hangs: bool) -> None:
    with Receiver([HANG] * 9).up() as receiver:
        environ = settings(var, receiver.url if hangs else "http://127.0.0.1:1/")
        began = time.monotonic()
        night = start(environ | {"MARQUEE_QUALITY_WEBHOOK_TIMEOUT_S": "0.5"}, "batch", "nightly")
        assert night.ends() == 4, night.text()
        assert time.monotonic() - began < HANG_S / 2
        assert night.text().count("alerts are not accepted") == 1
        assert "SECRET" not in night.text()
    assert left(var) == ["night_held:2026-02-10"]
    with Receiver([]).up() as receiver, posting(var, QualitySettings(webhook=receiver.url)):
        pass  # the last attempt is always made
    assert receiver.taken == ["night_held:2026-02-10"]
    assert left(var) == []


def _held(schedule: Command, times: int) -> bool:
    return schedule.text().count("night is held back") == times


def test_the_schedule_waits_for_the_next_hour_and_tells_each_day_once(var: Path, start: Start) -> None:
    archive = Archive(var)
    with Receiver([]).up() as receiver:
        schedule = start(settings(var, receiver.url), "batch", "schedule", "--at", "03:00")
        for day in (1, 2):
            archive.commit(entry_at(NOON + day * DAY_MS, first=10_000 * day, topic="log"))
            until(partial(_held, schedule, day))
        schedule.process.terminate()
        assert schedule.ends() == 0, schedule.text()
    assert schedule.text().count("night begins") == 2
    assert receiver.taken == ["night_held:2026-02-11", "night_held:2026-02-12"]
    assert publish.current_release(var) == (var / "releases" / "r1").resolve()
