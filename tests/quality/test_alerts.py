"""Alerts: one for each fate above its share, none below it, none for small batches; kept as lines that can be read."""

from pathlib import Path

import orjson
import pytest

from quality.alerts import judged, raise_alerts
from quality.settings import QualitySettings
from stream.archive import Count, Entry, Fate

SETTINGS = QualitySettings(alert_lines=100, alert_quarantined=0.05, alert_repaired=0.05, alert_duplicate=0.1)


def entry(lines: int = 100, lost: int = 0, **fates: int) -> Entry:
    names: dict[str, Fate] = {"quarantined": "quarantined", "repaired": "repaired", "duplicate": "duplicate"}
    counts = [Count(names[name], None, "2022-10-07", f"{name}_reason", number) for name, number in fates.items()]
    counts.append(Count("accepted", "watch", "2022-10-07", None, lines - sum(fates.values())))
    return Entry(
        topic="movielog1", partition=3, first=0, last=max(lines, lost) - 1, lines=lines, lost=lost, counts=counts
    )


def names(one: Entry) -> list[str]:
    return [alert.alert for alert in judged(one, SETTINGS)]


@pytest.mark.parametrize(
    ("fates", "alerts"),
    [
        ({}, []),
        ({"quarantined": 5, "repaired": 5, "duplicate": 10}, []),
        ({"quarantined": 6}, ["quarantined"]),
        ({"repaired": 6}, ["repaired"]),
        ({"duplicate": 11}, ["duplicate"]),
        ({"quarantined": 30, "repaired": 30, "duplicate": 30}, ["quarantined", "repaired", "duplicate"]),
    ],
)
def test_a_share_above_its_threshold_raises_an_alert(fates: dict[str, int], alerts: list[str]) -> None:
    assert names(entry(**fates)) == alerts


def test_small_batches_raise_none_but_a_gap_always_does() -> None:
    assert names(entry(lines=99, quarantined=99)) == []
    assert names(entry(lines=0, lost=1)) == ["retention_gap"]
    assert names(entry(lines=0)) == []


def test_an_alert_tells_what_where_how_much_and_what_is_normal() -> None:
    [alert] = judged(entry(quarantined=6), SETTINGS)
    assert (alert.lines, alert.share, alert.threshold, alert.reasons) == (6, 0.06, 0.05, {"quarantined_reason": 6})
    assert alert.batch == "movielog1-3-000000000000-000000000099"
    assert alert.text == "6.00% of 100 lines quarantined, at most 5.00% are normal"
    [gap] = judged(entry(lines=0, lost=1234), SETTINGS)
    assert gap.text.startswith("1234 records of movielog1-3 ")
    assert (gap.lines, gap.share, gap.threshold) == (1234, None, None)


def test_the_reasons_of_several_days_are_added() -> None:
    counts = [Count("quarantined", None, f"2022-10-0{day}", "time", 10) for day in (7, 8)]
    counts.append(Count("accepted", "watch", "2022-10-07", None, 80))
    [alert] = judged(Entry(topic="t", partition=0, first=0, last=99, lines=100, counts=counts), SETTINGS)
    assert (alert.lines, alert.reasons) == (20, {"time": 20})


def test_alerts_are_appended_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "var" / "alerts.jsonl"
    raise_alerts(tmp_path / "var", [])
    assert not path.exists()
    for one in (entry(quarantined=6, repaired=6), entry(lines=0, lost=2)):
        raise_alerts(tmp_path / "var", judged(one, SETTINGS))
    told = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [alert["alert"] for alert in told] == ["quarantined", "repaired", "retention_gap"]
    assert told[0]["reasons"] == {"quarantined_reason": 6}
