"""Measuring a command: its time, its memory with that of its children, and how it failed."""

import sys
import time
from pathlib import Path

import pytest

from loadtest.bench.night import measured_command
from loadtest.bench.night.measured_command import Phase
from loadtest.errors import LoadtestError


def test_memory_and_time_of_a_command_and_its_children(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
lines = " batch.progress: lists: 1.5 s, 41,816/s", "x batch.progress: fit: ease: 0.2 s", "peak: 3 s"
print(*lines, sep="\\n", file=sys.stderr)
held = b"x" * 60_000_000
child = "held = b'x' * 60_000_000; print(1, flush=True); input()"
with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    time.sleep(float(sys.argv[1]))
print('{"release": "x", "steps": {"train": {"seconds": 1.5, "rows": 3, "current": true, "why": "text"}}}')
"""
    for lasts_s in (0.3, 3.0, 30.0):  # a busy machine may not look at it in so short a time
        began = time.monotonic()
        measured = measured_command.command("name", [sys.executable, "-c", code, str(lasts_s)], tmp_path, {})
        assert lasts_s < measured.seconds < time.monotonic() - began
        if measured.peak_memory_mb > 120:
            break
    assert measured.steps() == {"train": {"seconds": 1.5, "rows": 3, "current": True}}
    assert 120 < measured.peak_memory_mb < 180
    assert measured.phases == {"lists": Phase(1.5, 41_816.0), "fit: ease": Phase(0.2, None)}


def test_a_command_without_steps_has_none(tmp_path: Path) -> None:
    assert measured_command.command("name", [sys.executable, "-c", "print('{}')"], tmp_path, {}).steps() == {}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise SystemExit('error: no such thing')", "name ended with code 1: error: no such thing"),
        ("print('done')", "name printed no JSON object"),
        ("print('[]')", "name printed no JSON object"),
        ("import time; time.sleep(60)", r"name was ended after 0 s: no output"),
    ],
)
def test_a_command_that_fails_is_an_error(tmp_path: Path, code: str, text: str) -> None:
    timeout_s = 0.3 if "sleep" in code else 600.0
    with pytest.raises(LoadtestError, match=text):
        measured_command.command("name", [sys.executable, "-c", code], tmp_path, {}, timeout_s)
