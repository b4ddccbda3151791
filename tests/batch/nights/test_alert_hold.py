"""Holding the night: what holds it, what it says, whom it tells, and that the schedule waits for the next hour."""

import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from batch.errors import NightHeld
from batch.nights import schedule
from batch.nights.alert_hold import require_no_blocking_alerts
from batch.releases import publish
from batch.settings import BatchSettings
from quality.alerts.alert_file import Alert, AlertFile, raise_alert
from quality.settings import QualitySettings
from stream.archive import Archive
from stream.ledger_entry import LedgerEntry
from stream.settings import StreamSettings
from stream.zone import DAY_MS, HOUR_MS
from tests.ledger_entries import entry_at
from tests.polling import until

NOON = 1_770_742_800_000  # 2026-02-10T12:00 in New York, 17Z
QUALITY = QualitySettings()


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """A folder with a release that became current at noon."""
    (tmp_path / "releases" / "r1").mkdir(parents=True)
    publish.make_current(tmp_path, "r1", NOON)
    return tmp_path


def hold(var: Path, *entries: LedgerEntry, despite: bool = False, quality: QualitySettings = QUALITY) -> None:
    require_no_blocking_alerts(entries, StreamSettings(var=var), quality, despite)


def alerts(var: Path) -> list[Alert]:
    return [alert for _, _, alert in AlertFile(var).read()]


def test_a_gross_hour_holds_the_night_and_says_what_to_do(var: Path) -> None:
    with pytest.raises(NightHeld) as held:
        hold(var, entry_at(NOON + HOUR_MS, 2100), entry_at(NOON + 2 * HOUR_MS, 3000), entry_at(NOON + 5 * HOUR_MS, 0))
    assert held.value.exit_code == 4
    assert str(held.value) == (
        "night: held back by quarantined:2026-02-10T19Z:hold (2026-02-10T19Z: 30.00% of 10000 lines quarantined, at"
        " most 0.30% are normal; too many to learn from) and 1 more; look at the quarantine"
        " (python -m quality quarantine list), then run it anyway: python -m batch nightly --despite-alerts"
    )


def test_a_held_night_is_an_alert_once_a_day_of_the_stream(var: Path) -> None:
    bad, after = entry_at(NOON + HOUR_MS, 2100), entry_at(NOON + 11 * HOUR_MS, 0)
    for entries in ([bad], [bad], [bad, after], [bad, entry_at(NOON + 12 * HOUR_MS, 0)]):
        with pytest.raises(NightHeld):
            hold(var, *entries)
    first, second = alerts(var)
    assert (first.id, second.id) == ("night_held:2026-02-10", "night_held:2026-02-11")
    assert (first.alert, first.hold) == ("night_held", False)
    assert (first.hour, first.share, first.lines) == ("2026-02-10T18Z", 0.21, 2100)
    assert first.text.startswith(
        "the night of 2026-02-10 is held back, the last release stays: quarantined:2026-02-10T18"
    )


@pytest.mark.parametrize(
    ("time_ms", "bad", "lines"),
    [
        (NOON + HOUR_MS, 2000, 10_000),  # no more than the share that holds
        (NOON + HOUR_MS, 999, 1000),  # too few to hold
        (NOON - 1, 9000, 10_000),  # before the release
    ],
)
def test_a_smaller_breach_does_not_hold_the_night(var: Path, time_ms: int, bad: int, lines: int) -> None:
    hold(var, entry_at(time_ms, bad, lines))
    assert alerts(var) == []


def test_the_hour_of_the_release_counts_as_well(var: Path) -> None:
    with pytest.raises(NightHeld):
        hold(var, entry_at(NOON + 1, 9000))


def test_with_despite_alerts_the_night_goes_on_and_logs_them(var: Path, caplog: pytest.LogCaptureFixture) -> None:
    hold(var, entry_at(NOON + HOUR_MS, 9000), despite=True)
    assert "continues despite quarantined:2026-02-10T18Z:hold" in caplog.text
    assert alerts(var) == []


def test_without_a_release_no_night_is_held(tmp_path: Path, var: Path) -> None:
    hold(tmp_path / "new", entry_at(NOON + HOUR_MS, 9000))
    (var / "releases" / "current").unlink()
    hold(var, entry_at(NOON + HOUR_MS, 9000))


def test_the_latest_release_counts(var: Path) -> None:
    (var / "releases" / "r2").mkdir()
    publish.make_current(var, "r2", NOON + 2 * HOUR_MS)
    hold(var, entry_at(NOON + HOUR_MS, 9000))


def test_an_alert_raised_to_hold_holds_the_night(var: Path) -> None:
    raise_alert(var, Alert(id="clock:x", alert="clock", text="4.0 h apart", stream_time=NOON, hold=True))
    with pytest.raises(NightHeld, match=r"held back by clock:x \(4.0 h apart\);"):
        hold(var)


STUB = """#!/bin/sh
echo night >> {calls}
exit {code}
"""


@pytest.mark.parametrize(("code", "tries"), [(4, 1), (3, 1), (1, 3)])
def test_the_schedule_leaves_a_held_or_refused_night_to_the_next_hour_and_tries_a_failed_one_again(
    var: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, tries: int
) -> None:
    message = {1: "night failed", 3: "night is refused", 4: "night is held back"}[code]
    stub, calls = var / "python", var / "calls"
    stub.write_text(STUB.format(calls=calls, code=code))
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    monkeypatch.setattr(schedule, "POLL_S", 0.01)
    monkeypatch.setattr(schedule, "RETRY_S", 0.01)
    archive, stop = Archive(var), threading.Event()

    def is_logged(text: str, times: int) -> bool:
        return caplog.text.count(text) == times

    arguments = StreamSettings(var=var), BatchSettings(night_at="03:00"), stop
    thread = threading.Thread(target=schedule.run, args=arguments)
    thread.start()
    try:
        for day in (1, 2, 3):
            archive.commit(entry_at(NOON + day * DAY_MS, 0, first=10_000 * day))
            until(partial(is_logged, message, tries * day))
    finally:
        stop.set()
        thread.join()
    assert calls.read_text().count("night") == tries * 3
