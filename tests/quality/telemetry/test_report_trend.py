"""`python -m quality trend` reads the final reports below `var/reports`."""

from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from click.testing import CliRunner, Result

from quality.__main__ import commands
from quality.errors import ReportError
from quality.metrics.intervals import Interval
from quality.telemetry.day_report import DayReport
from tests.quality.telemetry.known_day import KnownDay, report_after

OLD_FILES = Path(__file__).parent / "old_files"


@pytest.fixture
def report(known: KnownDay) -> DayReport:
    return report_after(known)


def write_days(var: Path, report: DayReport, rates: dict[str, float], **changed: Any) -> None:
    folder = var / "reports"
    folder.mkdir(exist_ok=True)
    for day, rate in rates.items():
        hit_rate, uplift = Interval(rate, rate - 0.01, rate + 0.01), Interval(0.1, 0.05, 0.15)
        total = msgspec.structs.replace(report.total, hit_rate=hit_rate, uplift=uplift)
        own = msgspec.structs.replace(report, day=day, total=total, **changed)
        (folder / f"{day}.json").write_bytes(msgspec.json.encode(own))


def run_trend(var: Path, *arguments: str) -> Result:
    return CliRunner().invoke(commands, ["trend", *arguments], env={"MARQUEE_STREAM_VAR": str(var)})


RISING = {f"2022-03-{18 + day}": 0.3 + 0.02 * day for day in range(6)}


def test_final_reports_have_a_trend(report: DayReport, tmp_path: Path) -> None:
    write_days(tmp_path, report, RISING)
    write_days(tmp_path, report, {"2022-03-30": 0.9}, final=False)
    done = run_trend(tmp_path, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    document = orjson.loads(done.stdout)
    assert (document["first"], document["last"]) == ("2022-03-18", "2022-03-23")
    assert document["hit_rate"]["slope"]["mean"] == pytest.approx(0.02)
    assert document["uplift"]["mean"]["mean"] == pytest.approx(0.1)
    assert document["sentence"] == (
        "The hit rate rises by 2 points a day; the uplift shows no trend beyond what days differ by chance."
    )
    table = run_trend(tmp_path).stdout
    assert "35.00 [" in table
    assert "+2.000 [" in table
    assert document["sentence"] in table


def test_only_the_newest_days_are_read(report: DayReport, tmp_path: Path) -> None:
    write_days(tmp_path, report, RISING)
    (tmp_path / "reports" / "2022-03-01.json").write_bytes(b"{")
    done = run_trend(tmp_path, "--days", "2", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    document = orjson.loads(done.stdout)
    assert (document["first"], document["hit_rate"]["days"]) == ("2022-03-22", 2)
    assert "The hit rate has too few days for a trend" in document["sentence"]


def test_a_report_of_an_older_layout_is_named_and_skipped(report: DayReport, tmp_path: Path) -> None:
    write_days(tmp_path, report, RISING)
    old = orjson.loads((OLD_FILES / "final.json").read_bytes()) | {"day": "2022-03-20"}
    (tmp_path / "reports" / "2022-03-20.json").write_bytes(orjson.dumps(old))
    done = run_trend(tmp_path, "--json")
    assert done.exit_code == 1
    assert "2022-03-20.json has layout 1, of an older version" in done.stderr
    assert orjson.loads(done.stdout)["hit_rate"]["days"] == 5


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b""])
def test_a_damaged_report_is_named_and_skipped(report: DayReport, tmp_path: Path, content: bytes) -> None:
    write_days(tmp_path, report, RISING)
    (tmp_path / "reports" / "2022-03-20.json").write_bytes(content)
    done = run_trend(tmp_path, "--json")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("skipped: report: cannot read ")
    assert "2022-03-20.json" in done.stderr
    assert orjson.loads(done.stdout)["hit_rate"]["days"] == 5


@pytest.mark.parametrize("day", ["2022-03-18", "2022-02-30"])
def test_a_report_of_another_day_is_damaged(report: DayReport, tmp_path: Path, day: str) -> None:
    write_days(tmp_path, report, RISING | {day: 0.5})
    (tmp_path / "reports" / f"{day}.json").rename(tmp_path / "reports" / "2022-02-30.json")
    done = run_trend(tmp_path, "--json")
    assert done.exit_code == 1
    assert "2022-02-30.json is of " in done.stderr


def test_nothing_to_read_is_an_error(report: DayReport, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="there is no final report"):
        raise_of(run_trend(tmp_path))
    write_days(tmp_path, report, RISING, final=False)
    with pytest.raises(ReportError, match="there is no final report"):
        raise_of(run_trend(tmp_path))


def test_rates_of_different_windows_are_not_compared(report: DayReport, tmp_path: Path) -> None:
    write_days(tmp_path, report, RISING)
    write_days(tmp_path, report, {"2022-03-24": 0.9}, window_hours=1.0)
    with pytest.raises(ReportError, match=r"windows of 1.0 and .* hours"):
        raise_of(run_trend(tmp_path))
    assert run_trend(tmp_path, "--days", "1").exit_code == 0


def raise_of(done: Result) -> None:
    """Raise what `stream.cli.run` would print as one line."""
    assert done.exception is not None
    assert done.stdout == ""
    raise done.exception
