"""The demo in a small world: two nights, a swap under load, final reports; and how it ends on Ctrl-C and errors."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest.demo.processes import ROOT, free_port
from loadtest.demo.summary import DemoSummary
from tests.integration.marquee_processes import SMALL, Start, processes_below
from tests.polling import DEADLINE_S, until


def test_the_demo_holds_its_invariants_and_answers_until_stopped(start: Start, tmp_path: Path) -> None:
    folder, port = tmp_path / "demo", free_port()
    demo = start(SMALL, "loadtest", "demo", "--folder", str(folder), "--port", str(port), "--days", "4", "--keep")
    try:
        assert demo.ends() == 0, demo.text()
        check_summary(msgspec.json.decode((folder / "summary.json").read_bytes(), type=DemoSummary))
        assert "make stop" in demo.text()
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S):
            pass
        again = start(SMALL, "loadtest", "demo", "--folder", str(folder), "--port", str(free_port()))
        assert again.ends() == 1
        assert "make stop" in again.text()
    finally:
        command = [sys.executable, "-m", "loadtest", "stop", "--folder", str(folder)]
        stopped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert "supervisor" in stopped.stdout
    assert processes_below(folder) == []


def check_summary(summary: DemoSummary) -> None:
    """The demo reached its goals: no failed request, final reports, and answers of both releases."""
    assert summary.broken == []
    assert set(summary.service.by_status) == {"200"}
    assert [report.final for report in summary.reports.values()] == [True, True]
    first, second = summary.releases[:2]
    by_release = summary.reports["2026-02-11"].by_release
    assert [rates.name for rates in by_release] == [first.id, second.id]
    assert by_release[1].hit_rate.low is not None


def test_ctrl_c_stops_everything_without_a_traceback(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    demo = start(SMALL, "loadtest", "demo", "--folder", str(folder), "--port", str(free_port()), "--days", "4")
    until(lambda: "progress: live" in demo.text() or demo.process.poll() is not None)
    demo.process.send_signal(signal.SIGINT)
    assert demo.ends() == 130, demo.text()
    assert "Traceback" not in demo.text()
    assert processes_below(folder) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--days", "1"],
        ["--nonsense"],
        ["--compare"],
        ["--empty", "--keep"],
        ["--empty", "--days", "0"],
    ],
)
def test_a_wrong_call_is_an_error_of_a_line_or_two(start: Start, arguments: list[str]) -> None:
    demo = start({}, "loadtest", "demo", *arguments)
    assert demo.ends() == 2
    assert "Traceback" not in demo.text()
    assert "Error" in demo.text()


def test_a_folder_with_other_files_is_left_alone(start: Start, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    demo = start(SMALL, "loadtest", "demo", "--folder", str(tmp_path), "--port", str(free_port()))
    assert demo.ends() == 1
    assert "holds files that no demo made" in demo.text()
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_port_in_use_is_an_error_that_says_what_to_do(start: Start, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        demo = start(SMALL, "loadtest", "demo", "--folder", str(tmp_path / "demo"), "--port", port)
        assert demo.ends() == 1
    assert demo.text().count("\n") == 1
    assert f"port {port}" in demo.text()
    assert "PORT=" in demo.text()
