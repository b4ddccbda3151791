"""The demo from an empty archive, in a small world: a release within the first hours, and further ones every few."""

from pathlib import Path

import msgspec

from loadtest.demo.days_summary import DaysComparison
from loadtest.demo.processes import free_port
from tests.integration.marquee_processes import SMALL, Start, processes_below
from tests.polling import DEADLINE_S


def test_first_days(start: Start, tmp_path: Path) -> None:
    """An empty archive has a release within its first hours, and another every few."""
    folder, small = tmp_path / "demo", {**SMALL, "MARQUEE_LOADTEST_USERS": "2000", "MARQUEE_LOADTEST_MOVIES": "100"}
    demo = start(
        small, "loadtest", "demo", "--empty", "--days", "1", "--folder", str(folder), "--port", f"{free_port()}"
    )
    assert demo.process.wait(3 * DEADLINE_S) == 0, demo.text()  # six nights, and retries of the first, a minute apart
    [run] = msgspec.json.decode((folder / "summary.json").read_bytes(), type=DaysComparison).runs
    assert run.broken == []
    [day] = run.days
    # the first one, and those of 07:00, 11:00, 15:00, 19:00 and 23:00, unless so few users said too little for one
    assert sum(day.nights.values()) >= 6
    assert day.nights["published"] >= 3
    assert day.releases[0].id is None
    assert 0 < run.failed_at_first < day.answers
    assert "From an empty archive" in demo.text()
    assert processes_below(folder) == []
