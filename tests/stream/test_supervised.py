"""A process ends with the supervisord that started it, also where that was quicker; no other process does."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream.supervised import end_with_supervisor
from tests.polling import DEADLINE_S, until
from tests.process_is_gone import is_gone
from tests.server.worker_processes import ROOT

CHILD = """
import sys, time
from stream.supervised import end_with_supervisor
if sys.argv[1] == "late":
    sys.stdin.read()
    time.sleep(0.1)
end_with_supervisor()
open(sys.argv[2], "w").close()
time.sleep(600)
"""
PARENT = """
# a script whose command line holds the word supervisord
import os, subprocess, sys, time
environ = {**os.environ, "SUPERVISOR_ENABLED": "1"}
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:4]], env=environ)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_process_ends_with_its_supervisord(tmp_path: Path, when: str) -> None:
    """Late: it asks the kernel only after its supervisord has died."""
    began = tmp_path / "began"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, when, str(began), "supervisord"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        if when == "early":
            until(began.exists)
            assert not is_gone(child)
    finally:
        parent.kill()
        parent.communicate(timeout=DEADLINE_S)  # closes the child's stdin as well
    until(lambda: is_gone(child))
    assert began.exists() is (when == "early")


@pytest.mark.parametrize("variable", ["SUPERVISOR_ENABLED", "HOME"])
def test_a_process_without_supervisord_lives_on(tmp_path: Path, variable: str) -> None:
    """Neither a process that was started by hand, nor one that a supervised process has started."""
    began = tmp_path / "began"
    grandparent = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, "early", {str(began)!r}], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", grandparent],
        cwd=ROOT, env={**os.environ, variable: "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        until(began.exists)
        parent.communicate(timeout=DEADLINE_S)
        assert not is_gone(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_nothing_changes_without_a_supervisord() -> None:
    end_with_supervisor({})
